//! User namespaces of pods.

use std::ffi::{c_char, c_int};

use crate::caller::{Caller, text_for_caller};
use crate::error::{Problem, pericarp_error_t};
use crate::json;
use crate::pod::pericarp_pod_t;

/// The ids of the pod's user namespace, as JSON: an object with `uidMappings` and `gidMappings`, see docs/pod-json.md.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `NOT_FOUND` for a pod without a user namespace of its own.
/// Threads: any.
/// Rust: `Pod::id_mappings`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_id_mappings(
    pod: *const pericarp_pod_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let pod = caller.handle(pod, "pod")?;
        let ids = pod.pod.id_mappings().ok_or_else(|| {
            Problem::none("read", "the ids of the pod", "it has no user namespace of its own")
        })?;
        out.set(text_for_caller(&json::write(ids)?));
        Ok(())
    })
}
