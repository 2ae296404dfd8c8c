//! Requests and limits in Kubernetes' terms.

use std::ffi::{c_char, c_int};

use pericarp::spec::kubernetes::{Capacity, KubernetesPod, Resize};

use crate::caller::{Caller, text_for_caller};
use crate::error::{Problem, pericarp_error_t};
use crate::json;
use crate::node::pericarp_node_t;
use crate::pod::pericarp_pod_t;

/// What there is for the pods of a node, as a JSON object: `{"cpuMillis": N, "memory": BYTES, "swap": BYTES, "hugePages":
/// {"SIZE": BYTES, …}, "pids": N, "pageSize": BYTES}`. `swap` is null where the kernel does not account for it by cgroup.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Node::capacity`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_capacity(
    node: *const pericarp_node_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let capacity = caller.handle(node, "node")?.node().capacity()?;
        out.set(text_for_caller(&json::write(&capacity)?));
        Ok(())
    })
}

/// The QoS class of a pod: `Guaranteed`, `Burstable` or `BestEffort`.
///
/// Ownership: `*out_class` is the caller's to free with `pericarp_string_free`.
/// Errors: `NOT_FOUND` for a pod that was made without `kubernetes`.
/// Threads: any.
/// Rust: `Pod::qos_class`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_qos_class(
    pod: *const pericarp_pod_t,
    out_class: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_class, "out_class")?;
        let class = caller.handle(pod, "pod")?.pod.qos_class().ok_or_else(none)?;
        out.set(text_for_caller(&class.to_string()));
        Ok(())
    })
}

/// The requests and limits that a pod and its containers have now, after every resize, as the JSON of `kubernetes` in the
/// specification of a pod.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `NOT_FOUND` for a pod that was made without `kubernetes`, and when the pod is gone.
/// Threads: any.
/// Rust: `Pod::kubernetes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_kubernetes(
    pod: *const pericarp_pod_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let requests = caller.handle(pod, "pod")?.pod.kubernetes()?.ok_or_else(none)?;
        out.set(text_for_caller(&json::write(&requests)?));
        Ok(())
    })
}

/// Gives a running pod and its containers other requests and limits: all of them, or none. `json` is `{"containers":
/// {"NAME": {"requests": {…}, "limits": {…}}}, "resources": {…}, "shrink": "refuse" or "reclaim"}`; the answer is
/// `{"reclaimed": {"NAME": {"before": BYTES, "after": BYTES}}}`, where the empty name is the pod as a whole.
///
/// Ownership: the caller keeps `pod` and `json`; `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_SPEC` for what a resize may not change; `WRONG_STATE` when more memory is in use than a new limit;
/// `EXHAUSTED` when the requests do not fit; what the kernel says. Then no limit is changed.
/// Threads: any.
/// Rust: `Pod::resize`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_resize_json(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let pod = caller.handle(pod, "pod")?;
        let resize: Resize = json::read(caller.text(json, "json")?)?;
        out.set(text_for_caller(&json::write(&pod.pod.resize(&resize)?)?));
        Ok(())
    })
}

/// All that follows from requests and limits on a machine, without making anything: `json` is `kubernetes` of the
/// specification of a pod, `capacity` what `pericarp_node_capacity` says, or any other machine. The answer is
/// `{"qosClass": …, "requests": {…}, "resources": {…}, "containers": {"NAME": {"resources": {…}, "oomScoreAdj": N}}}`.
///
/// Ownership: the caller keeps both texts; `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_SPEC`.
/// Threads: any.
/// Rust: `spec::kubernetes::KubernetesPod::explain`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_kubernetes_explain(
    json: *const c_char,
    capacity: *const c_char,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let (json, capacity) = (caller.text(json, "json")?, caller.text(capacity, "capacity")?);
        let (pod, machine): (KubernetesPod, Capacity) = (json::read(json)?, json::read(capacity)?);
        out.set(text_for_caller(&json::write(&pod.explain(&machine)?)?));
        Ok(())
    })
}

fn none() -> Problem {
    Problem::none("read", "the requests of the pod", "it was made without any")
}
