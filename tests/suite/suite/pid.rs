//! PID namespaces: one a container, one a pod with an init that reaps, the host's, or another container's.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pericarp::spec::{CgroupNamespace, PidMode};
use pericarp::{Container, ContainerSpec, ErrorKind, ExitStatus, NamespaceKind, Pod, PodSpec, Stdio};

use crate::support::fixture::{facts, payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_container_is_process_1_of_its_own_namespace,
    containers_of_a_pod_can_share_one_namespace,
    orphans_are_reaped_by_the_pods_init,
    the_pods_init_has_nothing_and_is_the_sealed_image,
    the_pods_init_cannot_be_harmed_from_inside,
    the_pods_init_ends_with_the_pod,
    what_a_container_left_behind_ends_with_it_and_its_neighbours_stay,
    the_hosts_processes_are_seen_in_the_hosts_namespace,
    a_container_can_be_looked_at_from_another,
    containers_in_the_namespace_of_another_end_with_it,
    a_target_that_does_not_run_is_an_error,
    a_namespace_can_be_given_by_its_path,
    the_cgroup_namespace_can_be_the_hosts_or_anothers,
    one_container_can_differ_from_its_pod,
];

fn a_namespace_can_be_given_by_its_path() -> Outcome {
    let fixture = Fixture::new();
    let (pod, other) = (fixture.pod("web"), fixture.pod("other"));
    let host = start(&pod, script("host", "sleep 1000"));
    let path = PathBuf::from(format!("/proc/{}/ns/pid", host.pid()));
    let text = say(&other, script("guest", PROCESSES).pid(PidMode::Path(path.clone())));
    assert!(
        text.starts_with("1 ") && text.contains("sleep"),
        "the other container's processes are seen: {text}"
    );
    let guest = start(&other, script("guest", "sleep 1000").pid(PidMode::Path(path)));
    assert_eq!(pid_namespace(guest.pid()), pid_namespace(host.pid()));
    guest.remove()?;
    host.remove()?;
    for (path, kind) in [("/no/such/file", ErrorKind::NotFound), ("/proc/self/ns/net", ErrorKind::System)] {
        let spec = script("guest", "true").pid(PidMode::Path(path.into()));
        let error = other.create_container(&spec).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("PID namespace"), "{error}");
    }
    PASS
}

fn the_cgroup_namespace_can_be_the_hosts_or_anothers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let read = "grep ^0: /proc/self/cgroup";
    assert_eq!(say(&pod, script("own", read)), "0::/\n");
    let host = say(&pod, script("main", read).cgroup_namespace(CgroupNamespace::Host));
    assert!(host.ends_with(&format!("/{}/main\n", pod.id())), "{host}");
    // It sees the tree that the host has, whose mount stays as it is. Mutation: with a new cgroup2 in place of the copy,
    // the machine's mount had lost nsdelegate and memory_recursiveprot.
    let mounts = || -> std::io::Result<Vec<String>> {
        let all = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(all.lines().filter(|line| line.contains(" - cgroup2 ")).map(str::to_string).collect())
    };
    let before = mounts()?;
    let path = host.trim().strip_prefix("0::").ok_or("no path")?;
    let look = format!(
        "test -d /sys/fs/cgroup{path} && echo there; mkdir /sys/fs/cgroup/x 2>/dev/null || echo fixed"
    );
    let seen = say(&pod, script("main", &look).cgroup_namespace(CgroupNamespace::Host));
    assert_eq!(seen, "there\nfixed\n");
    assert!(!before.is_empty());
    assert_eq!(mounts()?, before);
    let spec = script("main", read).cgroup_namespace(CgroupNamespace::Path("/proc/self/ns/cgroup".into()));
    let error = pod.create_container(&spec).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("cgroupNamespace")), "{error}");
    let other = start(&pod, script("other", "sleep 1000"));
    let path = format!("/proc/{}/ns/cgroup", other.pid());
    let spec = script("main", "readlink /proc/self/ns/cgroup")
        .cgroup_namespace(CgroupNamespace::Path(path.clone().into()));
    let seen = say(&pod, spec);
    assert_eq!(seen.trim(), fs::read_link(path)?.to_string_lossy());
    PASS
}

