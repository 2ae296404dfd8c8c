//! A node of a test's own, which is checked to leave nothing when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use pericarp::spec::Stdio;
use pericarp::{
    CgroupParent, ContainerSpec, ErrorKind, ExitStatus, IdRange, IdRanges, Mount, Node, NodeOptions, Pod,
    PodSpec, Rootfs,
};

use super::payload::Facts;

/// A node with its own state directory and cgroup, and a folder for files of the test.
pub struct Fixture {
    pub node: Node,
    pub options: NodeOptions,
    pub dir: tempfile::TempDir,
}

impl Fixture {
    pub fn new() -> Fixture {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("pericarp-suite-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let options = NodeOptions::new()
            .state_dir(Path::new("/run").join(&name))
            .id_claims(claims_beside(&Path::new("/run").join(&name)))
            .cgroup_parent(CgroupParent::Named(name))
            .id_ranges(id_ranges(16));
        let node = Node::open(&options).expect("open a node; the suite needs root");
        Fixture { node, options, dir: tempfile::tempdir().expect("make a temporary directory") }
    }

    /// A second handle of the same node, as another program would have it.
    pub fn reopen(&self) -> Node {
        Node::open(&self.options).expect("open the node again")
    }

    pub fn pod(&self, name: &str) -> Pod {
        self.node.create_pod(&PodSpec::new(name)).expect("create a pod")
    }

    /// A path in the folder of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Fixture {
    /// Removes what the test made, and fails the test if anything is left.
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let pods = self.node.pods();
        for pod in pods.as_ref().map_or(&[][..], Vec::as_slice) {
            match pod.remove() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if failing => eprintln!("after the failure: {error}"),
                result => result.expect("remove a pod at the end of the test"),
            }
        }
        let removed = self.node.remove();
        if failing {
            return;
        }
        pods.expect("list the pods at the end of the test");
        removed.expect("remove the node at the end of the test");
        let state = &self.options.state_dir;
        assert!(!state.exists(), "{} is left", state.display());
        let claims = claims_beside(state);
        assert!(!claims.exists(), "{} is left", claims.display());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
        let name = state.file_name().expect("a name").to_string_lossy();
        assert!(!mounts.contains(&*name), "the mount table still has {name}");
    }
}

/// Where a test's node writes down which ids its pods have: tests have the same ids, and count on them.
pub fn claims_beside(state_dir: &Path) -> PathBuf {
    let mut path = state_dir.as_os_str().to_os_string();
    path.push("-ids");
    path.into()
}

/// So many blocks of ids for pods with user namespaces. Other nodes of the suite have the same: that does no harm, since
/// files of their containers are in different places.
pub fn id_ranges(blocks: u32) -> IdRanges {
    let range = vec![IdRange { first: 1_048_576, size: blocks * 65536 }];
    IdRanges::Given { uids: range.clone(), gids: range }
}

/// The rootfs of most tests: the machine's own `/` under a throw-away layer.
pub fn rootfs() -> Rootfs {
    Rootfs::overlay(["/"])
}

/// A container that runs a shell script.
pub fn script(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec::new(name, rootfs()).args(["/bin/sh", "-c", script])
}

/// A container that runs this program as its payload: `suite payload COMMAND …`, mounted at `/payload`.
pub fn payload(name: &str, command: &[&str]) -> ContainerSpec {
    let exe = std::env::current_exe().expect("the path of this program");
    ContainerSpec::new(name, rootfs())
        .args(["/payload", "payload"].into_iter().chain(command.iter().copied()))
        .mount(Mount::bind(exe, "/payload").readonly(true))
}

/// Runs a container with its output in a pipe, and returns how it ended and what it wrote to both outputs.
pub fn output(pod: &Pod, spec: ContainerSpec) -> pericarp::Result<(ExitStatus, String)> {
    let spec = spec.stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let (stdout, stderr) =
        (container.take_stdout().expect("a pipe"), container.take_stderr().expect("a pipe"));
    let started = container.start();
    // Both are read at once: a full pipe would hold the container up.
    let (out, err) = std::thread::scope(|scope| {
        let err = scope.spawn(|| std::io::read_to_string(stderr).expect("read stderr"));
        let out = std::io::read_to_string(stdout).expect("read stdout");
        (out, err.join().expect("the reader"))
    });
    let status = started.and_then(|()| container.wait());
    container.remove()?;
    Ok((status?, out + &err))
}

/// What a container that exits with 0 writes.
pub fn say(pod: &Pod, spec: ContainerSpec) -> String {
    let (status, text) = output(pod, spec).expect("run a container");
    assert!(status.success(), "the container {status}: {text}");
    text
}

/// What a container sees of itself, with the program, arguments and the mount of the payload set.
pub fn facts(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Facts {
    let text = say(pod, change(payload("facts", &["facts"])));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}
