//! How full filesystems and directories are.
//!
//! A filesystem of one's own is asked. The use of a directory has to be counted, file by file, as du(1) does: that is
//! bounded, since a container may make as many files and as deep directories as it likes.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::statvfs::fstatvfs;

use super::types::FilesystemStats;

/// As many directories are open at most at a time.
const DEEPEST: usize = 64;
/// The unit of `st_blocks`.
const BLOCK: u64 = 512;

/// The filesystem that a file is on.
pub(super) fn whole(file: &OwnedFd) -> nix::Result<FilesystemStats> {
    let stat = fstatvfs(file)?;
    let unit = stat.fragment_size();
    let used = stat.blocks().saturating_sub(stat.blocks_free());
    Ok(FilesystemStats {
        used_bytes: used.saturating_mul(unit),
        used_inodes: stat.files().saturating_sub(stat.files_free()),
        complete: true,
        capacity_bytes: stat.blocks().saturating_mul(unit),
        available_bytes: stat.blocks_available().saturating_mul(unit),
        inodes: (stat.files() > 0).then_some(stat.files()),
        free_inodes: (stat.files() > 0).then_some(stat.files_free()),
    })
}

/// A directory and all below it on the same filesystem. A file with several names counts once. Symbolic links are
/// never followed.
pub(super) fn below(dir: &OwnedFd, max_files: u64) -> nix::Result<FilesystemStats> {
    let top = fstat(dir)?;
    let mut count = Count { device: top.st_dev, left: max_files, seen: HashSet::new(), bytes: 0, files: 0 };
    count.add(&top);
    let complete = count.walk(dir)?;
    let filesystem = whole(dir)?;
    Ok(FilesystemStats { used_bytes: count.bytes, used_inodes: count.files, complete, ..filesystem })
}

struct Count {
    device: u64,
    left: u64,
    /// The inode numbers of files with several names.
    seen: HashSet<u64>,
    bytes: u64,
    files: u64,
}

/// A directory on the way.
struct Level {
    dir: Dir,
    /// Directories in it that are still to be entered.
    rest: Vec<CString>,
}

impl Count {
    /// Whether it was all counted.
    fn walk(&mut self, top: &OwnedFd) -> nix::Result<bool> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = |at: std::os::fd::BorrowedFd<'_>, name: &std::ffi::CStr| {
            openat(at, name, flags, Mode::empty()).and_then(Dir::from_fd)
        };
        let mut complete = true;
        let mut levels = vec![self.look_into(open(top.as_fd(), c".")?)?];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { break };
            let Some(name) = level.rest.pop() else {
                levels.pop();
                continue;
            };
            if self.left == 0 {
                return Ok(false);
            }
            if depth == DEEPEST {
                complete = false;
                levels.pop();
                continue;
            }
            match open(level.dir.as_fd(), &name) {
                Ok(dir) if fstat(&dir)?.st_dev == self.device => {
                    let next = self.look_into(dir)?;
                    levels.push(next);
                }
                // Removed or replaced since, or something is mounted on it.
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(complete && self.left > 0)
    }

    /// Counts what is in a directory.
    fn look_into(&mut self, mut dir: Dir) -> nix::Result<Level> {
        let at = crate::sys::fd::duplicate(&dir)?;
        let mut rest = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let stat = match fstatat(&at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                result => result?,
            };
            if stat.st_dev != self.device {
                continue;
            }
            self.add(&stat);
            let is_directory = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
            if is_directory && entry.file_type().is_none_or(|kind| kind == Type::Directory) {
                rest.push(name.to_owned());
            }
        }
        Ok(Level { dir, rest })
    }

    fn add(&mut self, stat: &FileStat) {
        let is_directory = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        if !is_directory && stat.st_nlink > 1 && !self.seen.insert(stat.st_ino) {
            return;
        }
        self.files += 1;
        self.bytes = self.bytes.saturating_add((stat.st_blocks.max(0) as u64).saturating_mul(BLOCK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn a_directory_is_counted_as_du_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(path.join("a/file"), path.join("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/", path.join("a/b/root")).unwrap();
        let stats = below(&open(path), 100).unwrap();
        let du = std::process::Command::new("du").args(["-s", "-B1"]).arg(path).output().unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        assert_eq!(Some(stats.used_bytes.to_string().as_str()), du.split_ascii_whitespace().next());
        assert_eq!((stats.used_inodes, stats.complete), (5, true));
        assert!(stats.capacity_bytes > stats.available_bytes && stats.available_bytes > 0);
    }

    #[test]
    fn counting_ends_at_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..20 {
            fs::create_dir(dir.path().join(number.to_string())).unwrap();
        }
        let stats = below(&open(dir.path()), 10).unwrap();
        assert_eq!((stats.used_inodes, stats.complete), (11, false));
        let all = below(&open(dir.path()), 21).unwrap();
        assert_eq!((all.used_inodes, all.complete), (21, true));
    }

    #[test]
    fn what_is_nested_too_deep_is_said_to_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let deep = |levels: usize| vec!["d"; levels].join("/");
        fs::create_dir_all(dir.path().join(deep(DEEPEST - 1))).unwrap();
        assert!(below(&open(dir.path()), 1000).unwrap().complete);
        fs::create_dir_all(dir.path().join(deep(DEEPEST + 1))).unwrap();
        let stats = below(&open(dir.path()), 1000).unwrap();
        assert!(!stats.complete && stats.used_inodes as usize >= DEEPEST, "{stats:?}");
    }
}
