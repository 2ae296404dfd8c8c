//! The file-descriptor mount API, see fsopen(2), open_tree(2), move_mount(2) and mount_setattr(2).
#![allow(unsafe_code, reason = "nix and libc have no wrappers for these calls")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Result, check};

const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

/// Mount attributes of mount_setattr(2).
pub(crate) mod attr {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    /// How access times are kept: one value of these bits.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const IDMAP: u64 = 0x10_0000;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// What to change of the attributes of a tree of mounts: first of all of them, then of the one at its top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AttributeChange {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) set_all: u64,
    pub(crate) clear_all: u64,
}

impl AttributeChange {
    /// Does it; no system call where nothing is to be changed.
    pub(crate) fn apply(&self, mount: BorrowedFd<'_>) -> Result<()> {
        if self.set_all | self.clear_all != 0 {
            set_attributes(mount, true, self.set_all, self.clear_all, 0)?;
        }
        if self.set | self.clear != 0 {
            set_attributes(mount, false, self.set, self.clear, 0)?;
        }
        Ok(())
    }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn owned(raw: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just made this file descriptor for us and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(raw as i32) }
}

/// A detached copy of the mount at `path` below `dir`, with all that is mounted below it when `recursive`.
/// An empty path means `dir` itself.
pub(crate) fn clone_tree(dir: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    if path.is_empty() {
        flags |= AT_EMPTY_PATH;
    }
    // SAFETY: the path is NUL-terminated and outlives the call; the rest are numbers.
    check(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags) })
        .map(owned)
}

/// The mount at `path` below `dir` itself, to be moved by [`attach`].
pub(crate) fn open_tree(dir: impl AsFd, path: &CStr) -> Result<OwnedFd> {
    // SAFETY: the path is NUL-terminated and outlives the call; the rest are numbers.
    check(unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), OPEN_TREE_CLOEXEC)
    })
    .map(owned)
}

/// A new, detached instance of a filesystem with these options and mount attributes.
pub(crate) fn new_filesystem(fstype: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> Result<OwnedFd> {
    // What mount(8) and df(1) show as the device.
    let options: Vec<_> = std::iter::once((c"source", fstype))
        .chain(options.iter().copied())
        .map(|(k, v)| (k, Some(v)))
        .collect();
    filesystem(fstype, &options, attributes)
}

/// The same with nothing added; an option without a value stands alone.
pub(crate) fn filesystem(
    fstype: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: u64,
) -> Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    let context = owned(check(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })?);
    for (key, value) in options {
        let command = if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
        // SAFETY: both strings are NUL-terminated and outlive the call; a flag has a null pointer for its value.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                key.as_ptr(),
                value.map_or(std::ptr::null(), CStr::as_ptr),
                0,
            )
        })?;
    }
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no key and no value.
    check(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, null, null, 0)
    })?;
    // SAFETY: only numbers are passed.
    check(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as u32)
    })
    .map(owned)
}

/// Attaches a detached mount, or moves one that is attached elsewhere, at `path` below `dir`; an empty path means `dir` itself.
pub(crate) fn attach(mount: BorrowedFd<'_>, dir: impl AsFd, path: &CStr) -> Result<()> {
    let mut flags = MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MOVE_MOUNT_T_EMPTY_PATH;
    }
    // SAFETY: both paths are NUL-terminated and outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// Sets and clears attributes of a mount, and its propagation (`MS_PRIVATE`, …) unless 0.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<()> {
    set_all(mount, recursive, MountAttr { set, clear, propagation, userns_fd: 0 })
}

/// Maps the ids of the files on a detached mount that was never attached, as in that user namespace.
pub(crate) fn map_ids(mount: BorrowedFd<'_>, recursive: bool, namespace: BorrowedFd<'_>) -> Result<()> {
    let userns_fd = namespace.as_raw_fd() as u64;
    set_all(mount, recursive, MountAttr { set: attr::IDMAP, clear: 0, propagation: 0, userns_fd })
}

fn set_all(mount: BorrowedFd<'_>, recursive: bool, attributes: MountAttr) -> Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the structure has the kernel's layout, its size is given, and it outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attributes,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// pivot_root(2) onto the current directory, and the old root detached: what remains of the old tree is gone
/// from this mount namespace.
pub(crate) fn pivot_to_cwd() -> Result<()> {
    // SAFETY: both paths are NUL-terminated constants.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    nix::mount::umount2(c".", nix::mount::MntFlags::MNT_DETACH)?;
    nix::unistd::chdir(c"/")
}
