//! Finding the cgroup v2 mount: `/sys/fs/cgroup` on a unified machine, `/sys/fs/cgroup/unified` on a hybrid one,
//! anywhere at all in somebody's container.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::controller::ControllerSet;
use super::dir::{DIRECTORY, read_file};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys::mount::{attr, clone_tree, set_attributes};

/// The mount table of the calling process; see proc_pid_mountinfo(5).
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One line of the mount table, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// What of the file system is mounted: `/` unless only a subtree is.
    pub(super) root: PathBuf,
    /// Where.
    pub(super) point: PathBuf,
    /// Whether the mount is read-only.
    pub(super) read_only: bool,
    /// `cgroup2`, `cgroup`, …
    pub(super) fstype: String,
    /// Options of the file system. A cgroup v1 hierarchy names its controllers here.
    pub(super) options: String,
}

/// Reads the mount table of this process.
pub(super) fn mounts() -> Result<Vec<MountEntry>> {
    let table = std::fs::read(MOUNTINFO).step("read", MOUNTINFO)?;
    Ok(parse(&table))
}

/// Parses a mount table. Lines that are not in the documented format are left out: nothing else ever is in it.
fn parse(table: &[u8]) -> Vec<MountEntry> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext3 /dev/sda rw`: between the sixth field and the hyphen there
/// are any number of optional ones.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let hyphen = 6 + fields.get(6..)?.iter().position(|field| *field == b"-")?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    Some(MountEntry {
        root: unescape(fields[3]),
        point: unescape(fields[4]),
        read_only: fields[5].split(|byte| *byte == b',').any(|option| option == b"ro"),
        fstype: text(fields.get(hyphen + 1)?),
        options: text(fields.get(hyphen + 3)?),
    })
}

/// Undoes the kernel's escapes of space, tab, newline and backslash: a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// What makes one mount better than another, the most important first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    writable: bool,
    /// The whole hierarchy, not a subtree.
    whole: bool,
    controllers: usize,
    /// Mounted at `/sys/fs/cgroup`.
    usual: bool,
}

/// Opens the root of the best cgroup v2 mount.
pub(super) fn open_cgroup2() -> Result<(OwnedFd, PathBuf)> {
    let mut found: Vec<(Rank, OwnedFd, PathBuf)> = Vec::new();
    let mut trouble = None;
    for mount in mounts()?.into_iter().filter(|mount| mount.fstype == "cgroup2") {
        // Another mount may cover this one, or the caller's root hide it. That matters if there is no other.
        match open_mount(&mount) {
            Ok((rank, fd)) => found.push((rank, fd, mount.point)),
            Err(error) => trouble = trouble.or(Some(error)),
        }
    }
    let best = found.into_iter().max_by(|(a, ..), (b, ..)| a.cmp(b));
    match (best, trouble) {
        (Some((_, fd, point)), _) => Ok((fd, point)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::new(ErrorKind::Unsupported, "find a mount of cgroup v2 in")
            .on(MOUNTINFO)
            .because("no file system of type cgroup2 is mounted; cgroup v1 is not used")),
    }
}

/// A detached copy of the host's mount, with mount attributes. Who mounts the filesystem anew in the host's cgroup
/// namespace takes options away that it has for the whole machine (`nsdelegate`).
pub(crate) fn copy_of_host(attributes: u64) -> Result<OwnedFd> {
    let (top, path) = open_cgroup2()?;
    let clear = attr::RDONLY & !attributes;
    let copy = |top: OwnedFd| -> crate::sys::Result<OwnedFd> {
        let tree = clone_tree(&top, c"", false)?;
        set_attributes(tree.as_fd(), false, attributes, clear, libc::MS_PRIVATE)?;
        Ok(tree)
    };
    copy(top).step("copy the mount at", path.display())
}

fn open_mount(mount: &MountEntry) -> Result<(Rank, OwnedFd)> {
    let fd = open_cgroup2_dir(&mount.point)?;
    let controllers = ControllerSet::parse(&read_file(fd.as_fd(), "cgroup.controllers", &mount.point)?);
    let rank = Rank {
        writable: !mount.read_only,
        whole: mount.root == Path::new("/"),
        controllers: controllers.iter().count(),
        usual: mount.point == Path::new("/sys/fs/cgroup"),
    };
    Ok((rank, fd))
}

/// Opens a directory and makes sure that it is in a cgroup v2 file system.
pub(super) fn open_cgroup2_dir(path: &Path) -> Result<OwnedFd> {
    // The caller's own path: a symbolic link in it is followed, here and never again.
    let flags = DIRECTORY.difference(OFlag::O_NOFOLLOW);
    let fd = openat(AT_FDCWD, path, flags, Mode::empty()).step("open cgroup", path.display())?;
    let kind = fstatfs(&fd).step("find the file system type of", path.display())?.filesystem_type();
    if kind == CGROUP2_SUPER_MAGIC {
        return Ok(fd);
    }
    Err(Error::new(ErrorKind::Unsupported, "use cgroup")
        .on(path.display())
        .because("the directory is not in a cgroup v2 file system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 master:2 - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified ro,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn reads_a_mount_table() {
        let mounts = parse(HYBRID);
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[1].fstype.as_str(), mounts[1].options.as_str()), ("cgroup", "rw,memory"));
        assert_eq!(
            mounts[2],
            MountEntry {
                root: "/".into(),
                point: "/sys/fs/cgroup/unified".into(),
                read_only: true,
                fstype: "cgroup2".into(),
                options: "rw,nsdelegate".into(),
            }
        );
        assert!(!mounts[1].read_only, "rw,relatime is not ro");
    }

    #[test]
    fn reads_escapes_empty_sources_and_foreign_bytes() {
        let mounts = parse(b"1 2 0:3 /a\\040b /m\\011n\\134040\xff rw - cgroup2  rw\n");
        assert_eq!(mounts[0].root, Path::new("/a b"));
        assert_eq!(mounts[0].point.as_os_str().as_encoded_bytes(), b"/m\tn\\040\xff");
        assert_eq!(mounts[0].options, "rw");
    }

    #[test]
    fn leaves_out_what_is_no_mount_table() {
        assert!(parse(b"").is_empty());
        assert!(
            parse(b"\n1 2 3\n1 2 0:3 / /x rw shared:1 cgroup2 cgroup2 rw\n1 2 0:3 / /x rw - cgroup2")
                .is_empty()
        );
        assert_eq!(unescape(b"\\"), Path::new("\\"));
        assert_eq!(unescape(b"\\04"), Path::new("\\04"));
        assert_eq!(unescape(b"\\777"), Path::new("\\777"));
    }
}
