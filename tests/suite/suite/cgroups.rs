//! The tree of cgroups: where it hangs, who is in it, and that all of it goes.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork};
use pericarp::spec::{Limit, MemoryResources, MountKind, PidMode, Resources};
use pericarp::{
    CgroupParent, Container, ContainerSpec, ErrorKind, ExitStatus, Mount, Node, NodeOptions, Pod, PodSpec,
    Stdio,
};

use crate::support::fixture::{facts, payload as run_payload, say, script};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    a_container_is_in_its_own_cgroup_from_the_start,
    processes_are_only_in_leaves,
    controllers_are_enabled_on_the_way_to_the_leaves,
    a_parent_given_by_its_path_is_used_and_stays,
    a_parent_with_processes_of_its_own_takes_pods_without_limits,
    a_parent_of_several_components_is_made_and_removed,
    a_path_that_is_no_cgroup_is_refused,
    a_missing_controller_is_named_and_nothing_is_left,
    a_controller_that_is_not_handed_down_is_named_and_nothing_is_left,
    cgroup2_may_be_mounted_anywhere,
    without_cgroup2_the_node_says_so_and_leaves_nothing,
    cgroups_that_a_container_made_go_with_it,
    a_kill_reaches_every_process_of_the_container,
    a_fork_bomb_is_removed,
];

/// Commands of this module: in containers, or in a process of its own that has left the host's mount namespace.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["cgroups-nest"] => nest(),
        ["cgroups-bomb"] => bomb(),
        ["cgroups-elsewhere", place] => elsewhere(Path::new(place)),
        ["cgroups-none", state] => none(Path::new(state)),
        _ => return false,
    }
    true
}

/// Runs a payload command in a process of its own, outside any container.
pub fn reexec(words: &[&str]) {
    let exe = std::env::current_exe().expect("the path of this program");
    let output = Command::new(exe).arg("payload").args(words).output().expect("run this program");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} {}: {text}", output.status);
}

/// Leaves the host's mount namespace; nothing that is mounted or unmounted from here on is seen there.
pub fn leave_mounts_of_the_host() {
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make mounts private");
}

/// Where cgroup v2 is mounted.
pub fn cgroup2_mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    let lines = table.lines().filter(|line| line.contains(" - cgroup2 "));
    lines.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// The path below the root of cgroup v2 that a process is in, as the host sees it.
fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the cgroup of a process");
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_else(|| panic!("no cgroup v2 in {text}")).to_string()
}

fn read(path: &Path, file: &str) -> String {
    let path = path.join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn limited() -> Resources {
    let memory = MemoryResources { max: Some(Limit::At(256 << 20)), ..Default::default() };
    Resources { memory, ..Default::default() }
}

/// A directory in cgroup v2 that goes with this value, like a subtree that systemd has delegated.
struct Delegated(PathBuf);

impl Delegated {
    fn new(name: &str) -> Delegated {
        let top = cgroup2_mounts().into_iter().next().expect("cgroup v2 is mounted");
        let path = top.join(format!("pericarp-suite-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("make a cgroup");
        Delegated(path)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "remove {}: {removed:?}", self.0.display());
    }
}

/// A node with another cgroup parent than a fixture's own; its state is in a directory of the fixture.
fn node_below(fixture: &Fixture, parent: CgroupParent) -> pericarp::Result<Node> {
    let options = NodeOptions::new().state_dir(fixture.path("state")).cgroup_parent(parent);
    Node::open(&options)
}

/// A container that runs until it is ended, and has said that it does.
fn running(pod: &Pod, spec: ContainerSpec) -> Container {
    let spec = spec.stdout(Stdio::Pipe);
    let container = pod.create_container(&spec).expect("create");
    let mut stdout = container.take_stdout().expect("a pipe");
    container.start().expect("start");
    let mut byte = [0];
    std::io::Read::read_exact(&mut stdout, &mut byte).expect("the container says something");
    container
}

fn sleeper(name: &str) -> ContainerSpec {
    script(name, "echo .; while :; do sleep 1000; done")
}

fn a_container_is_in_its_own_cgroup_from_the_start() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Host, PidMode::Pod] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode.clone()))?;
        let container = pod.create_container(&run_payload("a", &["sleep"]))?;
        // At the barrier, before its program runs.
        let name = fixture.options.state_dir.file_name().expect("a name").to_string_lossy();
        let expected = format!("/{name}/{}/a", pod.id());
        assert_eq!(cgroup_of(container.pid()), expected, "{mode:?}");
        container.start()?;
        assert_eq!(cgroup_of(container.pid()), expected, "{mode:?}");
        container.remove()?;
        let facts = facts(&pod, |spec| spec);
        assert!(facts.cgroup.lines().any(|line| line == "0::/"), "{}", facts.cgroup);
        let (options, kind, _) = facts.mount("/sys/fs/cgroup").expect("a mount on /sys/fs/cgroup");
        assert_eq!(kind, "cgroup2");
        assert!(options.contains(&"ro"), "{options:?}");
        let inside = say(&pod, script("a", "cd /sys/fs/cgroup && echo */"));
        assert_eq!(inside, "*/\n", "no cgroup of another is below it");
        pod.remove().expect("remove the pod");
    }
    PASS
}

