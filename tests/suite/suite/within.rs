//! Nodes of root in a user namespace that somebody else has made, as podman does for an ordinary user: the suite starts
//! this program again as that user, and it makes the namespaces itself.

use std::fs;
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::AT_FDCWD;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pericarp::spec::{
    Capabilities, Capability, Device, DeviceAccess, DeviceRule, DeviceRuleKind, ExecSpec, IpcObjects, Limit,
    PidMode, Security, ShmObjectSpec, Stdio, UserMode,
};
use pericarp::{
    CgroupParent, ContainerSpec, ErrorKind, Mount, Node, NodeOptions, Pod, PodSpec, Resources, Rootfs, Volume,
};

use crate::hooks::with_machine;
use crate::rootless::{USER, by_user_with, by_user_with_place};
use crate::support::fixture::{payload as inside, say};
use crate::support::{Fixture, Outcome, PASS};
use crate::userns::{mighty, pod_of};

crate::tests![
    pods_outlive_the_program_that_made_them,
    what_takes_the_machines_root_is_refused,
    devices_are_those_that_are_given,
    a_program_in_its_own_mounts_is_needed,
    a_container_makes_pods_of_its_own,
];

/// What the user does.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["rootless", "within", "nowhere"] => nowhere(),
        ["rootless", "within", part] => {
            become_root(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
            match *part {
                "live" => live(),
                "refused" => refused(),
                "devices" => devices(),
                _ => return false,
            }
        }
        // In the namespaces of the program that starts it.
        ["within-more"] => more(),
        ["within-inner"] => inner(),
        _ => return false,
    }
    true
}

/// Root of a new user namespace, which has this user alone.
fn become_root(namespaces: CloneFlags) {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(namespaces).expect("make namespaces");
    for (file, text) in
        [("setgroups", "deny".into()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        fs::write(Path::new("/proc/self").join(file), text).expect(file);
    }
    assert!(nix::unistd::geteuid().is_root());
}

/// A path in the directory of the test.
pub fn here(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HERE").expect("the directory of the test")).join(name)
}

pub fn options(state_dir: impl Into<PathBuf>) -> NodeOptions {
    NodeOptions::new().state_dir(state_dir).cgroup_parent(CgroupParent::None)
}

pub fn node() -> Node {
    Node::open(&options(here("run/node"))).expect("open the node")
}

/// In a root filesystem with the machine's programs. (All of `/` has the node's own pins in it, which cannot be copied.)
pub fn script(name: &str, text: &str) -> ContainerSpec {
    let root = here("root");
    for directory in ["proc", "sys", "dev", "etc", "mnt", "root"] {
        fs::create_dir_all(root.join(directory)).expect("make a directory");
    }
    with_machine(ContainerSpec::new(name, Rootfs::directory(root)).args(["/bin/sh", "-c", text]))
}

fn objects() -> IpcObjects {
    let ring = ShmObjectSpec { name: "ring".into(), size: 4096, mode: 0o600, uid: 0, gid: 0 };
    IpcObjects { shm: vec![ring], ..IpcObjects::default() }
}

/// Mutation: with `Realm::Own` for root here, too, the pod was refused, since it is not ephemeral.
fn pods_outlive_the_program_that_made_them() -> Outcome {
    by_user_with(&["within", "live"])
}

fn live() {
    let node = node();
    let spec = PodSpec::new("web").hostname("inside").ipc(objects()).volume(Volume::tmpfs("data", 1 << 16));
    let pod = node.create_pod(&spec).expect("create the pod");
    let main = script("main", "echo 7 > /mnt/n; exec sleep 1000").mount(Mount::volume("data", "/mnt"));
    let main = pod.create_container(&main.terminal(true)).expect("create a container");
    main.start().expect("start it");
    let mut words = Command::new("/proc/self/exe");
    let ran = words.args(["payload", "within-more"]).output().expect("run another program");
    let text = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{text}");
    assert_eq!(main.wait().expect("wait").code(), 137);
    main.remove().expect("remove the container");
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
    // (A shell as the first process would have left its terminal's session.)
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    assert!(!mounts.contains("/run/node"), "{mounts}");
}

fn more() {
    let node = node();
    assert_eq!(node.recover().expect("recover").adopted.len(), 1);
    let pod = node.open_pod("web").expect("open the pod");
    assert_eq!(pod.ipc().list().expect("list").shm.len(), 1);
    let reader = script("reader", "cat /mnt/n; hostname; id -u; ls /dev/shm; cat /sys/class/net/lo/carrier");
    let text = say(&pod, reader.mount(Mount::volume("data", "/mnt")));
    assert_eq!(text, "7\ninside\n0\nring\n1\n");
    let main = pod.container("main").expect("open the container");
    let exec = ExecSpec::new(["/bin/sh", "-c", "cat /mnt/n; cat /proc/1/comm"]).stdout(Stdio::Pipe);
    let process = main.exec(&exec).expect("execute");
    let mut text = String::new();
    process.take_stdout().expect("a pipe").read_to_string(&mut text).expect("read");
    assert_eq!(text, "7\nsleep\n");
    assert!(process.wait().expect("wait").success());
    let exec = main.exec(&ExecSpec::new(["/bin/sh", "-c", "tty"]).terminal(true)).expect("execute");
    assert!(exec.wait().expect("wait").success());
    let mut said = Vec::new();
    let _ = exec.take_terminal().expect("a terminal").read_to_end(&mut said);
    assert_eq!(String::from_utf8_lossy(&said).trim(), "/dev/pts/1");
    let _ = main.stop(Duration::from_millis(50));
}

fn what_takes_the_machines_root_is_refused() -> Outcome {
    by_user_with(&["within", "refused"])
}

fn refused() {
    let node = node();
    let says = |error: pericarp::Error, kind, word: &str| {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word), "no {word:?} in {error}");
    };
    for (spec, word) in [
        (PodSpec::new("web").user(UserMode::Auto { size: None }), "mapped"),
        (PodSpec::new("web").pid(PidMode::Host), "PID namespace"),
    ] {
        says(node.create_pod(&spec).expect_err(word), ErrorKind::Unsupported, word);
    }
    // A tracer's capability reaches no worker here: there is none.
    let pod = node.create_pod(&PodSpec::new("web").ephemeral(true)).expect("create a pod");
    let tracing = Security::default().capabilities(Capabilities::default().with(Capability::CAP_SYS_PTRACE));
    assert_eq!(say(&pod, script("tracer", "echo works").security(tracing)), "works\n");
    let deny = DeviceRule::deny(DeviceRuleKind::All, None, None, DeviceAccess::ALL);
    let zero = || Device::char("/dev/other", 1, 5);
    let limited = Resources { pids_max: Some(Limit::At(7)), ..Resources::default() };
    for (spec, kind, word) in [
        (script("a", "true").user(1, 0), ErrorKind::InvalidSpec, "user.uid"),
        (script("a", "true").additional_gids([1]), ErrorKind::InvalidSpec, "user.additionalGids"),
        (script("a", "true").resources(limited), ErrorKind::Unsupported, "CgroupParent::None"),
        (script("a", "true").device(zero()), ErrorKind::Unsupported, "/dev/other"),
        (
            script("a", "true").device(zero().source("/dev/zero")).device_rule(deny),
            ErrorKind::Unsupported,
            "deviceRules",
        ),
    ] {
        says(pod.create_container(&spec).map(|_| ()).expect_err(word), kind, word);
    }
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}

