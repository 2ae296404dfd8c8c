//! What nodes, pods and containers use.

use pericarp::ErrorKind;
use pericarp::stats::{FilesystemOptions, StatsOptions};

use crate::api::hot_of;
use crate::world::*;

crate::behaviours![
    what_is_used_is_told_of_node_pod_and_container,
    the_short_way_tells_the_same,
    a_bound_of_nothing_is_refused,
    what_is_gone_has_no_stats,
];

fn what_is_used_is_told_of_node_pod_and_container(world: &World) -> Outcome {
    let pod = world.pod("web")?;
    let container = pod.create_container(&script("main", "while :; do :; done"))?;
    container.start()?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    container.freeze()?;
    let options = StatsOptions::new();
    let [one, whole, all] = [container.stats(&options)?, pod.stats(&options)?, world.node.stats(&options)?];
    let usage = &one["cgroup"]["cpu"]["usageUsec"];
    assert!(usage.as_u64().is_some_and(|usage| usage > 0), "{one}");
    assert_eq!(&whole["containers"][0]["cgroup"]["cpu"]["usageUsec"], usage);
    assert_eq!(all["pods"][0]["containers"][0]["cgroup"]["cpu"]["usageUsec"], *usage);
    assert_eq!((&whole["id"], &all["pods"][0]["name"]), (&pod.id().into(), &"web".into()));
    let lo = &whole["network"][0];
    world.saw(format!("{} {}", lo["name"], lo["receivedBytes"]));
    let hot = container.hot_stats()?;
    assert_eq!((hot["cpu_usage_usec"], hot["processes"]), (usage.as_u64(), Some(1)));
    let working_set = hot["memory_working_set_bytes"];
    assert_eq!(working_set.is_some(), one["cgroup"].get("memory").is_some(), "unknown is not 0");
    let known: Vec<_> = hot.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect();
    world.saw(format!("{known:?}"));
    let text = world.node.prometheus()?;
    assert!(text.contains("container_cpu_usage_seconds_total{container=\"main\","), "{text}");
    container.thaw()?;
    PASS
}

/// What is between two equal readings is equal to them, however the kernel counts. Mutation: with the system time in the
/// place of the time in user space, `cpu_user_usec` was 0 through C and 23752 through Rust.
fn the_short_way_tells_the_same(world: &World) -> Outcome {
    let pod = world.pod("web")?;
    let container = pod.create_container(&script("main", "while :; do :; done"))?;
    container.start()?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    container.freeze()?;
    let read = || container.stats(&StatsOptions::new()).map(|stats| hot_of(&stats));
    loop {
        let (mut before, mut short, mut after) = (read()?, container.hot_stats()?, read()?);
        let times = [&mut before, &mut short, &mut after].map(|numbers| numbers.remove("timestamp_usec"));
        assert!(times.is_sorted() && times[0].flatten().is_some_and(|time| time > 0), "{times:?}");
        if before == after {
            assert_eq!(short, before);
            break;
        }
    }
    container.thaw()?;
    PASS
}

fn a_bound_of_nothing_is_refused(world: &World) -> Outcome {
    let pod = world.pod("web")?;
    let options = StatsOptions::new().filesystems(FilesystemOptions::max_files(0));
    for failure in [pod.stats(&options).unwrap_err(), world.node.stats(&options).unwrap_err()] {
        assert_eq!(failure.kind, ErrorKind::InvalidSpec);
        world.saw(failure.message);
    }
    PASS
}

fn what_is_gone_has_no_stats(world: &World) -> Outcome {
    let pod = world.pod("web")?;
    let container = pod.create_container(&script("main", "exec sleep 1000"))?;
    container.remove()?;
    let options = StatsOptions::new();
    let failure = container.stats(&options).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::NotFound);
    world.saw(failure.message);
    assert_eq!(container.hot_stats().unwrap_err().kind, ErrorKind::NotFound);
    pod.remove()?;
    assert_eq!(pod.stats(&options).unwrap_err().kind, ErrorKind::NotFound);
    PASS
}
