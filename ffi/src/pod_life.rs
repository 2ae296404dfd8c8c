//! A pod's containers, and its end.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use pericarp::ContainerSpec;

use crate::caller::{Caller, give, handles_for_caller, text_for_caller};
use crate::container::{container_spec, pericarp_container_t};
use crate::error::pericarp_error_t;
use crate::json;
use crate::pod::pericarp_pod_t;
use crate::structs::*;

/// Makes a container as a JSON object says, whose keys are those of `ContainerSpec`, up to the point where its program
/// would run: `pericarp_container_start` does that. `{"name": "web", "rootfs": {"overlay": {"lower": ["/"]}}, "args":
/// ["sh"]}` is about the shortest. `stdio` may be NULL; descriptors in it take the place of what the JSON says.
///
/// Ownership: `*out_container` is the caller's to give back with `pericarp_container_unref`. Descriptors in `stdio` stay the
/// caller's, and may be closed after the call.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS` for a second container of that name; `WRONG_STATE` while the pod is frozen; what
/// the kernel refused, with the step. Whatever the error, nothing is left behind.
/// Threads: any.
/// Rust: `Pod::create_container`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_create_container(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    stdio: *const pericarp_stdio_t,
    out_container: *mut *mut pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_container, "out_container")?;
        let pod = caller.handle(pod, "pod")?;
        let spec = container_spec(caller, json, stdio)?;
        out.set(give(pericarp_container_t::new(pod.pod.create_container(&spec)?)));
        Ok(())
    })
}

/// Makes and starts a container, waits until it has ended, and removes it. Streams asked for as pipes would have nobody
/// at the other end: they are refused. `stdio` may be NULL.
///
/// Ownership: the caller sets `out_status->size`. Descriptors in `stdio` stay the caller's.
/// Errors: those of `pericarp_pod_create_container`, `pericarp_container_start` and `pericarp_container_wait`.
/// Threads: any.
/// Rust: `Pod::run`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_run(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    stdio: *const pericarp_stdio_t,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_status, "out_status")?;
        let pod = caller.handle(pod, "pod")?;
        let spec = container_spec(caller, json, stdio)?;
        out.set(Some(pod.pod.run(&spec)?).into());
        Ok(())
    })
}

/// What would be done to make a container, in words and in order, a line a step. Nothing is made, opened or asked.
///
/// Ownership: `*out_text` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_SPEC`.
/// Threads: any.
/// Rust: `Pod::explain`, `Plan`'s `Display`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_explain(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    out_text: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_text, "out_text")?;
        let pod = caller.handle(pod, "pod")?;
        let spec: ContainerSpec = json::read(caller.text(json, "json")?)?;
        out.set(text_for_caller(&pod.pod.explain(&spec)?.to_string()));
        Ok(())
    })
}

/// Opens a container by its name.
///
/// Ownership: `*out_container` is the caller's to give back with `pericarp_container_unref`.
/// Errors: `NOT_FOUND` when there is none.
/// Threads: any.
/// Rust: `Pod::container`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_open_container(
    pod: *const pericarp_pod_t,
    name: *const c_char,
    out_container: *mut *mut pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_container, "out_container")?;
        let pod = caller.handle(pod, "pod")?;
        let container = pod.pod.container(caller.text(name, "name")?)?;
        out.set(give(pericarp_container_t::new(container)));
        Ok(())
    })
}

/// All containers, in no order. The list ends with NULL.
///
/// Ownership: `*out_containers` is the caller's to free with `pericarp_container_list_free`.
/// Errors: `NOT_FOUND` when the pod is gone.
/// Threads: any.
/// Rust: `Pod::containers`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_containers(
    pod: *const pericarp_pod_t,
    out_containers: *mut *mut *mut pericarp_container_t,
    out_count: *mut usize,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_containers, "out_containers")?;
        let count = caller.out(out_count, "out_count")?;
        let containers = caller.handle(pod, "pod")?.pod.containers()?;
        count.set(containers.len());
        out.set(handles_for_caller(containers.into_iter().map(pericarp_container_t::new)));
        Ok(())
    })
}

/// The status of all containers as JSON: `{"containers": {NAME: {"state": "created" | "running" | "exited"}…}}`. One that
/// has ended has `"exitCode"`, or `"signal"` and `"coreDumped"`, unless its status is lost.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `NOT_FOUND` when the pod is gone.
/// Threads: any.
/// Rust: `Pod::status`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_status(
    pod: *const pericarp_pod_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let status = caller.handle(pod, "pod")?.pod.status()?;
        out.set(text_for_caller(&json::pod_status(&status)));
        Ok(())
    })
}

/// Asks every container to end by its stop signal, waits at most `grace_ms` milliseconds for all of them together, and
/// kills what is left. The pod stays, and containers can be made in it again.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `NOT_FOUND` when the pod is gone.
/// Threads: any.
/// Rust: `Pod::stop`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_stop(
    pod: *const pericarp_pod_t,
    grace_ms: u64,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.stop(Duration::from_millis(grace_ms))?;
        Ok(())
    })
}

/// Stops every process of the pod where it is (`cgroup.freeze`), and returns when all have stopped.
///
/// Ownership: the caller keeps `pod`.
/// Errors: when some have not stopped after 10 seconds; then all run on.
/// Threads: any.
/// Rust: `Pod::freeze`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_freeze(
    pod: *const pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.freeze()?;
        Ok(())
    })
}

/// Lets every process of the pod run again, except those of containers that are frozen themselves.
///
/// Ownership: the caller keeps `pod`.
/// Errors: `NOT_FOUND` when the pod is gone.
/// Threads: any.
/// Rust: `Pod::thaw`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_thaw(
    pod: *const pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.thaw()?;
        Ok(())
    })
}

/// Ends all containers of the pod at once and removes all that there is of it. Its name is free again. The handle must
/// still be given back.
///
/// Ownership: the caller keeps its reference to `pod`.
/// Errors: `NOT_FOUND` when it is gone already.
/// Threads: any.
/// Rust: `Pod::remove`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_remove(
    pod: *const pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.remove()?;
        Ok(())
    })
}
