//! The listener of a container's system call filter.

use std::ffi::c_int;
use std::os::fd::IntoRawFd;

use crate::caller::Caller;
use crate::container::pericarp_container_t;
use crate::error::{Problem, pericarp_error_t};

/// Takes the listener of a system call filter of the specification that notifies and names no `listenerPath`: whoever
/// holds it answers what the container asks, see seccomp_unotify(2). It is there from `pericarp_container_start` on
/// (without `noNewPrivileges`, from the creation on), for the program that made the container. If the filter notifies of
/// a call that is part of the start, such as execve(2), `pericarp_container_start` returns when it was answered: take the
/// listener on another thread then.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, not yet, or it was taken before.
/// Threads: any.
/// Rust: `Container::take_seccomp_listener`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_take_seccomp_listener(
    container: *const pericarp_container_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let container = caller.handle(container, "container")?;
        let listener = container.inner().take_seccomp_listener();
        let none = || {
            Problem::none("take", "the seccomp listener", "there is none, not yet, or it was taken before")
        };
        out.set(listener.ok_or_else(none)?.into_raw_fd());
        Ok(())
    })
}
