//! How containers end, and who learns of it.

use std::time::Duration;

use pericarp::spec::{Device, DeviceAccess, DeviceRule, DeviceRuleKind};
use pericarp::{ContainerStatus, ErrorKind, ExitStatus, Stdio};

use crate::world::*;

crate::behaviours![
    exit_codes_are_told,
    the_death_by_a_signal_is_told,
    all_who_wait_get_the_same_status,
    other_handles_get_the_status,
    waiting_has_a_limit,
    a_signal_is_handled_by_the_program,
    a_signal_can_be_for_all_processes,
    rules_for_devices_can_be_replaced,
    signals_that_are_none_are_refused,
    what_has_ended_gets_no_signals,
    kill_ends_every_process,
    nothing_to_kill_is_no_error,
    stop_asks_first,
    stop_kills_when_the_grace_is_over,
    stop_ends_what_was_never_started,
    stop_with_another_signal,
    stopping_a_pod_ends_all_containers,
];

const KILLED: ExitStatus = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };

fn exit_codes_are_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    for code in [0, 1, 128, 255] {
        let container = started(&*pod, &script("c", &format!("exit {code}")))?;
        assert_eq!(container.wait()?, ExitStatus::Exited(code));
        assert_eq!(container.try_wait()?, Some(ExitStatus::Exited(code)));
        container.remove()?;
    }
    PASS
}

fn the_death_by_a_signal_is_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    container.signal(libc::SIGKILL)?;
    assert_eq!(container.wait()?, KILLED);
    assert_eq!(container.status()?, ContainerStatus::Exited(Some(KILLED)));
    PASS
}

fn all_who_wait_get_the_same_status(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &script("c", "read line; exit 9").stdin(Stdio::Pipe))?;
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let wait = |number: usize| {
            let container = &container;
            scope.spawn(move || match number % 3 {
                0 => container.wait(),
                1 => container.again().wait(),
                _ => container.wait_timeout(None).map(|status| status.expect("there is no limit")),
            })
        };
        let threads: Vec<_> = (0..12).map(wait).collect();
        drop(container.take_stdin());
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(statuses, vec![Ok(ExitStatus::Exited(9)); 12]);
    PASS
}

fn other_handles_get_the_status(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &script("c", "exit 9"))?;
    let other = world.reopen()?.open_pod("shop")?.container("c")?;
    assert_eq!(other.wait()?, ExitStatus::Exited(9));
    assert_eq!(container.wait()?, ExitStatus::Exited(9));
    let late = pod.container("c")?;
    assert_eq!(late.try_wait()?, Some(ExitStatus::Exited(9)));
    PASS
}

fn waiting_has_a_limit(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    assert_eq!(container.try_wait()?, None);
    assert_eq!(container.wait_timeout(Some(Duration::ZERO))?, None);
    assert_eq!(container.wait_timeout(Some(Duration::from_millis(20)))?, None);
    container.kill()?;
    assert_eq!(container.wait_timeout(Some(Duration::from_secs(60)))?, Some(KILLED));
    PASS
}

fn a_signal_is_handled_by_the_program(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "trap 'exit 5' USR1; echo; while :; do sleep 0.01; done").stdout(Stdio::Pipe);
    let container = started(&*pod, &spec)?;
    line(&mut container.take_stdout().expect("a pipe"))?;
    container.signal(libc::SIGUSR1)?;
    assert_eq!(container.wait()?, ExitStatus::Exited(5));
    PASS
}

fn a_signal_can_be_for_all_processes(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let text = "sh -c 'trap \"exit 0\" USR1; echo; while :; do sleep 0.01; done' & trap 'heard=1' USR1; echo; \
                while [ -z \"$heard\" ]; do sleep 0.01; done; wait; exit 5";
    let container = started(&*pod, &script("c", text).stdout(Stdio::Pipe))?;
    let mut stdout = container.take_stdout().expect("a pipe");
    line(&mut stdout)?;
    line(&mut stdout)?;
    container.signal_all(libc::SIGUSR1)?;
    assert_eq!(container.wait_timeout(Some(Duration::from_secs(60)))?, Some(ExitStatus::Exited(5)));
    world.refused(container.signal_all(libc::SIGUSR1), ErrorKind::WrongState);
    for signal in [-1, 0, 65] {
        world.refused(container.signal_all(signal), ErrorKind::InvalidSpec);
    }
    PASS
}

