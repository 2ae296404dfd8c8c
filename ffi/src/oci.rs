//! Containers as OCI configurations say them.

use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

use pericarp::Resources;
use pericarp::oci_spec::runtime::LinuxResources;
use pericarp::spec::DeviceRule;
use pericarp::spec::oci::{Bundle, ProcessFile, features};

use crate::caller::{Caller, c_string, give, text_for_caller};
use crate::container::{given_streams, pericarp_container_t, put_streams};
use crate::error::{Problem, pericarp_error_t};
use crate::exec::pericarp_process_t;
use crate::handle::{Handle, Head, handle};
use crate::json;
use crate::node::pericarp_node_t;
use crate::pod::pericarp_pod_t;
use crate::structs::*;

/// An OCI configuration (runtime-spec 1.0 to 1.3) that was read once, for the pod and the container of it. It never
/// changes.
pub struct pericarp_bundle_t {
    head: Head,
    bundle: Bundle,
    path: CString,
}

handle!(pericarp_bundle_t, 0x7065_7269_4255_4e44);

impl pericarp_bundle_t {
    fn new(bundle: Bundle) -> Self {
        let path = c_string(&bundle.path().to_string_lossy());
        pericarp_bundle_t { head: Head::new(Self::MARK), bundle, path }
    }
}

/// Reads `config.json` in the directory of an OCI bundle. Every field of it is honoured or refused by its name, with one
/// exception that the specification demands: names of capabilities that nobody knows are left out, and
/// `pericarp_bundle_warnings` tells of them.
///
/// Ownership: the caller keeps `path`; `*out_bundle` is the caller's to give back with `pericarp_bundle_unref`.
/// Errors: `INVALID_SPEC` with the place in the file for what is no OCI configuration, and when it is longer than 8 MiB;
/// `NOT_FOUND` when there is none; what the kernel says. What this library cannot do, the functions say that make a pod
/// or a container of it.
/// Threads: any.
/// Rust: `Bundle::open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_open(
    path: *const c_char,
    out_bundle: *mut *mut pericarp_bundle_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_bundle, "out_bundle")?;
        out.set(give(pericarp_bundle_t::new(Bundle::open(caller.text(path, "path")?)?)));
        Ok(())
    })
}

/// The same for the text of a `config.json`. `path` is the directory that relative paths in it are relative to.
///
/// Ownership: the caller keeps both texts; `*out_bundle` is the caller's to give back with `pericarp_bundle_unref`.
/// Errors: `INVALID_SPEC` with the place in the text.
/// Threads: any.
/// Rust: `Bundle::parse`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_parse(
    json: *const c_char,
    path: *const c_char,
    out_bundle: *mut *mut pericarp_bundle_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_bundle, "out_bundle")?;
        let bundle = Bundle::parse(json::no_array(caller.text(json, "json")?)?, caller.text(path, "path")?)?;
        out.set(give(pericarp_bundle_t::new(bundle)));
        Ok(())
    })
}

/// One more reference to a configuration, the same pointer. NULL for NULL.
///
/// Ownership: the caller gets a reference to give back with `pericarp_bundle_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Clone` of `Bundle`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_ref(bundle: *const pericarp_bundle_t) -> *mut pericarp_bundle_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.refer(bundle)
}

/// Gives a reference to a configuration back. What was made of it goes on.
///
/// Ownership: takes the caller's reference to `bundle`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Bundle`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_unref(bundle: *mut pericarp_bundle_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(bundle);
}

/// The absolute path of its directory.
///
/// Ownership: the string belongs to `bundle` and is valid as long as the caller's reference.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Bundle::path`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_path(bundle: *const pericarp_bundle_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(bundle, null(), |bundle| bundle.path.as_ptr())
}

