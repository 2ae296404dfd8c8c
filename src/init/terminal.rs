//! A terminal of the container's own, from the devpts that it has.
//!
//! The other side of it is asked for by the open master (`TIOCGPTPEER`), never by a path, where a container could have
//! put another file (CVE-2025-52565).

use crate::sys::{
    AT_EMPTY_PATH, AT_FDCWD, EMPTY, ENODEV, Errno, O_CLOEXEC, O_DIRECTORY, O_NOCTTY, O_NOFOLLOW, O_PATH,
    O_RDWR, close, filesystem, nr, stat, syscall,
};
use crate::wire::{self, Reader};
use crate::{Done, In, State, process};

const TIOCSCTTY: usize = 0x540e;
const TIOCSWINSZ: usize = 0x5414;
const TIOCSPTLCK: usize = 0x4004_5431;
const TIOCGPTPEER: usize = 0x5441;
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const OPEN_TREE_CLONE: usize = 1;
const S_IFMT: u32 = 0o170000;
const S_IFCHR: u32 = 0o020000;
/// Devices 5:2, and 136:0 up to 143:…
const PTMX_DEVICE: u64 = 5 << 8 | 2;
const SLAVE_MAJORS: core::ops::RangeInclusive<u64> = 136..=143;

/// Makes a terminal, sends its master to the library, and keeps the other side.
pub fn open(state: &mut State, mut fields: Reader) -> Done {
    let (devpts, into, console) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (uid, width, height) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let directory = if devpts == wire::NO_SLOT { find()? } else { state.slot(devpts)? };
    let flags = O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC;
    let master = syscall!(nr::OPENAT, directory, c"ptmx".as_ptr(), flags).within(wire::CALL_OPEN)? as i32;
    expect(master, |device| device == PTMX_DEVICE)?;
    let locked = 0u32;
    syscall!(nr::IOCTL, master, TIOCSPTLCK, &raw const locked).within(wire::CALL_TIOCSPTLCK)?;
    let slave = syscall!(nr::IOCTL, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    let slave = slave.within(wire::CALL_TIOCGPTPEER)? as i32;
    expect(slave, |device| SLAVE_MAJORS.contains(&(device >> 8 & 0xfff)))?;
    if width != 0 || height != 0 {
        let size = [height as u16, width as u16, 0, 0];
        syscall!(nr::IOCTL, master, TIOCSWINSZ, size.as_ptr()).within(wire::CALL_TIOCSWINSZ)?;
    }
    // The group is that of all terminals, see the mount option `gid`.
    const SAME_GROUP: u32 = u32::MAX;
    syscall!(nr::FCHOWN, slave, uid, SAME_GROUP).within(wire::CALL_FCHOWN)?;
    if console != wire::NO_SLOT {
        let flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH;
        let tree = syscall!(nr::OPEN_TREE, slave, EMPTY, flags).within(wire::CALL_OPEN_TREE)?;
        state.store(console, tree)?;
    }
    process::send_descriptor(state.slot(wire::CONTROL)?, wire::MSG_TERMINAL, master)?;
    close(master);
    state.store(into, slave as usize)
}

/// The devpts of a container that was entered. What is at that path is up to the container: only that filesystem is
/// taken, and it makes its files itself.
fn find() -> Done<i32> {
    let flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    let how: [u64; 3] = [flags as u64, 0, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS];
    let path = c"/dev/pts".as_ptr();
    let directory = syscall!(nr::OPENAT2, AT_FDCWD, path, how.as_ptr(), size_of_val(&how));
    let directory = directory.within(wire::CALL_OPENAT2)? as i32;
    if filesystem(directory).within(wire::CALL_FSTATFS)? != DEVPTS_SUPER_MAGIC {
        return Err(ENODEV).within(wire::CALL_FSTATFS);
    }
    Ok(directory)
}

fn expect(fd: i32, device: impl Fn(u64) -> bool) -> Done {
    match stat(fd) {
        Ok((mode, number)) if mode & S_IFMT == S_IFCHR && device(number) => Ok(()),
        Ok(_) => Err(ENODEV),
        Err(errno) => Err::<(), Errno>(errno),
    }
    .within(wire::CALL_FSTAT)
}

/// Makes standard input, a terminal, that of the session, which this process leads.
pub fn control() -> Done {
    syscall!(nr::IOCTL, 0, TIOCSCTTY, 0).within(wire::CALL_TIOCSCTTY).map(drop)
}
