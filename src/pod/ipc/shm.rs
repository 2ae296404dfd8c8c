//! POSIX shared memory objects (shm_overview(7)): regular files at the top of the pod's tmpfs.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, ftruncate, linkat, unlinkat};

use super::validate;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::ShmObjectSpec;
use crate::sys::ipc as sys;

const CREATE: &str = "create shared memory object";
const OPEN: &str = "open shared memory object";

/// Makes a shared memory object in the directory `shm_root`, filled with `size` zeros,
/// with exactly the mode and owner asked for. Returns it open for reading and writing, closed on exec.
///
/// The object is made without a name (`O_TMPFILE` of open(2)) and linked once it is complete: a container
/// sees the whole object or none, and cannot put anything in its place meanwhile.
///
/// Memory is taken when it is written to, and belongs to the control group of who writes first. A container
/// that may write to the object may also shrink it, or fill the tmpfs: a host that has it mapped then gets
/// `SIGBUS`.
///
/// # Errors
/// `InvalidSpec` for a field; `AlreadyExists` when anything of that name is there, be it a symbolic link;
/// `Exhausted` when `size` is more than the whole tmpfs has.
pub(crate) fn create_shm_object(shm_root: BorrowedFd<'_>, object: &ShmObjectSpec) -> Result<OwnedFd> {
    validate::shm(object, "shm")?;
    let name = validate::name(&object.name, "shm.name")?;
    fits(shm_root, object.size).map_err(|error| error.on(name))?;
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file = openat(shm_root, c".", flags, Mode::empty()).map_err(|errno| refused(errno, name))?;
    complete(&file, object).step(CREATE, name)?;
    give_name(&file, shm_root, name).map_err(|errno| refused(errno, name))?;
    Ok(file)
}

/// Before Linux 6.10 the straight way takes a privilege of the machine, which an ordinary user has not; the way through
/// proc takes none.
fn give_name(file: &OwnedFd, shm_root: BorrowedFd<'_>, name: &str) -> crate::sys::Result<()> {
    match linkat(file, c"", shm_root, name, AtFlags::AT_EMPTY_PATH) {
        Err(Errno::ENOENT) => {
            let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
            linkat(AT_FDCWD, path.as_str(), shm_root, name, AtFlags::AT_SYMLINK_FOLLOW)
        }
        result => result,
    }
}

/// What the error numbers of the two calls that make a file mean here.
fn refused(errno: Errno, name: &str) -> Error {
    let error = Error::system(errno, CREATE).on(name);
    match errno {
        Errno::ENOENT => error
            .of_kind(ErrorKind::PermissionDenied)
            .because("giving it its name needs CAP_DAC_READ_SEARCH before Linux 6.10"),
        Errno::EOVERFLOW => error.because(super::UNMAPPED),
        _ => error,
    }
}

/// Gives the nameless file its size, owner and mode.
fn complete(file: &OwnedFd, object: &ShmObjectSpec) -> nix::Result<()> {
    // A container that owns the directory may have given it an ACL for new files, which a mode does not undo.
    sys::remove_acl(file)?;
    ftruncate(file, object.size.try_into().map_err(|_| Errno::EFBIG)?)?;
    fchown(file, Some(Uid::from_raw(object.uid)), Some(Gid::from_raw(object.gid)))?;
    fchmod(file, Mode::from_bits_truncate(object.mode))
}

/// Refuses what could never be filled: ftruncate(2) grants any size, and writing beyond the tmpfs is a
/// `SIGBUS`.
fn fits(shm_root: BorrowedFd<'_>, size: u64) -> Result<()> {
    let tmpfs = fstatfs(shm_root).step(CREATE, "")?;
    let capacity = tmpfs.blocks().saturating_mul(u64::try_from(tmpfs.block_size()).unwrap_or(0));
    // A tmpfs without a limit counts no blocks.
    if capacity != 0 && size > capacity {
        let detail = format!("{size} bytes are more than the {capacity} of the pod's /dev/shm");
        return Err(Error::system(Errno::ENOSPC, CREATE).because(detail));
    }
    Ok(())
}

/// Opens a shared memory object of the directory `shm_root` for reading, or for reading and writing, closed
/// on exec. Its permission bits are no obstacle to a host program with `CAP_DAC_OVERRIDE`.
///
/// Containers may have made it, with any content and size, and may change both at any time: a host that maps
/// it has to expect `SIGBUS` when it is shrunk.
///
/// # Errors
/// `NotFound`; `WrongState` when there is something else of that name (a directory, symbolic link, FIFO or
/// socket), or when a container holds a lease on it (see `F_SETLEASE` in fcntl(2)) for which open(2) would
/// wait; `PermissionDenied` for a device, as the tmpfs is mounted `nodev`.
pub(crate) fn open_shm_object(shm_root: BorrowedFd<'_>, name: &str, writable: bool) -> Result<OwnedFd> {
    let name = validate::name(name, "name")?;
    let access = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let how = OpenHow::new()
        // O_NONBLOCK: opening a FIFO or a leased file must not wait for whoever put it there.
        .flags(access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        );
    let file = openat2(shm_root, name, how).map_err(|errno| {
        let error = Error::system(errno, OPEN).on(name);
        match errno {
            Errno::ELOOP => error.of_kind(ErrorKind::WrongState).because("it is a symbolic link"),
            Errno::EISDIR | Errno::ENXIO => {
                error.of_kind(ErrorKind::WrongState).because("it is no regular file")
            }
            Errno::EAGAIN => error.of_kind(ErrorKind::WrongState).because("a process holds a lease on it"),
            _ => error,
        }
    })?;
    if !is_regular(&fstat(&file).step(OPEN, name)?) {
        return Err(Error::new(ErrorKind::WrongState, OPEN).on(name).because("it is no regular file"));
    }
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).step(OPEN, name)?;
    Ok(file)
}

/// Removes the name of a shared memory object; its memory goes with the last who has it open or mapped.
/// Anything else of that name is removed likewise, except for a directory.
///
/// # Errors
/// `NotFound`.
pub(crate) fn remove_shm_object(shm_root: BorrowedFd<'_>, name: &str) -> Result<()> {
    let name = validate::name(name, "name")?;
    unlinkat(shm_root, name, UnlinkatFlags::NoRemoveDir).step("remove shared memory object", name)
}

/// Whether this is what shm_open(3) makes.
pub(super) fn is_regular(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
}
