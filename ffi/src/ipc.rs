//! The POSIX and System V objects of a pod's IPC namespace.
//!
//! Objects can be made before containers run and while they do. Containers of the pod can open, change and remove them
//! as their owners and modes allow: what the host maps may shrink under it, and then reading ends in `SIGBUS`.

use std::ffi::{c_char, c_int};
use std::os::fd::IntoRawFd;

use pericarp::spec::{
    IpcObjects, MessageQueueSpec, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec, SysvMessageQueueSpec,
};

use crate::caller::{Caller, known_flags, text_for_caller};
use crate::error::{Problem, pericarp_error_t};
use crate::json;
use crate::pod::pericarp_pod_t;
use crate::structs::*;

/// Fields that have no meaning yet must be zero, so that they can get one.
/// Their numbers in semop(2) have 16 bits. More are not read, wherever `values` may lead.
const MOST_SEMAPHORES: usize = 1 << 16;

fn unused(flags: u64, reserved: u32, name: &str) -> Result<(), Problem> {
    known_flags(flags, 0, name)?;
    if reserved != 0 { Err(Problem::argument(name, "has a reserved field that is not 0")) } else { Ok(()) }
}

/// The value, or what 0 stands for.
fn or<T: Default + PartialEq>(value: T, otherwise: T) -> T {
    if value == T::default() { otherwise } else { value }
}

/// Makes all these objects, or none of them. The JSON object has the keys of `IpcObjects`: `{"shm": [{"name": "board",
/// "size": 4096}], "sysvSem": [{"key": 42, "values": [1]}]}`.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS`. `NOT_FOUND` for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::create`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_create(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let pod = caller.handle(pod, "pod")?;
        let objects: IpcObjects = json::read(caller.text(json, "json")?)?;
        pod.pod.ipc().create(&objects)?;
        Ok(())
    })
}

/// Makes a POSIX shared memory object, and opens it for reading and writing: map it with mmap(2).
///
/// Ownership: `*out_fd` is the caller's to close; the object stays.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS`. `NOT_FOUND` for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::create_shm_object`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_create_shm_object(
    pod: *const pericarp_pod_t,
    object: *const pericarp_shm_object_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let pod = caller.handle(pod, "pod")?;
        let given = caller.structure(object, "object")?;
        unused(given.flags, given.reserved, "object")?;
        let name = caller.text(given.name, "object->name")?.to_string();
        let (mode, uid, gid) = (or(given.mode, 0o600), given.uid, given.gid);
        let object = ShmObjectSpec { name, size: given.bytes, mode, uid, gid };
        out.set(pod.pod.ipc().create_shm_object(&object)?.into_raw_fd());
        Ok(())
    })
}

/// Opens a POSIX shared memory object, for writing too unless `writable` is 0.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, and for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::open_shm_object`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_open_shm_object(
    pod: *const pericarp_pod_t,
    name: *const c_char,
    writable: c_int,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let pod = caller.handle(pod, "pod")?;
        let name = caller.text(name, "name")?;
        out.set(pod.pod.ipc().open_shm_object(name, writable != 0)?.into_raw_fd());
        Ok(())
    })
}

/// Removes the name of a POSIX shared memory object; who has it open keeps it.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `NOT_FOUND` when there is none, and for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::remove_shm_object`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_remove_shm_object(
    pod: *const pericarp_pod_t,
    name: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let pod = caller.handle(pod, "pod")?;
        pod.pod.ipc().remove_shm_object(caller.text(name, "name")?)?;
        Ok(())
    })
}

/// Makes a POSIX message queue.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS`. `NOT_FOUND` for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::create_mqueue`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_create_mqueue(
    pod: *const pericarp_pod_t,
    queue: *const pericarp_mqueue_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let pod = caller.handle(pod, "pod")?;
        let given = caller.structure(queue, "queue")?;
        unused(given.flags, given.reserved, "queue")?;
        let queue = MessageQueueSpec {
            name: caller.text(given.name, "queue->name")?.to_string(),
            max_messages: or(given.max_messages, 10),
            message_size: or(given.message_size, 8192),
            mode: or(given.mode, 0o600),
            uid: given.uid,
            gid: given.gid,
        };
        pod.pod.ipc().create_mqueue(&queue)?;
        Ok(())
    })
}