/// Mutation: without `nodev` (`rootfs_change` of `plan/build/ordinary.rs`) the node in the root filesystem was read.
fn devices_are_those_that_are_given() -> Outcome {
    by_user_with_place(&["within", "devices"], |place| {
        // A device that root of the machine has left in files that are used as a root filesystem.
        let root = place.join("root");
        fs::create_dir(&root).expect("make a directory");
        chown(&root, Some(USER), Some(USER)).expect("give it away");
        let everybody = Mode::from_bits_retain(0o666);
        mknod(&root.join("zero"), SFlag::S_IFCHR, everybody, makedev(1, 5)).expect("make a device");
        nix::sys::stat::fchmodat(
            AT_FDCWD,
            &root.join("zero"),
            everybody,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )
        .expect("let everybody open it");
    })
}

fn devices() {
    let node = node();
    let pod = node.create_pod(&PodSpec::new("web")).expect("create a pod");
    let text = "head -c 3 /dev/zero | wc -c; echo > /dev/null; mknod /dev/shm/n c 1 5 2>&1 | tail -c 24; \
                head -c 1 /dev/kmsg 2>&1 | tail -c 26";
    let seen = say(&pod, script("a", text));
    assert_eq!(seen, "3\nOperation not permitted\nNo such file or directory\n");
    let rules = DeviceRule::deny(DeviceRuleKind::All, None, None, DeviceAccess::ALL);
    let seen = say(&pod, script("b", "head -c 1 /zero 2>&1; true").device_rule(rules));
    assert!(seen.contains("Permission denied"), "{seen:?}");
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}

/// Root in a mount namespace that is not its own may not mount anything there.
fn a_program_in_its_own_mounts_is_needed() -> Outcome {
    by_user_with(&["within", "nowhere"])
}

fn nowhere() {
    become_root(CloneFlags::CLONE_NEWUSER);
    let error = Node::open(&options(here("run/node"))).expect_err("a node without a place for its mounts");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("mount namespace"), "{error}");
    fs::remove_dir_all(here("run/node")).expect("remove the directory");
}

/// A container of a pod with a user namespace of its own, in which this program is root.
///
/// Mutation: with `Realm::Machine` for it the node was refused: "root cannot do without cgroups, which guard the machine's
/// devices".
fn a_container_makes_pods_of_its_own() -> Outcome {
    let fixture = Fixture::new();
    let pod: Pod = pod_of(&fixture, |spec| spec);
    let mut spec = mighty(inside("outer", &["within-inner"])).env("HERE", "/run");
    // The kernel mounts a proc only where a whole one is seen.
    spec.security.masked_paths.clear();
    spec.security.readonly_paths.clear();
    let spec = spec.mount(Mount::tmpfs("/run", 1 << 20));
    assert_eq!(say(&pod, spec), "done\n");
    PASS
}

fn inner() {
    fs::create_dir("/run/run").expect("make a directory");
    let node = node();
    let pod = node.create_pod(&PodSpec::new("web")).expect("create a pod");
    let main = pod.create_container(&script("main", "exec sleep 1000").user(7, 7)).expect("create");
    main.start().expect("start");
    assert_eq!(say(&pod, script("other", "id -u; cat /proc/1/comm; ls /dev/pts")), "0\nsh\nptmx\n");
    assert_eq!(main.stop(Duration::from_millis(50)).expect("stop").code(), 137);
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
    println!("done");
}