fn processes_are_only_in_leaves() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let a = running(&pod, sleeper("a"));
        let b = running(&pod, sleeper("b"));
        let path = pod.cgroup_path();
        for inner in [path.as_path(), path.parent().expect("a parent")] {
            assert_eq!(read(inner, "cgroup.procs"), "", "{}", inner.display());
            assert_eq!(read(inner, "cgroup.type"), "domain\n", "{}", inner.display());
        }
        for container in [&a, &b] {
            let procs = read(&path.join(container.name()), "cgroup.procs");
            assert!(procs.lines().any(|pid| pid == container.pid().to_string()), "{procs}");
            assert_eq!(container.processes()?.len(), procs.lines().count());
        }
        pod.remove().expect("remove the pod");
        assert!(!path.exists());
    }
    PASS
}

fn controllers_are_enabled_on_the_way_to_the_leaves() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&run_payload("a", &["sleep"]))?;
    let words = |path: &Path, file: &str| {
        let mut words: Vec<String> = read(path, file).split_ascii_whitespace().map(str::to_string).collect();
        words.sort();
        words
    };
    let path = pod.cgroup_path();
    let mut there = fixture.node.controllers();
    // Those are enabled where a limit asks for them.
    there.retain(|name| !["hugetlb", "rdma", "misc"].contains(&name.as_str()));
    there.sort();
    if std::env::var_os("PERICARP_VM").is_some() {
        for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
            assert!(there.iter().any(|name| name == controller), "{controller} is not in {there:?}");
        }
    }
    for inner in [path.as_path(), path.parent().expect("a parent")] {
        assert_eq!(words(inner, "cgroup.subtree_control"), there, "{}", inner.display());
    }
    let leaf = path.join(container.name());
    assert_eq!(words(&leaf, "cgroup.controllers"), there);
    assert_eq!(words(&leaf, "cgroup.subtree_control"), [""; 0]);
    PASS
}

fn a_parent_given_by_its_path_is_used_and_stays() -> Outcome {
    let fixture = Fixture::new();
    let delegated = Delegated::new("delegated");
    let node = node_below(&fixture, CgroupParent::Path(delegated.0.clone()))?;
    let pod = node.create_pod(&PodSpec::new("web"))?;
    assert_eq!(pod.cgroup_path(), delegated.0.join(pod.id()));
    let container = running(&pod, sleeper("a"));
    let name = delegated.0.file_name().expect("a name").to_string_lossy();
    assert_eq!(cgroup_of(container.pid()), format!("/{name}/{}/a", pod.id()));
    pod.remove()?;
    node.remove()?;
    assert!(delegated.0.exists(), "the directory was given, and is not the library's to remove");
    PASS
}