/// The configuration as it was read, as JSON: `hostname`, `annotations` and all the rest, also what this library does not
/// know, without what `pericarp_bundle_warnings` tells of.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `Bundle::json`, `Bundle::config`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_config(
    bundle: *const pericarp_bundle_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let bundle = caller.handle(bundle, "bundle")?;
        out.set(text_for_caller(&json::write(bundle.bundle.json())?));
        Ok(())
    })
}

/// What was left out of the configuration, as a JSON array of texts for people; mostly it is empty.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `Bundle::warnings`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_warnings(
    bundle: *const pericarp_bundle_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let bundle = caller.handle(bundle, "bundle")?;
        out.set(text_for_caller(&json::write(&bundle.bundle.warnings())?));
        Ok(())
    })
}

/// What the configuration says of the pod, as the JSON that `pericarp_node_create_pod_json` takes: for programs that want
/// to change something of it before. A namespace that it does not list is the host's, one with a path is that one, and one
/// without a path is new.
///
/// Ownership: the caller keeps `name`; `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_SPEC` for what the configuration has wrong or this library cannot do, by name.
/// Threads: any.
/// Rust: `Bundle::pod`, `PodSpec::from_oci`, `PodSpec::from_bundle`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_pod_spec(
    bundle: *const pericarp_bundle_t,
    name: *const c_char,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let bundle = caller.handle(bundle, "bundle")?;
        out.set(text_for_caller(&json::write(&bundle.bundle.pod(caller.text(name, "name")?)?)?));
        Ok(())
    })
}

/// What the configuration says of the container, as the JSON that `pericarp_pod_create_container` takes: for programs that
/// want to change something of it before, such as `"detached"`. The name in it is "main".
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_SPEC` for what the configuration has wrong or this library cannot do, by name.
/// Threads: any.
/// Rust: `Bundle::container`, `ContainerSpec::from_oci`, `ContainerSpec::from_bundle`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_bundle_container_spec(
    bundle: *const pericarp_bundle_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let bundle = caller.handle(bundle, "bundle")?;
        out.set(text_for_caller(&json::write(&bundle.bundle.container()?)?));
        Ok(())
    })
}

/// Makes a pod as an OCI configuration says: its namespaces, host name, sysctls and cgroup.
///
/// Ownership: the caller keeps `bundle` and `name`; `*out_pod` is the caller's to give back with `pericarp_pod_unref`.
/// Errors: as `pericarp_bundle_pod_spec` and `pericarp_node_create_pod_json`.
/// Threads: any.
/// Rust: `Node::create_pod` with `Bundle::pod`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_create_pod_oci(
    node: *const pericarp_node_t,
    bundle: *const pericarp_bundle_t,
    name: *const c_char,
    out_pod: *mut *mut pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_pod, "out_pod")?;
        let (node, bundle) = (caller.handle(node, "node")?, caller.handle(bundle, "bundle")?);
        let spec = bundle.bundle.pod(caller.text(name, "name")?)?;
        out.set(give(pericarp_pod_t::new(node.node().create_pod(&spec)?)));
        Ok(())
    })
}

/// Makes a container as an OCI configuration says, up to the point where its program would run: all of it that
/// `pericarp_node_create_pod_oci` does not take. The pod may be any; another one may have more than one container.
/// `stdio` may be NULL: then the streams are the null device.
///
/// Ownership: the caller keeps `bundle` and `name`; `*out_container` is the caller's to give back with
/// `pericarp_container_unref`. Descriptors in `stdio` stay the caller's, and may be closed after the call.
/// Errors: as `pericarp_bundle_container_spec` and `pericarp_pod_create_container`.
/// Threads: any.
/// Rust: `Pod::create_container` with `Bundle::container`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_create_container_oci(
    pod: *const pericarp_pod_t,
    bundle: *const pericarp_bundle_t,
    name: *const c_char,
    stdio: *const pericarp_stdio_t,
    out_container: *mut *mut pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_container, "out_container")?;
        let (pod, bundle) = (caller.handle(pod, "pod")?, caller.handle(bundle, "bundle")?);
        let (name, given) = (caller.text(name, "name")?, given_streams(caller, stdio)?);
        let mut spec = bundle.bundle.container()?;
        spec.name = name.to_string();
        put_streams(given, &mut spec.stdio)?;
        out.set(give(pericarp_container_t::new(pod.pod.create_container(&spec)?)));
        Ok(())
    })
}

/// Runs another program in a container as the `process` object of an OCI configuration says, which is what OCI runtimes
/// take with `exec --process`. Capabilities, resource limits, labels, `oomScoreAdj` and `execCPUAffinity` that it leaves out are
/// the container's. Otherwise as `pericarp_container_exec`; `stdio` may be NULL.
///
/// Ownership: the caller keeps `json`; `*out_process` is the caller's to give back with `pericarp_process_unref`.
/// Descriptors in `stdio` stay the caller's, and may be closed after the call.
/// Errors: `INVALID_SPEC` for what this library cannot do, by name; as `pericarp_container_exec`.
/// Threads: any.
/// Rust: `ProcessFile::parse`, `ExecSpec::from_oci`, `Container::exec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_exec_oci(
    container: *const pericarp_container_t,
    json: *const c_char,
    stdio: *const pericarp_stdio_t,
    out_process: *mut *mut pericarp_process_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_process, "out_process")?;
        let container = caller.handle(container, "container")?;
        let (json, given) = (caller.text(json, "json")?, given_streams(caller, stdio)?);
        let mut spec = ProcessFile::parse(json)?.spec()?;
        put_streams(given, &mut spec.stdio)?;
        out.set(give(pericarp_process_t::new(container.inner().exec(&spec)?)));
        Ok(())
    })
}

