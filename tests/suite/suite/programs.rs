//! Several programs at one node: each sees, stops and removes what another made, and pods outlive their makers or end
//! with them, as they were asked to.
//!
//! The other program is this one, started as `suite payload programs STATE_DIR CGROUP COMMAND …` on the host.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pericarp::{
    CgroupParent, Container, ContainerStatus, ErrorKind, ExitStatus, NamespaceKind, Node, NodeOptions, Pod,
    PodSpec, Volume,
};
use serde::{Deserialize, Serialize};

use crate::support::fixture::{output, payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    another_program_sees_pods_and_containers,
    another_program_waits_for_a_container,
    everybody_who_waits_gets_the_status_whether_or_not_the_maker_asked_first,
    another_program_stops_and_removes,
    only_the_maker_can_start_a_container,
    a_pod_outlives_its_maker,
    a_container_that_was_never_started_ends_with_its_maker,
    an_ephemeral_pod_is_seen_by_its_maker_alone,
    an_ephemeral_pod_does_what_others_do,
    the_ephemeral_pods_of_a_dead_program_are_recovered,
    a_node_takes_one_line_in_the_mount_table,
    a_node_can_be_made_under_any_umask,
];

/// What the other program tells of a pod that it made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    id: String,
    pid: i32,
    cgroup: String,
    network: u64,
}

/// The other program, which waits for a line before it goes on.
struct Other {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(fixture: &Fixture, command: &[&str]) -> Other {
        let state = &fixture.options.state_dir;
        let mut child = Command::new(std::env::current_exe().expect("the path of this program"))
            .args(["payload", "programs"])
            .arg(state)
            .arg(state.file_name().expect("a name"))
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start another program");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Other { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("read from the other program");
        assert!(line.ends_with('\n'), "the other program ended early: {line:?}");
        line.trim_end().to_string()
    }

    fn made(&mut self) -> Made {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Lets it go on, and returns what it writes until its end.
    fn finish(mut self) -> String {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("read from the other program");
        let status = self.child.wait().expect("wait for the other program");
        assert!(status.success(), "the other program {status}: {rest}");
        rest.trim_end().to_string()
    }

    /// Kills it, as a crash would.
    fn crash(mut self) {
        self.child.kill().expect("kill the other program");
        self.child.wait().expect("wait for the other program");
    }
}

/// Runs a command of the other program to its end.
fn other(fixture: &Fixture, command: &[&str]) -> String {
    Other::start(fixture, command).finish()
}

/// What both sides say of all pods.
fn listing(node: &Node) -> pericarp::Result<String> {
    let mut lines = Vec::new();
    for pod in node.pods()? {
        let status = pod.status()?;
        lines.push(format!("{} {}/{} {:?}", pod.id(), pod.namespace(), pod.name(), status.containers));
    }
    lines.sort();
    Ok(lines.join("\n"))
}

fn sleeper(pod: &Pod, name: &str) -> Container {
    let container = pod.create_container(&inside(name, &["sleep"])).expect("make a container");
    container.start().expect("start a container");
    container
}

fn another_program_sees_pods_and_containers() -> Outcome {
    let fixture = Fixture::new();
    let web = fixture.pod("web");
    let empty = fixture.node.create_pod(&PodSpec::new("empty").namespace("shop"))?;
    sleeper(&web, "running");
    let _created = web.create_container(&inside("created", &["sleep"]))?;
    let ended = web.create_container(&script("ended", "exit 7"))?;
    ended.start()?;
    ended.wait()?;
    let seen = other(&fixture, &["list"]);
    assert_eq!((&seen, &seen), (&listing(&fixture.node)?, &listing(&fixture.reopen())?));
    for part in [
        format!("{} default/web", web.id()),
        format!("{} shop/empty {{}}", empty.id()),
        "\"running\": Running".to_string(),
        "\"created\": Created".to_string(),
        "\"ended\": Exited(Some(Exited(7)))".to_string(),
    ] {
        assert!(seen.contains(&part), "no {part:?} in {seen}");
    }
    PASS
}

fn another_program_waits_for_a_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = script("a", "read line; exit 42").stdin(pericarp::Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let stdin = container.take_stdin();
    container.start()?;
    // The maker waits as well, so that its status is there to be told.
    let waiter = std::thread::spawn({
        let container = container.clone();
        move || container.wait()
    });
    let mut others: Vec<Other> = (0..3).map(|_| Other::start(&fixture, &["wait", "web", "a"])).collect();
    for other in &mut others {
        assert_eq!(other.line(), "waiting");
    }
    drop(stdin);
    for other in others {
        assert_eq!(other.finish(), "exited with 42");
    }
    assert_eq!(waiter.join().expect("the waiter")?, ExitStatus::Exited(42));
    // Who comes later gets it, too.
    assert_eq!(other(&fixture, &["wait", "web", "a"]), "waiting\nexited with 42");
    PASS
}

/// The maker may be busy with other things for as long as it likes.
fn everybody_who_waits_gets_the_status_whether_or_not_the_maker_asked_first() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "exit 42"))?;
    container.start()?;
    assert_eq!(other(&fixture, &["wait", "web", "a"]), "waiting\nexited with 42");
    let killed = sleeper(&pod, "b");
    killed.kill()?;
    assert_eq!(other(&fixture, &["wait", "web", "b"]), "waiting\nkilled by signal 9");
    assert_eq!(container.wait()?, ExitStatus::Exited(42));
    assert_eq!(killed.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    PASS
}

