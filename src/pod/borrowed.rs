//! What the template of an ordinary user's node has of the machine, since it can make none of that itself.
//!
//! Device nodes can be made by root of the machine only: masks are copies of the machine's null device. And the kernel
//! mounts a new proc or sysfs in a user namespace only where a whole one is seen, so that nothing comes to light that
//! somebody has hidden. All of it goes with the template when init pivots.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fstat, makedev};
use nix::unistd::mkdir;

use crate::container::plan::PROC_OF_HOST;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::init::wire;
use crate::sys::mount::{attach, attr, clone_tree, set_attributes};

/// Where a sysfs of the machine is seen in the template.
const SYS_OF_HOST: &CStr = c"/sys";

/// Mounts of the machine, each copied and attached nowhere.
pub(super) struct Borrowed {
    null: OwnedFd,
    proc: OwnedFd,
    sys: OwnedFd,
}

impl Borrowed {
    /// In a worker that may leave the mount namespace that it is in.
    pub(super) fn open() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).step("copy", "the mounts of the machine")?;
        let null = clone_tree(AT_FDCWD, c"/dev/null", false).step("clone", "/dev/null")?;
        let stat = fstat(&null).step("fstat", "/dev/null")?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != makedev(1, 3) {
            return Err(Error::new(ErrorKind::Unsupported, "use")
                .on("/dev/null")
                .because("it is not that device"));
        }
        set_attributes(null.as_fd(), false, attr::NOSUID | attr::NOEXEC, 0, libc::MS_PRIVATE)
            .step("set mount attributes of", "/dev/null")?;
        Ok(Borrowed { null, proc: whole(c"/proc")?, sys: whole(c"/sys")? })
    }

    /// Attaches them in the template, whose root is that of the calling worker.
    pub(super) fn attach(&self) -> nix::Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(AT_FDCWD, wire::TEMPLATE_NULL, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(drop)?;
        attach(self.null.as_fd(), AT_FDCWD, wire::TEMPLATE_NULL)?;
        let proc = std::ffi::CString::new(PROC_OF_HOST).map_err(|_| nix::errno::Errno::EINVAL)?;
        attach(self.proc.as_fd(), AT_FDCWD, &proc)?;
        mkdir(SYS_OF_HOST, Mode::from_bits_retain(0o755))?;
        attach(self.sys.as_fd(), AT_FDCWD, SYS_OF_HOST)
    }
}

/// A proc for pins, where shared memory objects get their names by it (see `ipc/shm.rs`). In a worker as above.
pub(super) fn open_proc() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS).step("copy", "the mounts of the machine")?;
    whole(c"/proc")
}

pub(super) fn attach_proc(proc: &OwnedFd) -> nix::Result<()> {
    mkdir(c"/proc", Mode::from_bits_retain(0o755))?;
    attach(proc.as_fd(), AT_FDCWD, c"/proc")
}

/// With all that is mounted below it: what covers something of a filesystem goes with it.
fn whole(path: &CStr) -> Result<OwnedFd> {
    clone_tree(AT_FDCWD, path, true)
        .and_then(|tree| set_attributes(tree.as_fd(), true, 0, 0, libc::MS_PRIVATE).map(|()| tree))
        .step("clone", path.to_string_lossy())
}
