//! The shared context of containers: what it is. What is done with it is in `pod_life.rs`.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::IntoRawFd;
use std::ptr::{null, null_mut};
use std::time::UNIX_EPOCH;

use pericarp::{NamespaceKind, Pod};

use crate::caller::{Caller, c_string, give, text_for_caller};
use crate::error::{Problem, pericarp_error_t};
use crate::handle::{Handle, Head, handle};
use crate::json;
use crate::node::pericarp_node_t;

/// A pod: namespaces, shared memory, volumes and a cgroup that containers have in common. Other programs may use the
/// same pod at the same time.
pub struct pericarp_pod_t {
    head: Head,
    pub(crate) pod: Pod,
    id: CString,
    name: CString,
    name_space: CString,
    cgroup_path: CString,
}

handle!(pericarp_pod_t, 0x7065_7269_0050_4f44);

impl pericarp_pod_t {
    pub(crate) fn new(pod: Pod) -> Self {
        pericarp_pod_t {
            head: Head::new(Self::MARK),
            id: c_string(pod.id()),
            name: c_string(pod.name()),
            name_space: c_string(pod.namespace()),
            cgroup_path: c_string(&pod.cgroup_path().to_string_lossy()),
            pod,
        }
    }
}

/// network_namespaces(7)
pub const PERICARP_NAMESPACE_NETWORK: u32 = 1;
/// ipc_namespaces(7)
pub const PERICARP_NAMESPACE_IPC: u32 = 2;
/// uts_namespaces(7)
pub const PERICARP_NAMESPACE_UTS: u32 = 3;
/// pid_namespaces(7); a pod has one only with `PERICARP_POD_SHARED_PID`.
pub const PERICARP_NAMESPACE_PID: u32 = 4;
/// user_namespaces(7); see `namespaces.user` in docs/pod-json.md.
pub const PERICARP_NAMESPACE_USER: u32 = 5;

fn namespace_kind(kind: u32) -> Result<NamespaceKind, Problem> {
    match kind {
        PERICARP_NAMESPACE_NETWORK => Ok(NamespaceKind::Network),
        PERICARP_NAMESPACE_IPC => Ok(NamespaceKind::Ipc),
        PERICARP_NAMESPACE_UTS => Ok(NamespaceKind::Uts),
        PERICARP_NAMESPACE_PID => Ok(NamespaceKind::Pid),
        PERICARP_NAMESPACE_USER => Ok(NamespaceKind::User),
        other => {
            Err(Problem::argument("kind", format!("is {other}, which is no PERICARP_NAMESPACE_ constant")))
        }
    }
}

/// One more reference to a pod, the same pointer. NULL for NULL.
///
/// Ownership: the caller gets a reference to give back with `pericarp_pod_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Clone` of `Pod`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_ref(pod: *const pericarp_pod_t) -> *mut pericarp_pod_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.refer(pod)
}

/// Gives a reference to a pod back. The pod and its containers go on.
///
/// Ownership: takes the caller's reference to `pod`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Pod`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_unref(pod: *mut pericarp_pod_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(pod);
}

/// Frees a list of pods with the references in it. To keep one, take a reference of it first.
///
/// Ownership: takes `pods`, which may be NULL: a list as this library returns it, which ends with NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Vec<Pod>`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_list_free(pods: *mut *mut pericarp_pod_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.free_handles(pods);
}

/// The unique id: a random UUID (RFC 9562), which no other pod ever has.
///
/// Ownership: the string belongs to `pod` and is valid as long as the caller's reference.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Pod::id`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_id(pod: *const pericarp_pod_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(pod, null(), |pod| pod.id.as_ptr())
}

/// The name, which a later pod may have again.
///
/// Ownership: the string belongs to `pod` and is valid as long as the caller's reference.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Pod::name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_name(pod: *const pericarp_pod_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(pod, null(), |pod| pod.name.as_ptr())
}

/// The namespace that the name is unique in (Kubernetes' word, not the kernel's).
///
/// Ownership: the string belongs to `pod` and is valid as long as the caller's reference.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Pod::namespace`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_namespace(pod: *const pericarp_pod_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(pod, null(), |pod| pod.name_space.as_ptr())
}

/// The directory of the pod's cgroup.
///
/// Ownership: the string belongs to `pod` and is valid as long as the caller's reference.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Pod::cgroup_path`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_cgroup_path(pod: *const pericarp_pod_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(pod, null(), |pod| pod.cgroup_path.as_ptr())
}

/// When it was made: nanoseconds since 1970, see clock_gettime(2), `CLOCK_REALTIME`.
///
/// Ownership: the caller keeps `pod`.
/// Errors: none; 0 for NULL.
/// Threads: any.
/// Rust: `Pod::created_at`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_created_at(pod: *const pericarp_pod_t) -> u64 {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(pod, 0, |pod| {
        let since = pod.pod.created_at().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_nanos().try_into().unwrap_or(u64::MAX)
    })
}

/// The node that it belongs to, as a new handle.
///
/// Ownership: the result is the caller's to give back with `pericarp_node_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Pod::node`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_node(pod: *const pericarp_pod_t) -> *mut pericarp_node_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(pod, null_mut(), |pod| give(pericarp_node_t::new(pod.pod.node().clone())))
}

/// The specification that it was made of, with labels and annotations, as JSON.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `Pod::spec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_spec(
    pod: *const pericarp_pod_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let pod = caller.handle(pod, "pod")?;
        out.set(text_for_caller(&json::write(pod.pod.spec())?));
        Ok(())
    })
}

/// The value of one label.
///
/// Ownership: `*out_value` is the caller's to free with `pericarp_string_free`.
/// Errors: `NOT_FOUND` when the pod has no such label.
/// Threads: any.
/// Rust: `Pod::spec`, field `labels`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_label(
    pod: *const pericarp_pod_t,
    key: *const c_char,
    out_value: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_value, "out_value")?;
        let pod = caller.handle(pod, "pod")?;
        let key = caller.text(key, "key")?;
        let value = pod.pod.spec().labels.get(key);
        let value =
            value.ok_or_else(|| Problem::none("find", &format!("label {key:?}"), "the pod has none"))?;
        out.set(text_for_caller(value));
        Ok(())
    })
}

/// Opens a namespace of the pod, for setns(2) or to compare. It stays alive while the descriptor is open. `kind` is one
/// of the `PERICARP_NAMESPACE_` constants.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `NOT_FOUND` for a namespace that is not the pod's: the host's, or a PID namespace where each container has its own.
/// Threads: any.
/// Rust: `Pod::namespace_fd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_open_namespace(
    pod: *const pericarp_pod_t,
    kind: u32,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let pod = caller.handle(pod, "pod")?;
        out.set(pod.pod.namespace_fd(namespace_kind(kind)?)?.into_raw_fd());
        Ok(())
    })
}

/// The number that identifies a namespace of the pod, as in `readlink /proc/PID/ns/net`. `kind` is one of the
/// `PERICARP_NAMESPACE_` constants.
///
/// Ownership: the caller keeps `pod`.
/// Errors: as `pericarp_pod_open_namespace`.
/// Threads: any.
/// Rust: `Pod::namespace_inode`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_namespace_inode(
    pod: *const pericarp_pod_t,
    kind: u32,
    out_inode: *mut u64,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_inode, "out_inode")?;
        let pod = caller.handle(pod, "pod")?;
        out.set(pod.pod.namespace_inode(namespace_kind(kind)?)?);
        Ok(())
    })
}
