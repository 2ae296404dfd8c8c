//! Events: the life of containers, told through one descriptor, whoever makes them and however quickly they go.

use std::fs;

use pericarp::spec::PidMode;
use pericarp::{Event, EventOptions, EventSource, ExitStatus, PodSpec, Since};

use crate::robust::{again, in_guest};
use crate::support::fixture::{payload as run_payload, script};
use crate::support::watch::{Watch, begun, created, ended, exited, removed};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    the_life_of_a_container_is_told_in_order,
    what_was_there_before_is_told_or_not_as_asked,
    an_end_by_a_signal_is_told_and_its_status_stays_for_who_waits,
    every_subscription_is_told_all,
    containers_of_another_program_are_told,
    two_hundred_quick_containers_that_nobody_watched_meanwhile_are_all_told,
    quick_containers_of_another_program_are_all_told,
    a_name_that_is_used_again_is_another_container,
    lost_notifications_lose_no_event,
    the_descriptor_is_readable_as_long_as_there_are_events,
    a_shared_pid_namespace_is_empty_without_its_process_1,
    an_ephemeral_pod_tells_too,
    a_pod_that_is_removed_tells_how_its_containers_ended,
    a_container_that_is_never_started_is_told,
    subscriptions_hold_a_bounded_number_of_descriptors,
    killing_a_pod_ends_all_containers_and_keeps_the_pod,
];

/// Host programs of these tests.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["events-run", state_dir, from, to] => {
            let pod = again::node(state_dir).open_pod("web").expect("open the pod");
            for code in numbers(from, to) {
                let name = format!("c{code}");
                let status = pod.run(&run_payload(&name, &["exit", &code.to_string()])).expect("run");
                assert_eq!(status, ExitStatus::Exited(code));
            }
        }
        ["events-leave", state_dir] => {
            let pod = again::node(state_dir).open_pod("web").expect("open the pod");
            let container = pod.create_container(&run_payload("left", &["exit", "7"])).expect("create");
            container.start().expect("start");
            container.wait().expect("wait");
        }
        ["events-descriptors", state_dir] => descriptors(state_dir),
        _ => return false,
    }
    true
}

fn numbers(from: &str, to: &str) -> std::ops::Range<i32> {
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn the_life_of_a_container_is_told_in_order() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    assert!(!watch.readable(0) && watch.drain().is_empty(), "{:?}", watch.seen);
    assert_eq!(&watch.events.sources()[..2], [EventSource::Containers, EventSource::Freezer]);

    let container = pod.create_container(&run_payload("a", &["exit", "37"]))?;
    watch.until_told(&created("a"));
    container.start()?;
    watch.until(|seen| seen.contains(&Event::Empty));
    assert_eq!(watch.seen, [begun("a"), exited(&watch.events, "a", 37), Event::Empty]);
    watch.falls_silent();
    watch.seen.clear();
    container.remove()?;
    watch.until_told(&removed("a"));
    pod.remove()?;
    watch.until(|seen| seen.contains(&Event::PodRemoved));
    assert_eq!(watch.seen, [Event::PodRemoved]);
    assert!(watch.events.is_over() && watch.events.next_event()?.is_none());
    assert_eq!(pod.events().unwrap_err().kind(), pericarp::ErrorKind::NotFound);
    PASS
}

fn what_was_there_before_is_told_or_not_as_asked() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let over = pod.create_container(&run_payload("over", &["exit", "3"]))?;
    over.start()?;
    over.wait()?;
    let runs = pod.create_container(&run_payload("runs", &["sleep"]))?;
    runs.start()?;
    let mut now = Watch::with(&pod, &EventOptions::new().since(Since::Now));
    let mut all = Watch::new(&pod);
    now.falls_silent();
    assert!(now.seen.is_empty(), "{:?}", now.seen);
    assert!(all.readable(0));
    all.drain();
    assert_eq!(all.of("over"), [created("over"), begun("over"), exited(&all.events, "over", 3)]);
    assert_eq!(all.of("runs"), [created("runs"), begun("runs")]);
    assert_eq!(all.seen.len(), 5);

    runs.kill()?;
    let killed =
        ended(&now.events, "runs", ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    now.until(|seen| seen.contains(&Event::Empty));
    assert_eq!(now.seen, [killed, Event::Empty]);
    over.remove()?;
    now.until_told(&removed("over"));
    PASS
}

