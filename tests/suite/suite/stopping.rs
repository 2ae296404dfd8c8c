//! Stopping: containers are asked first, together, and killed when they do not listen; frozen ones too.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use pericarp::spec::PidMode;
use pericarp::{
    Container, ContainerSpec, ContainerStatus, ErrorKind, ExitStatus, Mount, Pod, PodSpec, Stdio, Volume,
};

use crate::support::fixture::{payload as run_payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_container_that_listens_ends_by_itself,
    a_container_that_does_not_listen_is_killed_after_the_grace,
    the_stop_signal_is_the_container_s_own,
    a_container_that_was_never_started_is_stopped_at_once,
    stopping_what_has_ended_is_no_error,
    the_containers_of_a_pod_are_asked_together,
    a_pod_goes_on_after_a_stop,
    a_frozen_container_is_killed_after_the_grace,
    a_frozen_container_can_be_removed,
    a_frozen_pod_can_be_stopped_and_removed,
    a_handle_tells_how_its_container_ended_when_the_pod_is_gone,
    a_thawed_container_hears_what_it_was_asked_while_frozen,
    nothing_is_made_or_started_in_a_frozen_pod,
    what_a_container_left_behind_ends_with_its_stop,
    containers_in_the_pid_namespace_of_another_end_with_it,
];

/// Longer than any machine needs: where this would be waited out, the test has failed.
const LONG: Duration = Duration::from_secs(120);
/// Waited out where nobody listens.
const SHORT: Duration = Duration::from_millis(100);

const KILLED: ExitStatus = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["stopping-listen", signal, code] => {
            wait_for(&[signal.parse().expect("a signal")]);
            std::process::exit(code.parse().expect("a number"));
        }
        // Ends only when those of the other names have been asked to end as well.
        ["stopping-together", mine, others @ ..] => {
            wait_for(&[Signal::SIGTERM]);
            std::fs::write(Path::new("/shared").join(mine), "").expect("write a file");
            while !others.iter().all(|name| Path::new("/shared").join(name).exists()) {
                std::thread::yield_now();
            }
        }
        _ => return false,
    }
    true
}

/// Says that it is ready, and waits for one of the signals.
fn wait_for(signals: &[Signal]) {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().expect("block signals");
    println!(".");
    set.wait().expect("wait for a signal");
}

/// A container that runs, and has said so.
fn running(pod: &Pod, spec: ContainerSpec) -> Container {
    let container = pod.create_container(&spec.stdout(Stdio::Pipe)).expect("create");
    let mut stdout = container.take_stdout().expect("a pipe");
    container.start().expect("start");
    stdout.read_exact(&mut [0; 2]).expect("the container says that it runs");
    container
}

fn listening(name: &str) -> ContainerSpec {
    run_payload(name, &["stopping-listen", "SIGTERM", "7"])
}

/// Process 1 of a PID namespace does not even get a signal that it has no handler for.
fn deaf(name: &str) -> ContainerSpec {
    script(name, "trap '' TERM; echo .; while :; do sleep 1000; done")
}

fn a_container_that_listens_ends_by_itself() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod, PidMode::Host] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let container = running(&pod, listening("a"));
        assert_eq!(container.stop(LONG)?, ExitStatus::Exited(7));
        assert_eq!(container.status()?, ContainerStatus::Exited(Some(ExitStatus::Exited(7))));
        assert_eq!(container.processes()?, [0; 0]);
        pod.remove().expect("remove the pod");
    }
    PASS
}

fn a_container_that_does_not_listen_is_killed_after_the_grace() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod, PidMode::Host] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        for grace in [SHORT, Duration::ZERO] {
            let container = running(&pod, deaf("a"));
            assert_eq!(container.stop(grace)?, KILLED);
            assert_eq!(container.processes()?, [0; 0]);
            container.remove()?;
        }
        pod.remove().expect("remove the pod");
    }
    PASS
}

fn the_stop_signal_is_the_container_s_own() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = run_payload("a", &["stopping-listen", "SIGUSR1", "8"]).stop_signal(libc::SIGUSR1);
    let container = running(&pod, spec.clone());
    assert_eq!(container.stop(LONG)?, ExitStatus::Exited(8));
    container.remove()?;
    // A handle that was opened, as by another program, knows it too.
    let _mine = running(&pod, spec);
    let opened = fixture.reopen().open_pod("web")?.container("a")?;
    assert_eq!(opened.stop(LONG)?, ExitStatus::Exited(8));
    PASS
}

