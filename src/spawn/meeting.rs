//! The socket by which a program that did not make a container reaches its init: in the container's directory of state,
//! where only the owner of the node comes in.
//!
//! It is bound and connected to by its bare name, from a library thread whose working directory that is: the address of
//! a socket has room for 107 bytes, and a state directory may be anywhere.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::unistd::fchdir;

use super::Control;
use crate::error::{Context, Result};
use crate::sys;

/// Connections that wait to be accepted. Starters take turns; a few more may only look.
const BACKLOG: i32 = 16;

/// Makes the socket and listens. Changes the working directory: only for a library thread.
pub(crate) fn listen_in(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    let make = || -> nix::Result<OwnedFd> {
        let socket = seqpacket(SockFlag::empty())?;
        fchdir(dir)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(name)?)?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        sys::fd::clear_of_stdio(socket)
    };
    make().step("make", "the socket for the start")
}

/// Connects to the socket; `None` when nobody listens any more.
pub(crate) fn meet(dir: &OwnedFd, name: &str) -> Result<Option<Control>> {
    match connected(dir, name, SockFlag::empty())? {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
        result => result.map(|socket| Some(Control::from(socket))).step("connect to", "the container's init"),
    }
}

/// Whether somebody still listens at the socket. Does not wait: a frozen init accepts nobody, and listens.
pub(crate) fn listens(dir: &OwnedFd, name: &str) -> Result<bool> {
    match connected(dir, name, SockFlag::SOCK_NONBLOCK)? {
        Ok(_) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno).step("connect to", "the container's init"),
    }
}

fn connected(dir: &OwnedFd, name: &str, flags: SockFlag) -> Result<nix::Result<OwnedFd>> {
    sys::thread::run(|| {
        let connect = || -> nix::Result<OwnedFd> {
            let socket = seqpacket(flags)?;
            fchdir(dir)?;
            connect(socket.as_raw_fd(), &UnixAddr::new(name)?)?;
            sys::fd::clear_of_stdio(socket)
        };
        Ok(connect())
    })
}

fn seqpacket(flags: SockFlag) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, flags | SockFlag::SOCK_CLOEXEC, None)
}