fn a_parent_with_processes_of_its_own_takes_pods_without_limits() -> Outcome {
    let fixture = Fixture::new();
    let delegated = Delegated::new("busy");
    // It lives as long as its standard input is open.
    let mut guest = Command::new("cat").stdin(ProcessStdio::piped()).stdout(ProcessStdio::null()).spawn()?;
    fs::write(delegated.0.join("cgroup.procs"), guest.id().to_string())?;
    let node = node_below(&fixture, CgroupParent::Path(delegated.0.clone()))?;
    let pod = node.create_pod(&PodSpec::new("web"))?;
    assert_eq!(say(&pod, script("a", "echo hello")), "hello\n");
    let error = node.create_pod(&PodSpec::new("limited").resources(limited())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("memory.max") && text.contains("controller memory"), "{text}");
    if fixture.node.controllers().iter().any(|name| name == "memory") {
        assert!(text.contains("has processes of its own"), "{text}");
    }
    pod.remove()?;
    node.remove()?;
    drop(guest.stdin.take());
    guest.wait()?;
    PASS
}

fn a_parent_of_several_components_is_made_and_removed() -> Outcome {
    let fixture = Fixture::new();
    let first = format!("pericarp-suite-{}-nested", std::process::id());
    let node = node_below(&fixture, CgroupParent::Named(format!("{first}/machines/b")))?;
    let pod = node.create_pod(&PodSpec::new("web"))?;
    assert!(pod.cgroup_path().ends_with(format!("{first}/machines/b/{}", pod.id())));
    let container = running(&pod, sleeper("a"));
    assert_eq!(cgroup_of(container.pid()), format!("/{first}/machines/b/{}/a", pod.id()));
    let top = pod.cgroup_path().ancestors().nth(3).expect("the first component").to_path_buf();
    assert!(top.ends_with(&first));
    for inner in [top.clone(), top.join("machines"), top.join("machines/b")] {
        assert_eq!(read(&inner, "cgroup.procs"), "");
    }
    pod.remove()?;
    node.remove()?;
    assert!(!top.exists());
    PASS
}

fn a_path_that_is_no_cgroup_is_refused() -> Outcome {
    let fixture = Fixture::new();
    for (path, kind, word) in [
        ("/proc", ErrorKind::Unsupported, "cgroup v2"),
        ("/", ErrorKind::Unsupported, "cgroup v2"),
        ("/sys/fs/cgroup/no-such-cgroup", ErrorKind::NotFound, "no-such-cgroup"),
        ("pericarp", ErrorKind::InvalidSpec, "not absolute"),
    ] {
        let error = node_below(&fixture, CgroupParent::Path(path.into())).expect_err(path);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    for name in ["", "/", "../x", "a//b", "/a", "a/", "cgroup.procs", "a/./b", "a\nb"] {
        let error = node_below(&fixture, CgroupParent::Named(name.into())).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{name:?}: {error}");
    }
    PASS
}

/// A limit that needs a controller which is not there: an error that names both, for pods and containers, after
/// which there is no more than before.
fn refuses_a_limit(node: &Node, state_dir: &Path) -> String {
    let pod = node.create_pod(&PodSpec::new("web")).expect("a pod without limits needs no controller");
    let container = script("a", "true").resources(limited());
    let of_pod = node.create_pod(&PodSpec::new("limited").resources(limited())).unwrap_err();
    let of_container = pod.create_container(&container).unwrap_err();
    for error in [&of_pod, &of_container] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let text = error.to_string();
        assert!(text.contains("memory.max") && text.contains("the controller memory"), "{text}");
    }
    let text = of_pod.to_string();
    assert_eq!(node.pods().expect("list pods").len(), 1);
    assert_eq!(pod.containers().expect("list containers").len(), 0);
    assert_eq!(directories(&pod.cgroup_path()), 0);
    assert_eq!(directories(pod.cgroup_path().parent().expect("a parent")), 1);
    for phase in ["new", "garbage"] {
        assert_eq!(directories(&state_dir.join(phase)), 0, "{phase}");
    }
    pod.remove().expect("remove the pod");
    text
}

fn directories(path: &Path) -> usize {
    let entries = fs::read_dir(path).expect("read a directory").flatten();
    entries.filter(|entry| entry.file_type().expect("a type").is_dir()).count()
}

