//! A set of epoll(7) in tokio's reactor.
#![allow(unsafe_code, reason = "tokio must be promised that the descriptor stays what it is")]

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use nix::sys::epoll::Epoll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A set that is held open.
#[derive(Debug)]
pub(crate) struct Set(Arc<Epoll>);

impl AsRawFd for Set {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// Wakes tasks when something in the set is ready.
pub(crate) fn readable(set: Arc<Epoll>) -> std::io::Result<AsyncFd<Set>> {
    // SAFETY: the descriptor belongs to what the value holds, and is open as long as that is; nothing replaces it.
    unsafe { AsyncFd::register_with_interest(Set(set), Interest::READABLE) }.map_err(Into::into)
}
