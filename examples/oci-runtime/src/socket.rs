//! Descriptors for programs that listen on sockets.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::Outcome;

/// Sends a process' descriptor to whoever asked for it by `--pidfd-socket`, in a message of runc's words.
pub fn send_pidfd(pidfd: Option<BorrowedFd<'_>>, socket: Option<&Path>) -> Outcome<()> {
    let Some(path) = socket else { return Ok(()) };
    let pidfd = pidfd.ok_or("the process has ended: there is nothing to send to --pidfd-socket")?;
    UnixStream::connect(path)
        .and_then(|socket| Ok(send(socket.as_raw_fd(), b"pidfd", pidfd)?))
        .map_err(|error| format!("send the pidfd to {}: {error}", path.display()).into())
}

/// One message with a descriptor (`SCM_RIGHTS`, unix(7)).
pub fn send(socket: i32, text: &[u8], descriptor: BorrowedFd<'_>) -> nix::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(socket, &[IoSlice::new(text)], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}
