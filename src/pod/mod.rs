//! The shared context of containers: a pod.

mod create;
mod handle;
mod helper;
pub mod ipc;
mod ipc_handle;
pub(crate) mod kubernetes;
mod netdev;
pub(crate) mod pins;
mod place;
mod reaper;
mod resize;
pub(crate) mod state;
mod user;

pub use handle::{NamespaceKind, Pod, PodStatus};
pub use ipc_handle::PodIpc;

pub(crate) use create::create;
pub(crate) use handle::{Inner, dismantle, open, remove_cgroup};

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::sys::clock::Deadline;

/// Waits until a descriptor becomes readable (a pidfd: until the process has ended), at most so long.
pub(crate) fn wait_readable(fd: &impl AsFd, timeout: Option<Duration>) -> bool {
    let deadline = Deadline::after(timeout);
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], deadline.poll_timeout()) {
            Ok(0) if deadline.passed() => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            // Not reached with a valid descriptor and one entry; saying "not yet" is safe for every caller.
            Err(_) => return false,
        }
    }
}