fn a_container_that_was_never_started_is_stopped_at_once() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("ran");
    let container = pod.create_container(&script("a", "echo x").stdout(Stdio::File(file.clone())))?;
    assert_eq!(container.stop(LONG)?, KILLED);
    assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
    assert_eq!(std::fs::read_to_string(&file)?, "");
    container.remove()?;
    // The pod, which finds its containers by itself, knows too that this one cannot hear. (It would end with its only
    // handle.)
    let created = pod.create_container(&script("b", "true"))?;
    pod.stop(LONG)?;
    assert_eq!(created.status()?, ContainerStatus::Exited(Some(KILLED)));
    PASS
}

fn stopping_what_has_ended_is_no_error() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    pod.stop(LONG)?;
    let container = running(&pod, run_payload("a", &["stopping-listen", "SIGTERM", "3"]));
    container.signal(libc::SIGTERM)?;
    assert_eq!(container.wait()?, ExitStatus::Exited(3));
    assert_eq!(container.stop(LONG)?, ExitStatus::Exited(3));
    pod.stop(LONG)?;
    assert_eq!(container.stop(Duration::ZERO)?, ExitStatus::Exited(3));
    PASS
}

fn the_containers_of_a_pod_are_asked_together() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::tmpfs("shared", 1 << 20)))?;
    let names = ["a", "b", "c"];
    // Each ends only when all have been asked: if one were asked and waited for before the next, it would be killed.
    let containers = names.map(|name| {
        let words: Vec<_> =
            ["stopping-together", name].into_iter().chain(names.into_iter().filter(|n| *n != name)).collect();
        running(&pod, run_payload(name, &words).mount(Mount::volume("shared", "/shared")))
    });
    pod.stop(LONG)?;
    for container in &containers {
        assert_eq!(container.wait()?, ExitStatus::Exited(0), "{}", container.name());
    }
    // One that does not listen does not keep the others from ending by themselves.
    let (deaf, good) = (running(&pod, deaf("deaf")), running(&pod, listening("good")));
    let asked = std::thread::scope(|scope| {
        // Killed from here, so that the grace is not waited out.
        let stop = scope.spawn(|| pod.stop(LONG));
        assert_eq!(good.wait().expect("wait"), ExitStatus::Exited(7));
        assert_eq!(deaf.try_wait().expect("look"), None);
        deaf.kill().expect("kill");
        stop.join().expect("the thread")
    });
    asked?;
    assert_eq!(deaf.wait()?, KILLED);
    PASS
}

fn a_pod_goes_on_after_a_stop() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let (listening, deaf) = (running(&pod, listening("a")), running(&pod, deaf("b")));
        pod.stop(SHORT)?;
        // On a slow machine the grace may be over before the first has answered.
        assert!([ExitStatus::Exited(7), KILLED].contains(&listening.wait()?));
        assert_eq!(deaf.wait()?, KILLED);
        listening.remove()?;
        assert_eq!(say(&pod, script("a", "echo again")), "again\n");
        pod.remove().expect("remove the pod");
    }
    PASS
}

fn a_frozen_container_is_killed_after_the_grace() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod, PidMode::Host] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let container = running(&pod, listening("a"));
        container.freeze()?;
        // It would listen, but cannot hear.
        assert_eq!(container.stop(SHORT)?, KILLED);
        assert_eq!(container.processes()?, [0; 0]);
        pod.remove().expect("remove the pod");
    }
    PASS
}

fn a_frozen_container_can_be_removed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = running(&pod, deaf("a"));
    container.freeze()?;
    container.remove()?;
    assert!(!pod.cgroup_path().join("a").exists());
    assert_eq!(say(&pod, script("a", "echo again")), "again\n");
    PASS
}

fn a_frozen_pod_can_be_stopped_and_removed() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode.clone()))?;
        let containers = ["a", "b"].map(|name| running(&pod, listening(name)));
        pod.freeze()?;
        pod.stop(SHORT)?;
        for container in containers {
            assert_eq!(container.wait()?, KILLED);
        }
        pod.remove().expect("remove the pod");

        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let container = running(&pod, listening("a"));
        pod.freeze()?;
        let path = pod.cgroup_path();
        pod.remove().expect("remove the pod");
        assert!(!path.exists());
        assert!(!container.try_wait().is_ok_and(|status| status.is_none()), "it has ended");
    }
    PASS
}

