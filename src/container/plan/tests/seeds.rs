//! What fuzzing starts from (`fuzz/seeds/spec`): a seed that is not valid would lead it nowhere.

use std::fs;

use crate::container::plan::{PodContext, compile};
use crate::spec::{ContainerSpec, PodSpec};

#[test]
fn the_seeds_of_fuzzing_are_valid() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/spec");
    let mut seen = 0;
    for entry in fs::read_dir(directory).expect("the seeds are in the repository") {
        let path = entry.unwrap().path();
        let json = fs::read(&path).unwrap();
        let (pod, container): (PodSpec, ContainerSpec) =
            serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let plan = pod
            .validate()
            .and_then(|()| container.validate())
            .and_then(|()| compile(&PodContext { spec: &pod, ids: None }, &container));
        plan.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        seen += 1;
    }
    assert!(seen > 0, "no seeds in {directory}");
}
