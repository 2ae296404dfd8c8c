//! Steps that build the container's filesystem tree.
//!
//! The content of the root filesystem is hostile: every path in it is resolved by openat2(2) within the root, and
//! the mount goes onto the very file that was found. Nothing is looked up twice.

use crate::sys::{
    AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, EAGAIN, EEXIST, EINVAL, EMPTY, ENAMETOOLONG, ENOENT, ENOTDIR,
    EPERM, Errno, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_WRONLY, close, filesystem,
    nr, stat, syscall,
};
use crate::wire::{self, Reader};
use crate::{Done, Failure, In, State};

pub const RESOLVE_NO_XDEV: u64 = 0x01;
pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;
const OPEN_TREE_CLONE: usize = 1;
const MOVE_MOUNT_F_EMPTY_PATH: usize = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: usize = 0x40;
const MNT_DETACH: usize = 2;
const ATTR_RDONLY: u64 = 1;
const MS_PRIVATE: u64 = 1 << 18;
pub const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const S_IFMT: u32 = 0o170000;
const S_IFCHR: u32 = 0o020000;
const S_IFDIR: u32 = 0o040000;
/// The device number of /dev/null, 1:3.
const NULL_DEVICE: u64 = 1 << 8 | 3;

pub fn new_filesystem(state: &mut State, mut fields: Reader, with_flags: bool) -> Done {
    let (slot, attributes) = (fields.u32()?, fields.u32()?);
    let fstype = fields.string()?;
    let options = fields.u32()?;
    const CLOEXEC: usize = 1;
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    const CREATE: usize = 6;
    let context = syscall!(nr::FSOPEN, fstype.as_ptr(), CLOEXEC).within(wire::CALL_FSOPEN)? as i32;
    for _ in 0..options {
        let (key, value) = (fields.string()?, fields.string()?);
        syscall!(nr::FSCONFIG, context, SET_STRING, key.as_ptr(), value.as_ptr())
            .within(wire::CALL_FSCONFIG)?;
    }
    let flags = if with_flags { fields.u32()? } else { 0 };
    for _ in 0..flags {
        let key = fields.string()?;
        syscall!(nr::FSCONFIG, context, SET_FLAG, key.as_ptr()).within(wire::CALL_FSCONFIG)?;
    }
    syscall!(nr::FSCONFIG, context, CREATE).within(wire::CALL_FSCONFIG)?;
    let mount = syscall!(nr::FSMOUNT, context, CLOEXEC, attributes).within(wire::CALL_FSMOUNT)?;
    close(context);
    state.store(slot, mount)
}

