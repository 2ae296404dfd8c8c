//! The folders and cgroups of one run, and their removal.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::contender::Result;
use crate::rootfs;

/// Owned by one process; everything below is removed when it is dropped.
pub struct Workspace {
    pub directory: PathBuf,
    pub cgroup: PathBuf,
}

/// What one contender gets of it.
pub struct Place {
    pub rootfs: PathBuf,
    /// An empty folder.
    pub scratch: PathBuf,
    /// A cgroup of its own, without processes.
    pub cgroup: PathBuf,
}

impl Workspace {
    pub fn new() -> Result<Workspace> {
        let hierarchy = cgroup2()?;
        remove_leftovers(&hierarchy);
        let name = format!("{PREFIX}{}", std::process::id());
        let workspace = Workspace { directory: Path::new(PARENT).join(&name), cgroup: hierarchy.join(&name) };
        DirBuilder::new().mode(0o755).create(&workspace.directory)?;
        mount_tmpfs(&workspace.directory)?;
        fs::create_dir(&workspace.cgroup)?;
        rootfs::build(&workspace.rootfs())?;
        Ok(workspace)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    pub fn place(&self, name: &str) -> Result<Place> {
        let place = Place {
            rootfs: self.rootfs(),
            scratch: self.directory.join(name),
            cgroup: self.cgroup.join(name),
        };
        fs::create_dir(&place.scratch)?;
        fs::create_dir(&place.cgroup)?;
        Ok(place)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        remove(&self.directory, &self.cgroup);
    }
}

/// So that state directories cost what they cost on a usual /run, and programs may be executed, which not every /run
/// allows.
fn mount_tmpfs(directory: &Path) -> io::Result<()> {
    let directory = std::ffi::CString::new(directory.as_os_str().as_encoded_bytes())?;
    let (kind, options) = (c"tmpfs", c"mode=755");
    // SAFETY: all strings outlive the call.
    match unsafe {
        libc::mount(
            kind.as_ptr(),
            directory.as_ptr(),
            kind.as_ptr(),
            libc::MS_NOSUID,
            options.as_ptr().cast(),
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

const PREFIX: &str = "pericarp-bench-";
const PARENT: &str = "/run";

fn remove(directory: &Path, cgroup: &Path) {
    if let Err(error) = remove_cgroup(cgroup) {
        eprintln!("left behind: {}: {error}", cgroup.display());
    }
    if let Err(error) = remove_directory(directory) {
        eprintln!("left behind: {}: {error}", directory.display());
    }
}

/// What earlier runs that were killed could not remove.
fn remove_leftovers(hierarchy: &Path) {
    for parent in [Path::new(PARENT), hierarchy] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                remove(&Path::new(PARENT).join(&name), &hierarchy.join(&name));
            }
        }
    }
}

/// Kills what is in the tree and removes it, deepest first.
fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    fs::write(cgroup.join("cgroup.kill"), "1")?;
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    let start = Instant::now();
    loop {
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed().as_secs() < 5 => {
                std::thread::sleep(Duration::from_millis(5));
            }
            answer => return answer,
        }
    }
}

/// Unmounts what is mounted below, and only then removes the files.
fn remove_directory(directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for mount in mounts_below(directory)?.into_iter().rev() {
        let path = std::ffi::CString::new(mount.as_os_str().as_encoded_bytes())?;
        // SAFETY: the path is a C string that outlives the call.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
    }
    if let Some(mount) = mounts_below(directory)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", mount.display())));
    }
    fs::remove_dir_all(directory)
}

fn mounts_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(directory)).collect())
}

/// Where the unified hierarchy is mounted: not always at /sys/fs/cgroup.
pub fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        if right.starts_with("cgroup2 ") && root == "/" && is_cgroup2(Path::new(point)) {
            return Ok(point.into());
        }
    }
    Err("no cgroup2 file system is mounted".into())
}

pub fn is_cgroup2(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: plain integers.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, the structure is ours.
    let answer = unsafe { libc::statfs(path.as_ptr(), &mut status) };
    answer == 0 && status.f_type == libc::CGROUP2_SUPER_MAGIC
}
