//! IPC objects through C.

use std::ffi::{c_char, c_int};
use std::os::fd::OwnedFd;

use pericarp::spec::{
    IpcObjects, MessageQueueSpec, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec, SysvMessageQueueSpec,
};
use pericarp_ffi::*;

use super::pod::get_fd;
use super::*;

type Pod = *const pericarp_pod_t;
type Err = *mut *mut pericarp_error_t;

pub(super) fn create(pod: Pod, objects: &IpcObjects) -> Res<()> {
    let json = c_json(objects);
    // SAFETY: all pointers are to what the header asks for.
    call(|err| unsafe { pericarp_ipc_create(pod, json.as_ptr(), err) })
}

pub(super) fn create_shm_object(pod: Pod, object: &ShmObjectSpec) -> Res<OwnedFd> {
    let name = c_text(&object.name);
    let given = pericarp_shm_object_t {
        size: size_of::<pericarp_shm_object_t>(),
        flags: 0,
        name: name.as_ptr(),
        bytes: object.size,
        mode: object.mode,
        uid: object.uid,
        gid: object.gid,
        reserved: 0,
    };
    // SAFETY: all pointers are to what the header asks for.
    get_fd(|place, err| unsafe { pericarp_ipc_create_shm_object(pod, &given, place, err) })
}

pub(super) fn open_shm_object(pod: Pod, name: &str, writable: bool) -> Res<OwnedFd> {
    let name = c_text(name);
    // SAFETY: all pointers are to what the header asks for.
    get_fd(|place, err| unsafe {
        pericarp_ipc_open_shm_object(pod, name.as_ptr(), writable.into(), place, err)
    })
}

pub(super) fn create_mqueue(pod: Pod, queue: &MessageQueueSpec) -> Res<()> {
    let name = c_text(&queue.name);
    let given = pericarp_mqueue_t {
        size: size_of::<pericarp_mqueue_t>(),
        flags: 0,
        name: name.as_ptr(),
        max_messages: queue.max_messages,
        message_size: queue.message_size,
        mode: queue.mode,
        uid: queue.uid,
        gid: queue.gid,
        reserved: 0,
    };
    // SAFETY: all pointers are to what the header asks for.
    call(|err| unsafe { pericarp_ipc_create_mqueue(pod, &given, err) })
}

pub(super) fn create_sysv_shm(pod: Pod, segment: &SharedMemorySpec) -> Res<i32> {
    let given = pericarp_sysv_shm_t {
        size: size_of::<pericarp_sysv_shm_t>(),
        flags: 0,
        bytes: segment.size,
        key: segment.key,
        mode: segment.mode,
        uid: segment.uid,
        gid: segment.gid,
    };
    // SAFETY: all pointers are to what the header asks for.
    get(-77, |place, err| unsafe { pericarp_ipc_create_sysv_shm(pod, &given, place, err) })
}

pub(super) fn create_sysv_sem(pod: Pod, set: &SemaphoreSetSpec) -> Res<i32> {
    let given = pericarp_sysv_sem_t {
        size: size_of::<pericarp_sysv_sem_t>(),
        flags: 0,
        values: set.values.as_ptr(),
        count: set.values.len(),
        key: set.key,
        mode: set.mode,
        uid: set.uid,
        gid: set.gid,
    };
    // SAFETY: all pointers are to what the header asks for.
    get(-77, |place, err| unsafe { pericarp_ipc_create_sysv_sem(pod, &given, place, err) })
}

pub(super) fn create_sysv_msg(pod: Pod, queue: &SysvMessageQueueSpec) -> Res<i32> {
    let given = pericarp_sysv_msg_t {
        size: size_of::<pericarp_sysv_msg_t>(),
        flags: 0,
        max_bytes: queue.max_bytes.unwrap_or(0),
        key: queue.key,
        mode: queue.mode,
        uid: queue.uid,
        gid: queue.gid,
    };
    // SAFETY: all pointers are to what the header asks for.
    get(-77, |place, err| unsafe { pericarp_ipc_create_sysv_msg(pod, &given, place, err) })
}

pub(super) fn remove_by_name(
    pod: Pod,
    function: unsafe extern "C" fn(Pod, *const c_char, Err) -> c_int,
    name: &str,
) -> Res<()> {
    let name = c_text(name);
    // SAFETY: all pointers are to what the header asks for.
    call(|err| unsafe { function(pod, name.as_ptr(), err) })
}

pub(super) fn remove_by_key(
    pod: Pod,
    function: unsafe extern "C" fn(Pod, i32, Err) -> c_int,
    key: i32,
) -> Res<()> {
    // SAFETY: all pointers are to what the header asks for.
    call(|err| unsafe { function(pod, key, err) })
}