/// The limits and the rules for devices that `linux.resources` of an OCI configuration says.
fn resources(caller: Caller, json: *const c_char) -> Result<(Resources, Vec<DeviceRule>), Problem> {
    let given: LinuxResources = json::read(caller.text(json, "json")?)?;
    Ok((Resources::from_oci(&given)?, DeviceRule::all_from_oci(&given)?))
}

/// Changes limits of a pod as a whole while it runs: `json` is a `linux.resources` object of an OCI configuration, as OCI
/// runtimes take it with `update --resources`. What it leaves out keeps its value.
///
/// Ownership: the caller keeps `pod` and `json`.
/// Errors: `INVALID_SPEC` for what cgroup v2 does not have, by name, and for rules for devices, which are a container's;
/// as `pericarp_pod_update_json`.
/// Threads: any.
/// Rust: `Resources::from_oci`, `Pod::update`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_update_oci(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let pod = caller.handle(pod, "pod")?;
        let (limits, rules) = resources(caller, json)?;
        if !rules.is_empty() {
            return Err(Problem::json("devices", "rules for devices are a container's".to_string()));
        }
        pod.pod.update(&limits)?;
        Ok(())
    })
}

/// Changes limits of a container while it runs, as `pericarp_pod_update_oci`, and then replaces its rules for devices, unless
/// there are none in `json`.
///
/// Ownership: the caller keeps `container` and `json`.
/// Errors: `INVALID_SPEC` for what cgroup v2 does not have, by name; as `pericarp_container_update_json`, and nothing is
/// changed then; as `pericarp_container_update_device_rules_json`, and the limits are changed then.
/// Threads: any.
/// Rust: `Resources::from_oci`, `Container::update`, `DeviceRule::all_from_oci`, `Container::update_device_rules`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_update_oci(
    container: *const pericarp_container_t,
    json: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let container = caller.handle(container, "container")?;
        let (limits, rules) = resources(caller, json)?;
        container.inner().update(&limits)?;
        if !rules.is_empty() {
            container.inner().update_device_rules(&rules)?;
        }
        Ok(())
    })
}

/// What of the OCI runtime specification is there, as the JSON of its "Features" structure.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `spec::oci::features`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_oci_features(
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        out.set(text_for_caller(&features().to_string()));
        Ok(())
    })
}
