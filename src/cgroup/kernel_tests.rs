//! Against the real kernel: needs root and a mount of cgroup v2. Limits are in `kernel_limit_tests`.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::controller::Controller;
use super::dir::DIRECTORY;
use super::*;
use crate::error::ErrorKind;
use crate::spec::{DeviceAccess, DeviceRule, DeviceRuleKind, Resources};

/// A parent of one test's own, removed when the test ends, however it ends.
pub(super) struct Node {
    pub(super) tree: Tree,
    pub(super) path: PathBuf,
}

impl Node {
    /// None, loudly, without root.
    pub(super) fn new() -> Option<Node> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: this test needs root and a mount of cgroup v2");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pericarp-test-{}-{count}", std::process::id());
        let tree = Tree::open(&CgroupParent::Named(name)).unwrap();
        let path = tree.path().to_path_buf();
        Some(Node { tree, path })
    }

    pub(super) fn pod(&self) -> Cgroup {
        self.tree.create_pod("pod", &Resources::default()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for name in self.tree.list().unwrap() {
            self.tree.open_pod(&name).unwrap().unwrap().remove_tree().unwrap();
        }
        std::fs::remove_dir(&self.path).unwrap();
        assert!(!self.path.exists());
    }
}

/// A process in a cgroup, killed and reaped at the end.
struct Process(Child);