fn start(pod: &Pod, spec: ContainerSpec) -> Container {
    let container = pod.create_container(&spec).expect("make a container");
    container.start().expect("start a container");
    container
}

fn pid_namespace(pid: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/pid")).expect("the namespace of a process").ino()
}

/// A script that lists what /proc shows: the pid and the command line of each process.
const PROCESSES: &str = "for dir in /proc/[0-9]*; do
    if read -r name <$dir/comm; then echo \"${dir#/proc/} $name\"; fi
done 2>/dev/null";

/// The process 1 of a pod's own PID namespace, as the host sees it.
fn init_of(pod: &Pod) -> i32 {
    let path = pod.cgroup_path().join("_init/cgroup.procs");
    let pids = fs::read_to_string(&path).expect("the cgroup of the pod's init");
    pids.trim().parse().unwrap_or_else(|_| panic!("not one process in {}: {pids:?}", path.display()))
}

fn status_of(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a process");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_string()
}

fn a_container_is_process_1_of_its_own_namespace() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    assert_eq!(facts(&pod, |spec| spec).pid, 1);
    let (a, b) = (start(&pod, inside("a", &["sleep"])), start(&pod, inside("b", &["sleep"])));
    assert_ne!(pid_namespace(a.pid()), pid_namespace(b.pid()));
    assert_ne!(pid_namespace(a.pid()), pid_namespace(std::process::id() as i32));
    assert_eq!(status_of(a.pid(), "NSpid").split('\t').next_back(), Some("1"));
    // Nothing of the host or of the neighbours is in its /proc. The shell is the only process: `read` is its own.
    assert_eq!(say(&pod, script("c", PROCESSES)), "1 sh\n");
    assert_eq!(say(&pod, script("d", "echo $$ $PPID")), "1 0\n");
    PASS
}

fn containers_of_a_pod_can_share_one_namespace() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let a = start(&pod, script("a", "echo up; sleep 1000; exit 1"));
    let seen = facts(&pod, |spec| spec);
    assert!(seen.pid > 1);
    assert_eq!(seen.namespaces["pid"], pid_namespace(a.pid()));
    assert_eq!(seen.namespaces["pid"], pod.namespace_inode(NamespaceKind::Pid)?);
    let own = status_of(a.pid(), "NSpid").split('\t').next_back().expect("a pid").to_string();
    let processes = say(&pod, script("b", PROCESSES));
    let lines: Vec<&str> = processes.lines().collect();
    assert_eq!(lines[0], "1 pericarp-init");
    assert!(lines.contains(&format!("{own} sh").as_str()), "{processes}");
    // Signals reach the neighbour: it is what the namespace is shared for.
    assert_eq!(say(&pod, script("c", &format!("kill -9 {own} && echo killed"))), "killed\n");
    assert_eq!(a.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    // Another program at the node starts containers there as well.
    let again = fixture.reopen().open_pod("web")?;
    assert_eq!(facts(&again, |spec| spec).namespaces["pid"], seen.namespaces["pid"]);
    PASS
}

fn orphans_are_reaped_by_the_pods_init() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    // Each orphan's parent ends at once. The script waits until none of them is there: a zombie would stay.
    let orphans = "
        i=0; while [ $i -lt 40 ]; do (sh -c 'exit 3' & echo $! >>/orphans); i=$((i+1)); done
        (sleep 1000 & echo $! >/long); kill -9 $(cat /long); cat /long >>/orphans
        for pid in $(cat /orphans); do while [ -d /proc/$pid ]; do :; done; done
        wc -l </orphans";
    let (container, text) = finish(&pod, script("a", orphans))?;
    assert_eq!(text.trim(), "41");
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    container.remove()?;
    // Those that outlive their container's first process, too.
    let (container, _) = finish(&pod, script("b", "sleep 1000 & sleep 1000 & echo up"))?;
    container.remove()?;
    let left = say(&pod, script("c", PROCESSES));
    assert_eq!(left.lines().count(), 2, "{left}");
    PASS
}

