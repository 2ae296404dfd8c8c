//! How containers end: by themselves, when asked, when killed; and waiting for it.

use std::fs;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pericarp::spec::{PidMode, Stdio};
use pericarp::{Container, ContainerStatus, ErrorKind, ExitStatus, Pod, PodSpec};

use crate::stdio::Shell;
use crate::support::fixture::{payload, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_container_that_hears_the_stop_signal_ends_by_itself,
    a_stop_signal_of_ones_own_is_sent,
    a_container_that_does_not_hear_is_killed_after_the_grace,
    a_container_that_was_never_started_is_stopped_at_once,
    any_number_of_threads_get_the_same_status,
    stop_and_kill_from_many_threads_agree,
    waiting_can_end_before_the_container,
    signals_to_what_has_ended_are_refused,
    every_signal_is_told_as_the_kernel_tells_it,
    a_frozen_container_does_nothing_and_can_be_thawed,
    a_frozen_container_can_be_killed,
    a_signal_for_all_reaches_each_process_that_there_is,
    a_signal_for_all_leaves_a_frozen_container_frozen,
    processes_are_listed_as_the_host_sees_them,
    what_the_first_process_leaves_behind_is_killed,
    a_dropped_handle_ends_nothing,
    a_container_that_was_never_started_ends_with_its_last_handle,
];

/// Longer than anything takes here: only a guard against hanging.
const LONG: Duration = Duration::from_secs(60);

/// A container that says when it is ready for signals.
fn ready(pod: &Pod, name: &str, command: &str) -> Container {
    let spec = script(name, command).stdout(Stdio::Pipe);
    start_ready(pod, &spec)
}

fn start_ready(pod: &Pod, spec: &pericarp::ContainerSpec) -> Container {
    let container = pod.create_container(spec).expect("make a container");
    let mut stdout = container.take_stdout().expect("a pipe");
    container.start().expect("start");
    let mut word = [0; 6];
    std::io::Read::read_exact(&mut stdout, &mut word).expect("read");
    assert_eq!(&word, b"ready\n");
    container
}

const DEAF: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

/// A descriptor of a process that is not our child.
fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: the call takes two numbers and returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "pidfd_open {pid}: {}", std::io::Error::last_os_error());
    // SAFETY: it was just made, and is nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Whether a process ends, waiting for it.
fn ends(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(LONG).expect("a timeout")).expect("poll") == 1
}

fn a_container_that_hears_the_stop_signal_ends_by_itself() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = ready(&pod, "a", "trap 'exit 7' TERM; sleep 1000 & echo ready; wait");
    assert_eq!(container.stop(LONG)?, ExitStatus::Exited(7));
    // Also what it left behind is gone, and stopping again says the same.
    assert!(container.processes()?.is_empty());
    assert_eq!(container.stop(LONG)?, ExitStatus::Exited(7));
    assert_eq!(container.status()?, ContainerStatus::Exited(Some(ExitStatus::Exited(7))));
    PASS
}

fn a_stop_signal_of_ones_own_is_sent() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let command = "trap 'exit 1' TERM; trap 'exit 3' QUIT; sleep 1000 & echo ready; wait";
    let spec = script("a", command).stop_signal(libc::SIGQUIT).stdout(Stdio::Pipe);
    assert_eq!(start_ready(&pod, &spec).stop(LONG)?, ExitStatus::Exited(3));
    PASS
}

fn a_container_that_does_not_hear_is_killed_after_the_grace() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    let container = ready(&pod, "a", DEAF);
    assert_eq!(container.stop(Duration::from_millis(50))?, killed);
    assert!(container.processes()?.is_empty());
    let container = ready(&pod, "b", DEAF);
    assert_eq!(container.stop(Duration::ZERO)?, killed);
    PASS
}

fn a_container_that_was_never_started_is_stopped_at_once() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "true"))?;
    // With any other outcome this would take an hour.
    let status = container.stop(Duration::from_secs(3600))?;
    assert_eq!(status, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
    PASS
}

