//! Events of a pod, and what is done with a pod as a whole.

use std::time::Duration;

use pericarp::{
    ErrorKind, Event, EventOptions, ExitStatus, PodSpec, Pressure, PressureShare, PressureTrigger, Since,
};

use crate::api::EventsApi;
use crate::world::*;

crate::behaviours![
    the_life_of_a_container_is_told,
    what_came_and_went_before_is_told_where_there_is_a_journal,
    what_changes_from_now_on_is_told,
    freezing_and_thawing_are_told,
    wrong_thresholds_are_refused,
    a_removed_pod_tells_nothing,
    killing_a_pod_ends_all_containers,
];

/// Waits by the descriptor until that was told, and writes down all that was.
fn until(world: &World, events: &dyn EventsApi, last: &Event) -> Result<Vec<Event>, libtest_mimic::Failed> {
    let fd = events.fd();
    let mut seen = Vec::new();
    while seen.last() != Some(last) {
        match events.next()? {
            Some(event) => {
                world.saw(format!("{event:?}"));
                seen.push(event);
            }
            None => assert!(readable(&fd, 60_000), "nothing comes after {seen:?}"),
        }
    }
    Ok(seen)
}

fn the_life_of_a_container_is_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let events = pod.events(None)?;
    world.saw(events.sources().to_string());
    assert_eq!(events.pod().id(), pod.id());
    assert!(events.next()?.is_none() && !readable(&events.fd(), 0) && !events.is_over());
    assert_eq!(pod.run(&script("quick", "exit 7"))?, ExitStatus::Exited(7));
    let seen = until(world, &*events, &Event::Empty)?;
    assert_eq!(seen.len(), 5);
    let status = Some(ExitStatus::Exited(7));
    assert!(matches!(&seen[2], Event::Exited { container, status: told, .. }
        if container == "quick" && *told == status));
    let sleeper = started(&*pod, &sleeper("long"))?;
    let begun = Event::Started { container: "long".to_string() };
    until(world, &*events, &begun)?;
    sleeper.signal(libc::SIGKILL)?;
    until(world, &*events, &Event::Empty)?;
    pod.remove()?;
    until(world, &*events, &Event::PodRemoved)?;
    assert!(events.is_over() && events.next()?.is_none());
    PASS
}

fn what_came_and_went_before_is_told_where_there_is_a_journal(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    assert_eq!(pod.run(&script("quick", "exit 7"))?, ExitStatus::Exited(7));
    let seen = until(world, &*pod.events(None)?, &Event::Empty)?;
    let status = Some(ExitStatus::Exited(7));
    assert!(matches!(&seen[2], Event::Exited { container, status: told, .. }
        if container == "quick" && *told == status));
    assert_eq!(seen[3], Event::Removed { container: "quick".to_string() });
    let without = world.node.create_pod(&PodSpec::new("without").journal(false))?;
    assert_eq!(without.run(&script("quick", "exit 7"))?, ExitStatus::Exited(7));
    assert!(without.events(None)?.next()?.is_none());
    without.remove()?;
    PASS
}

fn what_changes_from_now_on_is_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = pod.create_container(&script("c", "exit 0"))?;
    let options = EventOptions::new().since(Since::Now).memory(false);
    let events = pod.events(Some(&options))?;
    assert!(events.next()?.is_none());
    container.start()?;
    let seen = until(world, &*events, &Event::Empty)?;
    assert_eq!(seen.len(), 3);
    let other = pod.events(None)?;
    let all = until(world, &*other, &Event::Empty)?;
    assert_eq!(all.len(), 4);
    PASS
}

fn freezing_and_thawing_are_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let events = pod.events(None)?;
    pod.freeze()?;
    assert!(pod.is_frozen()?);
    until(world, &*events, &Event::Frozen { container: None })?;
    pod.thaw()?;
    until(world, &*events, &Event::Thawed { container: None })?;
    assert!(!pod.is_frozen()?);
    PASS
}

fn wrong_thresholds_are_refused(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    for (stall, window) in [(100, 100), (0, 1000), (2000, 1000)] {
        let millis = Duration::from_millis;
        let trigger = PressureTrigger::new(Pressure::Cpu, PressureShare::Some, millis(stall), millis(window));
        let options = EventOptions::new().pressure(trigger);
        world.refused(pod.events(Some(&options)), ErrorKind::InvalidSpec);
    }
    PASS
}

fn a_removed_pod_tells_nothing(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    pod.remove()?;
    world.refused(pod.events(None), ErrorKind::NotFound);
    pod.kill()?;
    PASS
}

fn killing_a_pod_ends_all_containers(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let (first, second) = (started(&*pod, &sleeper("a"))?, started(&*pod, &sleeper("b"))?);
    pod.kill()?;
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!((first.wait()?, second.wait()?), (killed, killed));
    pod.kill()?;
    first.remove()?;
    assert_eq!(pod.run(&script("a", "exit 3"))?, ExitStatus::Exited(3));
    PASS
}
