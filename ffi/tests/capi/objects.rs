//! What the calls of the tests are made with: handles, places for results, and garbage.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libtest_mimic::Failed;
use pericarp::{CgroupParent, Node, NodeOptions};

use crate::support::*;

/// Memory that is no handle, no UTF-8, and no structure of a size that anybody knows.
#[repr(C, align(64))]
pub struct Memory(pub [u8; 8192]);

impl Memory {
    pub fn garbage() -> Box<Self> {
        let mut memory = Box::new(Memory([0xa5; 8192]));
        memory.0[8191] = 0;
        memory
    }

    /// A structure of a size that all have room in, otherwise zero.
    pub fn structure() -> Box<Self> {
        let mut memory = Box::new(Memory([0; 8192]));
        memory.0[..8].copy_from_slice(&256_usize.to_ne_bytes());
        memory
    }

    pub fn address(&self) -> usize {
        self.0.as_ptr().expose_provenance()
    }
}

/// A node, a pod and a container, whose program is never started, and another program in it.
pub struct Objects<'a> {
    library: &'a Library,
    node: usize,
    pod: usize,
    container: usize,
    process: usize,
    fanout: usize,
    events: usize,
    bundle: usize,
    /// For a fanout to read.
    source: std::io::PipeReader,
    /// The master of a terminal.
    master: OwnedFd,
    state_dir: String,
    cgroup: String,
    _directory: tempfile::TempDir,
}

impl<'a> Objects<'a> {
    pub fn make(library: &'a Library) -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        let state_dir = format!("{}/state", directory.path().display());
        let cgroup = format!("pericarp-arguments-{}-{:?}", std::process::id(), std::thread::current().id());
        let cgroup = cgroup.replace(['(', ')'], "-");
        let (state, group) = (CString::new(state_dir.clone())?, CString::new(cgroup.clone())?);
        let options =
            [72, 0, state.as_ptr().expose_provenance(), group.as_ptr().expose_provenance(), 0, 0, 0, 0, 0];
        // SAFETY: the descriptor is new, and nobody else's.
        let master = unsafe { OwnedFd::from_raw_fd(libc::posix_openpt(libc::O_RDWR | libc::O_CLOEXEC)) };
        let (source, _) = std::io::pipe()?;
        let mut objects = Objects {
            library,
            node: 0,
            pod: 0,
            container: 0,
            process: 0,
            fanout: 0,
            events: 0,
            bundle: 0,
            source,
            master,
            state_dir,
            cgroup,
            _directory: directory,
        };
        let options = options.as_ptr().expose_provenance();
        objects.node = must(library, "pericarp_node_open", &[options])?;
        let json = c"{\"name\": \"p\", \"ephemeral\": true}".as_ptr().expose_provenance();
        objects.pod = must(library, "pericarp_node_create_pod_json", &[objects.node, json])?;
        let json =
            c"{\"name\": \"c\", \"rootfs\": {\"overlay\": {\"lower\": [\"/\"]}}, \"args\": [\"true\"]}";
        let json = json.as_ptr().expose_provenance();
        objects.container = must(library, "pericarp_pod_create_container", &[objects.pod, json, 0])?;
        let json = c"{\"args\": [\"sleep\", \"1000\"]}".as_ptr().expose_provenance();
        objects.process = must(library, "pericarp_container_exec", &[objects.container, json, 0])?;
        let source = objects.source.as_raw_fd() as usize;
        objects.fanout = must(library, "pericarp_fanout_create", &[source, 4096, 0])?;
        objects.events = must(library, "pericarp_pod_events", &[objects.pod, 0])?;
        let json = CString::new(
            r#"{"ociVersion": "1.2.0", "root": {"path": "/usr"},
                "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/"},
                "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"},
                    {"type": "network"}]}}"#,
        )?;
        let json = json.as_ptr().expose_provenance();
        let path = c"/".as_ptr().expose_provenance();
        objects.bundle = must(library, "pericarp_bundle_parse", &[json, path])?;
        Ok(objects)
    }

    /// Where the node is: the state directory and the name of the cgroup.
    pub fn place(&self) -> (&str, &str) {
        (&self.state_dir, &self.cgroup)
    }

    /// Ends what may be waited for.
    pub fn end(&self) -> Result<(), Failed> {
        for (name, handle) in
            [("pericarp_process_kill", self.process), ("pericarp_container_kill", self.container)]
        {
            // SAFETY: these are handles.
            unsafe { self.library.call(name, &[handle, 0]) }?;
        }
        Ok(())
    }

    /// An argument that is right for a parameter.
    pub fn right(&self, parameter: &Parameter, structure: &Memory, place: &Memory) -> usize {
        match (parameter.kind.as_str(), parameter.name.as_str()) {
            ("const pericarp_node_t *", _) => self.node,
            ("const pericarp_pod_t *", _) => self.pod,
            ("const pericarp_container_t *", _) => self.container,
            ("const pericarp_process_t *", _) => self.process,
            ("const pericarp_fanout_t *", _) => self.fanout,
            ("const pericarp_events_t *", _) => self.events,
            ("const pericarp_bundle_t *", _) => self.bundle,
            ("const char *", _) => c"x".as_ptr().expose_provenance(),
            (kind, _) if kind.starts_with("const pericarp_") || is_filled(kind) => structure.address(),
            (kind, _) if kind.ends_with('*') => place.address(),
            (_, "master") => self.master.as_raw_fd() as usize,
            (_, "source") => self.source.as_raw_fd() as usize,
            (_, "backlog") => 4096,
            _ => 0,
        }
    }
}

