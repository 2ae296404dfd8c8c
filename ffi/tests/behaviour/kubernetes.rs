//! Requests and limits in Kubernetes' terms.

use pericarp::spec::Resources;
use pericarp::spec::kubernetes::{Admission, KubernetesPod, Requirements, Resize};
use pericarp::{ErrorKind, PodSpec};
use serde_json::json;

use crate::world::*;

crate::behaviours![
    the_capacity_of_the_node_is_told,
    requests_and_the_class_of_a_pod_are_told_and_changed,
    a_pod_that_does_not_fit_is_refused,
];

fn cpu(request: &str) -> Requirements {
    Resources::kubernetes().request("cpu", request).expect("a request")
}

fn the_capacity_of_the_node_is_told(world: &World) -> Outcome {
    let capacity = world.node.capacity()?;
    for key in ["cpuMillis", "memory", "pids", "pageSize"] {
        assert!(capacity[key].as_u64().is_some_and(|number| number > 0), "{key} in {capacity}");
    }
    world.saw(capacity.to_string());
    PASS
}

fn requests_and_the_class_of_a_pod_are_told_and_changed(world: &World) -> Outcome {
    let plain = world.pod("plain")?;
    assert_eq!((plain.qos_class(), plain.kubernetes()?), (None, None));
    let resize = |request| Resize::new().container("web", cpu(request));
    world.refused(plain.resize(&resize("1")), ErrorKind::InvalidSpec);
    let spec = PodSpec::new("shop").kubernetes(KubernetesPod::new().container("web", cpu("100m")));
    let controllers = world.node.controllers();
    if !["cpu", "memory"].iter().all(|name| controllers.iter().any(|has| has == name)) {
        world.refused(world.node.create_pod(&spec), ErrorKind::Unsupported);
        return PASS;
    }
    let pod = world.node.create_pod(&spec)?;
    assert_eq!(pod.qos_class().as_deref(), Some("Burstable"));
    let requests =
        |cpu: &str| json!({"containers": [{"name": "web", "resources": {"requests": {"cpu": cpu}}}]});
    assert_eq!(pod.kubernetes()?, Some(requests("100m")));
    assert_eq!(pod.resize(&resize("200m"))?, json!({"reclaimed": {}}));
    assert_eq!(pod.kubernetes()?, Some(requests("200m")));
    world.refused(pod.resize(&resize("0")), ErrorKind::InvalidSpec);
    PASS
}

/// No machine has so many processors: it is refused before anything asks for a controller.
fn a_pod_that_does_not_fit_is_refused(world: &World) -> Outcome {
    let admission = Admission::new().reserve("cpu", "100m")?;
    let node = world.api.open(&world.options.clone().admission(admission))?;
    let spec =
        |request: &str| PodSpec::new("shop").kubernetes(KubernetesPod::new().container("web", cpu(request)));
    world.refused(node.create_pod(&spec("1M")), ErrorKind::Exhausted);
    assert!(world.node.pods()?.is_empty());
    PASS
}