fn rules_for_devices_can_be_replaced(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let text = "read line; (: >/log) 2>/dev/null && exit 5; exit 6";
    let spec = script("c", text).stdin(Stdio::Pipe).device(Device::char("/log", 1, 11));
    let rule = DeviceRule::allow(DeviceRuleKind::Char, Some(1), Some(11), DeviceAccess::WRITE);
    for (rules, code) in [(vec![], 6), (vec![rule], 5)] {
        let container = started(&*pod, &spec)?;
        container.update_device_rules(&rules)?;
        drop(container.take_stdin());
        assert_eq!(container.wait()?, ExitStatus::Exited(code));
        container.remove()?;
        world.refused(container.update_device_rules(&rules), ErrorKind::NotFound);
    }
    PASS
}

fn signals_that_are_none_are_refused(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    for signal in [-1, 65, i32::MAX] {
        let failure = world.refused(container.signal(signal), ErrorKind::System);
        assert_eq!(failure.errno, Some(libc::EINVAL));
    }
    assert_eq!(container.try_wait()?, None);
    PASS
}

fn what_has_ended_gets_no_signals(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &script("c", "exit 0"))?;
    container.wait()?;
    world.refused(container.signal(libc::SIGTERM), ErrorKind::WrongState);
    PASS
}

fn kill_ends_every_process(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "trap '' TERM; (trap '' TERM; sleep 1000) & echo; wait").stdout(Stdio::Pipe);
    let container = started(&*pod, &spec)?;
    let mut stdout = container.take_stdout().expect("a pipe");
    assert_eq!(line(&mut stdout)?, "");
    container.kill()?;
    assert_eq!(container.wait()?, KILLED);
    // Every writer is gone.
    assert_eq!(std::io::read_to_string(stdout)?, "");
    PASS
}

fn nothing_to_kill_is_no_error(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &script("c", "exit 0"))?;
    container.wait()?;
    container.kill()?;
    container.kill()?;
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    PASS
}

fn stop_asks_first(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "trap 'exit 7' TERM; echo; while :; do sleep 0.01; done").stdout(Stdio::Pipe);
    let container = started(&*pod, &spec)?;
    line(&mut container.take_stdout().expect("a pipe"))?;
    assert_eq!(container.stop(Duration::from_secs(60))?, ExitStatus::Exited(7));
    assert_eq!(container.stop(Duration::from_secs(60))?, ExitStatus::Exited(7), "a second time");
    PASS
}

fn stop_kills_when_the_grace_is_over(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &script("c", "trap '' TERM; while :; do sleep 1000; done"))?;
    assert_eq!(container.stop(Duration::from_millis(20))?, KILLED);
    assert!(container.processes()?.is_empty());
    PASS
}

fn stop_ends_what_was_never_started(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = pod.create_container(&sleeper("c"))?;
    assert_eq!(container.stop(Duration::from_secs(3600))?, KILLED);
    PASS
}

fn stop_with_another_signal(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "trap 'exit 8' INT; echo; while :; do sleep 0.01; done")
        .stdout(Stdio::Pipe)
        .stop_signal(libc::SIGINT);
    let container = started(&*pod, &spec)?;
    line(&mut container.take_stdout().expect("a pipe"))?;
    assert_eq!(container.stop(Duration::from_secs(60))?, ExitStatus::Exited(8));
    PASS
}

fn stopping_a_pod_ends_all_containers(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("asked", "trap 'exit 7' TERM; echo; while :; do sleep 0.01; done").stdout(Stdio::Pipe);
    let asked = started(&*pod, &spec)?;
    line(&mut asked.take_stdout().expect("a pipe"))?;
    let killed = started(&*pod, &script("killed", "trap '' TERM; while :; do sleep 1000; done"))?;
    let never = pod.create_container(&sleeper("never"))?;
    pod.stop(Duration::from_secs(2))?;
    assert_eq!(asked.try_wait()?, Some(ExitStatus::Exited(7)));
    assert_eq!((killed.try_wait()?, never.try_wait()?), (Some(KILLED), Some(KILLED)));
    // The pod goes on.
    assert_eq!(pod.run(&script("next", "exit 0"))?, ExitStatus::Exited(0));
    pod.stop(Duration::ZERO)?;
    PASS
}
