//! What nodes, pods and containers use.

use pericarp::ErrorKind;
use pericarp::stats::{FilesystemOptions, StatsOptions};

use crate::world::*;

crate::behaviours![
    what_is_used_is_told_of_node_pod_and_container,
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
    let [cpu, working_set, processes] = container.hot_stats()?;
    assert_eq!((cpu, processes), (usage.as_u64(), Some(1)));
    assert_eq!(working_set.is_some(), one["cgroup"].get("memory").is_some(), "unknown is not 0");
    world.saw(format!("{processes:?} {}", working_set.is_some()));
    let text = world.node.prometheus()?;
    assert!(text.contains("container_cpu_usage_seconds_total{container=\"main\","), "{text}");
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
