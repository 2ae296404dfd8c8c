//! The pods of one machine under one state directory.

use std::ffi::{c_char, c_int};

use pericarp::spec::{NamespaceMode, PidMode};
use pericarp::{CgroupParent, IdRange, IdRanges, Node, NodeOptions, NodeUser, PodSpec};
use serde::Deserialize;

use crate::caller::{Caller, give, handles_for_caller, known_flags, text_for_caller};
use crate::error::{Problem, pericarp_error_t};
use crate::handle::{Handle, Head, handle};
use crate::json;
use crate::pod::pericarp_pod_t;
use crate::structs::*;

/// The pods of this machine under one state directory. Several programs may open the same at the same time.
pub struct pericarp_node_t {
    head: Head,
    pub(crate) node: Node,
}

handle!(pericarp_node_t, 0x7065_7269_4e4f_4445);

impl pericarp_node_t {
    pub(crate) fn new(node: Node) -> Self {
        pericarp_node_t { head: Head::new(Self::MARK), node }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }
}

/// `IdRanges::Given` as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenRanges {
    uids: Vec<GivenRange>,
    gids: Vec<GivenRange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenRange {
    first: u32,
    size: u32,
}

impl From<GivenRanges> for IdRanges {
    fn from(given: GivenRanges) -> Self {
        let list = |ranges: Vec<GivenRange>| {
            ranges.into_iter().map(|GivenRange { first, size }| IdRange { first, size }).collect()
        };
        IdRanges::Given { uids: list(given.uids), gids: list(given.gids) }
    }
}

fn options_of(caller: Caller, place: *const pericarp_node_options_t) -> Result<NodeOptions, Problem> {
    let mut options = NodeOptions::new();
    if place.is_null() {
        return Ok(options);
    }
    let given = caller.structure(place, "options")?;
    known_flags(given.flags, PERICARP_NODE_SINGLE_ID | PERICARP_NODE_SUBORDINATE_IDS, "options->flags")?;
    let state_dir = caller.optional_text(given.state_dir, "options->state_dir")?;
    let user = match given.flags {
        0 => None,
        PERICARP_NODE_SINGLE_ID => Some(NodeUser::SingleId),
        PERICARP_NODE_SUBORDINATE_IDS => Some(NodeUser::SubordinateIds),
        _ => {
            let why = "has both PERICARP_NODE_SINGLE_ID and PERICARP_NODE_SUBORDINATE_IDS";
            return Err(Problem::argument("options->flags", why));
        }
    };
    options = match (user, state_dir) {
        (None, _) => options,
        (Some(user), None) => NodeOptions::for_user(user)?,
        (Some(user), Some(_)) => options.user(user).cgroup_parent(CgroupParent::None),
    };
    if let Some(state_dir) = state_dir {
        options = options.state_dir(state_dir);
    }
    let user = caller.optional_text(given.subid_user, "options->subid_user")?;
    let ranges = caller.optional_text(given.id_ranges, "options->id_ranges")?;
    options = match (user, ranges) {
        (None, None) => options,
        (Some(user), None) => options.id_ranges(IdRanges::User(user.to_string())),
        (None, Some(ranges)) => options.id_ranges(json::read::<GivenRanges>(ranges)?.into()),
        (Some(_), Some(_)) => {
            return Err(Problem::argument("options->id_ranges", "and subid_user exclude each other"));
        }
    };
    if let Some(claims) = caller.optional_text(given.id_claims, "options->id_claims")? {
        options = options.id_claims(claims);
    }
    if let Some(admission) = caller.optional_text(given.admission, "options->admission")? {
        options = options.admission(json::read(admission)?);
    }
    let name = caller.optional_text(given.cgroup_name, "options->cgroup_name")?;
    let path = caller.optional_text(given.cgroup_path, "options->cgroup_path")?;
    match (name, path) {
        (None, None) => Ok(options),
        (Some(name), None) => Ok(options.cgroup_parent(CgroupParent::Named(name.to_string()))),
        (None, Some(path)) => Ok(options.cgroup_parent(CgroupParent::Path(path.into()))),
        (Some(_), Some(_)) => {
            Err(Problem::argument("options->cgroup_path", "and cgroup_name exclude each other"))
        }
    }
}

