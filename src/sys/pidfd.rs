//! Processes by file descriptor, see pidfd_open(2): no number is ever signalled that may have become somebody else's.
#![allow(unsafe_code, reason = "nix has no wrappers for these calls")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::statfs::{FsType, fstatfs};

use super::{Result, check};

/// How a process ended, as wait(2) tells it: the raw status word.
pub(crate) type WaitStatus = i32;

/// A file for the process `pid`.
pub(crate) fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: only numbers are passed.
    let raw = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// A copy of the file that a process has under that number, see pidfd_getfd(2). Always closed on exec.
pub(crate) fn get_fd(pidfd: BorrowedFd<'_>, number: i32) -> Result<OwnedFd> {
    // SAFETY: only numbers are passed.
    let raw = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: the kernel just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// The inode number of a pidfd where that is unique to the process: on the filesystem of its own that pidfds have since
/// Linux 6.9. `None` before.
pub(crate) fn unique_inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>> {
    /// `PID_FS_MAGIC` of linux/magic.h.
    const PIDFS: FsType = FsType(0x5049_4446);
    if fstatfs(pidfd)?.filesystem_type() != PIDFS {
        return Ok(None);
    }
    Ok(Some(nix::sys::stat::fstat(pidfd)?.st_ino))
}

/// Sends a signal; 0 only asks whether the process is there.
pub(crate) fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: no siginfo is passed, the rest are numbers.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, null, 0) })
        .map(drop)
}

/// Takes the exit status of a child that has ended; `None` while it lives, and also when it has ended and somebody
/// traces it (ptrace(2)), who gets the status first.
///
/// # Errors
/// `ECHILD` when it is no child of this process, or somebody else has taken the status.
pub(crate) fn reap(pidfd: impl AsFd) -> Result<Option<WaitStatus>> {
    wait(pidfd, 0)
}

/// Whether it is a child of this process whose status nobody has taken.
pub(crate) fn has_status(pidfd: impl AsFd) -> bool {
    wait(pidfd, libc::WNOWAIT).is_ok()
}

fn wait(pidfd: impl AsFd, options: i32) -> Result<Option<WaitStatus>> {
    // SAFETY: an all-zero siginfo_t is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is ours and of the right type.
        let result = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_fd().as_raw_fd() as libc::id_t,
                &mut info,
                libc::WEXITED | libc::WNOHANG | libc::__WALL | options,
            )
        };
        match check(result.into()) {
            Err(Errno::EINTR) => continue,
            Err(other) => return Err(other),
            Ok(_) => break,
        }
    }
    // SAFETY: waitid fills the fields of SIGCHLD.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    }))
}

/// `struct pidfd_info` of linux/pidfd.h, its first published size.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)` for the size that we use.
const PIDFD_GET_INFO: libc::c_ulong =
    (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xff << 8) | 11;

/// The exit status that the kernel keeps for whoever holds a pidfd (Linux 6.15 and later), whoever reaped the
/// process; `None` when this kernel does not have it, or the process has not been reaped yet.
pub(crate) fn kept_status(pidfd: impl AsFd) -> Option<WaitStatus> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the number of the ioctl carries the structure's size, and the structure is ours.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO, &mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}
