//! What a container gets besides the defaults in the case `container-full`: one of each of the things that a
//! configuration may ask for. Which they are stands in `crate::full`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{AT_FDCWD, c_int};

use super::container::{Step, check};
use super::node::{Node, step};
use super::sys;
use crate::contender::Result;
use crate::full::*;

/// MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
const READ_ONLY_DATA: u64 = 1 | 2 | 4;

/// What is opened before the child is made.
pub struct Sources {
    data: OwnedFd,
    file: OwnedFd,
}

impl Sources {
    /// To be called in the host's mount namespace.
    pub fn open(node: &Node) -> Result<Sources> {
        let rootfs = node.rootfs.as_raw_fd();
        let data = step("clone a directory", sys::open_tree(rootfs, DATA_SOURCE))?;
        step("make it read-only", sys::mount_setattr(data.as_raw_fd(), READ_ONLY_DATA, false))?;
        let file = step("clone a file", sys::open_tree(rootfs, FILE_SOURCE))?;
        step("make it read-only", sys::mount_setattr(file.as_raw_fd(), READ_ONLY_DATA, false))?;
        Ok(Sources { data, file })
    }
}

/// In the new root, before pivot_root(2).
pub fn mounts(sources: &Sources) -> Step {
    check("attach a directory", sys::move_mount(sources.data.as_raw_fd(), AT_FDCWD, DATA))?;
    check("attach a file", sys::move_mount(sources.file.as_raw_fd(), AT_FDCWD, FILE))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    check("mount a tmpfs", sys::mount(c"tmpfs", TMPFS, c"tmpfs", flags, c"size=1048576,mode=1777"))?;
    let (major, minor) = DEVICE_NUMBER;
    let device = libc::makedev(major, minor);
    check("make a device", sys::mknodat(AT_FDCWD, DEVICE, libc::S_IFCHR | 0o666, device)).map(drop)
}

/// When all mounts are there, and root still.
pub fn attributes(root: &CStr) -> Step {
    let read_only = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
    check("make the root read-only", sys::mount(c"", root, c"", read_only, c""))?;
    for (resource, soft, hard) in RLIMITS {
        check("set a resource limit", sys::prlimit(resource as c_int, &[soft, hard]))?;
    }
    let file = check("open oom_score_adj", own(c"/proc/self/oom_score_adj"))?;
    check("write oom_score_adj", sys::write(file.as_raw_fd(), OOM_SCORE_ADJ_TEXT))?;
    drop(file);
    // IOPRIO_WHO_PROCESS, the best-effort class.
    check("set the I/O priority", sys::ioprio_set(1, 0, 2 << 13 | u32::from(IO_PRIORITY)))?;
    // struct sched_attr: size, policy, flags (8 bytes), nice, and what other policies need
    let mut scheduler = [0u32; 12];
    (scheduler[0], scheduler[1], scheduler[4]) = (48, libc::SCHED_BATCH as u32, NICE as u32);
    check("set the scheduler", sys::sched_setattr(&scheduler)).map(drop)
}

fn own(path: &CStr) -> std::result::Result<OwnedFd, c_int> {
    sys::openat(AT_FDCWD, path, libc::O_WRONLY, 0)
}

/// Becomes an ordinary user; what it keeps for that is taken by the capset(2) that follows.
pub fn identity() -> Step {
    check("keep capabilities", sys::prctl(libc::PR_SET_KEEPCAPS, 1))?;
    check("set the groups", sys::setgroups(&GROUPS))?;
    check("set the group", sys::setresgid(GID, GID, GID))?;
    check("set the user", sys::setresuid(UID, UID, UID))?;
    check("set the umask", sys::umask(UMASK)).map(drop)
}

/// After capset(2).
pub fn ambient() -> Step {
    let raise = libc::PR_CAP_AMBIENT_RAISE as usize;
    check("raise an ambient capability", sys::prctl_two(libc::PR_CAP_AMBIENT, raise, AMBIENT as usize))
        .map(drop)
}
