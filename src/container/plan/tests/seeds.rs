//! What fuzzing starts from (`fuzz/seeds`): a seed that is not valid would lead it nowhere.

use std::fs;

use crate::container::plan::{PodContext, compile};
use crate::spec::{ContainerSpec, IdMappings, PodSpec, UserMode, oci};

// In this program: where the tests run in a guest, there are no sources.

const SPECS: [(&str, &str); 3] = [
    ("bare.json", include_str!("../../../../fuzz/seeds/spec/bare.json")),
    ("full.json", include_str!("../../../../fuzz/seeds/spec/full.json")),
    ("small.json", include_str!("../../../../fuzz/seeds/spec/small.json")),
];

const CONFIGURATIONS: [(&str, &str); 2] = [
    ("default.json", include_str!("../../../../fuzz/seeds/oci/default.json")),
    ("full.json", include_str!("../../../../fuzz/seeds/oci/full.json")),
];

fn check(name: &str, pod: &PodSpec, container: &ContainerSpec) {
    let any = IdMappings::contiguous(100_000, 65536);
    let ids = Some(&any).filter(|_| pod.namespaces.user != UserMode::Host);
    let plan = pod
        .validate()
        .and_then(|()| container.validate())
        .and_then(|()| compile(&PodContext { spec: pod, ids, ordinary: None }, container));
    plan.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Every seed is looked at here.
fn are_all(seeds: &[(&str, &str)], directory: &str) {
    let directory = format!("{}/fuzz/seeds/{directory}", env!("CARGO_MANIFEST_DIR"));
    let Ok(directory) = fs::read_dir(directory) else { return };
    let mut names: Vec<_> =
        directory.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, seeds.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn the_specifications_are_valid() {
    for (name, json) in SPECS {
        let (pod, container) = serde_json::from_str(json).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(name, &pod, &container);
    }
    are_all(&SPECS, "spec");
}

#[test]
fn the_configurations_are_taken() {
    for (name, json) in CONFIGURATIONS {
        let config = oci::parse(json).unwrap_or_else(|error| panic!("{name}: {error}"));
        let pod = PodSpec::from_oci("pod", &config).unwrap_or_else(|error| panic!("{name}: {error}"));
        let container = ContainerSpec::from_oci(&config).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(name, &pod, &container);
    }
    are_all(&CONFIGURATIONS, "oci");
}
