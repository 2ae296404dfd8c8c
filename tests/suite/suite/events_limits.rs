//! Events of limits: memory that runs short, pressure, and what stands still.

use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use pericarp::spec::{CpuMax, CpuResources, Limit, Resources};
use pericarp::{
    ErrorKind, Event, EventOptions, EventSource, ExitStatus, Mount, Pod, PodSpec, Pressure, PressureShare,
    PressureTrigger,
};

use super::limits::{MIB, memory};
use crate::need;
use crate::robust::in_guest;
use crate::support::fixture::payload as run_payload;
use crate::support::watch::{Watch, begun};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    containers_and_pods_are_told_to_be_frozen_and_thawed,
    memory_that_cannot_be_watched_is_an_error_when_asked_for,
    an_oom_kill_is_counted_and_told_as_such,
    an_oom_kill_of_a_container_that_is_gone_is_told,
    what_the_oom_killer_did_before_is_told_from_the_beginning,
    a_child_that_the_oom_killer_ends_does_not_make_the_container_an_oom_kill,
    memory_high_and_max_are_told_of_whose_limit_it_is,
    thresholds_of_pressure_are_told_through_nested_polls,
    wrong_thresholds_are_refused,
];

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["events-spin"] => loop {
            std::hint::black_box(0);
        },
        ["events-fill", file, mib] => {
            let text = vec![1; 1 << 20];
            let mut file = std::fs::File::create(file).expect("create a file");
            for _ in 0..mib.parse().expect("a number") {
                std::io::Write::write_all(&mut file, &text).expect("write");
                // On the disk, so that the kernel can take the pages back at once.
                file.sync_data().expect("sync");
            }
        }
        _ => return false,
    }
    true
}

fn sleeping(pod: &Pod, name: &str) -> pericarp::Result<pericarp::Container> {
    let container = pod.create_container(&run_payload(name, &["sleep"]))?;
    container.start().map(|()| container)
}

fn containers_and_pods_are_told_to_be_frozen_and_thawed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let (a, _b) = (sleeping(&pod, "a")?, sleeping(&pod, "b")?);
    watch.until(|seen| seen.contains(&begun("a")) && seen.contains(&begun("b")));
    watch.seen.clear();
    let frozen = |name: Option<&str>| Event::Frozen { container: name.map(str::to_string) };
    let thawed = |name: Option<&str>| Event::Thawed { container: name.map(str::to_string) };

    a.freeze()?;
    watch.until(|seen| !seen.is_empty());
    assert_eq!(watch.seen, [frozen(Some("a"))]);
    assert!(a.is_frozen()? && !pod.is_frozen()?);
    watch.seen.clear();
    a.thaw()?;
    watch.until_told(&thawed(Some("a")));

    pod.freeze()?;
    watch.until(|seen| seen.len() == 3);
    for name in [None, Some("a"), Some("b")] {
        assert!(watch.seen.contains(&frozen(name)), "{:?}", watch.seen);
    }
    assert!(pod.is_frozen()? && a.is_frozen()?);
    // A subscription that comes later is told what is.
    let mut late = Watch::new(&pod);
    late.until(|seen| seen.contains(&frozen(None)));
    watch.seen.clear();
    pod.thaw()?;
    watch.until(|seen| seen.len() == 3);
    for name in [None, Some("a"), Some("b")] {
        assert!(watch.seen.contains(&thawed(name)), "{:?}", watch.seen);
    }
    PASS
}

fn memory_that_cannot_be_watched_is_an_error_when_asked_for() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let has = fixture.node.controllers().iter().any(|name| name == "memory");
    assert_eq!(pod.events()?.sources().contains(&EventSource::Memory), has);
    let none = pod.events_with(&EventOptions::new().memory(false))?;
    assert!(!none.sources().contains(&EventSource::Memory));
    match pod.events_with(&EventOptions::new().memory(true)) {
        Ok(events) => assert!(has && events.sources().contains(&EventSource::Memory)),
        Err(error) => {
            assert!(!has);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(text.contains("memory.events.local") && text.contains("controller memory"), "{text}");
        }
    }
    PASS
}

fn oom(name: &str, count: u64) -> Event {
    Event::OomKill { container: Some(name.to_string()), count }
}

