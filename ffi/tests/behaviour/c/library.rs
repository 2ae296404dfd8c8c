//! What needs no pod, and OCI configurations, through C.

use std::any::Any;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::null_mut;

use log::LevelFilter;
use pericarp::spec::kubernetes::{Capacity, KubernetesPod};
use pericarp::{CgroupParent, ContainerSpec, IdRange, IdRanges, NodeOptions, NodeUser, PodSpec, SlowReader};
use pericarp_ffi::*;
use serde_json::{Value, json};

use super::*;

type BundleHandle = Handle<pericarp_bundle_t>;

fn bundle(pointer: *mut pericarp_bundle_t) -> Box<dyn BundleApi> {
    assert!(!pointer.is_null());
    let handle: BundleHandle = Handle { pointer, refer: pericarp_bundle_ref, unref: pericarp_bundle_unref };
    Box::new(handle)
}

/// The handle behind it, which is live as long as the reference.
pub(super) fn bundle_of(bundle: &dyn BundleApi) -> *const pericarp_bundle_t {
    bundle.as_any().downcast_ref::<BundleHandle>().expect("one of this interface").pointer
}

/// Takes a message down; `data` is where.
unsafe extern "C" fn take_down(level: u32, target: *const c_char, message: *const c_char, data: *mut c_void) {
    // SAFETY: both end with NUL and are valid during the call, says the header, and `data` is what was given below.
    let (target, message, lines) =
        unsafe { (CStr::from_ptr(target), CStr::from_ptr(message), &*data.cast::<Lines>()) };
    let text = |text: &CStr| text.to_str().expect("UTF-8").to_string();
    lines.lock().expect("no panic").push((level, text(target), text(message)));
}

impl Api for C {
    fn word(&self) -> &'static str {
        "c"
    }

    fn set_log(&self, level: LevelFilter, lines: Option<&'static Lines>) -> Res<()> {
        let level = match level {
            LevelFilter::Off => PERICARP_LOG_OFF,
            LevelFilter::Error => PERICARP_LOG_ERROR,
            LevelFilter::Warn => PERICARP_LOG_WARN,
            LevelFilter::Info => PERICARP_LOG_INFO,
            LevelFilter::Debug => PERICARP_LOG_DEBUG,
            LevelFilter::Trace => PERICARP_LOG_TRACE,
        };
        let callback: pericarp_log_callback_t = if lines.is_some() { Some(take_down) } else { None };
        let data = lines.map_or(null_mut(), |lines| std::ptr::from_ref(lines).cast_mut().cast());
        // SAFETY: the lines are there for ever, and any thread may write some.
        call(|err| unsafe { pericarp_log_set(level, callback, data, err) })
    }

    fn delegated_cgroup(&self) -> Res<std::path::PathBuf> {
        // SAFETY: both pointers are to what the header asks for.
        Ok(get_text(|place, err| unsafe { pericarp_delegated_cgroup(place, err) })?.into())
    }

    fn open(&self, options: &NodeOptions) -> Res<Box<dyn NodeApi>> {
        let state_dir = c_path(&options.state_dir);
        let (name, path) = match &options.cgroup_parent {
            CgroupParent::Named(name) => (Some(c_text(name)), None),
            CgroupParent::Path(path) => (None, Some(c_path(path))),
            // What an ordinary user's node has unless one is given.
            CgroupParent::None => (None, None),
            other => panic!("the header has no way to say {other:?}"),
        };
        let range = |range: &IdRange| json!({"first": range.first, "size": range.size});
        let list = |ranges: &[IdRange]| ranges.iter().map(range).collect::<Value>();
        let (subid_user, id_ranges) = match &options.id_ranges {
            IdRanges::User(user) => (Some(c_text(user)), None),
            IdRanges::Given { uids, gids } => {
                (None, Some(c_json(&json!({"uids": list(uids), "gids": list(gids)}))))
            }
            _ => (None, None),
        };
        let id_claims = c_path(&options.id_claims);
        let admission = options.admission.as_ref().map(c_json);
        let options = pericarp_node_options_t {
            size: size_of::<pericarp_node_options_t>(),
            flags: match options.user {
                NodeUser::SingleId => PERICARP_NODE_SINGLE_ID,
                NodeUser::SubordinateIds => PERICARP_NODE_SUBORDINATE_IDS,
                _ => 0,
            },
            state_dir: state_dir.as_ptr(),
            cgroup_name: pointer(&name),
            cgroup_path: pointer(&path),
            subid_user: pointer(&subid_user),
            admission: pointer(&admission),
            id_ranges: pointer(&id_ranges),
            id_claims: id_claims.as_ptr(),
        };
        // SAFETY: all pointers are to what the header asks for.
        let opened = get(null_mut(), |place, err| unsafe { pericarp_node_open(&options, place, err) })?;
        Ok(Box::new(node(opened)))
    }

    fn version(&self) -> (String, u32) {
        let version = pericarp_version();
        // SAFETY: it is a string that is always there.
        (unsafe { text(version) }.expect("a version"), pericarp_version_number())
    }

    fn bundle(&self, path: &Path) -> Res<Box<dyn BundleApi>> {
        let path = c_path(path);
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe { pericarp_bundle_open(path.as_ptr(), place, err) }).map(bundle)
    }

    fn parse_bundle(&self, text: &str, path: &Path) -> Res<Box<dyn BundleApi>> {
        let (text, path) = (c_text(text), c_path(path));
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_bundle_parse(text.as_ptr(), path.as_ptr(), place, err)
        })
        .map(bundle)
    }

    fn oci_features(&self) -> Value {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_oci_features(place, err) })
            .expect("only wrong arguments are errors")
    }

    fn explain_kubernetes(&self, pod: &KubernetesPod, machine: &Capacity) -> Res<Value> {
        let (pod, machine) = (c_json(pod), c_json(machine));
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe {
            pericarp_kubernetes_explain(pod.as_ptr(), machine.as_ptr(), place, err)
        })
    }

    fn fanout(&self, source: OwnedFd, backlog: usize, slow: SlowReader) -> Res<Box<dyn FanoutApi>> {
        let waits = (slow == SlowReader::Wait).into();
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_fanout_create(source.as_raw_fd(), backlog, waits, place, err)
        })
        .map(streams::fanout)
    }

    fn terminal(&self, master: OwnedFd) -> Box<dyn TerminalApi> {
        streams::terminal(master)
    }
}

impl BundleApi for BundleHandle {
    fn again(&self) -> Box<dyn BundleApi> {
        Box::new(self.another())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn path(&self) -> String {
        // SAFETY: it is a live handle.
        unsafe { text(pericarp_bundle_path(self.pointer)) }.expect("a path")
    }

    fn config(&self) -> Value {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_bundle_config(self.pointer, place, err) })
            .expect("only wrong arguments are errors")
    }

    fn warnings(&self) -> Vec<String> {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_bundle_warnings(self.pointer, place, err) })
            .expect("only wrong arguments are errors")
    }

    fn pod_spec(&self, name: &str) -> Res<PodSpec> {
        let name = c_text(name);
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_bundle_pod_spec(self.pointer, name.as_ptr(), place, err) })
    }

    fn container_spec(&self) -> Res<ContainerSpec> {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_bundle_container_spec(self.pointer, place, err) })
    }
}
