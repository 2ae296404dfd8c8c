//! A user namespace of an ordinary user, without a process in it.
//!
//! As in `userns.rs`, init is born in it and waits at a barrier. It lets itself be seen before: whoever writes its maps
//! is an ordinary user too, or a program that acts for one (newuidmap(1)).

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::userns::make_with;
use super::{Control, InitImage, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::init::wire;

/// A new user namespace that the caller owns. `map` gives the process of that id, which is in it, its ids.
///
/// # Errors
/// `Unsupported` or `PermissionDenied` where the kernel has no user namespaces for ordinary users, `Exhausted` when
/// there are as many as there may be, and those of `map`.
pub(crate) fn make_own_user_namespace(
    init: &InitImage,
    proc: impl AsFd,
    map: impl FnOnce(i32) -> Result<()> + Send,
) -> Result<OwnedFd> {
    let explain = |error: Error| {
        match error.errno().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EUSERS) => error
            .of_kind(ErrorKind::Exhausted)
            .because("user.max_user_namespaces is reached or 0, or too many user namespaces are in each other"),
        Some(Errno::EINVAL) => error
            .of_kind(ErrorKind::Unsupported)
            .because("this kernel has no user namespaces (CONFIG_USER_NS)"),
        Some(Errno::EPERM) => error.because(
            "ordinary users may not make user namespaces here: see kernel.unprivileged_userns_clone of Debian; \
             in a chroot, or under a filter of system calls, nobody can",
        ),
        _ => error,
    }
    };
    make_with(init, proc.as_fd(), &SHOWN, explain, |control, pid| settle(control).and_then(|()| map(pid)))
}

/// To be seen, and to wait.
pub(super) const SHOWN: [u32; 2] = [wire::SHOW, wire::BARRIER];

pub(super) fn settle(control: &Control) -> Result<()> {
    match control.receive()? {
        Message::Ready => Ok(()),
        message => Err(Error::new(ErrorKind::System, "start")
            .on("a process in a user namespace")
            .because(format!("init said {message:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::userns::plan;
    use super::*;

    #[test]
    fn the_plan_is_one_that_init_takes() {
        let bytes = plan(&SHOWN);
        let mut plan = wire::Plan::decode(&bytes).unwrap_or_else(|_| panic!("malformed"));
        assert_eq!(plan.descriptors, 1);
        let mut operations = Vec::new();
        while let Ok(Some(step)) = plan.next_step() {
            operations.push((step.operation, step.fields.is_empty()));
        }
        assert_eq!(operations, [(wire::SHOW, true), (wire::BARRIER, true)]);
        assert!(matches!(plan.next_step(), Ok(None)));
    }
}
