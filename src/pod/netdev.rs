//! Network devices that move into a pod's network namespace when the pod is made, and back when it cannot be made.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::Proc;
use crate::spec::PodSpec;
use crate::sys::namespace::{self, Kind};
use crate::sys::netlink::{Address, Link, Netlink};

/// Devices of the namespace that the pod is made from.
pub(super) struct Leaving {
    socket: Netlink,
    namespace: OwnedFd,
    devices: Vec<Device>,
}

struct Device {
    host_name: String,
    name: String,
    link: Link,
    addresses: Vec<Address>,
}

/// Devices that have moved.
pub(super) struct Moved {
    from: Leaving,
    socket: Netlink,
    /// How many of them, from the first.
    count: usize,
}

/// Finds the devices that a pod asks for in the network namespace of the calling thread; `None` if it asks for none.
pub(super) fn find(proc: &Proc, spec: &PodSpec) -> Result<Option<Leaving>> {
    if spec.net_devices.is_empty() {
        return Ok(None);
    }
    let mut socket = Netlink::open().step("open", "a netlink socket")?;
    let namespace = namespace::of_this_thread(proc, Kind::Network).step("open", "the network namespace")?;
    let mut devices = Vec::new();
    for (host_name, device) in &spec.net_devices {
        let link = socket.link(host_name).map_err(|errno| {
            let error = Error::system(errno, "find").on(format!("network device {host_name:?}"));
            match errno {
                Errno::ENODEV => error
                    .of_kind(ErrorKind::NotFound)
                    .because("the network namespace that the pod is made from has no such device"),
                _ => error,
            }
        })?;
        let addresses =
            socket.addresses(link.index).step("list", format!("the addresses of {host_name:?}"))?;
        let name = device.name.clone().unwrap_or_else(|| host_name.clone());
        devices.push(Device { host_name: host_name.clone(), name, link, addresses });
    }
    Ok(Some(Leaving { socket, namespace, devices }))
}

impl Leaving {
    /// Moves them into the network namespace that the calling thread is in by now. What fails moves them back.
    pub(super) fn enter(self, proc: &Proc) -> Result<Moved> {
        let socket = Netlink::open().step("open", "a netlink socket")?;
        let namespace =
            namespace::of_this_thread(proc, Kind::Network).step("open", "the pod's network namespace")?;
        let mut moved = Moved { from: self, socket, count: 0 };
        match moved.all(&namespace) {
            Ok(()) => Ok(moved),
            Err(error) => {
                moved.back();
                Err(error)
            }
        }
    }
}

impl Moved {
    fn all(&mut self, namespace: &OwnedFd) -> Result<()> {
        use std::os::fd::AsFd;
        for device in &self.from.devices {
            let subject = || format!("network device {:?} as {:?}", device.host_name, device.name);
            // The kernel would give it another name.
            if self.socket.link(&device.name).is_ok() {
                return Err(Error::new(ErrorKind::AlreadyExists, "move")
                    .on(subject())
                    .because("the pod's network namespace has a device of that name"));
            }
            self.from.socket.move_link(device.link.index, namespace.as_fd(), &device.name).map_err(
                |errno| {
                    let error = Error::system(errno, "move").on(subject());
                    match errno {
                        Errno::EINVAL | Errno::EOPNOTSUPP => {
                            error.because("the kernel keeps this kind of device in its network namespace")
                        }
                        _ => error,
                    }
                },
            )?;
            self.count += 1;
            let index = self.socket.link(&device.name).step("find", subject())?.index;
            for address in &device.addresses {
                self.socket.add_address(index, address).step("give its addresses to", subject())?;
            }
            self.socket.set_up(index).step("bring up", subject())?;
        }
        Ok(())
    }

    /// Moves them back, as they were; a device that cannot goes with the pod's network namespace.
    pub(super) fn back(&mut self) {
        use std::os::fd::AsFd;
        let Moved { from, socket, count } = self;
        let (namespace, host) = (from.namespace.as_fd(), &mut from.socket);
        for device in from.devices.iter().take(std::mem::take(count)) {
            let moved = socket
                .link(&device.name)
                .and_then(|link| socket.move_link(link.index, namespace, &device.host_name))
                .and_then(|()| host.link(&device.host_name));
            let Ok(link) = moved else { continue };
            for address in &device.addresses {
                let _ = host.add_address(link.index, address);
            }
            if device.link.is_up {
                let _ = host.set_up(link.index);
            }
        }
    }
}
