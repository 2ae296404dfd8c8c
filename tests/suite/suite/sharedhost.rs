//! Hosts whose mounts are shared and have copies elsewhere, as systemd makes them for services with a mount namespace
//! of their own: a node works there, and leaves nothing, neither here nor in the copies.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio as ProcessStdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pericarp::{CgroupParent, Mount, Node, NodeOptions, PodSpec, Volume};

use super::cgroups::{leave_mounts_of_the_host, reexec};
use crate::support::fixture::{payload as run_payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_node_works_on_a_shared_root_with_copies_elsewhere,
    a_node_works_on_a_root_that_is_itself_a_copy,
    a_node_works_on_a_private_mount_below_a_shared_root,
    a_node_works_on_a_shared_mount_of_its_own_with_copies_elsewhere,
];

/// Commands of this module: each in a process of its own, with a mount namespace of its own.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["sharedhost-copy"] => copy_until_told(),
        ["sharedhost-root"] => shared_root(),
        ["sharedhost-slave"] => slave_root(),
        ["sharedhost-private", dir] => state_on_a_mount(Path::new(dir), MsFlags::MS_PRIVATE),
        ["sharedhost-shared", dir] => state_on_a_mount(Path::new(dir), MsFlags::MS_SHARED),
        _ => return false,
    }
    true
}

fn set_root(propagation: MsFlags) {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | propagation, none).expect("set the propagation of /");
}

/// A mount table like that of a host with systemd: every mount is shared, and none with the real host.
fn become_a_shared_host() {
    leave_mounts_of_the_host();
    set_root(MsFlags::MS_SHARED);
}

/// In a second process: a copy of the mount table that gets whatever is mounted in the first.
fn copy_until_told() {
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    set_root(MsFlags::MS_SLAVE);
    println!("copied");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// A process with such a copy, which ends with this value.
struct Copy(Child);

impl Copy {
    fn start() -> Copy {
        let exe = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(exe)
            .args(["payload", "sharedhost-copy"])
            .stdin(ProcessStdio::piped())
            .stdout(ProcessStdio::piped())
            .spawn()
            .expect("start a second process");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("read a line");
        assert_eq!(line, "copied\n");
        Copy(child)
    }

    fn mounts(&self) -> Vec<String> {
        mounts_of(&self.0.id().to_string())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().expect("wait for the second process");
        assert!(status.success() || std::thread::panicking(), "the second process: {status}");
    }
}

/// Mount points, with what is mounted; the numbers of mounts are left out.
fn mounts_of(process: &str) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).expect("read a mount table");
    table.lines().map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" ")).collect()
}

/// Everything that a node does with mounts.
fn use_node(node: &Node, options: &NodeOptions, dir: &Path) {
    fs::create_dir(dir.join("data")).expect("make a directory");
    fs::write(dir.join("data/file"), "of the host\n").expect("write a file");
    let spec = PodSpec::new("web")
        .volume(Volume::tmpfs("scratch", 1 << 20))
        .volume(Volume::directory("data", dir.join("data")));
    let pod = node.create_pod(&spec).expect("create a pod");
    let mounted = |name: &str, text: &str| {
        script(name, text)
            .mount(Mount::volume("scratch", "/scratch"))
            .mount(Mount::volume("data", "/data"))
            .mount(Mount::rbind(dir.join("data"), "/bound"))
    };
    assert_eq!(
        say(&pod, mounted("a", "echo kept > /scratch/x; cat /data/file /bound/file")),
        "of the host\nof the host\n"
    );
    // Another handle finds the same namespaces by the pin, as another program would.
    let again = Node::open(options).expect("open the node again");
    let same = again.open_pod("web").expect("open the pod");
    assert_eq!(say(&same, mounted("b", "cat /scratch/x")), "kept\n");
    assert!(say(&same, run_payload("c", &["facts"])).contains("\"pid\":1"));
    assert_eq!(again.pods().expect("list pods").len(), 1);
    pod.remove().expect("remove the pod");
    fs::remove_dir_all(dir.join("data")).expect("remove a directory");
}

/// Uses a node and removes it, with nothing mounted afterwards that was not before, here and in the copy.
fn use_and_remove(copy: Option<&Copy>, fixture: Fixture) {
    use_node(&fixture.node, &fixture.options, fixture.dir.path());
    let state = fixture.options.state_dir.clone();
    let name = state.file_name().expect("a name").to_string_lossy().into_owned();
    let line = |mounts: Vec<String>| mounts.into_iter().filter(|line| line.contains(&name)).count();
    assert!((1..=2).contains(&line(mounts_of("self"))), "{:?}", mounts_of("self"));
    // The fixture checks this process's table, and that the state directory is gone.
    drop(fixture);
    if let Some(copy) = copy {
        assert_eq!(line(copy.mounts()), 0, "{:?}", copy.mounts());
    }
}

fn shared_root() {
    become_a_shared_host();
    let copy = Copy::start();
    let before = (mounts_of("self"), copy.mounts());
    // Twice: what the first leaves would be in the way of the second.
    for _ in 0..2 {
        use_and_remove(Some(&copy), Fixture::new());
    }
    assert_eq!((mounts_of("self"), copy.mounts()), before);
}

fn slave_root() {
    become_a_shared_host();
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    set_root(MsFlags::MS_SLAVE);
    let before = mounts_of("self");
    use_and_remove(None, Fixture::new());
    assert_eq!(mounts_of("self"), before);
}

/// With the state directory on a mount of its own below the shared root.
fn state_on_a_mount(dir: &Path, propagation: MsFlags) {
    become_a_shared_host();
    let none = None::<&str>;
    mount(none, dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("mount a tmpfs");
    mount(none, dir, none, propagation, none).expect("set its propagation");
    let copy = Copy::start();
    let before = (mounts_of("self"), copy.mounts());
    let name = format!("pericarp-suite-{}-mounted", std::process::id());
    let options =
        NodeOptions::new().state_dir(dir.join(&name)).cgroup_parent(CgroupParent::Named(name.clone()));
    for _ in 0..2 {
        let node = Node::open(&options).expect("open a node");
        let files = tempfile::tempdir().expect("make a temporary directory");
        use_node(&node, &options, files.path());
        let pins = copy.mounts().iter().filter(|line| line.contains("mnt:[")).count();
        assert_eq!(pins, 0, "a mount namespace is pinned in a copy: {:?}", copy.mounts());
        node.remove().expect("remove the node");
        assert!(!options.state_dir.exists());
        assert_eq!((mounts_of("self"), copy.mounts()), before);
    }
}

fn a_node_works_on_a_shared_root_with_copies_elsewhere() -> Outcome {
    reexec(&["sharedhost-root"]);
    PASS
}

fn a_node_works_on_a_root_that_is_itself_a_copy() -> Outcome {
    reexec(&["sharedhost-slave"]);
    PASS
}

fn a_node_works_on_a_private_mount_below_a_shared_root() -> Outcome {
    let dir = tempfile::tempdir()?;
    reexec(&["sharedhost-private", dir.path().to_str().expect("UTF-8")]);
    PASS
}

fn a_node_works_on_a_shared_mount_of_its_own_with_copies_elsewhere() -> Outcome {
    let dir = tempfile::tempdir()?;
    reexec(&["sharedhost-shared", dir.path().to_str().expect("UTF-8")]);
    PASS
}
