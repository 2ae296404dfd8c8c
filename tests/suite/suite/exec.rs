//! Other programs in a container that there is already.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pericarp::spec::{Capabilities, Capability, PidMode, RlimitResource, SeccompProfile, Security, Stdio};
use pericarp::{
    Container, ContainerSpec, ContainerStatus, ErrorKind, ExecSpec, ExitStatus, Pod, PodSpec, Process,
};

use crate::robust::trace::{Call, Then, is_local, name, trace};
use crate::robust::{again, in_guest};
use crate::support::fixture::{payload as inside, script};
use crate::support::{Done, Facts, Fixture, Outcome, PASS};

crate::tests![
    it_is_in_all_namespaces_and_the_cgroup_of_the_container,
    it_has_what_the_container_has,
    it_has_no_file_of_the_host,
    its_specification_takes_precedence,
    it_has_more_than_the_container_only_when_that_is_said,
    streams_and_statuses_are_its_own,
    the_errors_say_what_is_wrong,
    a_container_that_was_not_started_can_be_entered,
    a_container_that_is_being_made_cannot,
    a_frozen_or_ended_container_cannot_be_entered,
    every_pid_namespace_can_be_entered,
    it_ends_with_its_container,
    it_ends_with_its_container_whichever_handle_executed_it,
    nobody_has_to_wait_for_it,
    another_program_enters,
    death_at_any_system_call_leaves_the_container_as_it_was,
    a_container_can_be_removed_while_it_is_entered,
];

/// The commands of other programs, and of containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["exec-once", state_dir] => {
            let pod = again::node(state_dir).open_pod("web").expect("open the pod");
            let container = pod.container("a").expect("open the container");
            let process = container.exec(&ExecSpec::new(["/bin/sh", "-c", "exit 21"])).expect("execute");
            println!("{}", process.wait().expect("wait"));
        }
        ["exec-test", "kill"] => again::body(kill_everywhere()),
        _ => return false,
    }
    true
}

/// A container that does nothing, with the payload at `/payload`.
pub fn sleeper(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Container {
    let container = pod.create_container(&change(inside("a", &["sleep"]))).expect("make a container");
    container.start().expect("start the container");
    container
}

/// What a program writes that exits with 0.
pub fn said(container: &Container, spec: ExecSpec) -> String {
    let process = container.exec(&spec.stdout(Stdio::Pipe)).expect("execute");
    let text = std::io::read_to_string(process.take_stdout().expect("a pipe")).expect("read");
    let status = process.wait().expect("wait");
    assert!(status.success(), "{status}: {text}");
    text
}

pub fn sh(command: &str) -> ExecSpec {
    ExecSpec::new(["/bin/sh", "-c", command])
}

pub fn facts(container: &Container, change: impl FnOnce(ExecSpec) -> ExecSpec) -> Facts {
    let text = said(container, change(ExecSpec::new(["/payload", "payload", "facts"])));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The namespaces of a process as the host sees them.
pub fn namespaces(pid: i32) -> BTreeMap<String, u64> {
    let dir = fs::read_dir(format!("/proc/{pid}/ns")).expect("read the namespaces");
    dir.flatten()
        .map(|entry| {
            let inode = fs::metadata(entry.path()).expect("a namespace").ino();
            (entry.file_name().to_string_lossy().into_owned(), inode)
        })
        .collect()
}

/// Those of the kinds that the facts have.
fn named(facts: &Facts, all: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    assert!(facts.namespaces.len() >= 7, "{facts:?}");
    all.iter()
        .filter(|(kind, _)| facts.namespaces.contains_key(*kind))
        .map(|(k, v)| (k.clone(), *v))
        .collect()
}

fn it_is_in_all_namespaces_and_the_cgroup_of_the_container() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    let seen = facts(&container, |spec| spec);
    let expected = namespaces(container.pid());
    assert_eq!(seen.namespaces, named(&seen, &expected));
    assert_ne!(seen.namespaces["mnt"], namespaces(std::process::id() as i32)["mnt"]);
    assert_eq!(seen.cgroup.lines().find(|line| line.starts_with("0::")), Some("0::/"));
    // As the host sees it, while it runs.
    let process = container.exec(&ExecSpec::new(["/payload", "payload", "sleep"]))?;
    let cgroup = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup"));
    let own = |text: String| text.lines().find(|line| line.starts_with("0::")).map(str::to_string);
    assert_eq!(own(cgroup(process.pid())?), own(cgroup(container.pid())?));
    assert_eq!(namespaces(process.pid()), expected);
    assert_eq!(container.processes()?.len(), 2);
    assert!(container.processes()?.contains(&process.pid()));
    let link = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/{name}"));
    assert_eq!(link(process.pid(), "root")?, link(container.pid(), "root")?);
    process.kill()?;
    assert_eq!(process.wait()?, ExitStatus::Signaled { signal: 9, core_dumped: false });
    assert_eq!(container.status()?, ContainerStatus::Running);
    PASS
}

fn it_has_what_the_container_has() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for (user, no_new_privileges) in [(0, true), (1000, true), (0, false)] {
        let change = |spec: ContainerSpec| {
            spec.user(user, user)
                .additional_gids([7, 8])
                .env("GREETING", "hello")
                .cwd("/usr")
                .umask(0o027)
                .rlimit(RlimitResource::Nofile, 77, 88)
                .security(Security::default().no_new_privileges(no_new_privileges))
        };
        let mut own = crate::support::fixture::facts(&pod, change);
        let container = sleeper(&pod, change);
        let mut seen = facts(&container, |spec| spec);
        for key in
            ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"]
                .into_iter()
                .chain(["Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt"])
        {
            assert_eq!(seen.status.get(key), own.status.get(key), "{key} of user {user}");
        }
        assert_eq!((seen.env.remove("_"), own.env.remove("_")), (None, None));
        assert_eq!((seen.env, seen.cwd, seen.umask), (own.env, own.cwd, own.umask));
        assert_eq!((seen.hostname, seen.limits), (own.hostname, own.limits));
        assert_eq!(seen.oom_score_adj, own.oom_score_adj);
        // Process 1 is the container's, and it leads a session of its own.
        assert!(seen.pid > 1 && seen.session == seen.pid as i32, "{} {}", seen.pid, seen.session);
        container.remove()?;
    }
    PASS
}

