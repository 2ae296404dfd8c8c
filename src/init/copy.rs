//! What a directory of the root filesystem holds, copied into a new tmpfs that is to cover it; and links of the host.
//!
//! The content is hostile, and others may change it meanwhile: every name is opened once, without following links or
//! crossing into other mounts, and what is copied is what the descriptor is. The tmpfs bounds how much that can be.

use crate::fs::{PROC_SUPER_MAGIC, RESOLVE_NO_SYMLINKS, absent, open_in_root, open_or_create};
use crate::sys::{
    AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, EEXIST, EINVAL, EMPTY, ENAMETOOLONG, EPERM, EXDEV, Errno, O_CLOEXEC,
    O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_WRONLY, Stat, close, filesystem,
    full_stat, nr, syscall,
};
use crate::wire::{self, Reader};
use crate::{Done, In, State};

const RESOLVE_NO_XDEV: u64 = 0x01;
const SYSFS_MAGIC: u64 = 0x6265_6572;
const S_IFMT: u32 = 0o170000;
const S_IFDIR: u32 = 0o040000;
const S_IFREG: u32 = 0o100000;
const S_IFLNK: u32 = 0o120000;
/// Directories in each other: each takes a piece of the stack.
const MAX_DEPTH: u32 = 64;

pub fn copy_up(state: &State, mut fields: Reader) -> Done {
    let (mount, path) = (state.slot(fields.u32()?)?, fields.string()?);
    let keep_mode = fields.u32()? & wire::COPY_KEEP_MODE != 0;
    let source = match open_in_root(state.root, path.as_ptr(), O_DIRECTORY, 0) {
        Ok(source) => source,
        Err(errno) if absent(errno) => return Ok(()),
        Err(errno) => return Err(errno).within(wire::CALL_OPENAT2),
    };
    // A link in the root filesystem could lead to what is going to be masked.
    if matches!(filesystem(source).within(wire::CALL_FSTATFS)?, PROC_SUPER_MAGIC | SYSFS_MAGIC) {
        return Err(EPERM).within(wire::CALL_OPENAT2);
    }
    let flags = O_DIRECTORY | O_CLOEXEC;
    let target = syscall!(nr::OPENAT, mount, c".".as_ptr(), flags).within(wire::CALL_OPEN)? as i32;
    directory(source, target, 0)?;
    if !keep_mode {
        let stat = full_stat(source).within(wire::CALL_FSTAT)?;
        own(target, &stat)?;
    }
    close(source);
    close(target);
    Ok(())
}

/// Owner first: a change of owner takes set-user-id bits away.
fn own(file: i32, stat: &Stat) -> Done {
    syscall!(nr::FCHOWNAT, file, EMPTY, stat.uid, stat.gid, AT_EMPTY_PATH).within(wire::CALL_FCHOWN)?;
    syscall!(nr::FCHMOD, file, stat.mode & 0o7777).within(wire::CALL_FCHMOD).map(drop)
}

/// Opens what the name is, in this mount.
fn open(directory: i32, name: *const u8, flags: usize) -> Result<i32, Errno> {
    let resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
    let how: [u64; 3] = [(flags | O_NOFOLLOW | O_CLOEXEC) as u64, 0, resolve];
    syscall!(nr::OPENAT2, directory, name, how.as_ptr(), size_of_val(&how)).map(|fd| fd as i32)
}

fn directory(source: i32, target: i32, depth: u32) -> Done {
    if depth >= MAX_DEPTH {
        return Err(ENAMETOOLONG).within(wire::CALL_GETDENTS);
    }
    let mut buffer = [0u8; 2048];
    loop {
        let length = syscall!(nr::GETDENTS64, source, buffer.as_mut_ptr(), buffer.len())
            .within(wire::CALL_GETDENTS)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = buffer.get(..length).unwrap_or_default();
        // struct linux_dirent64: inode, offset, length of all, type, name with a NUL.
        while let Some(&[low, high]) = rest.get(16..18) {
            let size = usize::from(u16::from_le_bytes([low, high]));
            let (Some(name), Some(next)) = (rest.get(19..size), rest.get(size..)) else {
                return Err(EINVAL).within(wire::CALL_GETDENTS);
            };
            if !name.contains(&0) {
                return Err(EINVAL).within(wire::CALL_GETDENTS);
            }
            rest = next;
            if !matches!(name, [b'.', 0, ..] | [b'.', b'.', 0, ..]) {
                entry(source, target, name.as_ptr(), depth)?;
            }
        }
    }
}