fn pod_spec(caller: Caller, place: *const pericarp_pod_options_t) -> Result<PodSpec, Problem> {
    let given = caller.structure(place, "options")?;
    let known = PERICARP_POD_EPHEMERAL
        | PERICARP_POD_HOSTNAME_FILES
        | PERICARP_POD_HOST_NETWORK
        | PERICARP_POD_HOST_IPC
        | PERICARP_POD_HOST_UTS
        | PERICARP_POD_HOST_PID
        | PERICARP_POD_SHARED_PID;
    known_flags(given.flags, known, "options->flags")?;
    let has = |flag: u64| given.flags & flag != 0;
    let mode = |flag: u64| if has(flag) { NamespaceMode::Host } else { NamespaceMode::Pod };
    let pid = match (has(PERICARP_POD_HOST_PID), has(PERICARP_POD_SHARED_PID)) {
        (false, false) => PidMode::Container,
        (true, false) => PidMode::Host,
        (false, true) => PidMode::Pod,
        (true, true) => {
            let why = "has both PERICARP_POD_HOST_PID and PERICARP_POD_SHARED_PID";
            return Err(Problem::argument("options->flags", why));
        }
    };
    let mut spec = PodSpec::new(caller.text(given.name, "options->name")?)
        .ephemeral(has(PERICARP_POD_EPHEMERAL))
        .hostname_files(has(PERICARP_POD_HOSTNAME_FILES))
        .network(mode(PERICARP_POD_HOST_NETWORK))
        .ipc_namespace(mode(PERICARP_POD_HOST_IPC))
        .uts(mode(PERICARP_POD_HOST_UTS))
        .pid(pid);
    if let Some(name_space) = caller.optional_text(given.name_space, "options->name_space")? {
        spec = spec.namespace(name_space);
    }
    if let Some(hostname) = caller.optional_text(given.hostname, "options->hostname")? {
        spec = spec.hostname(hostname);
    }
    if given.shm_size != 0 {
        spec = spec.shm_size(given.shm_size);
    }
    Ok(spec)
}

/// The path of the cgroup that was delegated to this user, as far as this program is in it, for `cgroup_path`: the topmost one
/// that the user may write to, from this program's own upwards.
///
/// Ownership: `*out_path` is the caller's to free with `pericarp_string_free`.
/// Errors: `NOT_FOUND` when there is none.
/// Threads: any.
/// Rust: `CgroupParent::delegated`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_delegated_cgroup(
    out_path: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_path, "out_path")?;
        out.set(text_for_caller(&CgroupParent::delegated()?.to_string_lossy()));
        Ok(())
    })
}

/// Opens the state directory, and makes it when it is missing. This makes the node's two private mount namespaces (one
/// line in the host's mount table), unless they are there, and its cgroup. `options` may be NULL for the defaults.
///
/// Ownership: `*out_node` is the caller's to give back with `pericarp_node_unref`.
/// Errors: `PERMISSION_DENIED` without root, unless the flags say that the node is an ordinary user's; `UNSUPPORTED`
/// without cgroup v2, or for an ordinary user without user namespaces; `CORRUPT_STATE` when the state directory
/// belongs to somebody else or can be written to by others.
/// Threads: any.
/// Rust: `Node::open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_open(
    options: *const pericarp_node_options_t,
    out_node: *mut *mut pericarp_node_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_node, "out_node")?;
        let options = options_of(caller, options)?;
        out.set(give(pericarp_node_t::new(Node::open(&options)?)));
        Ok(())
    })
}

/// One more reference to a node, the same pointer. NULL for NULL.
///
/// Ownership: the caller gets a reference to give back with `pericarp_node_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Clone` of `Node`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_ref(node: *const pericarp_node_t) -> *mut pericarp_node_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.refer(node)
}

/// Gives a reference to a node back. Pods and their containers go on.
///
/// Ownership: takes the caller's reference to `node`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Node`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_unref(node: *mut pericarp_node_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(node);
}