pub fn attach(state: &State, mut fields: Reader) -> Done {
    let (slot, path) = (fields.u32()?, fields.string()?);
    syscall!(nr::MOVE_MOUNT, state.slot(slot)?, EMPTY, AT_FDCWD, path.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
        .within(wire::CALL_MOVE_MOUNT)
        .map(drop)
}

pub fn mount(mut fields: Reader) -> Done {
    let (source, target, fstype, options) =
        (fields.string()?, fields.string()?, fields.string()?, fields.string()?);
    syscall!(nr::MOUNT, source.as_ptr(), target.as_ptr(), fstype.as_ptr(), 0, options.as_ptr())
        .within(wire::CALL_MOUNT)
        .map(drop)
}

pub fn mkdir(mut fields: Reader) -> Done {
    let (path, mode) = (fields.string()?, fields.u32()?);
    syscall!(nr::MKDIRAT, AT_FDCWD, path.as_ptr(), mode).within(wire::CALL_MKDIR).map(drop)
}

pub fn set_root(state: &mut State, mut fields: Reader) -> Done {
    let path = fields.string()?;
    let flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    state.root = syscall!(nr::OPENAT, AT_FDCWD, path.as_ptr(), flags).within(wire::CALL_OPEN)? as i32;
    Ok(())
}

/// Opens a path within the root, without ever leaving it.
pub fn open_in_root(root: i32, path: *const u8, flags: usize, resolve: u64) -> Result<i32, Errno> {
    let how: [u64; 3] = [(flags | O_CLOEXEC) as u64, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve];
    // With `..` on the way, the kernel gives up when anything anywhere was renamed or mounted meanwhile: it cannot tell
    // whether that led out of the root.
    const MAX_TRIES: u32 = 128;
    let mut tries = 1;
    loop {
        match syscall!(nr::OPENAT2, root, path, how.as_ptr(), size_of_val(&how)) {
            Err(EAGAIN) if tries < MAX_TRIES => tries += 1,
            result => return result.map(|fd| fd as i32),
        }
    }
}

/// Where a path is looked up: in a filesystem of a slot, or in the root.
fn base(state: &State, slot: u32) -> Done<i32> {
    if slot == wire::NO_SLOT { Ok(state.root) } else { state.slot(slot) }
}

/// Opens a path within the root (`O_PATH`); what is missing of it is made: directories, and as the last part what
/// `create` says.
pub fn open_or_create(root: i32, path: &[u8], create: u32, resolve: u64) -> Done<i32> {
    match open_in_root(root, path.as_ptr(), O_PATH, resolve) {
        Err(ENOENT) if create != wire::CREATE_NOTHING => {}
        result => return result.within(wire::CALL_OPENAT2),
    }
    const MAX_PATH: usize = 4096;
    let mut prefix = [0u8; MAX_PATH + 1];
    if path.len() > MAX_PATH {
        return Err(ENAMETOOLONG).within(wire::CALL_OPENAT2);
    }
    let mut directory =
        open_in_root(root, c"/".as_ptr().cast(), O_PATH | O_DIRECTORY, 0).within(wire::CALL_OPENAT2)?;
    const MAX_RACES: u32 = 16;
    let mut races = 0;
    let mut start = 0;
    while start < path.len() {
        let end = path[start..].iter().position(|&byte| byte == b'/').map_or(path.len(), |at| start + at);
        if end == start {
            start += 1;
            continue;
        }
        let last = path[end..].iter().all(|&byte| byte == b'/');
        prefix[..end].copy_from_slice(&path[..end]);
        prefix[end] = 0;
        let next = match open_in_root(root, prefix.as_ptr(), O_PATH, resolve) {
            Err(ENOENT) => {
                let mut name = [0u8; 256];
                let length = end - start;
                if length >= name.len() {
                    return Err(ENAMETOOLONG).within(wire::CALL_OPENAT2);
                }
                name[..length].copy_from_slice(&path[start..end]);
                let made = if last && create == wire::CREATE_FILE {
                    let flags = O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC;
                    let file = syscall!(nr::OPENAT, directory, name.as_ptr(), flags, 0o644);
                    file.map(|file| close(file as i32)).within(wire::CALL_OPEN)
                } else {
                    syscall!(nr::MKDIRAT, directory, name.as_ptr(), 0o755).map(drop).within(wire::CALL_MKDIR)
                };
                match made {
                    // Another container with the same root filesystem was first: it is there now. Not for ever, since
                    // a link that leads nowhere also exists and is not there.
                    Err(Failure { errno: EEXIST, .. }) if races < MAX_RACES => {
                        races += 1;
                        continue;
                    }
                    made => made?,
                }
                // Beneath the directory that was just written to, and no link: what was made a moment ago.
                let flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
                syscall!(nr::OPENAT, directory, name.as_ptr(), flags).within(wire::CALL_OPEN)? as i32
            }
            result => result.within(wire::CALL_OPENAT2)?,
        };
        close(directory);
        directory = next;
        start = end;
    }
    Ok(directory)
}

fn attach_at(mount: i32, directory: i32, path: *const u8) -> Result<(), Errno> {
    syscall!(nr::MOVE_MOUNT, mount, EMPTY, directory, path, MOVE_MOUNT_F_EMPTY_PATH).map(drop)
}

/// What is mounted there was made a moment ago by init and holds what the kernel puts there: nothing in it can lead
/// elsewhere.
pub fn mount_below(state: &State, mut fields: Reader) -> Done {
    let (mount, base, path) = (state.slot(fields.u32()?)?, state.slot(fields.u32()?)?, fields.string()?);
    attach_at(mount, base, path.as_ptr()).within(wire::CALL_MOVE_MOUNT)
}

fn attach_to(mount: i32, target: i32) -> Done {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    syscall!(nr::MOVE_MOUNT, mount, EMPTY, target, EMPTY, flags).within(wire::CALL_MOVE_MOUNT).map(drop)
}

pub fn mount_at(state: &State, mut fields: Reader) -> Done {
    let mount = state.slot(fields.u32()?)?;
    let (path, create, flags) = (fields.string()?, fields.u32()?, fields.u32()?);
    let resolve = state.resolve(flags);
    if let Some((b'/', name)) = path.split_first().filter(|(_, name)| resolve != 0 && !name.contains(&b'/')) {
        // Directly below the root, the usual case: the last part of a path is not followed when it is a link.
        match attach_at(mount, state.root, name.as_ptr()) {
            Err(ENOENT) => {}
            result => return result.within(wire::CALL_MOVE_MOUNT),
        }
    }
    let target = open_or_create(state.root, path, create, resolve)?;
    // A link in the root filesystem could lead a mount into /proc, where it would fake what the kernel says
    // (CVE-2019-19921, CVE-2023-27561).
    // A path without links is where it says, and no specification says /proc.
    if resolve == 0 && filesystem(target).within(wire::CALL_FSTATFS)? == PROC_SUPER_MAGIC {
        return Err(EPERM).within(wire::CALL_MOVE_MOUNT);
    }
    attach_to(mount, target)?;
    close(target);
    Ok(())
}

pub fn mkdir_at(state: &State, mut fields: Reader) -> Done {
    let (slot, name, mode) = (fields.u32()?, fields.string()?, fields.u32()?);
    syscall!(nr::MKDIRAT, state.slot(slot)?, name.as_ptr(), mode).within(wire::CALL_MKDIR).map(drop)
}

pub fn mknod_at(state: &State, mut fields: Reader) -> Done {
    let (slot, name, mode) = (fields.u32()?, fields.string()?, fields.u32()?);
    let device = crate::device::number(fields.u32()?, fields.u32()?);
    syscall!(nr::MKNODAT, state.slot(slot)?, name.as_ptr(), mode | S_IFCHR, device)
        .within(wire::CALL_MKNOD)
        .map(drop)
}

pub fn symlink_at(state: &State, mut fields: Reader) -> Done {
    let (slot, name, target) = (fields.u32()?, fields.string()?, fields.string()?);
    syscall!(nr::SYMLINKAT, target.as_ptr(), state.slot(slot)?, name.as_ptr())
        .within(wire::CALL_SYMLINK)
        .map(drop)
}

fn open_in_template(path: *const u8, flags: usize) -> Done<i32> {
    let flags = flags | O_NOFOLLOW | O_CLOEXEC;
    syscall!(nr::OPENAT, AT_FDCWD, path, flags).within(wire::CALL_OPEN).map(|fd| fd as i32)
}

pub fn open(state: &mut State, mut fields: Reader) -> Done {
    let (path, flags, into) = (fields.string()?, fields.u32()?, fields.u32()?);
    let fd = open_in_template(path.as_ptr(), flags as usize)?;
    state.store(into, fd as usize)
}

pub fn clone_tree(fd: i32, recursive: usize) -> Done<i32> {
    let flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | recursive;
    syscall!(nr::OPEN_TREE, fd, EMPTY, flags).within(wire::CALL_OPEN_TREE).map(|fd| fd as i32)
}

/// What may be absent without harm: a path that this kernel or root filesystem does not have.
pub fn absent(errno: Errno) -> bool {
    matches!(errno, ENOENT | ENOTDIR)
}

pub fn mask(state: &mut State, mut fields: Reader) -> Done {
    let (base, path) = (base(state, fields.u32()?)?, fields.string()?);
    let target = match open_in_root(base, path.as_ptr(), O_PATH, 0) {
        Ok(target) => target,
        Err(errno) if absent(errno) => return Ok(()),
        Err(errno) => return Err(errno).within(wire::CALL_OPENAT2),
    };
    let (mode, _) = stat(target).within(wire::CALL_FSTAT)?;
    let source = if mode & S_IFMT == S_IFDIR { empty(state)? } else { null(state)? };
    let cover = clone_tree(source, 0)?;
    attach_to(cover, target)?;
    close(cover);
    close(target);
    Ok(())
}

fn empty(state: &mut State) -> Done<i32> {
    if state.empty == 0 {
        state.empty = open_in_template(wire::TEMPLATE_EMPTY.as_ptr().cast(), O_PATH)?;
    }
    Ok(state.empty)
}

/// From the template, never from the root filesystem, and checked on the very file that gets mounted
/// (CVE-2025-31133).
fn null(state: &mut State) -> Done<i32> {
    if state.null == 0 {
        let null = open_in_template(wire::TEMPLATE_NULL.as_ptr().cast(), O_PATH)?;
        let (mode, device) = stat(null).within(wire::CALL_FSTAT)?;
        if mode & S_IFMT != S_IFCHR || device != NULL_DEVICE {
            return Err(EINVAL).within(wire::CALL_FSTAT);
        }
        state.null = null;
    }
    Ok(state.null)
}

pub fn readonly(state: &State, mut fields: Reader) -> Done {
    let (base, path) = (base(state, fields.u32()?)?, fields.string()?);
    let target = match open_in_root(base, path.as_ptr(), O_PATH, 0) {
        Ok(target) => target,
        Err(errno) if absent(errno) => return Ok(()),
        Err(errno) => return Err(errno).within(wire::CALL_OPENAT2),
    };
    let cover = clone_tree(target, AT_RECURSIVE)?;
    // Nothing but that: programs stay programs, and devices stay devices. A copy keeps the attributes that it has.
    change_attributes(cover, AT_RECURSIVE, [ATTR_RDONLY, 0, MS_PRIVATE, 0])?;
    attach_to(cover, target)?;
    close(cover);
    close(target);
    Ok(())
}

fn change_attributes(mount: i32, recursive: usize, attributes: [u64; 4]) -> Done {
    let flags = AT_EMPTY_PATH | recursive;
    syscall!(nr::MOUNT_SETATTR, mount, EMPTY, flags, attributes.as_ptr(), size_of_val(&attributes))
        .within(wire::CALL_MOUNT_SETATTR)
        .map(drop)
}

pub fn set_attributes(state: &State, mut fields: Reader) -> Done {
    let mount = state.slot(fields.u32()?)?;
    let recursive = if fields.u32()? != 0 { AT_RECURSIVE } else { 0 };
    change_attributes(mount, recursive, [fields.u64()?, fields.u64()?, fields.u64()?, 0])
}

pub fn root_readonly(state: &State) -> Done {
    change_attributes(state.root, 0, [ATTR_RDONLY, 0, 0, 0])
}

/// Only when the old root is gone: pivot_root(2) takes no shared one, and nobody else has this tree.
pub fn root_propagation(state: &State, mut fields: Reader) -> Done {
    let recursive = if fields.u32()? != 0 { AT_RECURSIVE } else { 0 };
    change_attributes(state.root, recursive, [0, 0, fields.u64()?, 0])
}

pub fn mkdir_in_root(state: &State, mut fields: Reader) -> Done {
    let path = fields.string()?;
    open_or_create(state.root, path, wire::CREATE_DIRECTORY, 0).map(close)
}

pub fn pivot(state: &State) -> Done {
    let dot = c".".as_ptr();
    syscall!(nr::FCHDIR, state.root).within(wire::CALL_FCHDIR)?;
    syscall!(nr::PIVOT_ROOT, dot, dot).within(wire::CALL_PIVOT_ROOT)?;
    // The old root now lies over the new one: let go of it, with the template and all layers.
    syscall!(nr::UMOUNT2, dot, MNT_DETACH).within(wire::CALL_UMOUNT)?;
    syscall!(nr::CHDIR, c"/".as_ptr()).within(wire::CALL_CHDIR).map(drop)
}

pub fn chdir(mut fields: Reader) -> Done {
    let path = fields.string()?;
    syscall!(nr::CHDIR, path.as_ptr()).within(wire::CALL_CHDIR)?;
    // A working directory outside the root would be a way out of it: getcwd(2) then says "(unreachable)"
    // (CVE-2024-21626).
    let mut buffer = [0u8; 4096];
    syscall!(nr::GETCWD, buffer.as_mut_ptr(), buffer.len()).within(wire::CALL_GETCWD)?;
    if buffer[0] == b'/' { Ok(()) } else { Err(ENOENT).within(wire::CALL_GETCWD) }
}
