//! IPC objects of a pod: POSIX shared memory and message queues, System V segments, semaphores and queues.
//!
//! The functions act on the IPC namespace of the calling thread, which has joined the pod's, and on
//! directories of the pod's tmpfs for shared memory and of its mqueue mount. The tmpfs belongs to the
//! containers as much as to the host: what is found there under a name can be anything, so nothing follows a
//! symbolic link or waits at a FIFO. Everything is made inaccessible first and gets its owner and mode once
//! it is complete; the umask of the host program plays no part. User and group ids are those of the host; `ids` translates those of a pod with a user namespace.

mod ids;
mod list;
mod mqueue;
mod shm;
mod sysv;
#[cfg(test)]
mod tests;
mod validate;

use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::spec::{IpcObjects, MessageQueueSpec};

pub(crate) use ids::{to_container, to_host};
pub(crate) use list::list;
pub use list::{
    IpcListing, MessageQueueInfo, SemaphoreSetInfo, SharedMemoryInfo, ShmObjectInfo, SysvMessageQueueInfo,
};
pub(crate) use mqueue::{create_mqueue, refused as queue_refused, remove_mqueue};
pub(crate) use shm::{create_shm_object, open_shm_object, remove_shm_object};
pub(crate) use sysv::{
    create_sysv_msg, create_sysv_sem, create_sysv_shm, remove_sysv_msg, remove_sysv_sem, remove_sysv_shm,
};
pub(crate) use validate::validate;

use crate::sys::ipc as sys;

/// What `EOVERFLOW` means for a new file.
const UNMAPPED: &str =
    "the user namespace that owns the file system does not map the host program's user or group";

/// Something that [`create_all`] made, by what removes it for certain: an id rather than a key.
enum Made<'a> {
    Shm(&'a str),
    Mqueue(&'a str),
    SysvShm(i32),
    SysvSem(i32),
    SysvMsg(i32),
}

impl Made<'_> {
    fn remove(&self, shm_root: BorrowedFd<'_>) {
        // All that can go wrong is that a container was faster; the error to report is the first one.
        let _ = match self {
            Made::Shm(name) => remove_shm_object(shm_root, name).ok(),
            Made::Mqueue(name) => remove_mqueue(name).ok(),
            Made::SysvShm(id) => sys::shm_remove(*id).ok(),
            Made::SysvSem(id) => sys::sem_remove(*id).ok(),
            Made::SysvMsg(id) => sys::msg_remove(*id).ok(),
        };
    }
}

/// Makes all objects of a specification, or none: when one fails, what this call made is removed again.
///
/// # Errors
/// The first one. `InvalidSpec` as [`validate`] has it, before anything is made; `AlreadyExists` when the
/// name or key is taken; and whatever the kernel refuses.
pub(crate) fn create_all(shm_root: BorrowedFd<'_>, objects: &IpcObjects) -> Result<()> {
    create_all_with(shm_root, objects, &create_mqueue)
}

/// The same with another way to make message queues.
pub(crate) fn create_all_with(
    shm_root: BorrowedFd<'_>,
    objects: &IpcObjects,
    make_queue: &dyn Fn(&MessageQueueSpec) -> Result<()>,
) -> Result<()> {
    validate(objects)?;
    let mut made = Vec::new();
    let result = create_each(shm_root, objects, make_queue, &mut made);
    if result.is_err() {
        for object in made.iter().rev() {
            object.remove(shm_root);
        }
    }
    result
}

fn create_each<'a>(
    shm_root: BorrowedFd<'_>,
    objects: &'a IpcObjects,
    make_queue: &dyn Fn(&MessageQueueSpec) -> Result<()>,
    made: &mut Vec<Made<'a>>,
) -> Result<()> {
    for object in &objects.shm {
        create_shm_object(shm_root, object)?;
        made.push(Made::Shm(&object.name));
    }
    for object in &objects.mqueues {
        make_queue(object)?;
        made.push(Made::Mqueue(&object.name));
    }
    for object in &objects.sysv_shm {
        made.push(Made::SysvShm(create_sysv_shm(object)?));
    }
    for object in &objects.sysv_sem {
        made.push(Made::SysvSem(create_sysv_sem(object)?));
    }
    for object in &objects.sysv_msg {
        made.push(Made::SysvMsg(create_sysv_msg(object)?));
    }
    Ok(())
}