fn it_has_no_file_of_the_host() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    // Files that close on exec and such that do not.
    let kept = fs::File::open("/etc/hostname").or_else(|_| fs::File::open("/proc/version"))?;
    nix::fcntl::fcntl(&kept, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    for stdio in [Stdio::Null, Stdio::Pipe] {
        let seen = facts(&container, |spec| spec.stdin(stdio.clone()).stderr(stdio));
        assert_eq!(seen.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{:?}", seen.fds);
    }
    // The files that it lists are its own streams, on which the null device is.
    let text = said(&container, sh("for i in 0 2; do readlink /proc/self/fd/$i; done; cat /proc/self/comm"));
    assert_eq!(text, "/dev/null\n/dev/null\ncat\n");
    PASS
}

fn its_specification_takes_precedence() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| {
        spec.env("A", "1")
            .env("B", "2")
            .rlimit(RlimitResource::Nofile, 77, 88)
            .user(5, 6)
            .additional_gids([9])
    });
    let change = |spec: ExecSpec| {
        spec.user(1000, 1001)
            .additional_gids([4])
            .cwd("/usr/bin")
            .umask(0o077)
            .env("B", "3")
            .env("C", "4")
            .rlimit(RlimitResource::Nofile, 60, 61)
            .rlimit(RlimitResource::Core, 0, 0)
            .capabilities(Capabilities::none().with_ambient(Capability::CAP_KILL))
    };
    let seen = facts(&container, change);
    let kill = format!("{:016x}", Capability::CAP_KILL.bitmask());
    for key in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(seen.status[key], kill, "{key}");
    }
    assert_eq!(seen.status["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!(seen.status["Gid"], "1001\t1001\t1001\t1001");
    assert_eq!(seen.status["Groups"], "4");
    assert_eq!((seen.cwd.as_str(), seen.umask), ("/usr/bin", 0o077));
    let limit = |name: &str| {
        let line = seen.limits.iter().find(|line| line.starts_with(name)).expect("a limit");
        line[name.len()..].split_ascii_whitespace().take(2).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        (limit("Max open files"), limit("Max core file size")),
        (vec!["60".to_string(), "61".to_string()], vec!["0".to_string(), "0".to_string()])
    );
    assert_eq!((seen.env["A"].as_str(), seen.env["B"].as_str(), seen.env["C"].as_str()), ("1", "3", "4"));
    let seen = facts(&container, |spec| spec.inherit_env(false).env("C", "4"));
    assert_eq!(seen.env.keys().map(String::as_str).collect::<Vec<_>>(), ["C", "PATH"]);
    let seen = facts(&container, |spec| spec.seccomp(SeccompProfile::Unconfined).no_new_privileges(false));
    assert_eq!((seen.status["Seccomp"].as_str(), seen.status["NoNewPrivs"].as_str()), ("0", "0"));
    PASS
}

fn it_has_more_than_the_container_only_when_that_is_said() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    let read = "grep ^CapEff: /proc/self/status";
    let own = said(&container, sh(read));
    let more = said(&container, sh(read).capabilities(Capabilities::none().with(Capability::CAP_SYS_ADMIN)));
    assert_eq!(own, "CapEff:\t00000000a80425fb\n");
    assert_eq!(more, "CapEff:\t0000000000200000\n");
    PASS
}

