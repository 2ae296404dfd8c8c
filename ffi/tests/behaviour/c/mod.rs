//! The C interface, called as a C program does: strings end with NUL, results come through pointers, errors and handles
//! are given back.

mod container;
mod events;
mod ipc;
mod library;
mod pod;
mod streams;

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

use pericarp::stats::StatsOptions;
use pericarp::{ErrorKind, ExitStatus, PodSpec};
use pericarp_ffi::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::*;

pub struct C;

/// A handle, with one reference of its own.
struct Handle<T> {
    pointer: *mut T,
    refer: unsafe extern "C" fn(*const T) -> *mut T,
    unref: unsafe extern "C" fn(*mut T),
}

// SAFETY: any thread may use any handle, says the header.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: likewise.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    fn another(&self) -> Self {
        // SAFETY: it is a live handle.
        let pointer = unsafe { (self.refer)(self.pointer) };
        assert_eq!(pointer, self.pointer, "one more reference is the same pointer");
        Handle { pointer, ..*self }
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own, and given back once.
        unsafe { (self.unref)(self.pointer) }
    }
}

type NodeHandle = Handle<pericarp_node_t>;
type PodHandle = Handle<pericarp_pod_t>;
type ContainerHandle = Handle<pericarp_container_t>;

fn node(pointer: *mut pericarp_node_t) -> NodeHandle {
    assert!(!pointer.is_null());
    Handle { pointer, refer: pericarp_node_ref, unref: pericarp_node_unref }
}

fn pod(pointer: *mut pericarp_pod_t) -> PodHandle {
    assert!(!pointer.is_null());
    Handle { pointer, refer: pericarp_pod_ref, unref: pericarp_pod_unref }
}

fn container(pointer: *mut pericarp_container_t) -> ContainerHandle {
    assert!(!pointer.is_null());
    Handle { pointer, refer: pericarp_container_ref, unref: pericarp_container_unref }
}

fn boxed_pod(pointer: *mut pericarp_pod_t) -> Box<dyn PodApi> {
    Box::new(pod(pointer))
}

fn boxed_container(pointer: *mut pericarp_container_t) -> Box<dyn ContainerApi> {
    Box::new(container(pointer))
}

/// What the header says about codes: the kind of the Rust library, and the number where no system call failed.
const CODES: &[(c_int, ErrorKind, c_int)] = &[
    (PERICARP_ERROR_INVALID_SPEC, ErrorKind::InvalidSpec, libc::EINVAL),
    (PERICARP_ERROR_ALREADY_EXISTS, ErrorKind::AlreadyExists, libc::EEXIST),
    (PERICARP_ERROR_NOT_FOUND, ErrorKind::NotFound, libc::ENOENT),
    (PERICARP_ERROR_WRONG_STATE, ErrorKind::WrongState, libc::EBUSY),
    (PERICARP_ERROR_UNSUPPORTED, ErrorKind::Unsupported, libc::EOPNOTSUPP),
    (PERICARP_ERROR_PERMISSION_DENIED, ErrorKind::PermissionDenied, libc::EPERM),
    (PERICARP_ERROR_EXHAUSTED, ErrorKind::Exhausted, libc::EAGAIN),
    (PERICARP_ERROR_CORRUPT_STATE, ErrorKind::CorruptState, libc::EUCLEAN),
    (PERICARP_ERROR_EXEC, ErrorKind::Exec, libc::ENOEXEC),
    (PERICARP_ERROR_STATUS_LOST, ErrorKind::StatusLost, libc::ECHILD),
    (PERICARP_ERROR_HOOK, ErrorKind::Hook, libc::EPROTO),
    (PERICARP_ERROR_SYSTEM, ErrorKind::System, libc::EIO),
];

