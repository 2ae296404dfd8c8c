//! Objects that a pod's IPC namespace holds from the start, or that the host adds by call.

use serde::{Deserialize, Serialize};

/// IPC objects to make with the pod, before any container starts. Modes are permission bits (`0o600`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IpcObjects {
    /// POSIX shared memory objects (shm_overview(7)).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shm: Vec<ShmObjectSpec>,
    /// POSIX message queues (mq_overview(7)).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mqueues: Vec<MessageQueueSpec>,
    /// System V shared memory segments (sysvipc(7)).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysv_shm: Vec<SharedMemorySpec>,
    /// System V semaphore sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysv_sem: Vec<SemaphoreSetSpec>,
    /// System V message queues.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysv_msg: Vec<SysvMessageQueueSpec>,
}

impl IpcObjects {
    pub(crate) fn is_empty(&self) -> bool {
        self == &IpcObjects::default()
    }
}

/// A POSIX shared memory object: shm_open(3) with `O_CREAT | O_EXCL`, then ftruncate(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShmObjectSpec {
    /// The name with or without its leading slash; no other slash; at most 255 bytes.
    pub name: String,
    /// Bytes, more than 0.
    pub size: u64,
    /// Permission bits.
    #[serde(default = "mode_600")]
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod.
    #[serde(default)]
    pub uid: u32,
    /// Owning group, likewise.
    #[serde(default)]
    pub gid: u32,
}

/// A POSIX message queue: mq_open(3) with `O_CREAT | O_EXCL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageQueueSpec {
    /// The name with or without its leading slash; no other slash; at most 255 bytes.
    pub name: String,
    /// The number of messages that it can hold, more than 0.
    #[serde(default = "ten")]
    pub max_messages: u32,
    /// Bytes of the longest message, more than 0.
    #[serde(default = "eight_kib")]
    pub message_size: u32,
    /// Permission bits.
    #[serde(default = "mode_600")]
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod.
    #[serde(default)]
    pub uid: u32,
    /// Owning group, likewise.
    #[serde(default)]
    pub gid: u32,
}

/// A System V shared memory segment: shmget(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SharedMemorySpec {
    /// The key; 0 (`IPC_PRIVATE`) is refused, since nobody could find the segment.
    pub key: i32,
    /// Bytes, more than 0.
    pub size: u64,
    /// Permission bits.
    #[serde(default = "mode_600")]
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod.
    #[serde(default)]
    pub uid: u32,
    /// Owning group, likewise.
    #[serde(default)]
    pub gid: u32,
}

/// A System V semaphore set: semget(2) and `SETALL` of semctl(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SemaphoreSetSpec {
    /// The key; 0 (`IPC_PRIVATE`) is refused.
    pub key: i32,
    /// The initial value of each semaphore, 0 to 32767; their number is the size of the set.
    pub values: Vec<u16>,
    /// Permission bits.
    #[serde(default = "mode_600")]
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod.
    #[serde(default)]
    pub uid: u32,
    /// Owning group, likewise.
    #[serde(default)]
    pub gid: u32,
}

/// A System V message queue: msgget(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SysvMessageQueueSpec {
    /// The key; 0 (`IPC_PRIVATE`) is refused.
    pub key: i32,
    /// The capacity in bytes (`msg_qbytes`); the kernel's default when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Permission bits.
    #[serde(default = "mode_600")]
    pub mode: u32,
    /// Owner: a user id of the host, or in a pod with a user namespace one of the pod.
    #[serde(default)]
    pub uid: u32,
    /// Owning group, likewise.
    #[serde(default)]
    pub gid: u32,
}

fn mode_600() -> u32 {
    0o600
}

fn ten() -> u32 {
    10
}

fn eight_kib() -> u32 {
    8192
}
