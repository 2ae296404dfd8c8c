//! What fuzzing starts from (`fuzz/seeds/spec`): a seed that is not valid would lead it nowhere.

use std::fs;

use crate::container::plan::{PodContext, compile};
use crate::spec::{ContainerSpec, PodSpec};

/// In this program: where the tests run in a guest, there are no sources.
const SEEDS: [(&str, &[u8]); 3] = [
    ("bare.json", include_bytes!("../../../../fuzz/seeds/spec/bare.json")),
    ("full.json", include_bytes!("../../../../fuzz/seeds/spec/full.json")),
    ("small.json", include_bytes!("../../../../fuzz/seeds/spec/small.json")),
];

#[test]
fn the_seeds_of_fuzzing_are_valid() {
    for (name, json) in SEEDS {
        let (pod, container): (PodSpec, ContainerSpec) =
            serde_json::from_slice(json).unwrap_or_else(|error| panic!("{name}: {error}"));
        let plan = pod
            .validate()
            .and_then(|()| container.validate())
            .and_then(|()| compile(&PodContext { spec: &pod, ids: None, ordinary: None }, &container));
        plan.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    if let Ok(directory) = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/spec")) {
        let mut names: Vec<_> =
            directory.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, SEEDS.map(|(name, _)| name), "every seed is looked at here");
    }
}