fn another_program_stops_and_removes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let polite = pod.create_container(
        &script("polite", "trap 'exit 5' TERM; sleep 1000 & echo up; wait").stdout(pericarp::Stdio::Pipe),
    )?;
    let mut out = polite.take_stdout().expect("a pipe");
    polite.start()?;
    out.read_exact(&mut [0; 3])?;
    assert_eq!(other(&fixture, &["stop", "web", "polite"]), "exited with 5");
    assert_eq!(polite.wait()?, ExitStatus::Exited(5));
    assert_eq!(other(&fixture, &["remove", "web", "polite"]), "");
    assert_eq!(pod.container("polite").unwrap_err().kind(), ErrorKind::NotFound);

    // Process 1 ignores SIGTERM without a handler: the grace ends and it is killed.
    let deaf = sleeper(&pod, "deaf");
    let other_pid: i32 = other(&fixture, &["signal", "web", "deaf", "0"]).parse()?;
    assert_eq!(other_pid, deaf.pid());
    other(&fixture, &["remove", "web", "deaf"]);
    assert_eq!(deaf.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });

    let last = sleeper(&pod, "last");
    assert_eq!(other(&fixture, &["remove", "web"]), "");
    assert_eq!(last.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert!(fixture.node.pods()?.is_empty());
    assert_eq!(pod.remove().unwrap_err().kind(), ErrorKind::NotFound);
    fixture.pod("web");
    PASS
}

fn only_the_maker_can_start_a_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "exit 4"))?;
    assert_eq!(other(&fixture, &["start", "web", "a"]), "WrongState");
    assert_eq!(container.status()?, ContainerStatus::Created);
    container.start()?;
    assert_eq!(container.wait()?, ExitStatus::Exited(4));
    PASS
}