/// Runs a container that must end within a time that only a fault can use up.
fn finish(pod: &Pod, spec: ContainerSpec) -> Result<(Container, String), pericarp::Error> {
    let out = tempfile::NamedTempFile::new().expect("make a file");
    let container = pod.create_container(&spec.stdout(Stdio::File(out.path().to_path_buf())))?;
    container.start()?;
    let ended = container.wait_timeout(Some(Duration::from_secs(120)))?;
    assert!(ended.is_some(), "the container waits for ever");
    Ok((container, fs::read_to_string(out.path()).expect("read the output")))
}

fn the_pods_init_has_nothing_and_is_the_sealed_image() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let init = init_of(&pod);
    let exe = fs::read_link(format!("/proc/{init}/exe"))?.display().to_string();
    assert!(exe.contains("memfd:pericarp-init"), "{exe}");
    assert_eq!(fs::read_to_string(format!("/proc/{init}/comm"))?, "pericarp-init\n");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status_of(init, set), 16)?, 0, "{set}");
    }
    assert_eq!(status_of(init, "NoNewPrivs"), "1");
    assert_eq!(status_of(init, "NSpid"), format!("{init}\t1"));
    // The counters of /proc/PID/status are off by up to 64 pages for each of its three kinds; this walks the pages.
    let rollup = fs::read_to_string(format!("/proc/{init}/smaps_rollup"))?;
    let resident = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB"));
    let resident: u64 = resident.expect("a size of what is resident").trim().parse()?;
    let image = fs::metadata(format!("/proc/{init}/exe"))?.len().div_ceil(4096) * 4;
    assert!(
        (4..=image + 40).contains(&resident),
        "{resident} KiB are more than init's {image} and a few pages"
    );
    // Nothing is open (it closes its last files after the pod is told of), and nothing of the host is in sight.
    let open = || -> io::Result<Vec<_>> { fs::read_dir(format!("/proc/{init}/fd"))?.collect() };
    let closed = || open().is_ok_and(|open| open.is_empty());
    let patience = Instant::now() + Duration::from_secs(10);
    while !closed() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(closed(), "{:?}", open()?);
    let host = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).expect("a namespace").ino();
    let its = |kind: &str| fs::metadata(format!("/proc/{init}/ns/{kind}")).expect("a namespace").ino();
    for (kind, name) in [
        (NamespaceKind::Network, "net"),
        (NamespaceKind::Ipc, "ipc"),
        (NamespaceKind::Uts, "uts"),
        (NamespaceKind::Pid, "pid"),
    ] {
        assert_eq!(its(name), pod.namespace_inode(kind)?, "{name}");
    }
    for kind in ["mnt", "cgroup", "net", "ipc", "uts", "pid"] {
        assert_ne!(its(kind), host(kind), "{kind}");
    }
    assert!(!fs::exists(format!("/proc/{init}/root/etc"))?);
    let environment = fs::read(format!("/proc/{init}/environ"))?;
    assert!(environment.is_empty(), "{:?}", String::from_utf8_lossy(&environment));
    PASS
}

fn the_pods_init_cannot_be_harmed_from_inside() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let init = init_of(&pod);
    // Root of a container with its default capabilities.
    let attack = "for signal in KILL TERM INT HUP QUIT SEGV CHLD STOP TSTP; do kill -$signal 1; done
        kill -CONT 1
        for file in exe root cwd; do readlink /proc/1/$file && echo \"$file leaks\"; done
        cat /proc/1/environ /proc/1/maps && echo leaks
        ls /proc/1/fd
        true";
    let (container, text) = finish(&pod, script("a", attack))?;
    assert_eq!(text, "");
    container.remove()?;
    assert_eq!(init_of(&pod), init);
    assert!(!["T", "t", "Z"].contains(&&status_of(init, "State")[..1]), "{}", status_of(init, "State"));
    assert_eq!(say(&pod, script("b", "echo works")), "works\n");
    PASS
}

