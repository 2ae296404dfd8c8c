//! Specifications have bounds: what is within them works, and what is beyond is an error, which leaves nothing.
//!
//! CVE-2021-43784. Plans and their decoding have tests of their own in `src/container/plan/tests`.

use pericarp::spec::{Hook, Hooks, IpcObjects, ShmObjectSpec};
use pericarp::{ContainerSpec, ErrorKind, ExecSpec, Mount, PodSpec};

use crate::robust::in_guest;
use crate::support::fixture::{payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![what_is_within_the_bounds_runs, what_is_beyond_the_bounds_is_refused_and_leaves_nothing];

fn paths(count: usize, length: usize) -> Vec<std::path::PathBuf> {
    (0..count).map(|i| format!("/{i:06}{}", "x".repeat(length - 7)).into()).collect()
}

fn what_is_within_the_bounds_runs() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mounts = if in_guest() { 50 } else { 300 };
    let mut spec = script("a", "grep -c ' /mnt/' /proc/mounts; id -G | wc -w").additional_gids(1..65536);
    spec = (0..mounts).fold(spec, |spec, i| spec.mount(Mount::tmpfs(format!("/mnt/{i}"), 4096)));
    spec.security.masked_paths.extend(paths(500, 200));
    assert_eq!(say(&pod, spec), format!("{mounts}\n65536\n"));
    PASS
}

/// Before labels had a bound: "specification 10 was taken". That of the plan's size in `src/container/plan/encode.rs` can
/// be taken out without harm: init has the same one.
fn what_is_beyond_the_bounds_is_refused_and_leaves_nothing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = || inside("a", &["exit", "0"]);
    let hidden = |count, length| {
        let mut spec = spec();
        spec.security.masked_paths = paths(count, length);
        spec
    };
    let hooked = || {
        let mut hooks = Hooks::default();
        hooks.start_container.extend((0..5000).map(|_| Hook::new("/bin/true")));
        spec().hooks(hooks)
    };
    let mounted =
        |count: usize| (0..count).fold(spec(), |spec, i| spec.mount(Mount::tmpfs(format!("/mnt/{i}"), 4096)));
    let long = "x".repeat(1 << 20);
    let beyond: Vec<ContainerSpec> = vec![
        mounted(1025),
        hidden(1025, 8),
        hidden(1, 4096),
        // Within the number, and the length, but more than a plan holds.
        hidden(1024, 4000),
        hooked(),
        spec().additional_gids(0..65537),
        spec().args(std::iter::repeat_n("/x", 32769)),
        spec().args(["/bin/true", &long]),
        spec().env("LONG", &long),
        spec().cwd(format!("/{}", "x".repeat(4095))),
        spec().label("long", &long).annotation("long", &long),
        ContainerSpec::new("x".repeat(300), crate::support::fixture::rootfs()).args(["/bin/true"]),
    ];
    for (number, spec) in beyond.iter().enumerate() {
        let error =
            pod.create_container(spec).map(|_| ()).expect_err(&format!("specification {number} was taken"));
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{number}: {error}");
        assert!(error.to_string().len() < 10_000, "{number}: an error of {} bytes", error.to_string().len());
        assert!(pod.containers()?.is_empty(), "{number}");
    }
    let container = pod.create_container(&inside("b", &["sleep"]))?;
    container.start()?;
    for spec in [
        ExecSpec::new(["/bin/true", &long]),
        ExecSpec::new(["/bin/true"]).env("LONG", &long),
        ExecSpec::new(std::iter::repeat_n("/x", 32769)),
    ] {
        assert_eq!(container.exec(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
    }
    assert_eq!(container.processes()?.len(), 1);
    let object = |name: String| {
        let shm = vec![ShmObjectSpec { name, size: 4096, mode: 0o600, uid: 0, gid: 0 }];
        IpcObjects { shm, ..IpcObjects::default() }
    };
    for spec in [
        PodSpec::new("x".repeat(300)),
        PodSpec::new("other").label("long", &long),
        PodSpec::new("other").hostname(&long),
        PodSpec::new("other").ipc(object("x".repeat(256))),
    ] {
        assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
    }
    assert_eq!(fixture.node.pods()?.len(), 1);
    PASS
}