fn exited(name: &str, status: ExitStatus, oom_killed: bool) -> Event {
    Event::Exited { container: name.to_string(), status: Some(status), oom_killed: Some(oom_killed) }
}

const KILLED: ExitStatus = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };

fn an_oom_kill_is_counted_and_told_as_such() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let above = run_payload("a", &["memory-eat", "256"]).resources(memory(64 * MIB));
    let container = pod.create_container(&above)?;
    container.start()?;
    watch.until(|seen| seen.contains(&Event::Empty));
    let at = |wanted: &Event| watch.seen.iter().position(|event| event == wanted);
    let (kill, end) = (at(&oom("a", 1)), at(&exited("a", KILLED, true)));
    assert!(kill.is_some() && kill < end, "{:?}", watch.seen);
    // The same signal from somebody else is told apart.
    let other = sleeping(&pod, "b")?;
    other.kill()?;
    watch.until_told(&exited("b", KILLED, false));
    PASS
}

fn an_oom_kill_of_a_container_that_is_gone_is_told() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let above = run_payload("a", &["memory-eat", "256"]).resources(memory(64 * MIB));
    assert_eq!(pod.run(&above)?, KILLED);
    watch.until(|seen| seen.contains(&Event::Empty));
    assert!(watch.seen.contains(&oom("a", 1)), "{:?}", watch.seen);
    assert!(watch.seen.contains(&exited("a", KILLED, true)), "{:?}", watch.seen);
    PASS
}

fn what_the_oom_killer_did_before_is_told_from_the_beginning() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let above = |name: &str| run_payload(name, &["memory-eat", "256"]).resources(memory(64 * MIB));
    for journal in [true, false] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").journal(journal))?;
        // One is gone when the pod is watched for the first time, and one is not.
        assert_eq!(pod.run(&above("gone"))?, KILLED);
        let there = pod.create_container(&above("there"))?;
        there.start()?;
        there.wait()?;
        let mut watch = Watch::new(&pod);
        watch.drain();
        let kills = |event: &&Event| matches!(event, Event::OomKill { .. });
        let kills: Vec<Event> = watch.seen.iter().filter(kills).cloned().collect();
        if journal {
            assert_eq!(kills, [oom("gone", 1), oom("there", 1)]);
            assert!(watch.of("gone").contains(&exited("gone", KILLED, true)), "{:?}", watch.seen);
        } else {
            // Only the pod's sum knows of the one that is gone.
            assert_eq!(kills, [Event::OomKill { container: None, count: 1 }, oom("there", 1)]);
            assert!(watch.of("gone").is_empty(), "{:?}", watch.seen);
        }
        assert!(watch.of("there").contains(&exited("there", KILLED, true)), "{:?}", watch.seen);
        let mut now = Watch::with(&pod, &EventOptions::new().since(pericarp::Since::Now));
        assert!(now.drain().is_empty(), "{:?}", now.seen);
        pod.remove()?;
    }
    PASS
}

fn a_child_that_the_oom_killer_ends_does_not_make_the_container_an_oom_kill() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.pod("web");
    let mut watch = Watch::new(&pod);
    let spec = run_payload("a", &["memory-eat-in-a-child", "256"]).resources(memory(64 * MIB));
    assert_eq!(pod.run(&spec)?, ExitStatus::Exited(0));
    watch.until(|seen| seen.contains(&exited("a", ExitStatus::Exited(0), false)));
    assert!(watch.of("a").contains(&oom("a", 1)), "{:?}", watch.seen);
    PASS
}

