//! What is remembered of pods and containers, as files.
//!
//! `state.json` of a pod and of a container is written once and never changed: to a temporary name, fsync(2), then
//! rename(2), so that a reader sees all of it or nothing. What happens later are files of their own: `started` (empty)
//! and `exit` (how the container ended).

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::{ContainerSpec, IdMappings, PodSpec};

/// The file of a pod or container.
pub(crate) const STATE: &str = "state.json";
/// The file that says how a container ended.
pub(crate) const EXIT: &str = "exit";
/// The file that says that a container was started.
pub(crate) const STARTED: &str = "started";
/// The file that says that hooks are to be run when a container has been removed.
pub(crate) const POSTSTOP: &str = "poststop";
/// The socket at which the init of a detached container waits for its start.
pub(crate) const START_SOCKET: &str = "start";
/// The directory of a pod's containers.
pub(crate) const CONTAINERS: &str = "containers";
/// The layout of these files. A change that an older library cannot read takes the next number.
const VERSION: u32 = 2;

/// A process, safely: a pid alone may have become somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProcessRef {
    pub(crate) pid: i32,
    pub(crate) identity: ProcessIdentity,
}

/// What no other process of the same boot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ProcessIdentity {
    /// The inode number of its pidfd (Linux 6.9 and later). It costs one fstat(2); the file in proc costs 25 us.
    PidfdInode(u64),
    /// When it started, in clock ticks since boot, see proc_pid_stat(5): with the pid, since a pid is not used again
    /// within one tick.
    StartTime(u64),
}

/// What is remembered of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PodState {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) boot_id: String,
    /// Nanoseconds since 1970.
    pub(crate) created_at: u64,
    pub(crate) cgroup_id: u64,
    /// Process 1 of a PID namespace that all containers share.
    pub(crate) reaper: Option<ProcessRef>,
    /// The ids of its user namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ids: Option<IdMappings>,
    pub(crate) spec: PodSpec,
}

/// What is remembered of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ContainerState {
    pub(crate) version: u32,
    /// Nanoseconds since 1970.
    pub(crate) created_at: u64,
    pub(crate) process: ProcessRef,
    pub(crate) cgroup_id: u64,
    /// It starts as soon as it is made. Others are started later, which the file `started` then says.
    pub(crate) at_once: bool,
    /// The index of the barrier in the plan of a detached container: who starts it is told by number which of the
    /// steps behind it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) barrier: Option<usize>,
    pub(crate) spec: ContainerSpec,
}

/// How a container ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExitState {
    /// The status word of wait(2).
    pub(crate) status: i32,
    /// Nanoseconds since 1970, when it was noticed.
    pub(crate) at: u64,
}

impl PodState {
    pub(crate) fn version() -> u32 {
        VERSION
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos() as u64
}

/// Writes a file so that nobody ever sees half of it.
pub(crate) fn write<T: Serialize>(dir: &OwnedFd, name: &str, value: &T) -> Result<()> {
    let temporary = format!(".{name}.new");
    write_new(dir, &temporary, value)?;
    renameat(dir, temporary.as_str(), dir, name).step("rename", &temporary)
}

/// Writes a file in a directory that nobody looks into yet.
pub(crate) fn write_new<T: Serialize>(dir: &OwnedFd, name: &str, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(|error| Error::new(ErrorKind::System, "encode").on(name).because(error.to_string()))?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).step("create", name)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&text).and_then(|()| file.sync_all()).step("write", name)
}

/// Makes an empty file.
pub(crate) fn touch(dir: &OwnedFd, name: &str) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).step("create", name).map(drop)
}

/// Whether a file is there.
pub(crate) fn exists(dir: &OwnedFd, name: &str) -> bool {
    nix::sys::stat::fstatat(dir, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

/// Reads a file; `None` when it is not there.
pub(crate) fn read<T: DeserializeOwned>(dir: &OwnedFd, name: &str) -> Result<Option<T>> {
    let Some(value) = read_json(dir, name)? else { return Ok(None) };
    if let Some(version) = value.get("version")
        && version.as_u64() != Some(VERSION.into())
    {
        let detail = format!("it has version {version}; this library knows version {VERSION}");
        return Err(corrupt(name, detail));
    }
    serde_json::from_value(value).map(Some).map_err(|error| corrupt(name, error.to_string()))
}

/// Whether a state file was written by a later version of this library, which may be at work there.
pub(crate) fn is_of_a_later_version(dir: &OwnedFd, name: &str) -> bool {
    let value = read_json(dir, name).ok().flatten().unwrap_or_default();
    value.get("version").and_then(serde_json::Value::as_u64).is_some_and(|version| version > VERSION.into())
}

/// The content of a file, whatever its version; `None` when it is not there.
fn read_json(dir: &OwnedFd, name: &str) -> Result<Option<serde_json::Value>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno).step("open", name),
    };
    let text = std::io::read_to_string(std::fs::File::from(fd)).step("read", name)?;
    serde_json::from_str(&text).map(Some).map_err(|error| corrupt(name, error.to_string()))
}

fn corrupt(name: &str, detail: String) -> Error {
    Error::new(ErrorKind::CorruptState, "understand").on(name).because(detail)
}
