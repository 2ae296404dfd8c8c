//! One directory of the cgroup file system: its descriptor, and file access below it by names of one component.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::controller::ControllerSet;
use super::lack::Controls;
use super::parent::check_name;
use crate::error::{Context, Error, Result};

/// How cgroup directories are opened. `O_PATH` is enough for everything here, for `CLONE_INTO_CGROUP` too, and asks
/// for no permission on the directory itself.
pub(super) const DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The file that says which controllers the children of a cgroup have.
pub(super) const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// An open cgroup directory.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    /// For messages only; nothing is opened by it.
    path: PathBuf,
    /// The directory above, through which this one is removed. None for the top of the library's tree.
    parent: Option<Arc<Dir>>,
    /// What children have, as soon as it is known.
    subtree: OnceLock<Arc<Controls>>,
}

impl Dir {
    /// The top of the tree, or a step on the way to it.
    pub(super) fn top(fd: OwnedFd, path: PathBuf) -> Self {
        Dir { fd, path, parent: None, subtree: OnceLock::new() }
    }

    /// Opens an existing directory below this one; None when there is none.
    pub(super) fn open_child(self: &Arc<Self>, name: &str) -> Result<Option<Dir>> {
        check_name(name)?;
        match openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(self.child(fd, name))),
            // ENOTDIR: one of the kernel's files has that name.
            Err(Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(Error::system(errno, "open cgroup").on(self.path.join(name).display())),
        }
    }

    /// Makes a directory below this one and opens it: two system calls. `EEXIST` is an error of kind `AlreadyExists`.
    pub(super) fn make_child(self: &Arc<Self>, name: &str) -> Result<Dir> {
        check_name(name)?;
        let subject = || self.path.join(name).display().to_string();
        mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755)).map_err(|errno| {
            let error = Error::system(errno, "make cgroup").on(subject());
            match errno {
                Errno::EAGAIN => {
                    error.because("cgroup.max.depth or cgroup.max.descendants of a cgroup above")
                }
                _ => error,
            }
        })?;
        match openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(self.child(fd, name)),
            Err(errno) => {
                // Undo; the first error is the one to report.
                let _ = unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir);
                Err(Error::system(errno, "open cgroup").on(subject()))
            }
        }
    }

    fn child(self: &Arc<Self>, fd: OwnedFd, name: &str) -> Dir {
        Dir { fd, path: self.path.join(name), parent: Some(Arc::clone(self)), subtree: OnceLock::new() }
    }

    /// rmdir(2), through the directory above. The kernel refuses with `EBUSY` while there are processes or cgroups
    /// inside. That it is gone already is no error.
    pub(super) fn unlink(&self) -> nix::Result<()> {
        let (Some(parent), Some(name)) = (&self.parent, self.path.file_name()) else {
            return Err(Errno::EPERM);
        };
        match unlinkat(&parent.fd, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Where the directory is, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory above, within the library's tree.
    pub(super) fn parent(&self) -> Option<&Arc<Dir>> {
        self.parent.as_ref()
    }

    /// The cgroup id, which is the inode number of the directory: what `name_to_handle_at`, BPF and `/proc` know the
    /// cgroup by. It is not used again before the next boot.
    pub(super) fn id(&self) -> Result<u64> {
        Ok(fstat(&self.fd).step("fstat cgroup", self.path.display())?.st_ino)
    }

    /// Whether the cgroup has been removed. Every cgroup has `cgroup.procs`; a removed one has no files at all.
    pub(super) fn is_gone(&self) -> bool {
        matches!(fstatat(&self.fd, "cgroup.procs", AtFlags::AT_SYMLINK_NOFOLLOW), Err(Errno::ENOENT))
    }

    /// Whether the directory has processes of its own where cgroup v2 does not allow them next to cgroups with
    /// controllers. It does in the root of the hierarchy, which alone has no `cgroup.type`.
    pub(super) fn has_processes_in_the_way(&self) -> Result<bool> {
        match fstatat(&self.fd, "cgroup.type", AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(!self.read("cgroup.procs")?.is_empty()),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Error::system(errno, "stat cgroup.type of").on(self.path.display())),
        }
    }

    /// Writes a value with one write(2), as the kernel wants it.
    pub(super) fn write(&self, file: &str, value: &str) -> nix::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, file, flags, Mode::empty())?;
        match nix::unistd::write(&fd, value.as_bytes())? {
            written if written == value.len() => Ok(()),
            _ => Err(Errno::EIO),
        }
    }

    /// Reads a whole file.
    pub(super) fn read(&self, file: &str) -> Result<String> {
        read_file(self.fd.as_fd(), file, &self.path)
    }

    /// Opens a file for reading.
    pub(super) fn open_file(&self, file: &str) -> nix::Result<File> {
        open_file(self.fd.as_fd(), file)
    }

    /// Which controllers children have. Known without system calls for what the library made itself; read once
    /// from a directory that was opened.
    pub(super) fn subtree(&self) -> Result<&Arc<Controls>> {
        if let Some(controls) = self.subtree.get() {
            return Ok(controls);
        }
        let enabled = ControllerSet::parse(&self.read(SUBTREE_CONTROL)?);
        let above = self.parent.as_ref().map(|parent| parent.subtree()).transpose()?;
        let controls = Controls::found(enabled, &self.path, above.map(Arc::as_ref));
        Ok(self.subtree.get_or_init(|| Arc::new(controls)))
    }

    /// Remembers which controllers children have.
    pub(super) fn set_subtree(&self, controls: Arc<Controls>) {
        // It is set once, by whoever made the directory.
        let _ = self.subtree.set(controls);
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a file in the directory `dir` for reading.
fn open_file(dir: BorrowedFd<'_>, file: &str) -> nix::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, file, flags, Mode::empty()).map(File::from)
}

/// Reads a whole file in the directory `dir`, which an error calls `path`.
pub(super) fn read_file(dir: BorrowedFd<'_>, file: &str, path: &Path) -> Result<String> {
    let subject = || format!("{}/{file}", path.display());
    let mut open = open_file(dir, file).map_err(|errno| Error::system(errno, "open").on(subject()))?;
    let mut text = String::new();
    open.read_to_string(&mut text).step("read", subject())?;
    Ok(text)
}
