//! A user namespace without a process in it.
//!
//! A thread can neither make nor join a user namespace while it shares its memory (`EINVAL`, see unshare(2)): a process
//! has to be born in it. That is init with a plan of nothing but a barrier, at which it waits until its maps are written
//! and the namespace is open. The descriptor keeps the namespace when the process is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::own_userns::{SHOWN, settle};
use super::{Control, InitImage, Launch};
use crate::error::{Context, Error, Result};
use crate::init::wire;
use crate::spec::{IdMapping, user};
use crate::sys::thread;

/// A new user namespace with these ids, owned by the one of the caller. `proc` is a proc(5) of the caller's PID
/// namespace. Who is not root of the machine (`ordinary`) writes the maps of no process that is hidden.
///
/// # Errors
/// `PermissionDenied` when the caller may not map these ids: that takes `CAP_SETUID` and `CAP_SETGID`. `Exhausted` when
/// there are as many user namespaces as there may be (`user.max_user_namespaces`), or they are nested too deep.
pub(crate) fn make_user_namespace(
    init: &InitImage,
    proc: impl AsFd,
    uids: &[IdMapping],
    gids: &[IdMapping],
    ordinary: bool,
) -> Result<OwnedFd> {
    let explain = |error: Error| match error.errno().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EUSERS) => {
            error.because("user.max_user_namespaces, or too many user namespaces in each other")
        }
        Some(Errno::EPERM) => {
            error.because("a user namespace cannot be made here (in a chroot, for instance)")
        }
        _ => error,
    };
    let proc = proc.as_fd();
    let map = |pid| write_maps(proc, pid, uids, gids);
    let plan: &[u32] = if ordinary { &SHOWN } else { &[wire::BARRIER] };
    make_with(init, proc, plan, explain, |control, pid| {
        if ordinary { settle(control).and_then(|()| map(pid)) } else { map(pid) }
    })
}

/// A new user namespace whose process is given its ids by `map`, while it is at the end of a plan of these operations,
/// which have no fields. `explain` is for the error of making it.
pub(super) fn make_with(
    init: &InitImage,
    proc: BorrowedFd<'_>,
    operations: &[u32],
    explain: impl FnOnce(Error) -> Error + Send,
    map: impl FnOnce(&Control, i32) -> Result<()> + Send,
) -> Result<OwnedFd> {
    thread::run(|| {
        let (control, inits) = Control::pair()?;
        let launch = Launch {
            init,
            control: inits,
            mounts: None,
            namespaces: CloneFlags::CLONE_NEWUSER,
            cgroup: None,
        };
        let child = launch.spawn().map_err(explain)?;
        // It has not been waited for: the pid is its own.
        let mapped = control.plan(&plan(operations), &[]).and_then(|()| map(&control, child.pid));
        let namespace = mapped.and_then(|()| {
            let path = format!("{}/ns/user", child.pid);
            openat(proc, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .step("open", "a new user namespace")
        });
        // It would end by itself, since nobody can let it go on any more; like this it is gone when this returns.
        drop(control);
        child.end();
        namespace
    })
}

/// A plan of operations without fields.
pub(super) fn plan(operations: &[u32]) -> Vec<u8> {
    let count = operations.len() as u32;
    let head = [wire::MAGIC, (4 + 2 * count) * 4, 1, count];
    let steps = operations.iter().flat_map(|operation| [*operation, 0]);
    head.into_iter().chain(steps).flat_map(u32::to_le_bytes).collect()
}

fn write_maps(proc: BorrowedFd<'_>, pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    for (file, ranges) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("{pid}/{file}");
        let write = || -> nix::Result<usize> {
            let file = openat(proc, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            nix::unistd::write(&file, user::text(ranges).as_bytes())
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Proc;

    #[test]
    fn the_plan_is_one_that_init_takes() {
        let bytes = plan(&[wire::BARRIER]);
        let mut plan = wire::Plan::decode(&bytes).unwrap_or_else(|_| panic!("malformed"));
        assert_eq!(plan.descriptors, 1);
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
        let (init, proc) = (InitImage::new().unwrap(), Proc::new(true).unwrap());
        let uids = [IdMapping::new(0, 100_000, 10), IdMapping::new(10, 0, 1)];
        let gids = [IdMapping::new(0, 200_000, 1000)];
        let namespace = make_user_namespace(&init, &proc, &uids, &gids, false).unwrap();
        let own = openat(&proc, "self/ns/user", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;
        assert_ne!(inode(&namespace), inode(&own));
        let wrong = [IdMapping::new(0, 1, 2), IdMapping::new(1, 8, 2)];
        let error = make_user_namespace(&init, &proc, &wrong, &gids, false).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL), "{error}");
    }
}
