//! What IPC objects there are in a pod.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use serde::{Deserialize, Serialize};

use super::shm::is_regular;
use crate::error::{Context, Result};
use crate::sys::ipc::{self as sys, Perm};

/// More names of one directory are not reported: containers can make millions, and the host has to hold them.
const NAMES_MAX: usize = 65536;

/// The IPC objects of a pod, whoever made them; each list in the order of its names or keys.
///
/// The lists are taken one after the other while containers may be running: they show no single moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct IpcListing {
    /// POSIX shared memory objects (shm_overview(7)): the regular files at the top of the pod's tmpfs.
    /// Directories with what is in them, symbolic links and other files are left out. Named semaphores
    /// (sem_overview(7)) are such files, too; their names begin with `sem.`.
    pub shm: Vec<ShmObjectInfo>,
    /// POSIX message queues (mq_overview(7)).
    pub mqueues: Vec<MessageQueueInfo>,
    /// System V shared memory segments (sysvipc(7)).
    pub sysv_shm: Vec<SharedMemoryInfo>,
    /// System V semaphore sets.
    pub sysv_sem: Vec<SemaphoreSetInfo>,
    /// System V message queues.
    pub sysv_msg: Vec<SysvMessageQueueInfo>,
    /// Containers have made more than 65 536 files in the tmpfs or queues, and `shm` or `mqueues` hold some
    /// of them.
    pub truncated: bool,
}

/// A POSIX shared memory object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ShmObjectInfo {
    /// The name without a leading slash. Bytes that are not UTF-8 show as U+FFFD.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits, with set-id and sticky bits that a container may have set.
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod (65534 for others).
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// A POSIX message queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MessageQueueInfo {
    /// The name without a leading slash. Bytes that are not UTF-8 show as U+FFFD.
    pub name: String,
    /// The number of messages that it can hold.
    pub max_messages: u32,
    /// Bytes of the longest message.
    pub message_size: u32,
    /// The number of messages in it.
    pub current_messages: u32,
    /// Permission bits, with set-id and sticky bits that a container may have set.
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod (65534 for others).
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// A System V shared memory segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SharedMemoryInfo {
    /// The key; 0 (`IPC_PRIVATE`) when it has none, or is removed and still attached.
    pub key: i32,
    /// The System V id.
    pub id: i32,
    /// Bytes.
    pub size: u64,
    /// How many times it is attached.
    pub attached: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod (65534 for others).
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// A System V semaphore set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SemaphoreSetInfo {
    /// The key; 0 (`IPC_PRIVATE`) when it has none.
    pub key: i32,
    /// The System V id.
    pub id: i32,
    /// The number of semaphores.
    pub semaphores: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod (65534 for others).
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// A System V message queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SysvMessageQueueInfo {
    /// The key; 0 (`IPC_PRIVATE`) when it has none.
    pub key: i32,
    /// The System V id.
    pub id: i32,
    /// Bytes of the messages in it.
    pub current_bytes: u64,
    /// The number of messages in it.
    pub messages: u64,
    /// The capacity in bytes (`msg_qbytes`).
    pub max_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod (65534 for others).
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// Lists the objects below the two directories and in the IPC namespace of the calling thread. What vanishes
/// meanwhile is left out.
///
/// POSIX message queues are opened for reading and closed again, since only that tells their attributes. The
/// kernel takes any close of a queue for the end of a notification (mq_notify(3)) that the same process has
/// registered for it.
pub(crate) fn list(shm_root: BorrowedFd<'_>, mqueue_root: BorrowedFd<'_>) -> Result<IpcListing> {
    let (shm, more_shm) = each_name(shm_root, shm_object).step("list", "shared memory objects")?;
    let (mqueues, more_mqueues) = each_name(mqueue_root, mqueue).step("list", "message queues")?;
    let mut listing = IpcListing {
        shm,
        mqueues,
        sysv_shm: each_index(sys::shm_highest_index, segment).step("list", "System V shared memory")?,
        sysv_sem: each_index(sys::sem_highest_index, semaphores).step("list", "System V semaphores")?,
        sysv_msg: each_index(sys::msg_highest_index, queue).step("list", "System V message queues")?,
        truncated: more_shm || more_mqueues,
    };
    listing.shm.sort_by(|a, b| a.name.cmp(&b.name));
    listing.mqueues.sort_by(|a, b| a.name.cmp(&b.name));
    listing.sysv_shm.sort_by_key(|object| (object.key, object.id));
    listing.sysv_sem.sort_by_key(|object| (object.key, object.id));
    listing.sysv_msg.sort_by_key(|object| (object.key, object.id));
    Ok(listing)
}

/// Looks at each name of a directory, and says whether there are more than are reported.
fn each_name<T>(
    root: BorrowedFd<'_>,
    look: impl Fn(BorrowedFd<'_>, &CStr) -> nix::Result<Option<T>>,
) -> nix::Result<(Vec<T>, bool)> {
    // A file of our own: the position in the directory belongs to it, and `root` may be O_PATH.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut found = Vec::new();
    for entry in Dir::from_fd(openat(root, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        if entry.file_name() == c"." || entry.file_name() == c".." {
            continue;
        }
        match look(root, entry.file_name()) {
            Ok(Some(_)) if found.len() == NAMES_MAX => return Ok((found, true)),
            Ok(object) => found.extend(object),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok((found, false))
}

fn shm_object(root: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<ShmObjectInfo>> {
    let stat = fstatat(root, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(is_regular(&stat).then(|| ShmObjectInfo {
        name: name.to_string_lossy().into_owned(),
        size: stat.st_size.try_into().unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }))
}

fn mqueue(root: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<MessageQueueInfo>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(root, name, flags, Mode::empty())?;
    let (stat, attributes) = (fstat(&file)?, sys::mq_attributes(&file)?);
    Ok(Some(MessageQueueInfo {
        name: name.to_string_lossy().into_owned(),
        max_messages: attributes.mq_maxmsg.try_into().unwrap_or(u32::MAX),
        message_size: attributes.mq_msgsize.try_into().unwrap_or(u32::MAX),
        current_messages: attributes.mq_curmsgs.try_into().unwrap_or(u32::MAX),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    }))
}

/// Looks at each index up to the highest in use.
fn each_index<T>(highest: fn() -> nix::Result<i32>, look: fn(i32) -> nix::Result<T>) -> nix::Result<Vec<T>> {
    let mut found = Vec::new();
    for index in 0..=highest()? {
        match look(index) {
            Ok(object) => found.push(object),
            // Unused, or just removed.
            Err(Errno::EINVAL | Errno::EIDRM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

fn segment(index: i32) -> nix::Result<SharedMemoryInfo> {
    let sys::ShmStat { perm: Perm { key, id, mode, uid, gid }, size, attached } = sys::shm_stat(index)?;
    Ok(SharedMemoryInfo { key, id, size, attached, mode, uid, gid })
}

fn semaphores(index: i32) -> nix::Result<SemaphoreSetInfo> {
    let sys::SemStat { perm: Perm { key, id, mode, uid, gid }, semaphores } = sys::sem_stat(index)?;
    Ok(SemaphoreSetInfo { key, id, semaphores, mode, uid, gid })
}

fn queue(index: i32) -> nix::Result<SysvMessageQueueInfo> {
    let stat = sys::msg_stat(index)?;
    let (Perm { key, id, mode, uid, gid }, current_bytes) = (stat.perm, stat.bytes);
    let (messages, max_bytes) = (stat.messages, stat.max_bytes);
    Ok(SysvMessageQueueInfo { key, id, current_bytes, messages, max_bytes, mode, uid, gid })
}