/// Makes a call that returns 0, or a negative number and an error.
fn call(call: impl Fn(*mut *mut pericarp_error_t) -> c_int) -> Res<()> {
    let mut err: *mut pericarp_error_t = null_mut();
    let result = call(&mut err);
    if result == 0 {
        assert!(err.is_null(), "an error without a failure");
        return Ok(());
    }
    assert!(!err.is_null(), "a failure without an error");
    // SAFETY: it is a live error, given back once.
    let failure = unsafe {
        let code = pericarp_error_code(err);
        let (_, kind, otherwise) = *CODES
            .iter()
            .find(|(known, ..)| *known == code)
            .unwrap_or_else(|| panic!("code {code}: {:?}", text(pericarp_error_message(err))));
        let errno = pericarp_error_errno(err);
        let number = if errno != 0 { errno } else { otherwise };
        assert_eq!(result, -number, "the result is not the number that the error has or its code stands for");
        let failure = Failure {
            kind,
            errno: (errno != 0).then_some(errno),
            step: text(pericarp_error_step(err)).expect("a step"),
            subject: text(pericarp_error_subject(err)),
            message: text(pericarp_error_message(err)).expect("a message"),
        };
        pericarp_error_unref(err);
        failure
    };
    Err(failure)
}

/// Makes a call with a place for a result, which begins as `before` and must stay so on failure.
fn get<T: Copy + PartialEq + Debug>(
    before: T,
    function: impl Fn(*mut T, *mut *mut pericarp_error_t) -> c_int,
) -> Res<T> {
    let mut place = before;
    let place_of = &raw mut place;
    let result = call(|err| function(place_of, err));
    match result {
        Ok(()) => Ok(place),
        Err(failure) => {
            assert_eq!(place, before, "the result was touched although the call failed");
            Err(failure)
        }
    }
}

/// Makes a call that gives a string, which is freed.
fn get_text(function: impl Fn(*mut *mut c_char, *mut *mut pericarp_error_t) -> c_int) -> Res<String> {
    let place = get(null_mut(), function)?;
    // SAFETY: it is a string of the library's, freed once.
    unsafe {
        let copy = text(place).expect("a string");
        pericarp_string_free(place);
        Ok(copy)
    }
}

fn get_json<T: DeserializeOwned>(
    function: impl Fn(*mut *mut c_char, *mut *mut pericarp_error_t) -> c_int,
) -> Res<T> {
    let json = get_text(function)?;
    Ok(serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error} in {json}")))
}

/// A copy of a string that belongs to a handle.
///
/// # Safety
/// It is NULL, or a string.
unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: the caller says so.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().expect("UTF-8").to_string())
}

fn c_text(text: &str) -> CString {
    CString::new(text).expect("no NUL in it")
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL in it")
}

fn c_json(value: &impl Serialize) -> CString {
    c_text(&serde_json::to_string(value).expect("it is JSON"))
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(null(), |text| text.as_ptr())
}

/// A status for a function to fill. What it is before must not come out.
fn no_status() -> pericarp_exit_status_t {
    let size = size_of::<pericarp_exit_status_t>();
    pericarp_exit_status_t { size, how: 77, code: 77, signal: 77, core_dumped: 77 }
}

/// Makes a call that tells a status.
fn get_status(
    function: impl Fn(*mut pericarp_exit_status_t, *mut *mut pericarp_error_t) -> c_int,
) -> Res<Option<ExitStatus>> {
    let mut status = no_status();
    let place = &raw mut status;
    let result = call(|err| function(place, err));
    match result {
        Ok(()) => Ok(exit_status(&status)),
        Err(failure) => {
            assert_eq!(status.how, 77, "the status was touched although the call failed");
            Err(failure)
        }
    }
}

fn exit_status(status: &pericarp_exit_status_t) -> Option<ExitStatus> {
    assert_eq!(status.size, size_of::<pericarp_exit_status_t>());
    match status.how {
        PERICARP_EXIT_NONE => {
            assert_eq!((status.code, status.signal, status.core_dumped), (0, 0, 0));
            None
        }
        PERICARP_EXIT_CODE => {
            assert_eq!((status.signal, status.core_dumped), (0, 0));
            Some(ExitStatus::Exited(status.code))
        }
        PERICARP_EXIT_SIGNAL => {
            assert_eq!(status.code, 0);
            let core_dumped = status.core_dumped == 1;
            Some(ExitStatus::Signaled { signal: status.signal, core_dumped })
        }
        other => panic!("a container ended in the way {other}"),
    }
}

