//! A user namespace of an ordinary user, without a process in it.
//!
//! As in `userns.rs`, init is born in it and waits at a barrier. It lets itself be seen before: whoever writes its maps
//! is an ordinary user too, or a program that acts for one (newuidmap(1)).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::{Child, Control, InitImage, Launch, Message};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::init::wire;
use crate::sys::thread;

/// A new user namespace that the caller owns. `map` gives the process of that id, which is in it, its ids.
///
/// # Errors
/// `Unsupported` or `PermissionDenied` where the kernel has no user namespaces for ordinary users, `Exhausted` when
/// there are as many as there may be, and those of `map`.
pub(crate) fn make_own_user_namespace<P: AsFd + Sync>(
    init: &InitImage,
    proc: &P,
    map: impl FnOnce(i32) -> Result<()> + Send,
) -> Result<OwnedFd> {
    thread::run(|| {
        let (control, inits) = Control::pair()?;
        let child = start(init, &inits)?;
        drop(inits);
        let namespace =
            settle(&control).and_then(|()| map(child.pid)).and_then(|()| open(proc.as_fd(), child.pid));
        drop(control);
        child.end();
        namespace
    })
}

fn start(init: &InitImage, control: &OwnedFd) -> Result<Child> {
    let launch = Launch {
        init,
        plan: &plan(control.as_raw_fd()),
        inherited: &[control.as_raw_fd()],
        namespaces: CloneFlags::CLONE_NEWUSER,
        cgroup: None,
    };
    launch.spawn().map_err(|error| match error.errno().map(Errno::from_raw) {
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
    })
}

/// A plan of two steps: to be seen, and to wait.
fn plan(control: i32) -> Vec<u8> {
    const LENGTH: u32 = 9 * 4;
    let words = [wire::MAGIC, LENGTH, 1, 2, control as u32, wire::SHOW, 0, wire::BARRIER, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn settle(control: &Control) -> Result<()> {
    match control.receive()? {
        Message::Ready => Ok(()),
        message => Err(Error::new(ErrorKind::System, "start")
            .on("a process in a user namespace")
            .because(format!("init said {message:?}"))),
    }
}

fn open(proc: impl AsFd, pid: i32) -> Result<OwnedFd> {
    // It has not been waited for: the pid is its own.
    openat(proc, format!("{pid}/ns/user").as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .step("open", "a new user namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_one_that_init_takes() {
        let bytes = plan(7);
        let mut plan = wire::Plan::decode(&bytes).unwrap_or_else(|_| panic!("malformed"));
        assert_eq!(plan.descriptors, 7i32.to_le_bytes());
        let mut operations = Vec::new();
        while let Ok(Some(step)) = plan.next_step() {
            operations.push((step.operation, step.fields.is_empty()));
        }
        assert_eq!(operations, [(wire::SHOW, true), (wire::BARRIER, true)]);
        assert!(matches!(plan.next_step(), Ok(None)));
    }
}
