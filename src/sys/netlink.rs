//! The few requests of rtnetlink(7) that moving a network device takes. A netlink library would be a dependency for
//! these alone.

mod counters;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use super::Result;
pub(crate) use counters::LinkCounters;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
const HEADER: usize = 16;

/// A network device of the namespace of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: i32,
    pub(crate) is_up: bool,
}

/// An address of a device that somebody gave it for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// `IFA_ADDRESS`, `IFA_LOCAL` and `IFA_BROADCAST`, where it has them.
    parts: Vec<(u16, Vec<u8>)>,
}

/// A socket in the network namespace of the thread that opened it, whoever uses it later.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> Result<Netlink> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// The device of that name. `ENODEV` when there is none.
    pub(crate) fn link(&mut self, name: &str) -> Result<Link> {
        let mut body = link_message(0, 0, 0);
        attribute(&mut body, IFLA_IFNAME, &with_nul(name));
        let replies = self.request(RTM_GETLINK, NLM_F_ACK, &body)?;
        let reply = replies.into_iter().find(|(kind, _)| *kind == RTM_NEWLINK).ok_or(Errno::ENODEV)?.1;
        match (word(&reply, 4), word(&reply, 8)) {
            (Some(index), Some(flags)) => {
                Ok(Link { index: index as i32, is_up: flags & libc::IFF_UP as u32 != 0 })
            }
            _ => Err(Errno::EBADMSG),
        }
    }

    /// The permanent addresses of a device that are good everywhere.
    pub(crate) fn addresses(&mut self, index: i32) -> Result<Vec<Address>> {
        let mut found = Vec::new();
        for (kind, reply) in self.request(RTM_GETADDR, NLM_F_DUMP, &[0; 8])? {
            let (&[family, prefix, flags, scope], Some(of)) =
                (reply.first_chunk().ok_or(Errno::EBADMSG)?, word(&reply, 4))
            else {
                return Err(Errno::EBADMSG);
            };
            if kind != RTM_NEWADDR || of != index as u32 || scope != RT_SCOPE_UNIVERSE {
                continue;
            }
            let mut address = Address { family, prefix, flags: flags.into(), parts: Vec::new() };
            for (kind, value) in attributes(reply.get(8..).unwrap_or_default()) {
                match kind {
                    IFA_FLAGS => address.flags = word(value, 0).ok_or(Errno::EBADMSG)?,
                    IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => address.parts.push((kind, value.to_vec())),
                    _ => {}
                }
            }
            if address.flags & IFA_F_PERMANENT != 0 {
                found.push(address);
            }
        }
        Ok(found)
    }

    /// Moves a device into another network namespace, under that name.
    pub(crate) fn move_link(&mut self, index: i32, namespace: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut body = link_message(index, 0, 0);
        attribute(&mut body, IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        attribute(&mut body, IFLA_IFNAME, &with_nul(name));
        self.request(RTM_NEWLINK, NLM_F_ACK, &body).map(drop)
    }

    /// Brings a device up.
    pub(crate) fn set_up(&mut self, index: i32) -> Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(RTM_NEWLINK, NLM_F_ACK, &link_message(index, up, up)).map(drop)
    }

    /// Gives a device an address. One that it has already is fine.
    pub(crate) fn add_address(&mut self, index: i32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix, 0, RT_SCOPE_UNIVERSE];
        body.extend((index as u32).to_ne_bytes());
        // It was found to be nobody else's where it comes from.
        attribute(&mut body, IFA_FLAGS, &(address.flags | IFA_F_NODAD).to_ne_bytes());
        for (kind, value) in &address.parts {
            attribute(&mut body, *kind, value);
        }
        match self.request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE, &body) {
            Err(Errno::EEXIST) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Sends a request and returns the replies: their types, and what is behind the header.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
        self.sequence += 1;
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut replies = Vec::new();
        // As large as the kernel makes them.
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let size = word(rest, 0).ok_or(Errno::EBADMSG)? as usize;
                let kind = word(rest, 4).ok_or(Errno::EBADMSG)? as u16;
                let body = rest.get(HEADER..size).ok_or(Errno::EBADMSG)?;
                let ours = word(rest, 8) == Some(self.sequence);
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
                match kind {
                    _ if !ours => {}
                    NLMSG_ERROR => {
                        return match word(body, 0).ok_or(Errno::EBADMSG)? as i32 {
                            0 => Ok(replies),
                            errno => Err(Errno::from_raw(-errno)),
                        };
                    }
                    NLMSG_DONE => return Ok(replies),
                    kind => replies.push((kind, body.to_vec())),
                }
            }
        }
    }
}

/// `struct ifinfomsg`.
fn link_message(index: i32, flags: u32, change: u32) -> Vec<u8> {
    [0, index as u32, flags, change].into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn with_nul(name: &str) -> Vec<u8> {
    name.bytes().chain([0]).collect()
}

/// `struct nlattr`: length with its own four bytes, type, value, and padding to four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let Some(&[a, b, c, d]) = rest.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..length) else { break };
        all.push((u16::from_ne_bytes([c, d]), value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"eth0\0");
        attribute(&mut body, 28, &[]);
        attribute(&mut body, 8, &[1, 2, 3, 4]);
        assert_eq!(body.len(), 12 + 4 + 8);
        assert_eq!(attributes(&body), [(3, &b"eth0\0"[..]), (28, &[]), (8, &[1, 2, 3, 4])]);
        // Lengths that lie.
        for length in [0_u16, 3, 9, u16::MAX] {
            let mut wrong = length.to_ne_bytes().to_vec();
            wrong.extend([0; 6]);
            assert!(attributes(&wrong).len() <= 1, "{length}");
        }
    }

    #[test]
    fn the_loopback_device_is_found() {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(netlink.link("lo").unwrap().index, 1);
        assert_eq!(netlink.link("no-such-device"), Err(Errno::ENODEV));
        // 127.0.0.1 is an address for this machine only, and nothing to move.
        assert_eq!(netlink.addresses(1).unwrap(), []);
    }
}