/// Makes a call that gives a list which ends with NULL, and takes a reference to each of its elements.
fn get_list<T>(
    refer: unsafe extern "C" fn(*const T) -> *mut T,
    free: unsafe extern "C" fn(*mut *mut T),
    function: impl Fn(*mut *mut *mut T, *mut usize, *mut *mut pericarp_error_t) -> c_int,
) -> Res<Vec<*mut T>> {
    let mut count = 77;
    let count_of = &raw mut count;
    let list = get(null_mut(), |place, err| function(place, count_of, err))
        .inspect_err(|_| assert_eq!(count, 77, "the count was touched although the call failed"))?;
    // SAFETY: the list has `count` handles and a NULL, and is freed once.
    unsafe {
        let handles: Vec<*mut T> = (0..count).map(|at| refer(*list.add(at))).collect();
        assert!((*list.add(count)).is_null(), "the list does not end with NULL");
        free(list);
        Ok(handles)
    }
}

impl NodeApi for NodeHandle {
    fn again(&self) -> Box<dyn NodeApi> {
        Box::new(self.another())
    }

    fn create_pod(&self, spec: &PodSpec) -> Res<Box<dyn PodApi>> {
        let json = c_json(spec);
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_node_create_pod_json(self.pointer, json.as_ptr(), place, err)
        })
        .map(boxed_pod)
    }

    fn create_simple_pod(&self, simple: &Simple) -> Res<Box<dyn PodApi>> {
        let name = c_text(&simple.name);
        let name_space = simple.namespace.as_deref().map(c_text);
        let hostname = simple.hostname.as_deref().map(c_text);
        let flags = [
            (simple.ephemeral, PERICARP_POD_EPHEMERAL),
            (simple.hostname_files, PERICARP_POD_HOSTNAME_FILES),
            (simple.host_network, PERICARP_POD_HOST_NETWORK),
            (simple.host_ipc, PERICARP_POD_HOST_IPC),
            (simple.host_uts, PERICARP_POD_HOST_UTS),
            (simple.host_pid, PERICARP_POD_HOST_PID),
            (simple.shared_pid, PERICARP_POD_SHARED_PID),
        ];
        let options = pericarp_pod_options_t {
            size: size_of::<pericarp_pod_options_t>(),
            flags: flags.into_iter().filter(|(on, _)| *on).fold(0, |flags, (_, flag)| flags | flag),
            name: name.as_ptr(),
            name_space: pointer(&name_space),
            hostname: pointer(&hostname),
            shm_size: simple.shm_size.unwrap_or(0),
        };
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe { pericarp_node_create_pod(self.pointer, &options, place, err) })
            .map(boxed_pod)
    }

    fn create_pod_oci(&self, bundle: &dyn BundleApi, name: &str) -> Res<Box<dyn PodApi>> {
        let (bundle, name) = (library::bundle_of(bundle), c_text(name));
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_node_create_pod_oci(self.pointer, bundle, name.as_ptr(), place, err)
        })
        .map(boxed_pod)
    }

    fn pods(&self) -> Res<Vec<Box<dyn PodApi>>> {
        // SAFETY: all pointers are to what the header asks for.
        let pods = get_list(pericarp_pod_ref, pericarp_pod_list_free, |place, count, err| unsafe {
            pericarp_node_pods(self.pointer, place, count, err)
        })?;
        Ok(pods.into_iter().map(boxed_pod).collect())
    }

    fn open_pod(&self, id_or_name: &str) -> Res<Box<dyn PodApi>> {
        let name = c_text(id_or_name);
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_node_open_pod(self.pointer, name.as_ptr(), place, err)
        })
        .map(boxed_pod)
    }

    fn recover(&self) -> Res<Value> {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_node_recover(self.pointer, place, err) })
    }

    fn capacity(&self) -> Res<Value> {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_node_capacity(self.pointer, place, err) })
    }

    fn controllers(&self) -> Vec<String> {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_node_controllers(self.pointer, place, err) })
            .expect("only wrong arguments are errors")
    }

    fn stats(&self, options: &StatsOptions) -> Res<Value> {
        let options = c_json(options);
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_node_stats_json(self.pointer, options.as_ptr(), place, err) })
    }

    fn prometheus(&self) -> Res<String> {
        // SAFETY: all pointers are to what the header asks for.
        get_text(|place, err| unsafe { pericarp_node_stats_prometheus(self.pointer, null(), place, err) })
    }

    fn remove(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_node_remove(self.pointer, err) })
    }
}