fn any_number_of_threads_get_the_same_status() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "read x; exit 9").stdin(Stdio::Pipe))?;
    let stdin = container.take_stdin();
    container.start()?;
    let others = [container.clone(), pod.container("a")?, fixture.reopen().open_pod("web")?.container("a")?];
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..12)
            .map(|i| {
                let container = &others[i % others.len()];
                scope.spawn(move || container.wait())
            })
            .collect();
        drop(stdin);
        waiting.into_iter().map(|thread| thread.join().expect("a waiting thread")).collect()
    });
    for status in statuses {
        assert_eq!(status?, ExitStatus::Exited(9));
    }
    // Also later, and from a handle that was opened when all was over.
    assert_eq!(container.wait()?, ExitStatus::Exited(9));
    assert_eq!(pod.container("a")?.try_wait()?, Some(ExitStatus::Exited(9)));
    PASS
}

fn stop_and_kill_from_many_threads_agree() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = ready(&pod, "a", DEAF);
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    std::thread::scope(|scope| {
        for i in 0..9 {
            let container = &container;
            scope.spawn(move || match i % 3 {
                0 => assert_eq!(container.stop(Duration::ZERO).expect("stop"), killed),
                1 => container.kill().expect("kill"),
                _ => assert_eq!(container.wait().expect("wait"), killed),
            });
        }
    });
    container.kill()?;
    assert_eq!(container.wait()?, killed);
    PASS
}

fn waiting_can_end_before_the_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&payload("a", &["sleep"]))?;
    assert_eq!(container.try_wait()?, None);
    container.start()?;
    assert_eq!(container.try_wait()?, None);
    assert_eq!(container.wait_timeout(Some(Duration::from_millis(20)))?, None);
    assert_eq!(container.status()?, ContainerStatus::Running);
    container.kill()?;
    assert!(container.wait_timeout(Some(LONG))?.is_some());
    PASS
}

fn signals_to_what_has_ended_are_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("a", "true"))?;
    container.start()?;
    container.wait()?;
    for handle in [container.clone(), pod.container("a")?] {
        assert_eq!(handle.signal(libc::SIGTERM).unwrap_err().kind(), ErrorKind::WrongState);
        handle.kill()?;
    }
    PASS
}

fn every_signal_is_told_as_the_kernel_tells_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    // Not as process 1, so that default actions apply.
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR2, libc::SIGKILL, 64] {
        let container = pod.create_container(&payload("a", &["sleep"]))?;
        container.start()?;
        container.signal(signal)?;
        assert_eq!(container.wait()?, ExitStatus::Signaled { signal, core_dumped: false });
        container.remove()?;
    }
    for code in [0, 1, 128, 255] {
        assert_eq!(pod.run(&script("a", &format!("exit {code}")))?, ExitStatus::Exited(code));
    }
    PASS
}

/// A line of the container's cgroup.events.
fn event(container: &Container, key: &str) -> Option<String> {
    let path = container.pod().cgroup_path().join(container.name()).join("cgroup.events");
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_string())
}

fn a_frozen_container_does_nothing_and_can_be_thawed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut shell = Shell::start(&pod, script("a", ""));
    assert_eq!(shell.run("echo before"), "before\n");
    shell.container.freeze()?;
    shell.container.freeze()?;
    assert_eq!(event(&shell.container, "frozen").as_deref(), Some("1"));
    let file = fixture.path("x");
    fs::write(&file, "")?;
    shell.send("echo after\n");
    assert_eq!(shell.container.wait_timeout(Some(Duration::from_millis(100)))?, None);
    assert_eq!(shell.container.status()?, ContainerStatus::Running);
    assert_eq!(event(&shell.container, "frozen").as_deref(), Some("1"), "still");
    shell.container.thaw()?;
    assert_eq!(event(&shell.container, "frozen").as_deref(), Some("0"));
    assert_eq!(shell.line(), "after\n");
    PASS
}

fn a_frozen_container_can_be_killed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    let a = ready(&pod, "a", DEAF);
    a.freeze()?;
    a.kill()?;
    assert_eq!(a.wait()?, killed);
    let b = ready(&pod, "b", DEAF);
    b.freeze()?;
    assert_eq!(b.stop(Duration::from_millis(20))?, killed);
    let c = ready(&pod, "c", DEAF);
    c.freeze()?;
    c.remove()?;
    assert_eq!(c.wait()?, killed);
    PASS
}