fn an_end_by_a_signal_is_told_and_its_status_stays_for_who_waits() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let container = pod.create_container(&run_payload("a", &["sleep"]).pid(PidMode::Host))?;
    container.start()?;
    container.signal(libc::SIGUSR1)?;
    // Nobody waits for it: it is told all the same, before somebody does, and taken from nobody.
    let status = ExitStatus::Signaled { signal: libc::SIGUSR1, core_dumped: false };
    let end = ended(&watch.events, "a", status);
    watch.until(|seen| seen.contains(&end));
    assert_eq!(watch.of("a"), [created("a"), begun("a"), end]);
    let state = fs::read_to_string(format!("/proc/{}/stat", container.pid()))?;
    assert!(state.contains(") Z "), "the subscription has reaped it: {state}");
    assert_eq!(container.wait()?, status);
    PASS
}

fn every_subscription_is_told_all() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let other = fixture.reopen().open_pod("web")?;
    let mut watches = [Watch::new(&pod), Watch::new(&pod), Watch::new(&other)];
    for code in 0..3 {
        pod.run(&run_payload("a", &["exit", &code.to_string()]))?;
    }
    pod.remove()?;
    for watch in &mut watches {
        watch.until(|seen| seen.contains(&Event::PodRemoved));
        let expected: Vec<Event> = (0..3)
            .flat_map(|code| [created("a"), begun("a"), exited(&watch.events, "a", code), removed("a")])
            .collect();
        assert_eq!(watch.of("a"), expected);
    }
    PASS
}

fn containers_of_another_program_are_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    again::run(&["events-leave", &again::word(&fixture)]);
    let end = exited(&watch.events, "left", 7);
    watch.until(|seen| seen.contains(&end));
    assert_eq!(watch.of("left"), [created("left"), begun("left"), end]);
    pod.container("left")?.remove()?;
    watch.until_told(&removed("left"));
    PASS
}

/// Seen to fail: without the mark on the directories of containers (`watched` in container/create.rs) nobody wrote the
/// journal, and nothing was told of what had come and gone, here and in the test with another program.
fn quick(count: i32) -> Vec<i32> {
    (0..count).map(|number| number % 256).collect()
}

fn two_hundred_quick_containers_that_nobody_watched_meanwhile_are_all_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let count = if in_guest() { 20 } else { 200 };
    let codes = quick(count);
    std::thread::scope(|scope| {
        for half in codes.chunks(codes.len().div_ceil(4)) {
            let pod = &pod;
            scope.spawn(move || {
                for code in half {
                    let spec = run_payload(&format!("c{code}"), &["exit", &code.to_string()]);
                    assert_eq!(pod.run(&spec).expect("run"), ExitStatus::Exited(*code));
                }
            });
        }
    });
    watch.until(|seen| seen.contains(&Event::Empty));
    for code in codes {
        let name = format!("c{code}");
        let expected = [created(&name), begun(&name), exited(&watch.events, &name, code), removed(&name)];
        assert_eq!(watch.of(&name), expected);
    }
    assert_eq!(watch.seen.len(), 4 * count as usize + 1, "each was told once");
    PASS
}

fn quick_containers_of_another_program_are_all_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let count = if in_guest() { 5 } else { 50 };
    let half = (count / 2).to_string();
    let word = again::word(&fixture);
    std::thread::scope(|scope| {
        scope.spawn(|| again::run(&["events-run", &word, "0", &half]));
        again::run(&["events-run", &word, &half, &count.to_string()]);
    });
    watch.until(|seen| seen.iter().filter(|event| matches!(event, Event::Removed { .. })).count() == count);
    for code in 0..count as i32 {
        let name = format!("c{code}");
        let expected = [created(&name), begun(&name), exited(&watch.events, &name, code), removed(&name)];
        assert_eq!(watch.of(&name), expected);
    }
    PASS
}

