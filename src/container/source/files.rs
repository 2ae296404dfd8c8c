//! The files of the host and of pins that sources are, one by one.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::pod::pins::{self, PodPins};
use crate::spec::{DeviceKind, Propagation, split_data};
use crate::sys::fd::{open_beneath, resolve};
use crate::sys::mount::{attr, clone_tree, filesystem, set_attributes};
use crate::sys::namespace::{self, Kind};
use crate::sys::thread;

pub(super) fn open_namespace(kind: Kind, path: &Path) -> Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .step(format!("open the {} namespace at", kind.word()), path.display())
}

/// A mount of a device node of the host. What is at the path is checked on the very file that gets mounted
/// (CVE-2025-31133).
pub(super) fn host_device(path: &Path, kind: DeviceKind, number: u64) -> Result<OwnedFd> {
    let c_path = namespace::c_path(path).step("open", path.display())?;
    let node = clone_tree(AT_FDCWD, &c_path, false).step("open", path.display())?;
    let stat = fstat(&node).step("fstat", path.display())?;
    if stat.st_mode & libc::S_IFMT != kind.file_type() || stat.st_rdev != number {
        return Err(Error::invalid("devices", format!("{} is not that device", path.display())));
    }
    set_attributes(node.as_fd(), false, attr::NOSUID | attr::NOEXEC, 0, libc::MS_PRIVATE)
        .step("set mount attributes of", path.display())?;
    Ok(node)
}

pub(super) fn target_pid(proc: &OwnedFd, pid: i32) -> Result<OwnedFd> {
    namespace::of_process(proc, pid, Kind::Pid).step("open", "the PID namespace of the target")
}

/// A copy of the proc that a process of another container sees. What is there is up to that container, so that it is
/// checked to be the root of a proc.
pub(super) fn target_proc(proc: &OwnedFd, pid: i32) -> Result<OwnedFd> {
    const PROC_ROOT_INODE: u64 = 1;
    let mounts =
        namespace::of_process(proc, pid, Kind::Mount).step("open", "the mount namespace of the target")?;
    thread::run(|| {
        setns(&mounts, CloneFlags::CLONE_NEWNS).step("join", "the mount namespace of the target")?;
        let tree = clone_tree(AT_FDCWD, c"/proc", false).step("clone", "the proc of the target")?;
        let is_proc = fstatfs(&tree).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC)
            && fstat(&tree).is_ok_and(|stat| stat.st_ino == PROC_ROOT_INODE);
        if is_proc {
            Ok(tree)
        } else {
            Err(Error::new(ErrorKind::WrongState, "clone")
                .on("the proc of the target")
                .because("it has none at /proc"))
        }
    })
}

pub(super) fn with_attributes(mount: OwnedFd, attributes: u64) -> Result<OwnedFd> {
    if attributes != 0 {
        set_attributes(mount.as_fd(), false, attributes, 0, 0)
            .step("set attributes of", "a mount of the pod")?;
    }
    Ok(mount)
}

/// A volume, or what a path below its root leads to: containers may have put symbolic links there, which must not
/// lead out (CVE-2017-1002101, CVE-2021-25741).
pub(super) fn open_volume(pins: &PodPins, name: &str, sub_path: Option<&Path>) -> Result<OwnedFd> {
    let volume = pins::volume(name);
    let Some(path) = sub_path else {
        return pins.clone_mount(&volume, true);
    };
    let root = pins.directory(&volume)?;
    let c_path = namespace::c_path(path).step("use", path.display())?;
    let rules = resolve::BENEATH | resolve::NO_MAGICLINKS;
    let found = open_beneath(&root, &c_path, libc::O_PATH, 0, rules).map_err(|errno| {
        let error = Error::system(errno, "open").on(format!("{} in volume {name:?}", path.display()));
        match errno {
            Errno::EXDEV => error.of_kind(ErrorKind::PermissionDenied).because("it leads out of the volume"),
            _ => error,
        }
    })?;
    clone_tree(&found, c"", true).step("clone", format!("{} in volume {name:?}", path.display()))
}

/// Gives all mounts of a detached tree their propagation. A tree that is left shared could not be pivoted into.
pub(crate) fn set_propagation(tree: &OwnedFd, propagation: Propagation) -> crate::sys::Result<()> {
    set_attributes(tree.as_fd(), true, 0, 0, propagation.flag())
}

/// A new filesystem, mounted nowhere yet. A path among its options, or as its source, is the host's.
pub(super) fn make_filesystem(
    fstype: &str,
    source: Option<&Path>,
    data: &[String],
    attributes: u64,
) -> Result<OwnedFd> {
    let text = |text: &str| CString::new(text).map_err(|_| Error::invalid("mounts", "has a NUL byte"));
    let (pairs, flags) = split_data(data);
    let mut options = Vec::new();
    if !pairs.iter().any(|(key, _)| key == "source") {
        // What mount(8) and df(1) show as the device.
        options.push((text("source")?, Some(text(&source.map_or(fstype.into(), Path::to_string_lossy))?)));
    }
    for (key, value) in &pairs {
        options.push((text(key)?, Some(text(value)?)));
    }
    for flag in &flags {
        options.push((text(flag)?, None));
    }
    // A filesystem that is read-only as a whole does not write to its device, either: it may be one that cannot be
    // written.
    if attributes & attr::RDONLY != 0 {
        options.push((text("ro")?, None));
    }
    let options: Vec<_> = options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref())).collect();
    filesystem(&text(fstype)?, &options, attributes).map_err(|errno| {
        let on = source.map_or(String::new(), |source| format!(" on {}", source.display()));
        let error = Error::system(errno, "make").on(format!("a {fstype}{on}"));
        match errno {
            Errno::ENODEV => error.because("this kernel has no such filesystem, or its module is not loaded"),
            Errno::EINVAL => {
                error.because("an option is unknown to it, or there is no such filesystem on its source")
            }
            Errno::ENOTBLK => error.because("its source is no block device"),
            _ => error,
        }
    })
}

/// Opens a file of the host for a standard stream.
pub(crate) fn open_stdio_file(path: &Path, input: bool) -> Result<OwnedFd> {
    let flags = if input { OFlag::O_RDONLY } else { OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND };
    let mode = Mode::from_bits_retain(0o640);
    openat(AT_FDCWD, path, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, mode).step("open", path.display())
}