fn the_pods_init_ends_with_the_pod() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let init = init_of(&pod);
    let container = start(&pod, inside("a", &["sleep"]));
    // Stopping the pod ends its containers, not the pod.
    pod.stop(Duration::ZERO)?;
    assert!(matches!(container.wait()?, ExitStatus::Signaled { .. }));
    assert_eq!(init_of(&pod), init);
    assert_eq!(say(&pod, script("b", "echo works")), "works\n");
    pod.remove()?;
    assert!(!fs::exists(format!("/proc/{init}"))?, "process {init} is left");
    // Also when the pod's creation fails after it.
    let failing = PodSpec::new("bad").pid(PidMode::Pod).sysctl("net.ipv4.none", "1");
    assert!(fixture.node.create_pod(&failing).is_err());
    PASS
}

fn what_a_container_left_behind_ends_with_it_and_its_neighbours_stay() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Pod, PidMode::Host] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode.clone()))?;
        let neighbour = start(&pod, inside("neighbour", &["sleep"]));
        let (container, _) = finish(&pod, script("a", "setsid sleep 1000 & sleep 1000 & exit 6"))?;
        assert_eq!(container.wait()?, ExitStatus::Exited(6), "{mode:?}");
        let left = container.processes()?;
        // They were killed when the status was taken; what is listed is on its way out.
        for pid in left {
            let path = format!("/proc/{pid}/cgroup");
            let deadline = Instant::now() + Duration::from_secs(60);
            while fs::read_to_string(&path).is_ok_and(|cgroup| cgroup.contains(pod.id()) && running(pid)) {
                assert!(Instant::now() < deadline, "process {pid} goes on ({mode:?})");
                thread::yield_now();
            }
        }
        container.remove()?;
        assert_eq!(neighbour.try_wait()?, None, "{mode:?}");
        pod.remove()?;
    }
    PASS
}

fn running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

fn the_hosts_processes_are_seen_in_the_hosts_namespace() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Host))?;
    let container = start(&pod, inside("a", &["sleep"]));
    let me = std::process::id();
    assert_eq!(pid_namespace(container.pid()), pid_namespace(me as i32));
    let seen = say(&pod, script("b", &format!("cat /proc/{me}/comm /proc/{}/comm", container.pid())));
    let name = fs::read_to_string("/proc/self/comm")?;
    assert_eq!(seen, format!("{name}payload\n"));
    assert_eq!(pod.namespace_fd(NamespaceKind::Pid).unwrap_err().kind(), ErrorKind::NotFound);
    // Its pid is the one that the host knows.
    let third = start(
        &pod,
        script("c", "echo $$; read -r line").stdin(Stdio::Pipe).stdout(Stdio::File(fixture.path("pid"))),
    );
    drop(third.take_stdin());
    third.wait()?;
    assert_eq!(fs::read_to_string(fixture.path("pid"))?, format!("{}\n", third.pid()));
    PASS
}

fn a_container_can_be_looked_at_from_another() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let app = start(&pod, inside("app", &["sleep"]));
    let look = |name: &str, words: &str| script(name, words).pid(PidMode::Target("app".into()));
    assert_eq!(say(&pod, look("debug", "tr '\\0' ' ' </proc/1/cmdline")), "/payload payload sleep ");
    let processes = say(&pod, look("debug", PROCESSES));
    let names: Vec<&str> =
        processes.lines().filter_map(|line| line.split_once(' ')).map(|pair| pair.1).collect();
    assert_eq!(names, ["payload", "sh"], "{processes}");
    let seen = facts(&pod, |spec| spec.pid(PidMode::Target("app".into())));
    assert_eq!(seen.namespaces["pid"], pid_namespace(app.pid()));
    assert!(seen.pid > 1);
    // Only the processes are shared: files and the cgroup are its own.
    let of_app =
        |kind: &str| fs::metadata(format!("/proc/{}/ns/{kind}", app.pid())).expect("a namespace").ino();
    assert_ne!(seen.namespaces["mnt"], of_app("mnt"));
    assert_ne!(seen.namespaces["cgroup"], of_app("cgroup"));
    assert_eq!(app.try_wait()?, None);
    // Several at a time, and one that looks through another one.
    let first = start(&pod, inside("first", &["sleep"]).pid(PidMode::Target("app".into())));
    let through = facts(&pod, |spec| spec.pid(PidMode::Target("first".into())));
    assert_eq!(through.namespaces["pid"], pid_namespace(app.pid()));
    assert!(matches!(first.stop(Duration::ZERO)?, ExitStatus::Signaled { .. }));
    assert_eq!(app.try_wait()?, None, "the end of a guest ended its host");
    PASS
}