fn streams_and_statuses_are_its_own() -> Outcome {
    use std::io::Write;
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    let spec = sh("read line; echo got $line; echo error >&2; exit 33");
    let process =
        container.exec(&spec.stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe).user(1000, 1000))?;
    assert_eq!(process.try_wait()?, None);
    assert_eq!(process.wait_timeout(Some(Duration::from_millis(20)))?, None);
    process.take_stdin().expect("a pipe").write_all(b"it\n")?;
    assert!(process.take_stdin().is_none());
    let out = std::io::read_to_string(process.take_stdout().expect("a pipe"))?;
    let err = std::io::read_to_string(process.take_stderr().expect("a pipe"))?;
    assert_eq!((out.as_str(), err.as_str()), ("got it\n", "error\n"));
    let again = process.clone();
    assert_eq!(process.wait()?, ExitStatus::Exited(33));
    assert_eq!((again.wait()?, again.try_wait()?), (ExitStatus::Exited(33), Some(ExitStatus::Exited(33))));
    assert_eq!(process.signal(15).unwrap_err().kind(), ErrorKind::WrongState);
    process.kill()?;
    assert_eq!((process.container().name(), process.pid() > 1), ("a", true));
    // Many at once.
    let processes: Vec<Process> =
        (0..20).map(|i| container.exec(&sh(&format!("exit {i}")))).collect::<Result<_, _>>()?;
    for (i, process) in processes.iter().enumerate() {
        assert_eq!(process.wait()?, ExitStatus::Exited(i as i32));
    }
    let process = container.exec(&sh("kill -TERM $$; sleep 10"))?;
    assert_eq!(process.wait()?, ExitStatus::Signaled { signal: libc::SIGTERM, core_dumped: false });
    PASS
}

fn the_errors_say_what_is_wrong() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    for (spec, kind, words) in [
        (ExecSpec::new(["/no/such"]), ErrorKind::Exec, "execute \"/no/such\": ENOENT"),
        (ExecSpec::new(["no-such-program"]), ErrorKind::Exec, "execute \"no-such-program\": ENOENT"),
        (ExecSpec::new(["/etc"]), ErrorKind::Exec, "execute \"/etc\": EACCES"),
        (
            sh("true").cwd("/no/where"),
            ErrorKind::NotFound,
            "change the working directory to /no/where: ENOENT",
        ),
        (sh("true").cwd("relative"), ErrorKind::InvalidSpec, "cwd"),
        (ExecSpec::new([""; 0]), ErrorKind::InvalidSpec, "args"),
        (sh("true").user(u32::MAX, 0), ErrorKind::InvalidSpec, "user"),
    ] {
        let error = container.exec(&spec).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("in container \"a\" of pod web"), "{text}");
    }
    // Nothing of them is left.
    assert_eq!(container.processes()?, [container.pid()]);
    PASS
}

fn a_container_that_was_not_started_can_be_entered() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for detached in [false, true] {
        let made = pod.create_container(&script("a", "exit 4").env("A", "1").detached(detached))?;
        for container in [&made, &pod.container("a")?] {
            assert_eq!(said(container, sh("echo $A; cat /proc/1/comm")), "1\nmemfd:pericarp-\n");
        }
        assert_eq!(made.status()?, ContainerStatus::Created);
        made.start()?;
        assert_eq!(made.wait()?, ExitStatus::Exited(4));
        made.remove()?;
    }
    PASS
}