/// Whether it is a structure whose first member the caller sets and whose rest the library does.
pub fn is_filled(kind: &str) -> bool {
    ["pericarp_exit_status_t *", "pericarp_container_stats_t *", "pericarp_event_t *"].contains(&kind)
}

impl Drop for Objects<'_> {
    fn drop(&mut self) {
        for (name, handle) in [
            ("pericarp_pod_remove", self.pod),
            ("pericarp_process_unref", self.process),
            ("pericarp_fanout_unref", self.fanout),
            ("pericarp_events_unref", self.events),
            ("pericarp_bundle_unref", self.bundle),
            ("pericarp_container_unref", self.container),
            ("pericarp_pod_unref", self.pod),
            ("pericarp_node_unref", self.node),
        ] {
            // SAFETY: these are handles, or NULL, and given back once.
            let _ = unsafe { self.library.call(name, &[handle, 0]) };
        }
        // Also what a call has made that succeeded.
        let parent = CgroupParent::Named(self.cgroup.clone());
        let options = NodeOptions::new().state_dir(&self.state_dir).cgroup_parent(parent);
        let removed = Node::open(&options).and_then(|node| {
            node.recover()?;
            node.pods()?.iter().try_for_each(pericarp::Pod::remove)?;
            node.remove()
        });
        if let Err(error) = removed {
            eprintln!("WARNING: {error}");
        }
    }
}

/// Calls a function that makes a handle.
pub fn must(library: &Library, name: &str, arguments: &[usize]) -> Result<usize, Failed> {
    let (mut handle, mut err): (usize, usize) = (0, 0);
    let mut all = arguments.to_vec();
    all.push((&raw mut handle).expose_provenance());
    all.push((&raw mut err).expose_provenance());
    // SAFETY: the arguments are right.
    let result = unsafe { library.call(name, &all) }? as i32;
    if result == 0 { Ok(handle) } else { fail(format!("{name}: {}", message(library, err)?)) }
}

/// The message of an error, which is given back.
pub fn message(library: &Library, err: usize) -> Result<String, Failed> {
    // SAFETY: it is an error, or NULL.
    unsafe {
        let text: *const c_char =
            std::ptr::with_exposed_provenance(library.call("pericarp_error_message", &[err])?);
        let message =
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
        library.call("pericarp_error_unref", &[err])?;
        Ok(message)
    }
}
