//! System V shared memory, semaphores and message queues (sysvipc(7)) of the IPC namespace of the calling
//! thread.

use nix::errno::Errno;

use super::validate;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::{SemaphoreSetSpec, SharedMemorySpec, SysvMessageQueueSpec};
use crate::sys::ipc::{self as sys, Owner};

/// Nobody but who is privileged attaches a segment before it has its owner: an attachment outlives a change
/// of mode.
const SHM_AT_FIRST: u32 = 0;
/// Semaphores and queues are checked at each use; their maker has yet to write to them.
const AT_FIRST: u32 = 0o600;

/// Makes a System V shared memory segment with exactly the mode and owner asked for, and returns its id.
///
/// It is filled with zeros; memory is taken when it is written to, and is not limited by the size of the
/// pod's tmpfs.
///
/// # Errors
/// `InvalidSpec` for a field; `AlreadyExists`; `Exhausted`, naming the kernel parameter, see shmget(2).
pub(crate) fn create_sysv_shm(segment: &SharedMemorySpec) -> Result<i32> {
    validate::sysv_shm(segment, "sysvShm")?;
    let subject = subject(segment.key);
    let step = "create System V shared memory";
    let id = sys::shm_create(segment.key, segment.size, SHM_AT_FIRST).map_err(|errno| {
        limit(
            Error::system(errno, step).on(&subject),
            errno,
            "kernel.shmmax",
            "kernel.shmmni or kernel.shmall",
        )
    })?;
    let owner = Owner { uid: segment.uid, gid: segment.gid, mode: segment.mode };
    keep(id, sys::shm_set(id, owner), sys::shm_remove).step(step, subject)
}

/// Makes a System V semaphore set with these values and exactly the mode and owner asked for, and returns its
/// id.
///
/// The values are set by semop(2) rather than by `SETALL` of semctl(2), so that `sem_otime` is not 0
/// afterwards: by that, programs know that whoever made the set has set its values, too.
///
/// # Errors
/// `InvalidSpec` for a field; `AlreadyExists`; `Exhausted`, naming the kernel parameter, see semget(2).
pub(crate) fn create_sysv_sem(set: &SemaphoreSetSpec) -> Result<i32> {
    validate::sysv_sem(set, "sysvSem")?;
    let subject = subject(set.key);
    let step = "create System V semaphores";
    let id = sys::sem_create(set.key, set.values.len(), AT_FIRST).map_err(|errno| {
        limit(
            Error::system(errno, step).on(&subject),
            errno,
            "SEMMSL in kernel.sem",
            "SEMMNI or SEMMNS in kernel.sem",
        )
    })?;
    let owner = Owner { uid: set.uid, gid: set.gid, mode: set.mode };
    let filled = fill(id, &set.values).and_then(|()| sys::sem_set(id, owner));
    keep(id, filled, sys::sem_remove).step(step, subject)
}

/// Sets the values of a new set.
fn fill(id: i32, values: &[u16]) -> nix::Result<()> {
    let chunk = sys::sem_operations_max()?.clamp(1, 500);
    let mut chunks = values.chunks(chunk).enumerate();
    chunks.try_for_each(|(index, values)| sys::sem_add(id, index * chunk, values))
}

/// Makes a System V message queue with exactly the capacity, mode and owner asked for, and returns its id.
///
/// # Errors
/// `InvalidSpec` for a field; `AlreadyExists`; `Exhausted`, naming the kernel parameter, see msgget(2);
/// `PermissionDenied` for a capacity above `kernel.msgmnb` of the pod without `CAP_SYS_RESOURCE`.
pub(crate) fn create_sysv_msg(queue: &SysvMessageQueueSpec) -> Result<i32> {
    validate::sysv_msg(queue, "sysvMsg")?;
    let subject = subject(queue.key);
    let step = "create System V message queue";
    let id = sys::msg_create(queue.key, AT_FIRST).map_err(|errno| {
        limit(Error::system(errno, step).on(&subject), errno, "kernel.msgmnb", "kernel.msgmni")
    })?;
    let owner = Owner { uid: queue.uid, gid: queue.gid, mode: queue.mode };
    keep(id, sys::msg_set(id, owner, queue.max_bytes), sys::msg_remove).map_err(|errno| {
        let error = Error::system(errno, step).on(subject);
        match (errno, queue.max_bytes, sys::msg_default_max_bytes()) {
            (Errno::EPERM, Some(bytes), Ok(msgmnb)) if bytes > u64::try_from(msgmnb).unwrap_or(0) => error
                .because(format!(
                    "{bytes} bytes are more than kernel.msgmnb of the pod's IPC namespace ({msgmnb}), which \
                     needs CAP_SYS_RESOURCE; set that sysctl for the pod"
                )),
            _ => error,
        }
    })
}

/// Removes the System V shared memory segment with that key: nobody finds it any more, and it goes with the
/// last who has it attached.
///
/// # Errors
/// `NotFound`; `InvalidSpec` for key 0.
pub(crate) fn remove_sysv_shm(key: i32) -> Result<()> {
    remove(key, "remove System V shared memory", sys::shm_find, sys::shm_remove)
}

/// Removes the System V semaphore set with that key; who waits on it gets `EIDRM`.
///
/// # Errors
/// `NotFound`; `InvalidSpec` for key 0.
pub(crate) fn remove_sysv_sem(key: i32) -> Result<()> {
    remove(key, "remove System V semaphores", sys::sem_find, sys::sem_remove)
}

/// Removes the System V message queue with that key and its messages; who waits on it gets `EIDRM`.
///
/// # Errors
/// `NotFound`; `InvalidSpec` for key 0.
pub(crate) fn remove_sysv_msg(key: i32) -> Result<()> {
    remove(key, "remove System V message queue", sys::msg_find, sys::msg_remove)
}

fn remove(
    key: i32,
    step: &'static str,
    find: fn(i32) -> nix::Result<i32>,
    by_id: fn(i32) -> nix::Result<()>,
) -> Result<()> {
    // Searching for IPC_PRIVATE would make an object.
    validate::key(key, "key")?;
    find(key).and_then(by_id).map_err(|errno| {
        let error = Error::system(errno, step).on(subject(key));
        match errno {
            // Somebody else removed it in between.
            Errno::EIDRM | Errno::EINVAL => error.of_kind(ErrorKind::NotFound),
            _ => error,
        }
    })
}

/// The new object's id when `completed`, otherwise removes it.
fn keep(id: i32, completed: nix::Result<()>, remove: fn(i32) -> nix::Result<()>) -> nix::Result<i32> {
    if completed.is_err() {
        // The error to report is the first one.
        let _ = remove(id);
    }
    completed.map(|()| id)
}

/// Names the kernel parameter behind the errors of shmget(2), semget(2) and msgget(2).
fn limit(error: Error, errno: Errno, of_one: &str, of_all: &str) -> Error {
    match errno {
        Errno::EINVAL => error
            .of_kind(ErrorKind::Exhausted)
            .because(format!("it is larger than {of_one} of the pod's IPC namespace")),
        Errno::ENOSPC => error.because(format!("{of_all} of the pod's IPC namespace is reached")),
        _ => error,
    }
}

/// A key as ipcs(1) prints it.
fn subject(key: i32) -> String {
    format!("{key:#010x}")
}