/// As soon as another program can open a container it may try. While init still builds the root filesystem, its root is
/// that of the template. With the comparison in `src/init/enter.rs` taken out, the program is then looked for there:
/// "execute "/bin/sh": ENOENT" after a few rounds.
fn a_container_that_is_being_made_cannot() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (over, entered, early) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let enter = || {
        while !over.load(Ordering::Relaxed) {
            let Ok(container) = pod.container("a") else { continue };
            match container.exec(&sh("true")) {
                Ok(process) => {
                    // The container may end meanwhile.
                    let _ = process.wait();
                    entered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::Exec => panic!("{error}"),
                Err(error) if error.to_string().contains("still being made") => {
                    assert_eq!(error.kind(), ErrorKind::WrongState);
                    early.fetch_add(1, Ordering::Relaxed);
                }
                // It is gone again.
                Err(_) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(enter)).collect();
        let end = Done(&over);
        // Mounts take init some time.
        let spec = (0..200).fold(script("a", "true"), |spec, i| {
            spec.mount(pericarp::Mount::tmpfs(format!("/mnt/{i}"), 4096))
        });
        for _ in 0..if in_guest() { 5 } else { 40 } {
            let ran = pod.run(&spec);
            assert!(ran.is_ok_and(ExitStatus::success));
        }
        drop(end);
        for thread in threads {
            thread.join().expect("a thread that enters");
        }
    });
    eprintln!("exec: entered {entered:?} containers, {early:?} were still being made");
    assert!(early.load(Ordering::Relaxed) > 0);
    PASS
}

fn a_frozen_or_ended_container_cannot_be_entered() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = sleeper(&pod, |spec| spec);
    container.freeze()?;
    assert_eq!(container.exec(&sh("true")).unwrap_err().kind(), ErrorKind::WrongState);
    container.thaw()?;
    pod.freeze()?;
    assert_eq!(container.exec(&sh("true")).unwrap_err().kind(), ErrorKind::WrongState);
    pod.thaw()?;
    assert!(container.exec(&sh("true"))?.wait()?.success());
    container.stop(Duration::ZERO)?;
    for container in [&container, &pod.container("a")?] {
        let error = container.exec(&sh("true")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongState);
        assert!(error.to_string().ends_with("it has ended"), "{error}");
    }
    container.remove()?;
    assert_eq!(container.exec(&sh("true")).unwrap_err().kind(), ErrorKind::WrongState);
    PASS
}

fn every_pid_namespace_can_be_entered() -> Outcome {
    let fixture = Fixture::new();
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let own = fixture.pod("own");
    let host = own.create_container(&inside("host", &["sleep"]))?;
    host.start()?;
    for (pod, mode) in [
        (&shared, PidMode::Pod),
        (&own, PidMode::Container),
        (&own, PidMode::Host),
        (&own, PidMode::Target("host".to_string())),
    ] {
        let container = sleeper(pod, |spec| spec.pid(mode.clone()));
        let seen = facts(&container, |spec| spec);
        assert_eq!(seen.namespaces, named(&seen, &namespaces(container.pid())), "{mode:?}");
        assert_eq!(seen.session, seen.pid as i32, "{mode:?}");
        let process = container.exec(&ExecSpec::new(["/payload", "payload", "sleep"]))?;
        container.remove()?;
        assert_eq!(process.wait()?, ExitStatus::Signaled { signal: 9, core_dumped: false }, "{mode:?}");
    }
    PASS
}

fn it_ends_with_its_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let sleep = ExecSpec::new(["/payload", "payload", "sleep"]);
    let killed = ExitStatus::Signaled { signal: 9, core_dumped: false };
    // By the end of process 1, which somebody waits for.
    let container = sleeper(&pod, |spec| spec);
    let waiter = std::thread::spawn({
        let container = container.clone();
        move || container.wait()
    });
    let processes = [container.exec(&sleep)?, container.exec(&sleep)?];
    container.signal(libc::SIGKILL)?;
    assert_eq!(waiter.join().expect("the waiter")?, killed);
    for process in &processes {
        assert_eq!(process.wait()?, killed);
    }
    container.remove()?;
    // By a stop, a removal, and the removal of the pod.
    for round in 0..3 {
        let container = sleeper(&pod, |spec| spec);
        let process = container.exec(&sleep)?;
        match round {
            0 => drop(container.stop(Duration::from_millis(1))?),
            1 => container.remove()?,
            _ => pod.remove()?,
        }
        assert_eq!(process.wait()?, killed, "round {round}");
        if round == 0 {
            container.remove()?;
        }
    }
    PASS
}

