//! How full filesystems and directories are.
//!
//! A filesystem of one's own is asked. The use of a directory has to be counted, file by file, as du(1) does: that is
//! bounded, since a container may make as many files and as deep directories as it likes.
//!
//! A filesystem that a container serves itself (FUSE) can leave whoever asks it anything waiting for ever: nothing that
//! may be on one is asked, not even by stat(2).

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;

use super::read::device_name;
use super::types::FilesystemStats;
use crate::error::Result;
use crate::node::Proc;
use crate::sys::fd::{open_beneath, resolve};

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
        device: device(file)?,
        used_bytes: used.saturating_mul(unit),
        used_inodes: stat.files().saturating_sub(stat.files_free()),
        complete: true,
        capacity_bytes: stat.blocks().saturating_mul(unit),
        available_bytes: stat.blocks_available().saturating_mul(unit),
        inodes: (stat.files() > 0).then_some(stat.files()),
        free_inodes: (stat.files() > 0).then_some(stat.files_free()),
    })
}

/// What a file is on, in cAdvisor's words.
fn device(file: &OwnedFd) -> nix::Result<String> {
    let number = fstat(file)?.st_dev;
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let kind = match fstatfs(file)?.filesystem_type() {
        TMPFS_MAGIC => Some("tmpfs".to_string()),
        OVERLAYFS_SUPER_MAGIC => Some("overlay".to_string()),
        _ => u32::try_from(major).ok().zip(u32::try_from(minor).ok()).and_then(|(major, minor)| {
            device_name(major, minor).map(|name| format!("/dev/{}", name.replace('!', "/")))
        }),
    };
    Ok(kind.unwrap_or_else(|| format!("{major}:{minor}")))
}

/// Whether a directory of a process is on an overlay, by what the kernel knows of the mount itself. The upper layer of
/// an overlay is never on a filesystem that a program serves: overlayfs refuses these.
pub(super) fn is_on_overlay(proc: &Proc, pid: i32, dir: &OwnedFd) -> Result<bool> {
    let info = proc.read(&format!("thread-self/fdinfo/{}", dir.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    let mounts = proc.read(&format!("{pid}/mountinfo"))?;
    let line = mounts.lines().find(|line| line.split(' ').next() == id);
    let kind = line.and_then(|line| line.split_once(" - ")?.1.split(' ').next());
    Ok(kind == Some("overlay"))
}

/// Opens what a name in a directory means, and nothing that is mounted on it.
fn open(dir: impl AsFd, name: &CStr, flags: i32) -> nix::Result<OwnedFd> {
    open_beneath(dir, name, flags | libc::O_NOFOLLOW, 0, resolve::BENEATH | resolve::NO_XDEV)
}

/// A directory and all below it on the same mount. A file with several names counts once. Symbolic links are
/// never followed.
pub(super) fn below(dir: &OwnedFd, max_files: u64) -> nix::Result<FilesystemStats> {
    let mut count = Count { left: max_files, seen: HashSet::new(), bytes: 0, files: 0 };
    count.add(&fstat(dir)?);
    let complete = count.walk(dir)?;
    let filesystem = whole(dir)?;
    Ok(FilesystemStats { used_bytes: count.bytes, used_inodes: count.files, complete, ..filesystem })
}

struct Count {
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
        let enter = |at: std::os::fd::BorrowedFd<'_>, name: &CStr| {
            open(at, name, libc::O_RDONLY | libc::O_DIRECTORY).and_then(Dir::from_fd)
        };
        let mut complete = true;
        let mut levels = vec![self.look_into(enter(top.as_fd(), c".")?)?];
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
            match enter(level.dir.as_fd(), &name) {
                Ok(dir) => {
                    let next = self.look_into(dir)?;
                    levels.push(next);
                }
                // Removed or replaced since, or something was mounted on it.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => {}
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
            let stat = match open(&at, name, libc::O_PATH) {
                Ok(file) => fstat(&file)?,
                Err(Errno::ENOENT | Errno::EXDEV) => continue,
                Err(errno) => return Err(errno),
            };
            self.add(&stat);
            if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
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

    fn directory(path: &std::path::Path) -> OwnedFd {
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
        let stats = below(&directory(path), 100).unwrap();
        // In KiB: the only unit that every du has.
        let du = std::process::Command::new("du").arg("-sk").arg(path).output().unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        let kib = stats.used_bytes.div_ceil(1024).to_string();
        assert_eq!(Some(kib.as_str()), du.split_ascii_whitespace().next());
        assert_eq!((stats.used_inodes, stats.complete), (5, true));
        assert!(stats.capacity_bytes > stats.available_bytes && stats.available_bytes > 0);
    }

    #[test]
    fn counting_ends_at_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..20 {
            fs::create_dir(dir.path().join(number.to_string())).unwrap();
        }
        let stats = below(&directory(dir.path()), 10).unwrap();
        assert_eq!((stats.used_inodes, stats.complete), (11, false));
        let all = below(&directory(dir.path()), 21).unwrap();
        assert_eq!((all.used_inodes, all.complete), (21, true));
    }

    #[test]
    fn what_is_nested_too_deep_is_said_to_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let deep = |levels: usize| vec!["d"; levels].join("/");
        fs::create_dir_all(dir.path().join(deep(DEEPEST - 1))).unwrap();
        assert!(below(&directory(dir.path()), 1000).unwrap().complete);
        fs::create_dir_all(dir.path().join(deep(DEEPEST + 1))).unwrap();
        let stats = below(&directory(dir.path()), 1000).unwrap();
        assert!(!stats.complete && stats.used_inodes as usize >= DEEPEST, "{stats:?}");
    }
}
