//! A pod without a process.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::AT_FDCWD;

use super::node::{Node, namespace, step};
use super::sys;
use crate::contender::Result;

const NAMESPACES: libc::c_int = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
/// MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
const NO_SUID_DEV_EXEC: u64 = 2 | 4 | 8;
const SHM_SIZE: &CStr = c"67108864";
const THREAD_STACK: usize = 64 * 1024;

pub struct Pod {
    pub name: CString,
    pub net: OwnedFd,
    pub ipc: OwnedFd,
    pub uts: OwnedFd,
    pub cgroup: OwnedFd,
}

impl Pod {
    pub fn create(node: &Node, name: &CStr) -> Result<Pod> {
        let parent = node.cgroup.as_raw_fd();
        step("make the pod's cgroup", sys::mkdirat(parent, name, 0o755))?;
        let directory = libc::O_PATH | libc::O_DIRECTORY;
        let cgroup = step("open the pod's cgroup", sys::openat(parent, name, directory, 0))?;
        let [net, ipc, uts] = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(THREAD_STACK);
            let (proc, pins) = (node.proc.as_raw_fd(), node.pins.as_raw_fd());
            let thread = thread.spawn_scoped(scope, move || isolate(proc, pins, name))?;
            thread.join().unwrap_or_else(|_| Err("the pod's thread panicked".into()))
        })?;
        Ok(Pod { name: name.into(), net, ipc, uts, cgroup })
    }

    /// Drops the pins and the cgroup; with the last descriptor the namespaces go.
    pub fn remove(self, node: &Node) -> Result<()> {
        node.enter(&node.pins)?;
        let removed = self.unpin();
        node.enter(&node.template)?;
        removed?;
        let (parent, name) = (node.cgroup.as_raw_fd(), self.name.clone());
        drop(self);
        step("remove the pod's cgroup", sys::unlinkat(parent, &name, libc::AT_REMOVEDIR)).map(drop)
    }

    fn unpin(&self) -> Result<()> {
        step("enter /pods", sys::chdir(c"/pods"))?;
        step("enter the pod's pins", sys::chdir(&self.name))?;
        for (pin, flags) in PINS {
            step("unmount a pin", sys::umount2(pin, libc::MNT_DETACH))?;
            step("remove a pin", sys::unlinkat(AT_FDCWD, pin, flags))?;
        }
        step("leave the pod's pins", sys::chdir(c".."))?;
        step("remove the pod's pins", sys::unlinkat(AT_FDCWD, &self.name, libc::AT_REMOVEDIR)).map(drop)
    }
}

const PINS: [(&CStr, libc::c_int); 5] =
    [(c"net", 0), (c"ipc", 0), (c"uts", 0), (c"shm", libc::AT_REMOVEDIR), (c"mqueue", libc::AT_REMOVEDIR)];

/// On a thread that ends afterwards: new namespaces, what belongs inside, and pins for all of it.
fn isolate(proc: RawFd, pins: RawFd, name: &CStr) -> Result<[OwnedFd; 3]> {
    step("unshare the pod's namespaces", sys::unshare(libc::CLONE_FS | NAMESPACES))?;
    step("set the host name", sys::sethostname(name.to_bytes()))?;
    step("bring lo up", sys::loopback_up())?;
    let options = [(c"size", SHM_SIZE), (c"mode", c"1777")];
    let shm = step("make /dev/shm", sys::new_mount(c"tmpfs", &options, NO_SUID_DEV_EXEC))?;
    let mqueue = step("make /dev/mqueue", sys::new_mount(c"mqueue", &[], NO_SUID_DEV_EXEC))?;
    let net = namespace(proc, c"thread-self/ns/net")?;
    let ipc = namespace(proc, c"thread-self/ns/ipc")?;
    let uts = namespace(proc, c"thread-self/ns/uts")?;

    step("enter the pins", sys::setns(pins, libc::CLONE_NEWNS))?;
    step("enter /pods", sys::chdir(c"/pods"))?;
    step("make the pod's pins", sys::mkdirat(AT_FDCWD, name, 0o700))?;
    step("enter the pod's pins", sys::chdir(name))?;
    for (fd, pin) in [(&net, c"net"), (&ipc, c"ipc"), (&uts, c"uts")] {
        let file = libc::O_CREAT | libc::O_WRONLY | libc::O_EXCL;
        step("make a pin", sys::openat(AT_FDCWD, pin, file, 0o600))?;
        let tree = step("clone a namespace's mount", sys::open_tree(fd.as_raw_fd(), c""))?;
        step("pin a namespace", sys::move_mount(tree.as_raw_fd(), AT_FDCWD, pin))?;
    }
    for (fd, pin) in [(&shm, c"shm"), (&mqueue, c"mqueue")] {
        step("make a pin", sys::mkdirat(AT_FDCWD, pin, 0o700))?;
        step("pin a mount", sys::move_mount(fd.as_raw_fd(), AT_FDCWD, pin))?;
    }
    Ok([net, ipc, uts])
}