/// Programs are children of this one whichever handle of the node they were executed by.
///
/// Mutation: with a list of guests for each handle the first stop hung.
fn it_ends_with_its_container_whichever_handle_executed_it() -> Outcome {
    let fixture = Fixture::new();
    let (pod, other) = (fixture.pod("web"), fixture.reopen().open_pod("web")?);
    let sleep = ExecSpec::new(["/payload", "payload", "sleep"]);
    let killed = ExitStatus::Signaled { signal: 9, core_dumped: false };
    for round in 0..4 {
        let container = sleeper(&pod, |spec| spec);
        let process = other.container(container.name())?.exec(&sleep)?;
        // So are containers in its PID namespace.
        let target = PidMode::Target(container.name().to_string());
        let guest = other.create_container(&inside("guest", &["sleep"]).pid(target))?;
        guest.start()?;
        let (pod, ends) = (pod.clone(), container.clone());
        again::in_time("the end of the container", move || -> pericarp::Result<()> {
            match round {
                0 => drop(ends.stop(Duration::from_millis(1))?),
                1 => ends.signal(libc::SIGKILL).and_then(|()| ends.wait()).map(drop)?,
                2 => return ends.remove(),
                _ => return pod.remove(),
            }
            ends.remove()
        })?;
        // The handle is told all the same.
        assert_eq!((process.wait()?, guest.wait()?), (killed, killed), "round {round}");
        if round < 3 {
            guest.remove()?;
        }
    }
    PASS
}

/// The statuses of programs that nobody asks for are taken with the next execution, so that a container that is probed
/// every second does not fill the machine with zombies.
fn nobody_has_to_wait_for_it() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    let files = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut most = 0;
    for _ in 0..100 {
        let process = container.exec(&sh("true"))?;
        // It has ended, and is left as it is.
        let mut files = [nix::poll::PollFd::new(process.pidfd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut files, 60_000u16), Ok(1));
        drop(process);
        most = most.max(container.processes()?.len());
    }
    assert!(most <= 2, "{most} processes and zombies");
    assert!(files() < 1000);
    PASS
}

fn another_program_enters() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    assert_eq!(again::run(&["exec-once", &again::word(&fixture)]), "exited with 21\n");
    assert_eq!(container.processes()?, [container.pid()]);
    PASS
}

fn death_at_any_system_call_leaves_the_container_as_it_was() -> Outcome {
    again::alone(&["exec-test", "kill"])
}

fn kill_everywhere() -> Outcome {
    let fixture = Fixture::new();
    let container = sleeper(&fixture.pod("web"), |spec| spec);
    let state_dir = again::word(&fixture);
    let mut killed = 0;
    for k in (1..).step_by(if in_guest() { 7 } else { 1 }) {
        let (mut count, mut at) = (0, None);
        trace(&["exec-once", &state_dir], false, &mut |call: &Call| {
            if call.result.is_some() || is_local(call.number) {
                return Then::Go;
            }
            count += 1;
            if count != k {
                return Then::Go;
            }
            at = Some(format!("call {k}, {} of {:?}", name(call.number), call.who));
            Then::Kill
        });
        let Some(at) = at else { break };
        killed += 1;
        // What was on its way ends by itself, whether it became the program or not.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while container.processes()? != [container.pid()] {
            assert!(std::time::Instant::now() < deadline, "killed at {at}: {:?}", container.processes());
            std::thread::yield_now();
        }
        assert!(container.exec(&sh("true"))?.wait()?.success(), "killed at {at}");
        assert_eq!(fixture.node.recover()?.removed_containers, [""; 0], "killed at {at}");
    }
    eprintln!("exec: killed at {killed} places");
    assert!(killed > 10);
    PASS
}

fn a_container_can_be_removed_while_it_is_entered() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for _ in 0..if in_guest() { 2 } else { 6 } {
        let container = sleeper(&pod, |spec| spec);
        let ready = std::sync::Barrier::new(5);
        let (entered, refused) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    ready.wait();
                    for _ in 0..50 {
                        match container.exec(&ExecSpec::new(["/payload", "payload", "sleep"])) {
                            Ok(process) => {
                                assert!(!process.wait().expect("wait").success());
                                entered.fetch_add(1, Ordering::Relaxed)
                            }
                            Err(error) if error.kind() == ErrorKind::WrongState => {
                                refused.fetch_add(1, Ordering::Relaxed)
                            }
                            Err(error) => panic!("{error}"),
                        };
                    }
                });
            }
            ready.wait();
            while entered.load(Ordering::Relaxed) == 0 && container.processes().is_ok_and(|all| all.len() < 4)
            {
                std::thread::yield_now();
            }
            container.remove().expect("remove the container");
        });
        assert_eq!(entered.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed), 200);
    }
    PASS
}
