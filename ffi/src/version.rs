//! Which library this is.

use std::ffi::{CStr, c_char, c_int};

use crate::caller::Caller;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the version has a NUL in it"),
};

const NUMBER: u32 = digits(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
    + digits(env!("CARGO_PKG_VERSION_MINOR")) * 1000
    + digits(env!("CARGO_PKG_VERSION_PATCH"));

const fn digits(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("a part of the version is no number"),
    }
}

/// What `pericarp_has_feature` says yes to.
const FEATURES: &[&str] = &[
    "container-json",
    "events",
    "exec",
    "explain",
    "fanout",
    "freeze",
    "id-claims",
    "id-ranges",
    "ipc-mqueue",
    "ipc-shm",
    "ipc-sysv",
    "kubernetes",
    "log",
    "oci",
    "pod-json",
    "recover",
    "resize",
    "seccomp-listener",
    "stats",
    "stdio-fds",
    "terminal",
    "update",
    "user-namespaces",
    "user-nodes",
];

/// The version of the library that the program runs with: "0.1.0". `PERICARP_VERSION` is the one that it was
/// compiled with.
///
/// Ownership: the string is static.
/// Errors: none.
/// Threads: any.
/// Rust: the version of the crate.
#[unsafe(no_mangle)]
pub extern "C" fn pericarp_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version as a number that can be compared, like `PERICARP_VERSION_NUMBER`: major * 1000000 + minor * 1000 +
/// patch.
///
/// Ownership: nothing.
/// Errors: none.
/// Threads: any.
/// Rust: the version of the crate.
#[unsafe(no_mangle)]
pub extern "C" fn pericarp_version_number() -> u32 {
    NUMBER
}

/// Whether this library can do something: 1 or 0. Names are "container-json" (containers from `ContainerSpec`'s JSON),
/// "events", "exec", "explain", "fanout", "freeze", "id-claims" and "id-ranges" (fields of a node's options),
/// "ipc-mqueue", "ipc-shm", "ipc-sysv", "kubernetes" (requests and limits, admission), "log", "oci" (pods and containers from
/// OCI configurations), "pod-json", "recover", "resize", "seccomp-listener", "stats", "stdio-fds", "terminal",
/// "update", "user-namespaces" (of pods) and "user-nodes" (nodes of ordinary users); later releases add names. Unknown ones are
/// answered with 0. What this machine's kernel can do is another question, which the errors of the calls answer.
///
/// Ownership: the caller keeps `name`.
/// Errors: none; 0 for NULL.
/// Threads: any.
/// Rust: none; a Rust program knows when it is compiled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_has_feature(name: *const c_char) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.ask(0, || caller.text(name, "name").is_ok_and(|name| FEATURES.contains(&name)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../include/pericarp.h");

    /// What each feature stands for: functions, or other names of the header.
    const MEANING: &[(&str, &[&str])] = &[
        ("container-json", &["pericarp_pod_create_container(", "pericarp_pod_run("]),
        ("events", &["pericarp_pod_events(", "pericarp_events_next(", "pericarp_events_borrow_fd("]),
        ("exec", &["pericarp_container_exec(", "pericarp_process_wait(", "pericarp_process_signal("]),
        ("explain", &["pericarp_pod_explain("]),
        ("fanout", &["pericarp_fanout_create(", "pericarp_fanout_open_reader(", "pericarp_fanout_pump("]),
        ("freeze", &["pericarp_container_freeze(", "pericarp_pod_freeze(", "pericarp_container_is_frozen("]),
        ("id-claims", &["const char *id_claims;"]),
        ("id-ranges", &["const char *id_ranges;"]),
        ("ipc-mqueue", &["pericarp_ipc_create_mqueue(", "pericarp_ipc_remove_mqueue("]),
        ("ipc-shm", &["pericarp_ipc_create_shm_object(", "pericarp_ipc_open_shm_object("]),
        (
            "ipc-sysv",
            &[
                "pericarp_ipc_create_sysv_shm(",
                "pericarp_ipc_create_sysv_sem(",
                "pericarp_ipc_create_sysv_msg(",
            ],
        ),
        (
            "kubernetes",
            &["pericarp_kubernetes_explain(", "pericarp_node_capacity(", "const char *admission;"],
        ),
        ("log", &["pericarp_log_set("]),
        (
            "oci",
            &["pericarp_bundle_open(", "pericarp_node_create_pod_oci(", "pericarp_pod_create_container_oci("],
        ),
        ("pod-json", &["pericarp_node_create_pod_json("]),
        ("recover", &["pericarp_node_recover("]),
        ("resize", &["pericarp_pod_resize_json("]),
        ("seccomp-listener", &["pericarp_container_take_seccomp_listener("]),
        ("stats", &["pericarp_node_stats_json(", "pericarp_pod_stats_json(", "pericarp_container_stats("]),
        ("stdio-fds", &["int32_t stdout_fd;"]),
        (
            "terminal",
            &[
                "pericarp_container_take_terminal(",
                "pericarp_process_take_terminal(",
                "pericarp_terminal_resize(",
            ],
        ),
        (
            "update",
            &[
                "pericarp_pod_update_json(",
                "pericarp_pod_update_all_json(",
                "pericarp_container_update_json(",
            ],
        ),
        ("user-namespaces", &["pericarp_pod_id_mappings(", "#define PERICARP_NAMESPACE_USER "]),
        ("user-nodes", &["#define PERICARP_NODE_SINGLE_ID ", "#define PERICARP_NODE_SUBORDINATE_IDS "]),
    ];

    fn has(name: &CStr) -> c_int {
        // SAFETY: it ends with NUL.
        unsafe { pericarp_has_feature(name.as_ptr()) }
    }

    #[test]
    fn each_feature_stands_for_functions_that_exist() {
        let named: Vec<&str> = MEANING.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, FEATURES);
        for (name, functions) in MEANING {
            assert!(!functions.is_empty());
            for function in *functions {
                assert!(HEADER.contains(function), "{name}: the header has no {function}");
            }
            let name = std::ffi::CString::new(*name).unwrap();
            assert_eq!(has(&name), 1, "{name:?}");
        }
        for unknown in [c"", c"freez", c"freeze ", c"OCI"] {
            assert_eq!(has(unknown), 0, "{unknown:?}");
        }
    }

    #[test]
    fn the_header_lists_the_features() {
        let comment = HEADER.split("Whether this library can do something").nth(1).unwrap();
        let comment = comment.split("Ownership:").next().unwrap();
        let listed: Vec<&str> = comment.split('"').skip(1).step_by(2).collect();
        assert_eq!(listed, FEATURES);
    }
}