fn entry(source: i32, target: i32, name: *const u8, depth: u32) -> Done {
    // With these flags a link is opened by itself.
    let file = match open(source, name, O_PATH) {
        Ok(file) => file,
        // It was removed in between, or it is another mount, which the tmpfs is going to hide.
        Err(EXDEV) => return Ok(()),
        Err(errno) if absent(errno) => return Ok(()),
        Err(errno) => return Err(errno).within(wire::CALL_OPENAT2),
    };
    let stat = full_stat(file).within(wire::CALL_FSTAT)?;
    let copied = match stat.mode & S_IFMT {
        S_IFDIR => subdirectory(source, target, name, depth),
        S_IFREG => regular(source, target, name),
        S_IFLNK => link(file, target, name, &stat),
        _ => syscall!(nr::MKNODAT, target, name, stat.mode, stat.rdev)
            .within(wire::CALL_MKNOD)
            .and_then(|_| own_by_name(target, name, &stat)),
    };
    close(file);
    copied
}

/// In the tmpfs, which nobody else has: no name is another file meanwhile.
fn own_by_name(target: i32, name: *const u8, stat: &Stat) -> Done {
    syscall!(nr::FCHOWNAT, target, name, stat.uid, stat.gid, AT_SYMLINK_NOFOLLOW)
        .within(wire::CALL_FCHOWN)
        .map(drop)
}

fn subdirectory(source: i32, target: i32, name: *const u8, depth: u32) -> Done {
    let from = open(source, name, O_DIRECTORY).within(wire::CALL_OPENAT2)?;
    let stat = full_stat(from).within(wire::CALL_FSTAT)?;
    syscall!(nr::MKDIRAT, target, name, 0o700).within(wire::CALL_MKDIR)?;
    let into = open(target, name, O_DIRECTORY).within(wire::CALL_OPENAT2)?;
    directory(from, into, depth + 1)?;
    own(into, &stat)?;
    close(from);
    close(into);
    Ok(())
}

fn regular(source: i32, target: i32, name: *const u8) -> Done {
    // Should it be a named pipe by now, this does not wait for somebody at its other end.
    let from = open(source, name, O_NONBLOCK).within(wire::CALL_OPENAT2)?;
    let stat = full_stat(from).within(wire::CALL_FSTAT)?;
    if stat.mode & S_IFMT != S_IFREG {
        return Err(EINVAL).within(wire::CALL_FSTAT);
    }
    let flags = O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC;
    let into = syscall!(nr::OPENAT, target, name, flags, 0o600).within(wire::CALL_OPEN)? as i32;
    const AT_ONCE: usize = 1 << 30;
    while syscall!(nr::SENDFILE, into, from, 0, AT_ONCE).within(wire::CALL_SENDFILE)? > 0 {}
    own(into, &stat)?;
    close(from);
    close(into);
    Ok(())
}

/// What a link leads to, with a zero at the end.
struct Text {
    bytes: [u8; 4097],
    length: usize,
}

/// Of the link `name` in a directory; with an empty name of the link that is open itself.
fn text(file: i32, name: *const u8) -> Result<Text, Errno> {
    let mut text = Text { bytes: [0; 4097], length: 0 };
    text.length = syscall!(nr::READLINKAT, file, name, text.bytes.as_mut_ptr(), text.bytes.len() - 1)?;
    Ok(text)
}

/// Makes a link like the one in a slot. One that leads to the same is as good.
#[inline(never)]
pub fn copy_link(state: &State, mut fields: Reader) -> Done {
    let link = text(state.slot(fields.u32()?)?, EMPTY).within(wire::CALL_READLINK)?;
    let (directory, name) = (fields.string()?, fields.string()?);
    let directory =
        open_or_create(state.root, directory, wire::CREATE_DIRECTORY, state.resolve(fields.u32()?))?;
    let made = match syscall!(nr::SYMLINKAT, link.bytes.as_ptr(), directory, name.as_ptr()) {
        Err(EEXIST) => match text(directory, name.as_ptr()) {
            Ok(there) if there.bytes[..there.length] == link.bytes[..link.length] => Ok(0),
            _ => Err(EEXIST),
        },
        made => made,
    };
    made.within(wire::CALL_SYMLINK)?;
    close(directory);
    Ok(())
}

#[inline(never)]
fn link(file: i32, target: i32, name: *const u8, stat: &Stat) -> Done {
    let link = text(file, EMPTY).within(wire::CALL_READLINK)?;
    syscall!(nr::SYMLINKAT, link.bytes.as_ptr(), target, name).within(wire::CALL_SYMLINK)?;
    own_by_name(target, name, stat)
}