fn memory_high_and_max_are_told_of_whose_limit_it_is() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    // Pages of files can be given back: limits are met, and nothing is killed.
    let disk = || Mount::bind(fixture.dir.path(), "/disk");
    let fill = |name: &str| run_payload(name, &["events-fill", "/disk/file", "24"]).mount(disk());
    let with = |high: Option<u64>, max: Option<u64>| {
        let mut resources = Resources::default();
        resources.memory.high = high.map(Limit::At);
        resources.memory.max = max.map(Limit::At);
        resources
    };
    let told = |watch: &Watch, container: Option<&str>| {
        let about = |event: &&Event| event.container() == container;
        let (mut high, mut max) = (0, 0);
        watch.seen.iter().filter(about).for_each(|event| match event {
            Event::MemoryHigh { count, .. } => high += count,
            Event::MemoryMax { count, .. } => max += count,
            _ => {}
        });
        (high, max)
    };
    let run = |pod: &Pod, spec| {
        let mut watch = Watch::new(pod);
        assert_eq!(pod.run(&spec).expect("run"), ExitStatus::Exited(0));
        watch.until(|seen| seen.contains(&Event::Empty));
        watch
    };
    let pod = fixture.pod("containers");
    let watch = run(&pod, fill("a").resources(with(Some(8 * MIB), None)));
    let (high, max) = told(&watch, Some("a"));
    assert!(high > 0 && max == 0 && told(&watch, None) == (0, 0), "{:?}", watch.seen);
    let pod = fixture.node.create_pod(&PodSpec::new("own").resources(with(None, Some(12 * MIB))))?;
    let watch = run(&pod, fill("a"));
    let (high, max) = told(&watch, None);
    assert!(max > 0 && high == 0 && told(&watch, Some("a")) == (0, 0), "{:?}", watch.seen);
    PASS
}

fn threshold(stall: Duration, window: Duration) -> PressureTrigger {
    PressureTrigger::new(Pressure::Cpu, PressureShare::Some, stall, window)
}

fn thresholds_of_pressure_are_told_through_nested_polls() -> Outcome {
    let fixture = Fixture::new();
    if !std::path::Path::new("/proc/pressure/cpu").exists() {
        assert!(!in_guest(), "the guest's kernel has pressure stall information");
        return skip("this kernel has no pressure stall information");
    }
    // Two that want a processor each and get a tenth of one together, if the pod can be limited.
    let limited = fixture.node.controllers().iter().any(|name| name == "cpu");
    let mut spec = PodSpec::new("web");
    if limited {
        let max = Some(CpuMax { quota: Limit::At(10_000), period: 100_000 });
        spec = spec
            .resources(Resources { cpu: CpuResources { max, ..Default::default() }, ..Default::default() });
    }
    let pod = fixture.node.create_pod(&spec)?;
    let trigger = threshold(Duration::from_millis(20), Duration::from_secs(2));
    let mut watch = Watch::with(&pod, &EventOptions::new().pressure(trigger));
    assert!(watch.events.sources().contains(&EventSource::Pressure(trigger)));
    // As an event loop does: the set is in a set, which is polled. Each of them asks the files in it, and a trigger
    // tells only the first who asks. With the files themselves in the set, no event came in this test.
    let outer = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    outer.add(&watch.events, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let many = if limited { 2 } else { 2 * std::thread::available_parallelism()?.get() };
    for number in 0..many {
        let spins = pod.create_container(&run_payload(&format!("c{number}"), &["events-spin"]))?;
        spins.start()?;
    }
    let event = Event::Pressure { trigger };
    for _ in 0..2 {
        while !watch.drain().contains(&event) {
            let mut files = [PollFd::new(std::os::fd::AsFd::as_fd(&outer.0), PollFlags::POLLIN)];
            let ready = poll(&mut files, PollTimeout::try_from(300_000)?)?;
            assert_eq!(ready, 1, "no pressure comes: {:?}", watch.seen);
        }
        // It comes again, as long as the pressure lasts.
        watch.seen.clear();
    }
    pod.remove()?;
    watch.until(|seen| seen.contains(&Event::PodRemoved));
    PASS
}

fn wrong_thresholds_are_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let ask = |stall, window| {
        let millis = Duration::from_millis;
        pod.events_with(&EventOptions::new().pressure(threshold(millis(stall), millis(window))))
    };
    let error = ask(20, 20_000).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("pressure[0].windowMicros")));
    let error = ask(600, 500).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("pressure[0].stallMicros")));
    // A window that takes a privilege: had, or refused in words.
    if let Err(error) = ask(100, 1000) {
        let text = error.to_string();
        assert!(text.contains("\"some 100000 1000000\" to cpu.pressure of"), "{text}");
        assert!([ErrorKind::PermissionDenied, ErrorKind::Unsupported].contains(&error.kind()), "{text}");
    }
    PASS
}
