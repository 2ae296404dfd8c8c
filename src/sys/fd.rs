//! File descriptors: duplicates that stay clear of 0, 1 and 2, sealed memory files, and opening beneath a directory.
#![allow(unsafe_code, reason = "memfd_create with MFD_EXEC and openat2 are raw calls here")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, poll};

use super::clock::Deadline;
use super::{Result, check};

const MFD_EXEC: u32 = 0x10;
const MFD_NOEXEC_SEAL: u32 = 0x08;

pub(crate) mod resolve {
    pub(crate) const NO_XDEV: u64 = 0x01;
    pub(crate) const NO_MAGICLINKS: u64 = 0x02;
    pub(crate) const NO_SYMLINKS: u64 = 0x04;
    pub(crate) const BENEATH: u64 = 0x08;
    pub(crate) const IN_ROOT: u64 = 0x10;
}

/// A duplicate with a number of at least 3, closed on exec: init moves files onto 0, 1 and 2.
pub(crate) fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the kernel just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A duplicate of the file that this program has under a number, closed on exec.
///
/// # Errors
/// `EBADF` when it has none, or one that it does not hand down itself (`FD_CLOEXEC`).
pub(crate) fn duplicate_number(number: i32) -> Result<OwnedFd> {
    // SAFETY: only numbers are passed, and the kernel says whether there is such a file.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    if flags as i32 & libc::FD_CLOEXEC != 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: as above.
    let raw = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }.into())?;
    // SAFETY: the kernel just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

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

/// The file itself when its number is at least 3, otherwise a duplicate: a host program may have closed 0, 1 or 2,
/// and the kernel then gives these numbers to whatever is opened next.
pub(crate) fn clear_of_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() >= 3 { Ok(fd) } else { duplicate(&fd) }
}

/// A file in memory, see memfd_create(2).
pub(crate) fn memfd(name: &CStr) -> Result<OwnedFd> {
    create_memfd(name, libc::MFD_CLOEXEC, MFD_NOEXEC_SEAL)
}

fn create_memfd(name: &CStr, flags: u32, kind: u32) -> Result<OwnedFd> {
    let create = |flags: u32| {
        // SAFETY: the name is NUL-terminated and outlives the call.
        check(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) })
    };
    // Before Linux 6.3 there are no such kinds: EINVAL.
    let raw = create(flags | kind).or_else(|errno| match errno {
        Errno::EINVAL => create(flags),
        other => Err(other),
    })?;
    // SAFETY: the kernel just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// A file in memory, see memfd_create(2), that nobody can write to, grow or shrink any more.
pub(crate) fn sealed_memfd(name: &CStr, content: &[u8], executable: bool) -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let kind = if executable { MFD_EXEC } else { MFD_NOEXEC_SEAL };
    let fd = create_memfd(name, flags, kind)?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = nix::unistd::write(&fd, rest)?;
        rest = &rest[written..];
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(nix::fcntl::SealFlag::from_bits_retain(seals)))?;
    Ok(fd)
}

/// openat2(2): opens `path` below `dir` under the given `RESOLVE_` rules. Always closed on exec.
pub(crate) fn open_beneath(
    dir: impl AsFd,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> Result<OwnedFd> {
    let how: [u64; 3] = [(flags | libc::O_CLOEXEC) as u64, u64::from(mode), resolve];
    let open = || {
        // SAFETY: `how` has the layout of `struct open_how` (three 64-bit words), its size is given.
        check(unsafe {
            libc::syscall(libc::SYS_openat2, dir.as_fd().as_raw_fd(), path.as_ptr(), &how, size_of_val(&how))
        })
    };
    // With `..` on the way, the kernel gives up when anything anywhere was renamed or mounted meanwhile.
    const MAX_TRIES: u32 = 128;
    let mut tries = 1;
    let raw = loop {
        match open() {
            Err(Errno::EAGAIN) if tries < MAX_TRIES => tries += 1,
            result => break result?,
        }
    };
    // SAFETY: the kernel just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}