fn a_missing_controller_is_named_and_nothing_is_left() -> Outcome {
    let fixture = Fixture::new();
    if fixture.node.controllers().iter().any(|name| name == "memory") {
        return skip("cgroup v2 of this machine has every controller");
    }
    let text = refuses_a_limit(&fixture.node, &fixture.options.state_dir);
    assert!(text.contains("cgroup.controllers lacks"), "{text}");
    PASS
}

fn a_controller_that_is_not_handed_down_is_named_and_nothing_is_left() -> Outcome {
    let fixture = Fixture::new();
    // Nothing is enabled in the outer directory, so that the inner one, which is the library's, has no controllers.
    let outer = Delegated::new("outer");
    let inner = outer.0.join("inner");
    fs::create_dir(&inner)?;
    let node = node_below(&fixture, CgroupParent::Path(inner.clone()))?;
    assert_eq!(node.controllers(), [""; 0]);
    let text = refuses_a_limit(&node, &fixture.path("state"));
    assert!(text.contains(&format!("{}/cgroup.controllers lacks", inner.display())), "{text}");
    node.remove()?;
    fs::remove_dir(&inner)?;
    PASS
}

fn cgroup2_may_be_mounted_anywhere() -> Outcome {
    let dir = tempfile::tempdir()?;
    reexec(&["cgroups-elsewhere", dir.path().to_str().expect("UTF-8")]);
    PASS
}

/// With a mount table of its own: cgroup v2 is only at `place`, and something else where it usually is.
fn elsewhere(place: &Path) {
    leave_mounts_of_the_host();
    let none = None::<&str>;
    // Not a new mount: one made in the first cgroup namespace would change the options of the whole hierarchy.
    let usual = cgroup2_mounts().into_iter().next().expect("cgroup v2 is mounted");
    mount(Some(&usual), place, none, MsFlags::MS_BIND, none).expect("bind cgroup2");
    mount(none, "/sys/fs/cgroup", Some("tmpfs"), MsFlags::empty(), none).expect("cover /sys/fs/cgroup");
    let fixture = Fixture::new();
    let limits = fixture.node.controllers().iter().any(|name| name == "memory");
    let resources = if limits { limited() } else { Resources::default() };
    let pod = fixture.node.create_pod(&PodSpec::new("web").resources(resources)).expect("create a pod");
    assert!(pod.cgroup_path().starts_with(place), "{}", pod.cgroup_path().display());
    assert!(pod.cgroup_path().join("cgroup.procs").exists());
    let container = running(&pod, sleeper("a"));
    assert!(cgroup_of(container.pid()).ends_with(&format!("/{}/a", pod.id())));
    // Containers find it in its usual place all the same.
    let facts = facts(&pod, |spec| spec);
    assert_eq!(facts.mount("/sys/fs/cgroup").expect("a mount").1, "cgroup2");
    if limits {
        assert_eq!(read(&pod.cgroup_path(), "memory.max"), format!("{}\n", 256 << 20));
    }
}

fn without_cgroup2_the_node_says_so_and_leaves_nothing() -> Outcome {
    let state = format!("/run/pericarp-suite-{}-none", std::process::id());
    reexec(&["cgroups-none", &state]);
    assert!(!Path::new(&state).exists(), "{state} is left");
    PASS
}

fn none(state: &Path) {
    leave_mounts_of_the_host();
    for place in cgroup2_mounts().iter().rev() {
        umount2(place, MntFlags::MNT_DETACH).expect("unmount cgroup2 in a mount namespace of its own");
    }
    assert_eq!(cgroup2_mounts(), [""; 0].map(PathBuf::from));
    let error = Node::open(&NodeOptions::new().state_dir(state)).expect_err("there is no cgroup v2");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("cgroup2"), "{error}");
    assert!(!state.exists(), "{} is left", state.display());
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    assert!(!table.contains("pericarp-suite"), "{table}");
}