fn a_name_that_is_used_again_is_another_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let first = pod.create_container(&run_payload("a", &["sleep"]))?;
    first.start()?;
    watch.until(|seen| seen.contains(&begun("a")));
    // Between two looks the first one ends and is removed, a second one comes and goes, and a third one is there.
    first.remove()?;
    pod.run(&run_payload("a", &["exit", "2"]))?;
    let third = pod.create_container(&run_payload("a", &["exit", "3"]))?;
    third.start()?;
    let end = exited(&watch.events, "a", 3);
    watch.until(|seen| seen.contains(&end));
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    let lives = [
        vec![created("a"), begun("a"), ended(&watch.events, "a", killed), removed("a")],
        vec![created("a"), begun("a"), exited(&watch.events, "a", 2), removed("a")],
        vec![created("a"), begun("a"), end],
    ];
    assert_eq!(watch.of("a"), lives.concat());
    PASS
}

/// Seen to fail: with `IN_Q_OVERFLOW` passed over, nothing was told of the container "after".
fn lost_notifications_lose_no_event() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    // With it the pod is never empty, which would be a reason of its own to look everywhere.
    let stays = pod.create_container(&run_payload("stays", &["sleep"]))?;
    stays.start()?;
    let room: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?.trim().parse()?;
    let runs = pod.create_container(&run_payload("before", &["exit", "1"]))?;
    runs.start()?;
    runs.wait()?;
    // More than the kernel queues, in the very directory that is watched.
    let place = fixture.options.state_dir.join("pods").join(pod.id()).join("containers/noise");
    for _ in 0..room / 2 + 100 {
        fs::File::create(&place)?;
        fs::remove_file(&place)?;
    }
    let after = pod.create_container(&run_payload("after", &["exit", "2"]))?;
    after.start()?;
    after.wait()?;
    runs.remove()?;
    let end = exited(&watch.events, "after", 2);
    watch.until(|seen| seen.contains(&end) && seen.contains(&removed("before")));
    let before = [created("before"), begun("before"), exited(&watch.events, "before", 1), removed("before")];
    assert_eq!(watch.of("before"), before);
    assert_eq!(watch.of("after"), [created("after"), begun("after"), end]);
    // And it goes on as before.
    watch.seen.clear();
    after.remove()?;
    watch.until_told(&removed("after"));
    PASS
}

fn the_descriptor_is_readable_as_long_as_there_are_events() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let watch = Watch::new(&pod);
    pod.run(&run_payload("a", &["exit", "0"]))?;
    let mut told = 0;
    // Level-triggered, and one event each time it is readable.
    while watch.readable(1000) {
        told += usize::from(watch.events.next_event()?.is_some());
    }
    assert_eq!(told, 5);
    assert!(watch.events.next_event()?.is_none());
    PASS
}

fn a_shared_pid_namespace_is_empty_without_its_process_1() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let mut watch = Watch::new(&pod);
    let container = pod.create_container(&run_payload("a", &["sleep"]))?;
    container.start()?;
    watch.until(|seen| seen.contains(&begun("a")));
    assert!(!watch.seen.contains(&Event::Empty));
    container.kill()?;
    container.wait()?;
    watch.until_told(&Event::Empty);
    PASS
}

fn an_ephemeral_pod_tells_too() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ephemeral(true))?;
    let mut watch = Watch::new(&pod);
    pod.run(&run_payload("a", &["exit", "4"]))?;
    pod.remove()?;
    watch.until(|seen| seen.contains(&Event::PodRemoved));
    let end = exited(&watch.events, "a", 4);
    assert_eq!(watch.seen, [created("a"), begun("a"), end, removed("a"), Event::Empty, Event::PodRemoved]);
    PASS
}