fn a_pod_outlives_its_maker() -> Outcome {
    let fixture = Fixture::new();
    let mut maker = Other::start(&fixture, &["make", "web"]);
    let made = maker.made();
    maker.crash();
    let recovery = fixture.node.recover()?;
    assert_eq!(recovery.adopted, [made.id.as_str()]);
    assert!(recovery.removed.is_empty() && recovery.removed_containers.is_empty(), "{recovery:?}");

    let pod = fixture.node.open_pod("web")?;
    assert_eq!((pod.id(), pod.namespace_inode(NamespaceKind::Network)?), (made.id.as_str(), made.network));
    let container = pod.container("a")?;
    assert_eq!((container.pid(), container.status()?), (made.pid, ContainerStatus::Running));
    assert_eq!(container.processes()?, [made.pid]);
    assert_eq!(container.wait_timeout(Some(Duration::ZERO))?, None);
    // What the maker left in the shared memory and the volume is there.
    let read = script("b", "cat /dev/shm/note /scratch/note; readlink /proc/self/ns/net")
        .mount(pericarp::Mount::volume("scratch", "/scratch"));
    assert_eq!(say(&pod, read), format!("hello\nhello\nnet:[{}]\n", made.network));
    // Whoever reaps an orphan of the maker takes its status; Linux keeps it since 6.15.
    match container.stop(Duration::ZERO) {
        Ok(status) => {
            assert_eq!(status, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false })
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::StatusLost, "{error}");
            assert!(!kernel_keeps_statuses(), "the kernel keeps it: {error}");
        }
    }
    assert!(matches!(container.status()?, ContainerStatus::Exited(_)));
    container.remove()?;
    pod.remove()?;
    assert!(!Path::new(&made.cgroup).exists());
    PASS
}

fn a_container_that_was_never_started_ends_with_its_maker() -> Outcome {
    let fixture = Fixture::new();
    let mut maker = Other::start(&fixture, &["prepare", "web"]);
    let made = maker.made();
    let pod = fixture.node.open_pod("web")?;
    let container = pod.container("a")?;
    assert_eq!(container.status()?, ContainerStatus::Created);
    maker.crash();
    let ended = match container.wait_timeout(Some(Duration::from_secs(60))) {
        Ok(Some(status)) => status.code() == 127,
        Ok(None) => false,
        Err(error) => error.kind() == ErrorKind::StatusLost && !kernel_keeps_statuses(),
    };
    assert!(ended, "process {} waits for a start that cannot come", made.pid);
    container.remove()?;
    PASS
}

