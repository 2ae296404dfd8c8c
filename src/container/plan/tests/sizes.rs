//! Specifications as large as they may be make plans that init takes; larger ones are errors, not panics, and cost no
//! more memory than they are long.

use super::read_plan;
use crate::container::plan::{PodContext, compile};
use crate::error::{ErrorKind, Result};
use crate::init::wire;
use crate::spec::{ContainerSpec, Mount, PodSpec, Rootfs};

fn container() -> ContainerSpec {
    ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["/bin/true"])
}

/// Everything up to the bytes for init, as a container is made.
fn encode(container: &ContainerSpec) -> Result<Vec<u8>> {
    container.validate()?;
    let plan = compile(&PodContext { spec: &PodSpec::new("web"), ids: None, ordinary: None }, container)?;
    plan.encode()
}

fn accepted(container: &ContainerSpec) {
    let bytes = encode(container).unwrap();
    assert!(bytes.len() <= wire::MAX_PLAN);
    read_plan(&bytes).unwrap();
}

fn refused(container: &ContainerSpec, field: &str) {
    let error = encode(container).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    assert!(error.subject().is_some_and(|subject| subject.contains(field)), "{error}");
}

#[test]
fn arguments_and_environment() {
    const MOST: usize = 512 << 10;
    // "/bin/true" and the NUL behind each.
    let long = |bytes: usize| container().args(["/bin/true".to_string(), "x".repeat(bytes - 11)]);
    accepted(&long(MOST));
    refused(&long(MOST + 1), "args");
    let env = |bytes: usize| container().env("LONG", "x".repeat(bytes - 10 - 6));
    accepted(&env(MOST));
    refused(&env(MOST + 1), "args and env");
    // As many as there may be, each of them with its own length on the wire.
    let many = |count: usize| container().args(std::iter::repeat_n("x", count));
    accepted(&many(32768));
    refused(&many(32769), "args and env");
    accepted(&container().args(std::iter::repeat_n("/x", 32768)));
    refused(&container().args([""]), "args[0]");
    refused(&container().args([""; 0]), "args");
}

#[test]
fn a_search_in_path() {
    let search =
        |directories: usize| container().args(["prog"]).env("PATH", vec!["/bin"; directories].join(":"));
    accepted(&search(1));
    accepted(&search(1024));
    refused(&search(1025), "PATH");
    refused(&search(100_000), "PATH");
    // Nothing is looked for where the program has a slash.
    accepted(&search(100_000).args(["/bin/prog"]));
    // Each of many empty directories stands for the name once more: 32 GiB, if nobody counted.
    let name = "x".repeat(128 << 10);
    refused(&container().args([name.clone()]).env("PATH", ":".repeat(256 << 10)), "args[0]");
    refused(&container().args([format!("/{name}")]), "args[0]");
    let name = "x".repeat(4095);
    accepted(&container().args([name.clone()]).env("PATH", "/bin:/sbin"));
    // Short enough, and too many all the same.
    refused(&container().args([name]).env("PATH", vec!["/bin"; 1024].join(":")), "container");
    // With the most arguments next to the most candidates.
    accepted(&search(1024).args(std::iter::repeat_n("x", 32767)));
}

#[test]
fn mounts() {
    let mounts = |count: usize, length: usize| {
        let path = |i: usize| format!("/{i:06}/{}", "x".repeat(length.saturating_sub(8)));
        (0..count).fold(container(), |spec, i| spec.mount(Mount::bind("/source", path(i))))
    };
    accepted(&mounts(1024, 8));
    refused(&mounts(1025, 8), "mounts");
    accepted(&mounts(1024, 800));
    // Each path may be so long, all of them may not.
    accepted(&mounts(64, 4095));
    refused(&mounts(1024, 4095), "container");
    refused(&mounts(1, 4096), "mounts[0]");
}

#[test]
fn layers() {
    let layers = |count: usize, length: usize| {
        let path = |i: usize| format!("/{i:06}{}", "x".repeat(length.saturating_sub(7)));
        ContainerSpec::new("a", Rootfs::overlay((0..count).map(path))).args(["/bin/true"])
    };
    accepted(&layers(1, 8));
    accepted(&layers(64, 8));
    // Their paths are not in the plan: init gets descriptors.
    accepted(&layers(64, 4095));
    refused(&layers(65, 8), "rootfs.lower");
    refused(&layers(0, 8), "rootfs.lower");
    refused(&layers(1, 4096), "rootfs.lower");
}

#[test]
fn hidden_paths_and_groups() {
    let hidden = |count: usize, length: usize| {
        let mut spec = container();
        spec.security.readonly_paths.clear();
        spec.security.masked_paths =
            (0..count).map(|i| format!("/{i:06}{}", "x".repeat(length - 7)).into()).collect();
        spec
    };
    accepted(&hidden(1024, 500));
    refused(&hidden(1024, 4000), "container");
    refused(&hidden(1025, 8), "security");
    accepted(&container().additional_gids(0..65536));
    refused(&container().additional_gids(0..65537), "user.additionalGids");
    // All at once is more than a plan holds.
    let all = hidden(1024, 500).additional_gids(0..65536).env("LONG", "x".repeat(500 << 10));
    refused(&all, "container");
}
