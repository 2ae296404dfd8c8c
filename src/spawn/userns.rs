//! A user namespace without a process in it.
//!
//! A thread can neither make nor join a user namespace while it shares its memory (`EINVAL`, see unshare(2)): a process
//! has to be born in it. That is init with a plan of nothing but a barrier, at which it waits until its maps are written
//! and the namespace is open. The descriptor keeps the namespace when the process is gone.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::{Child, Control, InitImage, Launch};
use crate::error::{Context, Error, Result};
use crate::init::wire;
use crate::spec::IdMapping;
use crate::sys::thread;

/// A new user namespace with these ids, owned by the one of the caller. `proc` is a proc(5) of the caller's PID
/// namespace.
///
/// # Errors
/// `PermissionDenied` when the caller may not map these ids: that takes `CAP_SETUID` and `CAP_SETGID`. `Exhausted` when
/// there are as many user namespaces as there may be (`user.max_user_namespaces`), or they are nested too deep.
pub(crate) fn make_user_namespace(
    init: &InitImage,
    proc: impl AsFd,
    uids: &[IdMapping],
    gids: &[IdMapping],
) -> Result<OwnedFd> {
    let proc = proc.as_fd();
    thread::run(|| {
        let (control, inits) = Control::pair()?;
        let child = start(init, &inits)?;
        let namespace = set_up(proc, child.pid, uids, gids);
        // It would end by itself, since nobody can let it go on any more; like this it is gone when this returns.
        drop(control);
        child.end();
        namespace
    })
}

fn start(init: &InitImage, control: &OwnedFd) -> Result<Child> {
    let plan = barrier(control.as_raw_fd());
    let launch = Launch {
        init,
        plan: &plan,
        inherited: &[control.as_raw_fd()],
        namespaces: CloneFlags::CLONE_NEWUSER,
        cgroup: None,
    };
    launch.spawn().map_err(|error| match error.errno().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EUSERS) => {
            error.because("user.max_user_namespaces, or too many user namespaces in each other")
        }
        Some(Errno::EPERM) => {
            error.because("a user namespace cannot be made here (in a chroot, for instance)")
        }
        _ => error,
    })
}

/// A plan whose one step waits.
fn barrier(control: i32) -> Vec<u8> {
    const LENGTH: u32 = 7 * 4;
    let words = [wire::MAGIC, LENGTH, 1, 1, control as u32, wire::BARRIER, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn set_up(proc: BorrowedFd<'_>, pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    // It has not been waited for: the pid is its own.
    for (file, ranges) in [("uid_map", uids), ("gid_map", gids)] {
        let mut text = String::new();
        for IdMapping { container_id, host_id, size } in ranges {
            writeln!(text, "{container_id} {host_id} {size}").expect("a string takes any text");
        }
        let path = format!("{pid}/{file}");
        let write = || -> nix::Result<usize> {
            let file = openat(proc, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            nix::unistd::write(&file, text.as_bytes())
        };
        write().map_err(|errno| {
            let error = Error::system(errno, "write").on(format!("{file} of a new user namespace"));
            match errno {
                Errno::EPERM => {
                    error.because("mapping ids needs CAP_SETUID and CAP_SETGID, and ids that are there")
                }
                _ => error,
            }
        })?;
    }
    openat(proc, format!("{pid}/ns/user").as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .step("open", "a new user namespace")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Proc;

    #[test]
    fn the_plan_is_one_that_init_takes() {
        let bytes = barrier(7);
        let mut plan = wire::Plan::decode(&bytes).unwrap_or_else(|_| panic!("malformed"));
        assert_eq!(plan.descriptors, 7i32.to_le_bytes());
        let Ok(Some(step)) = plan.next_step() else { panic!("no step") };
        assert_eq!((step.operation, step.fields.is_empty()), (wire::BARRIER, true));
        assert!(matches!(plan.next_step(), Ok(None)));
    }

    /// As root only. The namespace is another one, with these ids, and no child stays.
    #[test]
    fn a_namespace_stays_without_its_process() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        let (init, proc) = (InitImage::new().unwrap(), Proc::new().unwrap());
        let uids = [IdMapping::new(0, 100_000, 10), IdMapping::new(10, 0, 1)];
        let gids = [IdMapping::new(0, 200_000, 1000)];
        let namespace = make_user_namespace(&init, &proc, &uids, &gids).unwrap();
        let own = openat(&proc, "self/ns/user", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;
        assert_ne!(inode(&namespace), inode(&own));
        let wrong = [IdMapping::new(0, 1, 2), IdMapping::new(1, 8, 2)];
        let error = make_user_namespace(&init, &proc, &wrong, &gids).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL), "{error}");
    }
}