fn an_ephemeral_pod_is_seen_by_its_maker_alone() -> Outcome {
    let fixture = Fixture::new();
    let mut maker = Other::start(&fixture, &["make-ephemeral", "web"]);
    let made = maker.made();
    let own = fixture.node.create_pod(&PodSpec::new("own").ephemeral(true))?;
    for node in [&fixture.node, &fixture.reopen()] {
        for words in ["web", &made.id] {
            assert_eq!(node.open_pod(words).unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert!(node.pods()?.iter().all(|pod| pod.id() != made.id));
    }
    assert_eq!(fixture.node.open_pod("own")?.id(), own.id());
    assert_eq!(fixture.node.open_pod(own.id())?.id(), own.id());
    assert_eq!(other(&fixture, &["list"]), "");
    // Its name is nobody else's business, but the maker has it once.
    fixture.pod("web");
    let again = fixture.node.create_pod(&PodSpec::new("own").ephemeral(true));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    // Recovery leaves alone what has a living maker, whoever calls it.
    for recovery in [fixture.node.recover()?, fixture.reopen().recover()?] {
        assert!(recovery.removed.is_empty(), "{recovery:?}");
    }
    assert_eq!(say(&own, script("a", "echo works")), "works\n");
    assert!(Path::new(&made.cgroup).exists());
    // The maker, asked to end, removes its pod and says whether all was well to the end.
    assert_eq!(maker.finish(), "removed");
    assert!(!Path::new(&made.cgroup).exists());
    PASS
}

fn an_ephemeral_pod_does_what_others_do() -> Outcome {
    let fixture = Fixture::new();
    let spec = PodSpec::new("web").hostname("here").volume(Volume::tmpfs("scratch", 4096));
    let kept = fixture.pod("other");
    let pod = fixture.node.create_pod(&spec.ephemeral(true))?;
    assert_ne!(pod.namespace_inode(NamespaceKind::Network)?, kept.namespace_inode(NamespaceKind::Network)?);
    let volume = |spec: pericarp::ContainerSpec| spec.mount(pericarp::Mount::volume("scratch", "/scratch"));
    let first = "cat /proc/sys/kernel/hostname; echo shared | tee /scratch/file >/dev/shm/file; exit 3";
    let (status, text) = output(&pod, volume(script("a", first)))?;
    assert_eq!((status, text.as_str()), (ExitStatus::Exited(3), "here\n"));
    assert_eq!(say(&pod, volume(script("b", "cat /scratch/file /dev/shm/file"))), "shared\nshared\n");
    assert!(pod.ipc().list()?.shm.iter().any(|object| object.name == "file"));
    let container = sleeper(&pod, "c");
    assert_eq!(fixture.node.open_pod("web")?.container("c")?.status()?, ContainerStatus::Running);
    pod.stop(Duration::ZERO)?;
    assert!(matches!(container.status()?, ContainerStatus::Exited(Some(_))));
    let cgroup = pod.cgroup_path();
    pod.remove()?;
    assert!(!cgroup.exists());
    assert_eq!(fixture.node.open_pod("web").unwrap_err().kind(), ErrorKind::NotFound);
    PASS
}

fn the_ephemeral_pods_of_a_dead_program_are_recovered() -> Outcome {
    let fixture = Fixture::new();
    let mut maker = Other::start(&fixture, &["make-ephemeral", "web"]);
    let made = maker.made();
    maker.crash();
    assert!(Path::new(&made.cgroup).exists(), "the test tests nothing");
    let recovery = fixture.node.recover()?;
    assert_eq!(recovery.removed, [made.id.as_str()]);
    assert!(recovery.adopted.is_empty() && recovery.busy.is_empty(), "{recovery:?}");
    // A cgroup can only be removed when no process lives in it.
    assert!(!Path::new(&made.cgroup).exists());
    assert_eq!(fs::read_dir(fixture.options.state_dir.join("live"))?.count(), 0);
    assert_eq!(fixture.node.recover()?, Default::default());
    fixture.node.create_pod(&PodSpec::new("web").ephemeral(true))?;
    PASS
}

/// Counted in a mount namespace of the other program's own, where nobody else mounts anything.
fn a_node_takes_one_line_in_the_mount_table() -> Outcome {
    let fixture = Fixture::new();
    let name = fixture.path("node").display().to_string();
    assert_eq!(
        other(&fixture, &["count-mounts", &name]),
        "with the node: 1, with 20 pods: 1, with 20 ephemeral ones: 1, without pods: 1, without the node: 0"
    );
    PASS
}

/// Daemons often run with umask 0, and some with one that takes everything away.
fn a_node_can_be_made_under_any_umask() -> Outcome {
    let fixture = Fixture::new();
    for umask in ["0", "77", "777"] {
        let name = fixture.path(&format!("under/{umask}")).display().to_string();
        assert_eq!(other(&fixture, &["umask", umask, &name]), "for others: 0, ran", "umask {umask}");
    }
    PASS
}

/// Linux 6.15 and later tell the status to whoever has a pidfd, after somebody else reaped.
fn kernel_keeps_statuses() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

/// The other program.
pub fn payload(words: &[&str]) -> bool {
    let ["programs", state, cgroup, command @ ..] = words else { return false };
    let options = NodeOptions::new().state_dir(*state).cgroup_parent(CgroupParent::Named(cgroup.to_string()));
    if let Err(error) = act(&options, command) {
        println!("{error}");
        std::process::exit(1);
    }
    true
}

type Failure = Box<dyn std::error::Error>;

fn act(options: &NodeOptions, command: &[&str]) -> Result<(), Failure> {
    // A node beside the fixture's, with a cgroup of its own.
    let beside = |path: &str| -> NodeOptions {
        let CgroupParent::Named(cgroup) = &options.cgroup_parent else { unreachable!("it was made so") };
        NodeOptions::new().state_dir(path).cgroup_parent(CgroupParent::Named(format!("{cgroup}-beside")))
    };
    if let ["count-mounts", path] = command {
        return count_mounts(&beside(path));
    }
    if let ["umask", umask, path] = command {
        let bits = u32::from_str_radix(umask, 8)?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(bits));
        return umasked(&beside(path));
    }
    let node = Node::open(options)?;
    match command {
        ["list"] => println!("{}", listing(&node)?),
        ["make", name] => make(&node, name, false, true)?,
        ["make-ephemeral", name] => make(&node, name, true, true)?,
        ["prepare", name] => make(&node, name, false, false)?,
        ["wait", pod, container] => {
            let container = node.open_pod(pod)?.container(container)?;
            println!("waiting");
            println!("{}", container.wait()?);
        }
        ["stop", pod, container] => {
            println!("{}", node.open_pod(pod)?.container(container)?.stop(Duration::from_secs(60))?);
        }
        ["signal", pod, container, signal] => {
            let container = node.open_pod(pod)?.container(container)?;
            container.signal(signal.parse()?)?;
            println!("{}", container.pid());
        }
        ["start", pod, container] => match node.open_pod(pod)?.container(container)?.start() {
            Ok(()) => println!("started"),
            Err(error) => println!("{:?}", error.kind()),
        },
        ["remove", pod] => node.open_pod(pod)?.remove()?,
        ["remove", pod, container] => node.open_pod(pod)?.container(container)?.remove()?,
        other => return Err(format!("unknown command {other:?}").into()),
    }
    Ok(())
}

/// Makes a pod with a container, tells of it, and waits to be killed or told to go on.
fn make(node: &Node, name: &str, ephemeral: bool, start: bool) -> Result<(), Failure> {
    let spec = PodSpec::new(name).volume(Volume::tmpfs("scratch", 4096)).ephemeral(ephemeral);
    let pod = node.create_pod(&spec)?;
    let write = script("w", "echo hello | tee /scratch/note >/dev/shm/note")
        .mount(pericarp::Mount::volume("scratch", "/scratch"));
    pod.run(&write)?;
    let container = pod.create_container(&inside("a", &["sleep"]))?;
    if start {
        container.start()?;
    }
    let made = Made {
        id: pod.id().to_string(),
        pid: container.pid(),
        cgroup: pod.cgroup_path().display().to_string(),
        network: pod.namespace_inode(NamespaceKind::Network)?,
    };
    println!("{}", serde_json::to_string(&made)?);
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    assert_eq!(container.status()?, ContainerStatus::Running);
    assert_eq!(node.open_pod(&made.id)?.name(), name);
    pod.remove()?;
    println!("removed");
    Ok(())
}

fn mount_lines() -> usize {
    fs::read_to_string("/proc/self/mountinfo").expect("read the mount table").lines().count()
}

fn count_mounts(options: &NodeOptions) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let before = mount_lines();
    let node = Node::open(options)?;
    print!("with the node: {}", mount_lines() - before);
    for (ephemeral, what) in [(false, "20 pods"), (true, "20 ephemeral ones")] {
        for number in 0..20 {
            let spec = PodSpec::new(format!("p{number}")).ephemeral(ephemeral);
            let pod = node.create_pod(&spec.hostname_files(true).volume(Volume::tmpfs("v", 4096)))?;
            if number % 10 == 0 {
                sleeper(&pod, "a");
            }
        }
        print!(", with {what}: {}", mount_lines() - before);
    }
    for pod in node.pods()? {
        pod.remove()?;
    }
    print!(", without pods: {}", mount_lines() - before);
    node.remove()?;
    println!(", without the node: {}", mount_lines() - before);
    Ok(())
}

fn umasked(options: &NodeOptions) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::open(options)?;
    let mode = fs::metadata(&options.state_dir)?.permissions().mode() & 0o7777;
    // Another program, with the usual umask, has to trust it, too.
    let again = Node::open(options)?;
    let pod = node.create_pod(&PodSpec::new("umasked").hostname_files(true))?;
    let spec = script("a", "cat /etc/hostname >/dev/shm/x && ls /dev/shm >/dev/null").user(1000, 1000);
    let ran = again.open_pod("umasked")?.run(&spec)?.success();
    println!("for others: {:o}, {}", mode & 0o077, if ran { "ran" } else { "failed" });
    pod.remove()?;
    node.remove()?;
    Ok(())
}