fn containers_in_the_namespace_of_another_end_with_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let app = start(&pod, inside("app", &["sleep"]));
    let guest = start(&pod, inside("guest", &["sleep"]).pid(PidMode::Target("app".into())));
    let killed = Some(ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    // The kernel lets process 1 of a namespace end when all others in it are reaped, and not before: who waits for it
    // must not have to know that a guest, which is a child of this program, is to be waited for first.
    app.kill()?;
    let app_ended = app.wait_timeout(Some(Duration::from_secs(20)))?;
    let guest_ended = guest.wait_timeout(Some(Duration::from_secs(120)))?;
    assert_eq!((app_ended, guest_ended), (killed, killed));
    app.remove()?;
    guest.remove()?;
    // Nor who stops them all.
    let app = start(&pod, inside("app", &["sleep"]));
    let guest = start(&pod, inside("guest", &["sleep"]).pid(PidMode::Target("app".into())));
    pod.stop(Duration::ZERO)?;
    assert_eq!((app.try_wait()?, guest.try_wait()?.is_some()), (killed, true));
    PASS
}

fn a_target_that_does_not_run_is_an_error() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let guest = |target: &str| inside("guest", &["sleep"]).pid(PidMode::Target(target.into()));
    let missing = pod.create_container(&guest("none")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    assert!(missing.to_string().contains("none"), "{missing}");
    // Ended and asked, ended and nobody asked yet, killed.
    let (asked, unasked) = (start(&pod, script("asked", "true")), start(&pod, script("unasked", "true")));
    asked.wait()?;
    // Waiting by the pidfd alone takes no status.
    let pidfd = unasked.pidfd().expect("it was made here").as_raw_fd();
    let mut poll = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, and its number is given.
    assert_eq!(unsafe { libc::poll(&mut poll, 1, 120_000) }, 1);
    let killed = start(&pod, inside("killed", &["sleep"]));
    killed.stop(Duration::ZERO)?;
    for target in ["asked", "unasked", "killed"] {
        let error = pod.create_container(&guest(target)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongState, "{error}");
        assert!(error.to_string().contains(target), "{error}");
    }
    // Itself, nothing, and what is no name.
    for target in ["guest", "", "../app", "a/b"] {
        let error = pod.create_container(&guest(target)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{target:?}: {error}");
    }
    assert_eq!(pod.container("guest").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!pod.cgroup_path().join("guest").exists());
    // A pod cannot have a target.
    let spec = PodSpec::new("bad").pid(PidMode::Target("app".into()));
    assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
    PASS
}

fn one_container_can_differ_from_its_pod() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let alone = facts(&pod, |spec| spec.pid(PidMode::Container));
    assert_eq!(alone.pid, 1);
    assert_ne!(alone.namespaces["pid"], pod.namespace_inode(NamespaceKind::Pid)?);
    let host = facts(&pod, |spec| spec.pid(PidMode::Host));
    assert_eq!(host.namespaces["pid"], pid_namespace(std::process::id() as i32));
    // A pod without a namespace of its own has none that a container could ask for.
    let plain = fixture.pod("plain");
    let error = plain.create_container(&inside("a", &["sleep"]).pid(PidMode::Pod)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    // Reading what a container says ends with it, though a neighbour goes on.
    let spec = script("b", "echo hello").stdout(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let mut out = BufReader::new(container.take_stdout().expect("a pipe"));
    container.start()?;
    let (mut line, mut rest) = (String::new(), String::new());
    out.read_line(&mut line)?;
    out.read_to_string(&mut rest)?;
    assert_eq!((line.as_str(), rest.as_str()), ("hello\n", ""));
    PASS
}
