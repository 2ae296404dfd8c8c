//! Device nodes that a container asks for.

use crate::fs::open_or_create;
use crate::sys::{AT_EMPTY_PATH, EEXIST, EMPTY, O_CLOEXEC, O_NOFOLLOW, O_PATH, close, nr, stat, syscall};
use crate::wire::{self, Reader};
use crate::{Done, In, State};

const S_IFMT: u32 = 0o170000;

/// As mknod(2) and fstat(2) have it, see makedev(3).
pub fn number(major: u32, minor: u32) -> u64 {
    u64::from(minor & 0xff) | u64::from(major & 0xfff) << 8 | u64::from(minor & !0xff) << 12
}

/// Makes a node in a directory of the container. What belongs to somebody else cannot get in its place: owner and mode
/// are those of a file that is known, by its descriptor, to be the device.
pub fn make(state: &State, mut fields: Reader) -> Done {
    let (directory, name) = (fields.string()?, fields.string()?);
    let (mode, major, minor) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (uid, gid) = (fields.u32()?, fields.u32()?);
    let device = number(major, minor);
    let directory =
        open_or_create(state.root, directory, wire::CREATE_DIRECTORY, state.resolve(fields.u32()?))?;
    let mknod = || syscall!(nr::MKNODAT, directory, name.as_ptr(), mode, device);
    match mknod() {
        // The same device: as it is asked for is better than as it is.
        Err(EEXIST) if is_device(directory, name, mode, device)? => {
            syscall!(nr::UNLINKAT, directory, name.as_ptr(), 0).within(wire::CALL_UNLINK)?;
            mknod()
        }
        result => result,
    }
    .within(wire::CALL_MKNOD)?;
    let node = open(directory, name)?;
    if !same(node, mode, device)? {
        return Err(EEXIST).within(wire::CALL_MKNOD);
    }
    if uid != 0 || gid != 0 {
        syscall!(nr::FCHOWNAT, node, EMPTY, uid, gid, AT_EMPTY_PATH).within(wire::CALL_FCHOWN)?;
    }
    close(node);
    close(directory);
    Ok(())
}

fn open(directory: i32, name: &[u8]) -> Done<i32> {
    let flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    syscall!(nr::OPENAT, directory, name.as_ptr(), flags).within(wire::CALL_OPEN).map(|fd| fd as i32)
}

fn is_device(directory: i32, name: &[u8], mode: u32, device: u64) -> Done<bool> {
    let file = open(directory, name)?;
    let same = same(file, mode, device);
    close(file);
    same
}

fn same(file: i32, mode: u32, device: u64) -> Done<bool> {
    let (found, number) = stat(file).within(wire::CALL_FSTAT)?;
    Ok(found & S_IFMT == mode & S_IFMT && number == device)
}