/// Makes a pod: its namespaces, its shared memory and queues, and its cgroup. No process stays, unless the pod has a
/// PID namespace of its own.
///
/// Ownership: `*out_pod` is the caller's to give back with `pericarp_pod_unref`.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS` when a pod of that name exists. Whatever the error, nothing is left behind.
/// Threads: any.
/// Rust: `Node::create_pod` with a `PodSpec` made by its setters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_create_pod(
    node: *const pericarp_node_t,
    options: *const pericarp_pod_options_t,
    out_pod: *mut *mut pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_pod, "out_pod")?;
        let node = caller.handle(node, "node")?;
        let spec = pod_spec(caller, options)?;
        out.set(give(pericarp_pod_t::new(node.node.create_pod(&spec)?)));
        Ok(())
    })
}

/// Makes a pod as a JSON object says, whose keys are those of `PodSpec`: `{"name": "shop"}` is the shortest.
///
/// Ownership: `*out_pod` is the caller's to give back with `pericarp_pod_unref`.
/// Errors: `INVALID_SPEC`; `ALREADY_EXISTS` when a pod of that name exists. Whatever the error, nothing is left behind.
/// Threads: any.
/// Rust: `Node::create_pod`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_create_pod_json(
    node: *const pericarp_node_t,
    json: *const c_char,
    out_pod: *mut *mut pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_pod, "out_pod")?;
        let node = caller.handle(node, "node")?;
        let spec: PodSpec = json::read(caller.text(json, "json")?)?;
        out.set(give(pericarp_pod_t::new(node.node.create_pod(&spec)?)));
        Ok(())
    })
}

/// All pods that outlast the program that made them, and this program's ephemeral ones, in no order. The list ends with
/// NULL.
///
/// Ownership: `*out_pods` is the caller's to free with `pericarp_pod_list_free`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Node::pods`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_pods(
    node: *const pericarp_node_t,
    out_pods: *mut *mut *mut pericarp_pod_t,
    out_count: *mut usize,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let (out, count) = (caller.out(out_pods, "out_pods")?, caller.out(out_count, "out_count")?);
        let pods = caller.handle(node, "node")?.node.pods()?;
        count.set(pods.len());
        out.set(handles_for_caller(pods.into_iter().map(pericarp_pod_t::new)));
        Ok(())
    })
}

/// Opens a pod by its id, its name (in namespace `default`), or `namespace/name`.
///
/// Ownership: `*out_pod` is the caller's to give back with `pericarp_pod_unref`.
/// Errors: `NOT_FOUND` when there is none.
/// Threads: any.
/// Rust: `Node::open_pod`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_open_pod(
    node: *const pericarp_node_t,
    id_or_name: *const c_char,
    out_pod: *mut *mut pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_pod, "out_pod")?;
        let node = caller.handle(node, "node")?;
        let pod = node.node.open_pod(caller.text(id_or_name, "id_or_name")?)?;
        out.set(give(pericarp_pod_t::new(pod)));
        Ok(())
    })
}

/// Puts the node in order after programs died: ends what they left half made or half removed. Pods that are whole are
/// adopted: they go on as they are. What a living program is working on is left alone, so that this can be called at any
/// time. The answer is a JSON object: `{"adopted": [ID…], "removed": [ID…], "removedContainers": ["POD-ID/NAME"…],
/// "foreign": [ID…], "busy": [ID…], "resizesTakenBack": [ID…], "resizesFinished": [ID…],
/// "resizesUnsettled": [{"pod": ID, "error": TEXT}…]}`: the last three are pods whose program died while it resized them.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Node::recover`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_recover(
    node: *const pericarp_node_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let recovery = caller.handle(node, "node")?.node.recover()?;
        out.set(text_for_caller(&json::recovery(&recovery)));
        Ok(())
    })
}

/// The cgroup controllers that limits of pods and containers can use here, as a JSON array: `["cpu","memory"]`.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `Node::controllers`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_controllers(
    node: *const pericarp_node_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let controllers = caller.handle(node, "node")?.node.controllers();
        out.set(text_for_caller(&json::write(&controllers)?));
        Ok(())
    })
}

/// Removes the node itself: its line in the host's mount table, its state directory and its cgroup. For programs that
/// want to leave no trace; handles of the node are of no use afterwards, but must still be given back.
///
/// Ownership: the caller keeps its reference to `node`.
/// Errors: `WRONG_STATE` while there are pods, also half made ones or another program's ephemeral ones.
/// Threads: any.
/// Rust: `Node::remove`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_remove(
    node: *const pericarp_node_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(node, "node")?.node.remove()?;
        Ok(())
    })
}
