//! Changing limits of what runs.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};

use pericarp::Resources;
use pericarp::spec::DeviceRule;

use crate::caller::Caller;
use crate::container::pericarp_container_t;
use crate::error::pericarp_error_t;
use crate::json;
use crate::pod::pericarp_pod_t;

/// Changes limits of a pod as a whole while it runs: `json` is a `Resources` object. What it leaves out keeps its value.
///
/// Ownership: the caller keeps `pod` and `json`.
/// Errors: `INVALID_SPEC`; `UNSUPPORTED` for a limit whose controller this machine lacks; what the kernel says. Then no
/// limit is changed.
/// Threads: any.
/// Rust: `Pod::update`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_update_json(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let pod = caller.handle(pod, "pod")?;
        let resources: Resources = json::read(caller.text(json, "json")?)?;
        pod.pod.update(&resources)?;
        Ok(())
    })
}

/// Changes limits of a pod as a whole and of containers of it while they run: all of them, or none. `json` is a `Resources`
/// object for the pod, `containers_json` an object with one for each container, by name. What is left out keeps its
/// value.
///
/// Ownership: the caller keeps `pod` and the texts.
/// Errors: as `pericarp_pod_update_json`; `NOT_FOUND` for a container that the pod does not have.
/// Threads: any.
/// Rust: `Pod::update_all`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_update_all_json(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    containers_json: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let pod = caller.handle(pod, "pod")?;
        let (json, containers) =
            (caller.text(json, "json")?, caller.text(containers_json, "containers_json")?);
        let containers: BTreeMap<String, Resources> = json::read(containers)?;
        pod.pod.update_all(&json::read(json)?, &containers)?;
        Ok(())
    })
}

/// Whether the processes of a container stand still, because it or its pod was frozen: `*out_frozen` is 1 or 0.
///
/// Ownership: the caller keeps `container`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Container::is_frozen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_is_frozen(
    container: *const pericarp_container_t,
    out_frozen: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_frozen, "out_frozen")?;
        out.set(caller.handle(container, "container")?.container.is_frozen()?.into());
        Ok(())
    })
}

/// Changes limits of a container while it runs: `json` is a `Resources` object. What it leaves out keeps its value.
///
/// Ownership: the caller keeps `container` and `json`.
/// Errors: as `pericarp_pod_update_json`.
/// Threads: any.
/// Rust: `Container::update`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_update_json(
    container: *const pericarp_container_t,
    json: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let container = caller.handle(container, "container")?;
        let resources: Resources = json::read(caller.text(json, "json")?)?;
        container.container.update(&resources)?;
        Ok(())
    })
}

/// Replaces the rules for devices of a container while it runs, all at once: `json` is an array as `deviceRules` of its
/// specification. What a process has open stays open.
///
/// Ownership: the caller keeps `container` and `json`.
/// Errors: `INVALID_SPEC`; `NOT_FOUND` when the container's cgroup is gone; `UNSUPPORTED` without the privileges of the
/// machine's root, and where somebody else has put programs of their own at the container's cgroup. Then the rules are what
/// they were.
/// Threads: any.
/// Rust: `Container::update_device_rules`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_update_device_rules_json(
    container: *const pericarp_container_t,
    json: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let container = caller.handle(container, "container")?;
        let rules: Vec<DeviceRule> = json::read_list(caller.text(json, "json")?)?;
        container.container.update_device_rules(&rules)?;
        Ok(())
    })
}

/// Makes the OOM killer take the processes of a container sooner (up to 1000) or later (down to -1000 for never): of all
/// that run now, and of all that they start, but for one that is being forked just then. What `pericarp_container_exec` adds later has that of its own
/// specification, or of the container's.
///
/// Ownership: the caller keeps `container`.
/// Errors: `INVALID_SPEC` for another number; `WRONG_STATE` when no process is left; `PERMISSION_DENIED` for a lower one
/// than was set last, without `CAP_SYS_RESOURCE`. Then the processes have what they had.
/// Threads: any.
/// Rust: `Container::set_oom_score_adj`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_set_oom_score_adj(
    container: *const pericarp_container_t,
    adjustment: c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.set_oom_score_adj(adjustment)?;
        Ok(())
    })
}
