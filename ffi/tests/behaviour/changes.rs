//! Limits that change, ids of pods, and what needs no pod at all.

use std::collections::BTreeMap;
use std::fs;

use pericarp::spec::kubernetes::{Capacity, KubernetesPod};
use pericarp::spec::{IdMapping, IdMappings, Limit, UserMode};
use pericarp::{ErrorKind, IdRange, IdRanges, PodSpec, Resources};
use serde_json::json;

use crate::api::*;
use crate::world::*;

crate::behaviours![
    limits_change_while_it_runs,
    all_limits_change_or_none,
    a_frozen_container_is_told,
    a_pod_gets_ids_of_the_ranges_that_are_given,
    what_follows_from_requests_is_told,
    the_version_is_told,
];

fn pids(limit: u64) -> Resources {
    Resources { pids_max: Some(Limit::At(limit)), ..Resources::default() }
}

fn has(world: &World, controller: &str) -> bool {
    world.node.controllers().iter().any(|name| name == controller)
}

/// What the kernel says.
fn pids_max(pod: &dyn PodApi, below: &str) -> Result<String, libtest_mimic::Failed> {
    Ok(fs::read_to_string(format!("{}{below}/pids.max", pod.cgroup_path()))?.trim().to_string())
}

fn limits_change_while_it_runs(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let unknown: Resources = serde_json::from_value(json!({"unified": {"no.such": "1"}}))?;
    for failed in [pod.update(&unknown), container.update(&unknown)] {
        world.saw(format!("{:?}", failed.expect_err("no controller has that file")));
    }
    if !has(world, "pids") {
        world.refused(pod.update(&pids(50)), ErrorKind::Unsupported);
        world.refused(container.update(&pids(40)), ErrorKind::Unsupported);
        return PASS;
    }
    pod.update(&pids(50))?;
    container.update(&pids(40))?;
    assert_eq!((pids_max(&*pod, "")?, pids_max(&*pod, "/c")?), ("50".to_string(), "40".to_string()));
    PASS
}

fn all_limits_change_or_none(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let _container = started(&*pod, &sleeper("c"))?;
    let containers = BTreeMap::from([("c".to_string(), pids(30)), ("none".to_string(), pids(30))]);
    let nothing = Resources::default();
    pod.update_all(&nothing, &BTreeMap::from([("c".to_string(), nothing.clone())]))?;
    if !has(world, "pids") {
        world.refused(pod.update_all(&pids(60), &BTreeMap::new()), ErrorKind::Unsupported);
        return PASS;
    }
    world.refused(pod.update_all(&pids(60), &containers), ErrorKind::NotFound);
    assert_eq!((pids_max(&*pod, "")?, pids_max(&*pod, "/c")?), ("max".to_string(), "max".to_string()));
    let containers = BTreeMap::from([("c".to_string(), pids(30))]);
    pod.update_all(&pids(60), &containers)?;
    assert_eq!((pids_max(&*pod, "")?, pids_max(&*pod, "/c")?), ("60".to_string(), "30".to_string()));
    PASS
}

fn a_frozen_container_is_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    assert!(!container.is_frozen()?);
    container.freeze()?;
    assert!(container.is_frozen()? && !pod.is_frozen()?);
    container.thaw()?;
    assert!(!container.is_frozen()?);
    pod.freeze()?;
    assert!(container.is_frozen()?, "with its pod");
    pod.thaw()?;
    container.remove()?;
    assert!(!container.is_frozen()?, "it is gone");
    PASS
}

fn a_pod_gets_ids_of_the_ranges_that_are_given(world: &World) -> Outcome {
    assert_eq!(world.pod("plain")?.id_mappings(), None);
    let range = |first, size| vec![IdRange { first, size }];
    // Room for one pod: the blocks begin at multiples of 65 536.
    let (uids, gids) = (range(0x30_0001, 0x1_ffff), range(0x50_0000, 0x1_0000));
    let node = world.api.open(&world.options.clone().id_ranges(IdRanges::Given { uids, gids }))?;
    let spec = |name: &str| PodSpec::new(name).user(UserMode::Auto { size: None });
    let pod = node.create_pod(&spec("mapped"))?;
    let expected = IdMappings {
        uid_mappings: vec![IdMapping::new(0, 0x31_0000, 0x1_0000)],
        gid_mappings: vec![IdMapping::new(0, 0x50_0000, 0x1_0000)],
    };
    assert_eq!(pod.id_mappings(), Some(expected));
    let said = say(&*pod, script("c", "cat /proc/self/uid_map /proc/self/gid_map"))?;
    let numbers: Vec<u32> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(numbers, [0, 0x31_0000, 0x1_0000, 0, 0x50_0000, 0x1_0000]);
    world.refused(node.create_pod(&spec("another")), ErrorKind::Exhausted);
    // What is written down beside the node keeps others from them.
    assert_eq!(std::fs::read_dir(&world.options.id_claims)?.count(), 3);
    let ids = IdMappings::contiguous(0x31_ffff, 1);
    let error = node.create_pod(&PodSpec::new("shared").user(UserMode::Mapped(ids)));
    world.refused(error, ErrorKind::AlreadyExists);
    // A user whom /etc/subuid does not know has none.
    let nobody = IdRanges::User("no-such-user".to_string());
    let node = world.api.open(&world.options.clone().id_ranges(nobody))?;
    world.refused(node.create_pod(&spec("another")), ErrorKind::Exhausted);
    PASS
}

fn what_follows_from_requests_is_told(world: &World) -> Outcome {
    let machine: Capacity =
        serde_json::from_value(json!({"cpuMillis": 4000, "memory": 1_u64 << 33, "swap": null,
        "hugePages": {}, "pids": 1000, "pageSize": 4096}))?;
    let pod = |request: &str| -> Result<KubernetesPod, serde_json::Error> {
        serde_json::from_value(json!({"containers": [{"name": "web", "resources":
            {"requests": {"cpu": request, "memory": "4Gi"}}}]}))
    };
    let outcome = world.api.explain_kubernetes(&pod("500m")?, &machine)?;
    assert_eq!(
        (&outcome["qosClass"], &outcome["containers"]["web"]["oomScoreAdj"]),
        (&json!("Burstable"), &json!(500))
    );
    world.saw(outcome.to_string());
    PASS
}

fn the_version_is_told(world: &World) -> Outcome {
    let (text, number) = world.api.version();
    world.saw(format!("{text} {number}"));
    PASS
}