/// Three processes that end when they hear the signal, and start another one on that, which does not hear it.
fn a_signal_for_all_reaches_each_process_that_there_is() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let hear = "trap 'heard=1' 37; echo ready; while [ -z \"$heard\" ]; do sleep 0.01; done";
    let late = "sh -c 'trap \"echo late heard\" 37; sleep 0.1; echo late'";
    let text = format!("({hear}; {late}) & ({hear}; {late}) & {hear}; wait; echo all; exit 6");
    let container = pod.create_container(&script("a", &text).stdout(Stdio::Pipe))?;
    let mut stdout = std::io::BufReader::new(container.take_stdout().expect("a pipe"));
    container.start()?;
    for _ in 0..3 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut line)?;
        assert_eq!(line, "ready\n");
    }
    container.signal_all(37)?;
    assert_eq!(container.wait_timeout(Some(LONG))?, Some(ExitStatus::Exited(6)));
    assert_eq!(std::io::read_to_string(stdout)?, "late\nlate\nall\n");
    assert_eq!(container.signal_all(37).unwrap_err().kind(), ErrorKind::WrongState);
    PASS
}

fn a_signal_for_all_leaves_a_frozen_container_frozen() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = ready(&pod, "a", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done");
    container.freeze()?;
    container.signal_all(libc::SIGUSR1)?;
    assert!(container.is_frozen()?);
    assert_eq!(container.try_wait()?, None);
    container.thaw()?;
    assert_eq!(container.wait_timeout(Some(LONG))?, Some(ExitStatus::Exited(7)));
    let other = ready(&pod, "b", DEAF);
    other.signal_all(libc::SIGKILL)?;
    assert_eq!(other.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    PASS
}

fn processes_are_listed_as_the_host_sees_them() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = ready(&pod, "a", "sleep 1000 & sleep 1000 & echo ready; wait");
    let pids = container.processes()?;
    assert!(pids.len() == 3 && pids.is_sorted() && pids.contains(&container.pid()), "{pids:?}");
    for pid in &pids {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        assert!(
            cgroup.lines().any(|line| line.starts_with("0::") && line.ends_with(&format!("{}/a", pod.id()))),
            "{cgroup}"
        );
    }
    container.kill()?;
    container.wait()?;
    for pid in pids {
        if let Ok(comm) = fs::read_to_string(format!("/proc/{pid}/cgroup")) {
            assert!(!comm.contains(pod.id()) || ends(&pidfd(pid)), "{comm}");
        }
    }
    PASS
}

fn what_the_first_process_leaves_behind_is_killed() -> Outcome {
    let fixture = Fixture::new();
    for (name, mode) in [("own", PidMode::Container), ("shared", PidMode::Pod), ("host", PidMode::Host)] {
        let pod = fixture.node.create_pod(&PodSpec::new(name).pid(mode))?;
        // In a session of its own, and deaf to what a terminal or a shell would send.
        let command = "trap '' HUP TERM; setsid sleep 1000 & sleep 1000 & echo ready; read x; exit 4";
        let spec = script("a", command).stdin(Stdio::Pipe).stdout(Stdio::Pipe);
        let container = start_ready(&pod, &spec);
        let left: Vec<_> =
            container.processes()?.into_iter().filter(|pid| *pid != container.pid()).map(pidfd).collect();
        assert_eq!(left.len(), 2, "{name}");
        drop(container.take_stdin());
        assert_eq!(container.wait()?, ExitStatus::Exited(4), "{name}");
        for process in &left {
            assert!(ends(process), "{name}: a process outlived its container");
        }
        container.remove()?;
    }
    PASS
}

fn a_dropped_handle_ends_nothing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&payload("a", &["sleep"]))?;
    container.start()?;
    let pid = container.pid();
    drop(container);
    drop(pod);
    let container = fixture.node.open_pod("web")?.container("a")?;
    assert_eq!((container.pid(), container.status()?), (pid, ContainerStatus::Running));
    container.kill()?;
    assert_eq!(container.wait()?.code(), 137);
    PASS
}

fn a_container_that_was_never_started_ends_with_its_last_handle() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&payload("a", &["sleep"]))?;
    let process = pidfd(container.pid());
    let second = container.clone();
    drop(container);
    assert_eq!(second.status()?, ContainerStatus::Created);
    drop(second);
    assert!(ends(&process));
    pod.container("a")?.remove()?;
    PASS
}