/// In a container with a cgroup file system that it may write to: cgroups in cgroups, with processes in them.
fn nest() {
    let mut path = PathBuf::from("/sys/fs/cgroup");
    for depth in 0..5 {
        path = path.join(format!("level{depth}"));
        fs::create_dir(&path).expect("make a cgroup");
        fs::create_dir(path.join("empty")).expect("make a cgroup");
        // SAFETY: this program has one thread here.
        if let ForkResult::Child = unsafe { fork() }.expect("fork") {
            fs::write(path.join("cgroup.procs"), "0").expect("enter a cgroup");
            // Like a daemon: out of the session of the container's first process.
            nix::unistd::setsid().expect("setsid");
            println!(".");
            loop {
                nix::unistd::pause();
            }
        }
    }
    loop {
        nix::unistd::pause();
    }
}

fn nesting(name: &str) -> ContainerSpec {
    run_payload(name, &["cgroups-nest"]).mount(Mount::of(MountKind::Cgroup, "/sys/fs/cgroup"))
}

/// Starts a container that nests, waits until all its processes are where they belong, and returns descriptors of
/// all of them.
fn nested(pod: &Pod, spec: ContainerSpec) -> (Container, Vec<OwnedFd>) {
    let container = pod.create_container(&spec.stdout(Stdio::Pipe)).expect("create");
    let mut stdout = container.take_stdout().expect("a pipe");
    container.start().expect("start");
    std::io::Read::read_exact(&mut stdout, &mut [0; 10]).expect("five lines");
    let pids = container.processes().expect("list processes");
    assert_eq!(pids.len(), 6, "{pids:?}");
    let deepest = pod.cgroup_path().join(container.name()).join("level0/level1/level2/level3/level4");
    assert_eq!(read(&deepest, "cgroup.procs").lines().count(), 1);
    (container, pids.into_iter().map(pidfd).collect())
}

fn pidfd(pid: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: a system call with two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "pidfd_open {pid}");
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Whether all the processes have ended; waits for that, but not forever.
fn all_ended(processes: &[OwnedFd]) -> bool {
    use nix::poll::{PollFd, PollFlags, poll};
    processes.iter().all(|process| {
        poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], 30_000_u16).expect("poll") == 1
    })
}

fn cgroups_that_a_container_made_go_with_it() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Host] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let (container, processes) = nested(&pod, nesting("a"));
        container.remove()?;
        assert!(all_ended(&processes));
        assert!(!pod.cgroup_path().join("a").exists());
        // And with the pod, without being removed themselves.
        let (_container, processes) = nested(&pod, nesting("b"));
        pod.remove().expect("remove the pod");
        assert!(all_ended(&processes));
        assert!(!pod.cgroup_path().exists());
    }
    PASS
}

fn a_kill_reaches_every_process_of_the_container() -> Outcome {
    let fixture = Fixture::new();
    // In the host's PID namespace the processes do not end with the first one by themselves.
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Host))?;
    let (container, processes) = nested(&pod, nesting("a"));
    let other = running(&pod, sleeper("b"));
    container.kill()?;
    assert!(all_ended(&processes));
    assert_eq!(container.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(container.processes()?, [0; 0]);
    assert_eq!(other.try_wait()?, None, "the other container is not touched");
    container.kill()?; // nothing to kill is no error

    let (container, processes) = nested(&pod, nesting("c"));
    container.signal(libc::SIGKILL)?;
    container.wait()?;
    assert!(all_ended(&processes));
    PASS
}

/// Forks without end; where forks are refused, goes on trying.
fn bomb() {
    println!(".");
    loop {
        // SAFETY: this program has one thread here. What the fork returns does not matter.
        let _ = unsafe { fork() };
    }
}

fn a_fork_bomb_is_removed() -> Outcome {
    let fixture = Fixture::new();
    if let Some(reason) = super::limits::lacks(&fixture, &["pids"]) {
        return skip(reason);
    }
    let resources = Resources { pids_max: Some(Limit::At(60)), ..Default::default() };
    for mode in [PidMode::Container, PidMode::Host] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let spec = run_payload("a", &["cgroups-bomb"]).resources(resources.clone());
        let container = running(&pod, spec);
        container.remove()?;
        assert!(!pod.cgroup_path().join("a").exists());
        pod.remove().expect("remove the pod");
    }
    PASS
}
