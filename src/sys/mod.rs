//! Typed system calls that `nix` lacks, and the threads on which the library changes namespaces.
//!
//! One of the four places where `unsafe` is allowed. Everything here is a thin wrapper: one call, its arguments
//! made safe, the error number returned; what a failure means is said by the caller.

pub(crate) mod aio;
pub(crate) mod bpf;
pub(crate) mod clock;
pub(crate) mod fd;
pub(crate) mod ipc;
pub(crate) mod loopback;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod pidfd;
pub(crate) mod pipe;
#[cfg(feature = "tokio")]
pub(crate) mod reactor;
pub(crate) mod thread;
pub(crate) mod tty;
pub(crate) mod uts;
pub(crate) mod worker;
pub(crate) mod xattr;

use nix::errno::Errno;

/// The result of a bare system call.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// Turns what libc's wrappers return into a result.
fn check(value: libc::c_long) -> Result<libc::c_long> {
    if value < 0 { Err(Errno::last()) } else { Ok(value) }
}