fn a_pod_that_is_removed_tells_how_its_containers_ended() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let other = fixture.reopen().open_pod("web")?;
    let mut late = Watch::new(&other);
    let first = pod.create_container(&run_payload("seen", &["sleep"]))?;
    first.start()?;
    watch.until_told(&begun("seen"));
    // One that no subscription has looked at when the pod goes, and one that ended by itself.
    let second = pod.create_container(&run_payload("unseen", &["sleep"]))?;
    second.start()?;
    let third = pod.create_container(&run_payload("over", &["exit", "6"]))?;
    third.start()?;
    third.wait()?;
    pod.remove()?;
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    for watch in [&mut watch, &mut late] {
        watch.until(|seen| seen.contains(&Event::PodRemoved));
        let end = |name| vec![ended(&watch.events, name, killed), removed(name)];
        let all = |name| [vec![created(name), begun(name)], end(name)].concat();
        assert!(watch.of("seen") == end("seen") || watch.of("seen") == all("seen"), "{:?}", watch.seen);
        assert_eq!(watch.of("unseen"), all("unseen"));
        let over = [created("over"), begun("over"), exited(&watch.events, "over", 6), removed("over")];
        assert_eq!(watch.of("over"), over);
        assert_eq!(watch.seen[watch.seen.len() - 2..], [Event::Empty, Event::PodRemoved]);
    }
    PASS
}

fn a_container_that_is_never_started_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let container = pod.create_container(&script("a", "true"))?;
    watch.until_told(&created("a"));
    container.remove()?;
    watch.until(|seen| seen.contains(&Event::Empty));
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(watch.seen, [ended(&watch.events, "a", killed), removed("a"), Event::Empty]);
    PASS
}

fn subscriptions_hold_a_bounded_number_of_descriptors() -> Outcome {
    let fixture = Fixture::new();
    again::run(&["events-descriptors", &again::word(&fixture)]);
    PASS
}

fn descriptors(state_dir: &str) {
    let open = || fs::read_dir("/proc/self/fd").expect("read /proc/self/fd").count();
    let threads = || fs::read_dir("/proc/self/task").expect("read /proc/self/task").count();
    let node = again::node(state_dir);
    let pod = node.create_pod(&PodSpec::new("web")).expect("create a pod");
    pod.run(&run_payload("warm", &["exit", "0"])).expect("run");
    let before = (open(), threads());
    let mut watches = vec![Watch::new(&pod), Watch::new(&pod)];
    let none = open();
    assert!(none - before.0 <= 2 * 8, "{} descriptors for two subscriptions", none - before.0);
    let containers: Vec<_> = (0..5)
        .map(|number| {
            let container = pod.create_container(&run_payload(&format!("c{number}"), &["sleep"]));
            let container = container.expect("create");
            container.start().expect("start");
            container
        })
        .collect();
    let unseen = open();
    watches.iter_mut().for_each(|watch| {
        watch.until(|seen| seen.contains(&begun("c4")));
    });
    assert_eq!(open() - unseen, 2 * 5, "one for each container that runs");
    containers.iter().for_each(|container| container.kill().expect("kill"));
    containers.iter().for_each(|container| assert!(!container.wait().expect("wait").success()));
    watches.iter_mut().for_each(|watch| watch.until_told(&Event::Empty));
    assert_eq!(open(), unseen, "the pidfds are gone with what they were for");
    for container in containers {
        container.remove().expect("remove");
    }
    watches.iter_mut().for_each(|watch| watch.until_told(&removed("c4")));
    // Quick ones leave nothing behind, whether or not anybody reads.
    for _ in 0..10 {
        pod.run(&run_payload("quick", &["exit", "0"])).expect("run");
    }
    assert_eq!(open(), none);
    assert_eq!(threads(), before.1, "no thread stays");
    drop(watches);
    assert_eq!(open(), before.0);
    pod.remove().expect("remove the pod");
}

fn killing_a_pod_ends_all_containers_and_keeps_the_pod() -> Outcome {
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    let fixture = Fixture::new();
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        pod.kill()?;
        let started = |name: &str| {
            let container = pod.create_container(&run_payload(name, &["sleep"]))?;
            container.start().map(|()| container)
        };
        let (first, second) = (started("a")?, started("b")?);
        pod.kill()?;
        assert_eq!((first.wait()?, second.wait()?), (killed, killed));
        first.remove()?;
        // What is frozen is killed all the same.
        let (third, fourth) = (started("c")?, started("d")?);
        pod.freeze()?;
        pod.kill()?;
        assert_eq!((third.wait()?, fourth.wait()?), (killed, killed));
        pod.thaw()?;
        // Process 1 of a PID namespace that the containers share lives on.
        assert_eq!(pod.run(&run_payload("a", &["exit", "5"]))?, ExitStatus::Exited(5));
        pod.remove()?;
    }
    PASS
}
