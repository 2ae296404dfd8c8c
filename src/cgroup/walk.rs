//! Walking a subtree that somebody else may have made: a container with a cgroup file system of its own can nest
//! cgroups as deep and as many as the kernel lets it.
//!
//! So the walk is not recursive and holds one descriptor whatever the depth: up is `..`, which is safe because cgroup
//! v2 cannot rename directories, and as many steps are taken up as down.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir as Entries, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::dir::DIRECTORY;

/// What is done on the way.
pub(super) trait Visitor {
    /// Called before a directory is entered; false passes it and everything below it over.
    fn before(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool>;

    /// Called after everything below a directory was visited.
    fn after(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()>;
}

/// The names of the directories in a cgroup directory. None when it is gone.
pub(super) fn child_dirs(dir: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut entries = match Entries::openat(dir, ".", flags, Mode::empty()) {
        Ok(entries) => entries,
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut names = Vec::new();
    for entry in entries.iter() {
        // kernfs always says the type.
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A directory on the way from the root to where the walk is.
struct Level {
    /// Empty for the root.
    name: CString,
    /// Its children that are still to be visited.
    pending: Vec<CString>,
}

/// Visits everything below `root`, not `root` itself. Directories that vanish meanwhile are passed over.
pub(super) fn walk(root: BorrowedFd<'_>, visitor: &mut impl Visitor) -> nix::Result<()> {
    let mut levels = vec![Level { name: CString::default(), pending: child_dirs(root)? }];
    // The directory of the last level; None for the root.
    let mut current: Option<OwnedFd> = None;
    while let Some(level) = levels.last_mut() {
        let here = current.as_ref().map_or(root, AsFd::as_fd);
        if let Some(name) = level.pending.pop() {
            if !visitor.before(here, &name)? {
                continue;
            }
            let below = match openat(here, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT | Errno::ENODEV) => continue,
                below => below?,
            };
            levels.push(Level { name, pending: child_dirs(below.as_fd())? });
            current = Some(below);
        } else if levels.len() > 1 {
            let above = match levels.len() {
                2 => None,
                _ => Some(openat(here, "..", DIRECTORY, Mode::empty())?),
            };
            current = above;
            let done = levels.pop().map(|level| level.name).unwrap_or_default();
            visitor.after(current.as_ref().map_or(root, AsFd::as_fd), &done)?;
        } else {
            break;
        }
    }
    Ok(())
}