impl Process {
    fn run_in(cgroup: &Cgroup, seconds: &str) -> Process {
        let child = Process(Command::new("sleep").arg(seconds).spawn().unwrap());
        std::fs::write(cgroup.path().join("cgroup.procs"), child.pid().to_string()).unwrap();
        child
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn signal(&mut self) -> Option<i32> {
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn json(text: &str) -> Resources {
    serde_json::from_str(text).unwrap()
}

pub(super) fn read(cgroup: &Cgroup, file: &str) -> String {
    std::fs::read_to_string(cgroup.path().join(file)).unwrap().trim_end().to_string()
}

#[test]
fn pods_and_containers_are_made_opened_listed_and_removed() {
    let Some(node) = Node::new() else { return };
    assert!(node.tree.path().ends_with(node.path.file_name().unwrap()));
    assert_eq!(node.tree.list().unwrap(), [""; 0]);
    let pod = node.pod();
    let container = pod.create_child("web", &Resources::default()).unwrap();
    assert_eq!(node.tree.list().unwrap(), ["pod"]);
    assert_eq!(pod.children().unwrap(), ["web"]);
    assert_eq!(container.path(), node.path.join("pod/web"));
    assert!(container.path().is_dir());

    let error = node.tree.create_pod("pod", &Resources::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(pod.path().is_dir(), "a second pod of that name does not undo the first");
    assert_eq!(pod.create_child("a/b", &Resources::default()).unwrap_err().kind(), ErrorKind::InvalidSpec);
    assert_eq!(pod.open_child("..").unwrap_err().kind(), ErrorKind::InvalidSpec);

    let again = node.tree.open_pod("pod").unwrap().unwrap().open_child("web").unwrap().unwrap();
    assert_eq!(again.id().unwrap(), container.id().unwrap());
    assert_ne!(pod.id().unwrap(), container.id().unwrap());
    assert_eq!(nix::sys::stat::stat(container.path()).unwrap().st_ino, container.id().unwrap());
    assert!(node.tree.open_pod("none").unwrap().is_none());
    assert!(pod.open_child("cpu.stat").unwrap().is_none(), "a file is no cgroup");

    container.remove_tree().unwrap();
    again.remove_tree().unwrap();
    pod.remove_tree().unwrap();
    assert_eq!(node.tree.list().unwrap(), [""; 0]);
}

#[test]
fn descriptors_are_closed_on_exec() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    for fd in [node.tree.fd().unwrap(), pod.as_fd()] {
        let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}

#[test]
fn kill_ends_processes_also_in_frozen_and_nested_cgroups() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let web = pod.create_child("web", &Resources::default()).unwrap();
    let log = pod.create_child("log", &Resources::default()).unwrap();
    assert!(!pod.populated().unwrap());
    assert!(pod.wait_empty(None).unwrap());
    let mut processes = [Process::run_in(&web, "1000"), Process::run_in(&log, "1000")];
    let mut pids = processes.each_ref().map(Process::pid);
    pids.sort_unstable();
    assert_eq!(pod.processes().unwrap(), pids);
    assert_eq!(log.processes().unwrap(), [processes[1].pid()]);
    assert!(pod.populated().unwrap() && web.populated().unwrap());

    let start = Instant::now();
    assert!(!pod.wait_empty(Some(Duration::from_millis(50))).unwrap());
    assert!(start.elapsed() >= Duration::from_millis(50));

    web.freeze().unwrap();
    assert!(read(&web, "cgroup.events").contains("frozen 1"));
    web.kill().unwrap();
    assert_eq!(processes[0].signal(), Some(libc::SIGKILL));
    assert!(web.wait_empty(Some(Duration::from_secs(10))).unwrap());
    assert!(!web.populated().unwrap());
    assert!(log.populated().unwrap(), "a kill ends nothing outside");
    web.thaw().unwrap();
    pod.kill().unwrap();
    assert_eq!(processes[1].signal(), Some(libc::SIGKILL));
    assert!(pod.wait_empty(Some(Duration::from_secs(10))).unwrap());
}

#[test]
fn wait_empty_wakes_up_when_the_last_process_ends() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let web = pod.create_child("web", &Resources::default()).unwrap();
    let mut process = Process::run_in(&web, "1000");
    let waiter = std::thread::spawn(move || {
        let empty = pod.wait_empty(None).unwrap();
        (empty, Instant::now())
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiter.is_finished());
    let killed = Instant::now();
    web.kill().unwrap();
    assert_eq!(process.signal(), Some(libc::SIGKILL));
    let (empty, woken) = waiter.join().unwrap();
    assert!(empty);
    assert!(woken.duration_since(killed) < Duration::from_secs(5));
}

#[test]
fn remove_tree_takes_everything_however_deep() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let web = pod.create_child("web", &Resources::default()).unwrap();
    // What a container with a cgroup file system of its own may do: deeper than there are descriptors to be had
    // (RLIMIT_NOFILE is 1024 nearly everywhere).
    let mut deep = web.as_fd().try_clone_to_owned().unwrap();
    for _ in 0..1100 {
        for name in ["d", "side"] {
            mkdirat(&deep, name, Mode::from_bits_truncate(0o755)).unwrap();
        }
        deep = openat(&deep, "d", DIRECTORY, Mode::empty()).unwrap();
    }
    for index in 0..20 {
        std::fs::create_dir(web.path().join(format!("wide {index}"))).unwrap();
    }
    let foreign: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(b"\xff\xfe".to_vec());
    std::fs::create_dir(web.path().join(foreign)).unwrap();
    let mut processes = [Process::run_in(&web, "1000"), Process::run_in(&web, "1000")];
    let procs = openat(&deep, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    nix::unistd::write(procs, processes[1].pid().to_string().as_bytes()).unwrap();

    assert_eq!(web.children().unwrap().len(), 22, "names that are not UTF-8 are left out");
    assert_eq!(pod.processes().unwrap().len(), 2);
    pod.remove_tree().unwrap();
    assert!(!pod.path().exists());
    for process in &mut processes {
        assert_eq!(process.signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn programs_that_guard_devices_are_loaded_once_and_few_are_kept() {
    let Some(node) = Node::new() else { return };
    let rules = |minor| [DeviceRule::allow(DeviceRuleKind::Char, Some(10), Some(minor), DeviceAccess::ALL)];
    let get = |minor| node.tree.device_guard(&rules(minor)).unwrap();
    let first = get(0);
    assert!(Arc::ptr_eq(&first, &get(0)));
    assert!(!Arc::ptr_eq(&first, &get(1)));
    assert!(!Arc::ptr_eq(&first, &node.tree.device_guard(&[]).unwrap()));
    (2..9).for_each(|minor| drop(get(minor)));
    assert_eq!(Arc::strong_count(&first), 1, "it went when the ninth came");
    assert!(!Arc::ptr_eq(&first, &get(0)));
}

#[test]
fn what_is_gone_is_no_error_to_whoever_wants_it_gone() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let other = node.tree.open_pod("pod").unwrap().unwrap();
    other.remove_tree().unwrap();
    pod.kill().unwrap();
    assert!(!pod.populated().unwrap());
    assert!(pod.wait_empty(None).unwrap());
    assert_eq!(pod.processes().unwrap(), [0; 0]);
    assert_eq!(pod.children().unwrap(), [""; 0]);
    pod.remove_tree().unwrap();
    pod.remove_tree().unwrap();
    assert_eq!(pod.freeze().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pod.create_child("web", &Resources::default()).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_delegated_directory_serves_as_parent() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let tree = Tree::open(&CgroupParent::Path(pod.path().to_path_buf())).unwrap();
    assert_eq!(tree.controllers(), node.tree.controllers());
    let inner = tree.create_pod("inner", &Resources::default()).unwrap();
    assert_eq!(inner.path(), pod.path().join("inner"));
    inner.remove_tree().unwrap();

    let open = |path: &str| Tree::open(&CgroupParent::Path(path.into())).unwrap_err();
    assert_eq!(open("relative").kind(), ErrorKind::InvalidSpec);
    assert_eq!(open("/proc").kind(), ErrorKind::Unsupported);
    assert!(open("/proc").to_string().contains("not in a cgroup v2 file system"));
    assert_eq!(open(pod.path().join("none").to_str().unwrap()).kind(), ErrorKind::NotFound);
}

#[test]
fn a_delegated_directory_with_processes_is_told_when_a_limit_is_wanted() {
    let Some(node) = Node::new() else { return };
    let web = node.pod().create_child("web", &Resources::default()).unwrap();
    let process = Process::run_in(&web, "1000");
    let tree = Tree::open(&CgroupParent::Path(web.path().to_path_buf())).unwrap();
    assert_eq!(tree.controllers().to_string(), "", "nothing can be enabled next to a process");
    let pod = tree.create_pod("inner", &Resources::default()).unwrap();
    std::fs::write(pod.path().join("cgroup.procs"), process.pid().to_string()).unwrap();
    assert_eq!(pod.processes().unwrap(), [process.pid()], "without controllers it is a pod like any other");
    let error = tree.create_pod("limited", &json(r#"{"pidsMax": 10}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let reason = match node.tree.controllers().contains(Controller::Pids) {
        true => "web/cgroup.subtree_control cannot enable: the directory has processes of its own",
        false => "cgroup.controllers lacks",
    };
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn a_parent_may_have_several_components() {
    let Some(node) = Node::new() else { return };
    let name = format!("{}/a/b", node.path.file_name().unwrap().to_str().unwrap());
    let tree = Tree::open(&CgroupParent::Named(name.clone())).unwrap();
    assert_eq!(tree.path(), node.path.join("a/b"));
    assert_eq!(tree.controllers(), node.tree.controllers());
    Tree::open(&CgroupParent::Named(name)).unwrap();
    assert_eq!(node.tree.list().unwrap(), ["a"]);
}