/// Removes the name of a POSIX message queue; who has it open keeps it.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `NOT_FOUND` when there is none, and for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::remove_mqueue`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_remove_mqueue(
    pod: *const pericarp_pod_t,
    name: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let pod = caller.handle(pod, "pod")?;
        pod.pod.ipc().remove_mqueue(caller.text(name, "name")?)?;
        Ok(())
    })
}

/// Makes a System V shared memory segment. `*out_id` is its id, see sysvipc(7).
///
/// Ownership: the caller keeps `pod`.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS`. `NOT_FOUND` for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::create_sysv_shm`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_create_sysv_shm(
    pod: *const pericarp_pod_t,
    segment: *const pericarp_sysv_shm_t,
    out_id: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_id, "out_id")?;
        let pod = caller.handle(pod, "pod")?;
        let given = caller.structure(segment, "segment")?;
        unused(given.flags, 0, "segment")?;
        let (mode, uid, gid) = (or(given.mode, 0o600), given.uid, given.gid);
        let segment = SharedMemorySpec { key: given.key, size: given.bytes, mode, uid, gid };
        out.set(pod.pod.ipc().create_sysv_shm(&segment)?);
        Ok(())
    })
}

/// Removes a System V shared memory segment.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `NOT_FOUND` when there is none, and for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::remove_sysv_shm`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_remove_sysv_shm(
    pod: *const pericarp_pod_t,
    key: i32,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.ipc().remove_sysv_shm(key)?;
        Ok(())
    })
}

/// Makes a System V semaphore set with its values. `*out_id` is its id, see sysvipc(7).
///
/// Ownership: the caller keeps `pod`.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS`. `NOT_FOUND` for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::create_sysv_sem`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_create_sysv_sem(
    pod: *const pericarp_pod_t,
    set: *const pericarp_sysv_sem_t,
    out_id: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_id, "out_id")?;
        let pod = caller.handle(pod, "pod")?;
        let given = caller.structure(set, "set")?;
        unused(given.flags, 0, "set")?;
        if given.count > MOST_SEMAPHORES {
            let why = format!("is {}, and no set has more than {MOST_SEMAPHORES}", given.count);
            return Err(Problem::argument("set->count", why));
        }
        let values = caller.array(given.values, given.count, "set->values")?.to_vec();
        let (mode, uid, gid) = (or(given.mode, 0o600), given.uid, given.gid);
        let set = SemaphoreSetSpec { key: given.key, values, mode, uid, gid };
        out.set(pod.pod.ipc().create_sysv_sem(&set)?);
        Ok(())
    })
}

/// Removes a System V semaphore set.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `NOT_FOUND` when there is none, and for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::remove_sysv_sem`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_remove_sysv_sem(
    pod: *const pericarp_pod_t,
    key: i32,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.ipc().remove_sysv_sem(key)?;
        Ok(())
    })
}

/// Makes a System V message queue. `*out_id` is its id, see sysvipc(7).
///
/// Ownership: the caller keeps `pod`.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS`. `NOT_FOUND` for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::create_sysv_msg`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_create_sysv_msg(
    pod: *const pericarp_pod_t,
    queue: *const pericarp_sysv_msg_t,
    out_id: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_id, "out_id")?;
        let pod = caller.handle(pod, "pod")?;
        let given = caller.structure(queue, "queue")?;
        unused(given.flags, 0, "queue")?;
        let max_bytes = (given.max_bytes != 0).then_some(given.max_bytes);
        let (mode, uid, gid) = (or(given.mode, 0o600), given.uid, given.gid);
        let queue = SysvMessageQueueSpec { key: given.key, max_bytes, mode, uid, gid };
        out.set(pod.pod.ipc().create_sysv_msg(&queue)?);
        Ok(())
    })
}

/// Removes a System V message queue.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `NOT_FOUND` when there is none, and for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::remove_sysv_msg`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_remove_sysv_msg(
    pod: *const pericarp_pod_t,
    key: i32,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.ipc().remove_sysv_msg(key)?;
        Ok(())
    })
}

/// All objects, with sizes and owners, as a JSON object with the keys of `IpcListing`: shm, mqueues, sysvShm, sysvSem,
/// sysvMsg, truncated.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `NOT_FOUND` for a pod that is in the host's IPC namespace.
/// Threads: any.
/// Rust: `PodIpc::list`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_ipc_list(
    pod: *const pericarp_pod_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let listing = caller.handle(pod, "pod")?.pod.ipc().list()?;
        out.set(text_for_caller(&json::write(&listing)?));
        Ok(())
    })
}
