//! Namespaces as files, see namespaces(7).

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;

use super::Result;

/// A kind of namespace that a pod can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Network,
    Ipc,
    Uts,
    Pid,
    Mount,
    User,
    Cgroup,
}

impl Kind {
    /// The file below `/proc/PID/ns`.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Pid => "pid",
            Kind::Mount => "mnt",
            Kind::User => "user",
            Kind::Cgroup => "cgroup",
        }
    }

    /// The word for messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Network => "network",
            Kind::Ipc => "IPC",
            Kind::Uts => "UTS",
            Kind::Pid => "PID",
            Kind::Mount => "mount",
            Kind::User => "user",
            Kind::Cgroup => "cgroup",
        }
    }

    /// The inode number of the machine's own, where every kernel gives it the same, or those that do not give it to no
    /// other (`enum init_ns_ino` of linux/nsfs.h).
    pub(crate) fn machines(self) -> u64 {
        match self {
            Kind::Ipc => 0xefff_ffff,
            Kind::Uts => 0xefff_fffe,
            Kind::User => 0xefff_fffd,
            Kind::Pid => 0xefff_fffc,
            Kind::Cgroup => 0xefff_fffb,
            Kind::Network => 0xefff_fff9,
            Kind::Mount => 0xefff_fff8,
        }
    }

    /// The flag of unshare(2), setns(2) and clone(2).
    pub(crate) fn flag(self) -> CloneFlags {
        match self {
            Kind::Network => CloneFlags::CLONE_NEWNET,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        }
    }
}

/// The calling thread's namespace of that kind, through the given proc(5).
pub(crate) fn of_this_thread(proc: impl AsFd, kind: Kind) -> Result<OwnedFd> {
    open(proc, &format!("thread-self/ns/{}", kind.file()))
}

/// A detached mount of the calling thread's namespace of that kind: attached somewhere, it keeps the namespace alive.
pub(crate) fn mount_of_this_thread(proc: impl AsFd, kind: Kind) -> crate::error::Result<OwnedFd> {
    use crate::error::Context;
    let path = match kind {
        Kind::Network => c"thread-self/ns/net",
        Kind::Ipc => c"thread-self/ns/ipc",
        Kind::Uts => c"thread-self/ns/uts",
        Kind::Pid => c"thread-self/ns/pid",
        Kind::Mount => c"thread-self/ns/mnt",
        Kind::User => c"thread-self/ns/user",
        Kind::Cgroup => c"thread-self/ns/cgroup",
    };
    super::mount::clone_tree(proc, path, false).step("mount", format!("the {} namespace", kind.word()))
}

/// The namespace of that kind of process `pid`, through the given proc(5).
pub(crate) fn of_process(proc: impl AsFd, pid: i32, kind: Kind) -> Result<OwnedFd> {
    open(proc, &format!("{pid}/ns/{}", kind.file()))
}

fn open(proc: impl AsFd, path: &str) -> Result<OwnedFd> {
    openat(proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// The inode number that identifies a namespace while it lives, as in `readlink /proc/PID/ns/net`.
pub(crate) fn inode(namespace: impl AsFd) -> Result<u64> {
    Ok(nix::sys::stat::fstat(namespace)?.st_ino)
}

/// A path as the kernel takes it. Paths with NUL bytes never come here: specifications with one are refused.
pub(crate) fn c_path(path: &std::path::Path) -> Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| nix::errno::Errno::EINVAL)
}