fn a_handle_tells_how_its_container_ended_when_the_pod_is_gone() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (waited, later) = (running(&pod, deaf("a")), running(&pod, deaf("b")));
    // One waits meanwhile, one is asked afterwards.
    let status = std::thread::scope(|scope| {
        let wait = scope.spawn(|| waited.wait());
        pod.remove().expect("remove the pod");
        wait.join().expect("the thread")
    });
    assert_eq!(status?, KILLED);
    assert_eq!(later.wait()?, KILLED);
    PASS
}

fn a_thawed_container_hears_what_it_was_asked_while_frozen() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = running(&pod, listening("a"));
    pod.freeze()?;
    let status = std::thread::scope(|scope| {
        let stop = scope.spawn(|| container.stop(LONG));
        // The signal is pending in the frozen process: only then is it let go.
        let pending = || {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", container.pid())).expect("status");
            let line =
                status.lines().find_map(|line| line.strip_prefix("ShdPnd:\t")).expect("pending").to_string();
            u64::from_str_radix(&line, 16).expect("a mask") & 1 << (libc::SIGTERM - 1) != 0
        };
        while !pending() {
            std::thread::yield_now();
        }
        assert_eq!(container.try_wait().expect("look"), None);
        pod.thaw().expect("thaw");
        stop.join().expect("the thread")
    });
    assert_eq!(status?, ExitStatus::Exited(7));
    PASS
}

fn nothing_is_made_or_started_in_a_frozen_pod() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let created = pod.create_container(&script("a", "true"))?;
    pod.freeze()?;
    // Neither may wait for a thaw that might never come.
    let error = pod.create_container(&script("b", "true")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongState, "{error}");
    assert!(error.to_string().contains("frozen"), "{error}");
    assert!(!pod.cgroup_path().join("b").exists());
    let error = created.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongState, "{error}");
    assert!(error.to_string().contains("frozen"), "{error}");
    pod.thaw()?;
    // It was not started, and can be now.
    assert_eq!(created.status()?, ContainerStatus::Created);
    created.start()?;
    assert_eq!(created.wait()?, ExitStatus::Exited(0));
    assert_eq!(pod.run(&script("b", "true"))?, ExitStatus::Exited(0));

    let created = pod.create_container(&script("c", "true"))?;
    created.freeze()?;
    assert_eq!(created.start().unwrap_err().kind(), ErrorKind::WrongState);
    created.thaw()?;
    created.start()?;
    assert_eq!(created.wait()?, ExitStatus::Exited(0));
    PASS
}

fn what_a_container_left_behind_ends_with_its_stop() -> Outcome {
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod, PidMode::Host] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        let leaving = "(trap '' TERM; while :; do sleep 1000; done) & trap 'exit 5' TERM; echo .; wait";
        let container = running(&pod, script("a", leaving));
        assert_eq!(container.stop(LONG)?, ExitStatus::Exited(5));
        assert_eq!(container.processes()?, [0; 0]);
        pod.remove().expect("remove the pod");
    }
    PASS
}

fn containers_in_the_pid_namespace_of_another_end_with_it() -> Outcome {
    let fixture = Fixture::new();
    let make = || {
        let pod = fixture.node.create_pod(&PodSpec::new("web")).expect("create a pod");
        let host = running(&pod, deaf("host"));
        let guests =
            ["a-guest", "z-guest"].map(|name| running(&pod, deaf(name).pid(PidMode::Target("host".into()))));
        (pod, host, guests)
    };
    // Nobody waits for the guests, and the process 1 of their namespace does not end before they have been reaped.
    let ends: [fn(&Pod, &Container); 5] = [
        |pod, _| pod.stop(SHORT).expect("stop the pod"),
        |_, host| assert_eq!(host.stop(SHORT).expect("stop"), KILLED),
        |_, host| host.remove().expect("remove"),
        |pod, _| {
            let opened = pod.container("host").expect("open");
            assert_eq!(opened.stop(Duration::ZERO).expect("stop"), KILLED);
        },
        |_, _| {},
    ];
    for end in ends {
        let (pod, host, guests) = make();
        end(&pod, &host);
        pod.remove().expect("remove the pod");
        assert_eq!(host.wait()?, KILLED);
        for guest in &guests {
            assert_eq!(guest.wait()?, KILLED);
        }
    }
    PASS
}
