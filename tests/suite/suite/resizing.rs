//! Other requests and limits for a pod that runs: all of them or none, and never by killing.

use std::fs;
use std::io::Write;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pericarp::spec::kubernetes::{
    Admission, KubernetesPod, Requirements, Resize, Shrink, cpu_shares, cpu_weight,
};
use pericarp::spec::{Limit, MemoryResources, Resources};
use pericarp::{Container, ErrorKind, Mount, Node, Pod, PodSpec};

use super::kubernetes::needs;
use super::limits::{MIB, cgroup_of, counter, read, say_and_wait, started};
use crate::need;
use crate::support::fixture::payload as run_payload;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_pod_and_its_containers_get_other_limits,
    what_a_resize_may_not_change_is_refused,
    when_one_write_fails_the_old_limits_are_back,
    a_resize_that_does_not_fit_is_refused,
    memory_in_use_is_not_taken_away,
    memory_that_can_be_reclaimed_is_if_asked_for,
    a_limit_below_what_is_in_use_is_an_error_for_who_asks_for_one,
];

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["resizing-cache", mib] => {
            let mut file = fs::File::create("/disk/cache").expect("create");
            for _ in 0..mib.parse().expect("a number") {
                file.write_all(&[7; 1 << 20]).expect("write");
            }
            // Clean pages can be reclaimed at once.
            file.sync_all().expect("sync");
            say_and_wait("cached");
        }
        _ => return false,
    }
    true
}

fn pod(fixture: &Fixture, requests: &str, limits: &str) -> Pod {
    let pod = KubernetesPod::new().container("web", needs(requests, limits));
    fixture.node.create_pod(&PodSpec::new("shop").kubernetes(pod)).expect("create a pod")
}

fn web(requirements: Requirements) -> Resize {
    Resize::new().container("web", requirements)
}

const FILES: [&str; 5] = ["cpu.weight", "cpu.max", "memory.max", "memory.high", "memory.swap.max"];

/// What the limits are, of the pod and of a container.
fn limits(pod: &Pod, container: &Container) -> Vec<String> {
    let cgroups = [pod.cgroup_path(), cgroup_of(container)];
    cgroups.iter().flat_map(|cgroup| FILES.map(|file| read(cgroup, file))).collect()
}

fn a_pod_and_its_containers_get_other_limits() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let kubernetes = KubernetesPod::new()
        .container("web", needs("cpu=100m memory=16Mi", "cpu=500m memory=32Mi"))
        .container("job", needs("cpu=100m", "cpu=1 memory=32Mi"));
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(kubernetes.clone()))?;
    let fixed = MemoryResources { max: Some(Limit::At(24 * MIB)), ..Default::default() };
    let job =
        run_payload("job", &["limits-wait"]).resources(Resources { memory: fixed, ..Default::default() });
    let (web, _stdin) = started(&pod, run_payload("web", &["limits-wait"]), "here");
    let (job, _stdin_of_job) = started(&pod, job, "here");

    let after = needs("cpu=900m memory=8Mi", "cpu=1500m memory=64Mi");
    let resize = Resize::new()
        .container("web", after.clone())
        .container("job", needs("cpu=100m", "cpu=1 memory=48Mi"));
    // By another program that has opened the pod.
    assert!(fixture.reopen().open_pod("shop")?.resize(&resize)?.reclaimed.is_empty());
    let weight = |millicpu| cpu_weight(cpu_shares(millicpu)).expect("a weight").to_string();
    assert_eq!(limits(&pod, &web)[..3], [&*weight(1000), "250000 100000", &(112 * MIB).to_string()]);
    assert_eq!(limits(&pod, &web)[5..8], [&*weight(900), "150000 100000", &(64 * MIB).to_string()]);
    // What was asked for besides stays.
    assert_eq!(read(&cgroup_of(&job), "memory.max"), (24 * MIB).to_string());
    let now = pod.kubernetes()?.expect("requests");
    assert_eq!(now.containers[0].resources, after);
    assert_eq!(pod.spec().kubernetes, Some(kubernetes));

    // What is made later has the new ones.
    let again = run_payload("web", &["limits-wait"]).requirements(after);
    web.remove()?;
    let (again, _stdin) = started(&pod, again, "here");
    assert_eq!(read(&cgroup_of(&again), "memory.max"), (64 * MIB).to_string());

    // And down again.
    let less = Resize::new().container("web", needs("cpu=10m memory=8Mi", "cpu=100m memory=16Mi"));
    pod.resize(&less)?;
    assert_eq!(read(&cgroup_of(&again), "memory.max"), (16 * MIB).to_string());
    assert_eq!(read(&cgroup_of(&again), "memory.high"), "max", "it held only while the limit sank");
    assert_eq!(limits(&pod, &again)[..3], [&*weight(110), "110000 100000", &(64 * MIB).to_string()]);
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_kill"), 0);
    PASS
}

fn what_a_resize_may_not_change_is_refused() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let pod = pod(&fixture, "cpu=100m", "memory=32Mi");
    let (container, _stdin) = started(&pod, run_payload("web", &["limits-wait"]), "here");
    let before = limits(&pod, &container);
    for (resize, word) in [
        (web(needs("cpu=100m", "cpu=100m memory=32Mi")), "is Burstable and would become Guaranteed"),
        (web(needs("cpu=100m", "")), "limits.memory: is there and cannot be removed"),
        (web(needs("cpu=100m", "memory=32Mi hugepages-2Mi=2Mi")), "only cpu and memory can"),
        (Resize::new().container("job", needs("cpu=1", "")), "is no container"),
    ] {
        let error = pod.resize(&resize).expect_err(word);
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(limits(&pod, &container), before);
    let error = fixture.pod("other").resize(&web(needs("cpu=1", ""))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    PASS
}

/// The last file to be written is read-only for a while. Mutation: without `Journal::undo`, those written before it had changed.
fn when_one_write_fails_the_old_limits_are_back() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let pod = pod(&fixture, "cpu=500m", "cpu=1 memory=32Mi");
    let (container, _stdin) = started(&pod, run_payload("web", &["limits-wait"]), "here");
    let before = limits(&pod, &container);
    let file = pod.cgroup_path().join("cpu.weight");
    let bind = |flags| mount(Some(&file), &file, None::<&str>, flags, None::<&str>);
    bind(MsFlags::MS_BIND)?;
    let readonly = bind(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    let outcome = pod.resize(&web(needs("cpu=100m", "cpu=2 memory=64Mi")));
    umount2(&file, MntFlags::MNT_DETACH)?;
    readonly?;
    let error = outcome.unwrap_err();
    assert_eq!(error.errno(), Some(libc::EROFS), "{error}");
    assert!(error.to_string().contains("cpu.weight"), "{error}");
    assert_eq!(limits(&pod, &container), before);
    assert_eq!(pod.kubernetes()?, pod.spec().kubernetes);
    pod.resize(&web(needs("cpu=100m", "cpu=2 memory=64Mi")))?;
    assert_ne!(limits(&pod, &container), before);
    PASS
}

fn a_resize_that_does_not_fit_is_refused() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let reserved = fixture.node.capacity()?.cpu_millis - 500;
    let admission = Admission::new().reserve("cpu", &format!("{reserved}m"))?;
    pod(&fixture, "cpu=300m", "");
    let pod = Node::open(&fixture.options.clone().admission(admission))?.open_pod("shop")?;
    let error = pod.resize(&web(needs("cpu=501m", ""))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("requested 501m, used 0, reserved"), "{error}");
    assert_eq!(pod.kubernetes()?, pod.spec().kubernetes);
    pod.resize(&web(needs("cpu=500m", "")))?;
    PASS
}

fn memory_in_use_is_not_taken_away() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = pod(&fixture, "memory=8Mi", "memory=96Mi");
    let (container, _stdin) = started(&pod, run_payload("web", &["memory-eat-and-wait", "48"]), "eaten");
    let before = limits(&pod, &container);
    // Nobody can take it back: it is no file's, and there is no swap for it.
    for shrink in [Shrink::Refuse, Shrink::Reclaim] {
        let resize = web(needs("memory=8Mi", "memory=24Mi")).shrink(shrink);
        let error = pod.resize(&resize).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongState);
        assert!(error.to_string().contains(&format!("lower memory.max to {}", 24 * MIB)), "{error}");
        assert_eq!(limits(&pod, &container), before);
    }
    assert_eq!(pod.kubernetes()?, pod.spec().kubernetes);
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_kill"), 0);
    assert_eq!(container.try_wait()?, None);
    pod.resize(&web(needs("memory=8Mi", "memory=72Mi")))?;
    assert_eq!(container.try_wait()?, None);
    PASS
}

/// `checkBeforeUpdate` of the OCI specification. With no look (`check_memory` in `src/cgroup/update.rs` returning at
/// once): the update is made, and the kernel kills.
fn a_limit_below_what_is_in_use_is_an_error_for_who_asks_for_one() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let at = |mib: u64| {
        let mut resources = super::limits::memory(mib * MIB);
        resources.memory.check_before_update = true;
        resources
    };
    let pod = fixture.pod("web");
    let spec = run_payload("web", &["memory-eat-and-wait", "48"]).resources(at(96));
    let (container, _stdin) = started(&pod, spec, "eaten");
    let error = container.update(&at(24)).expect_err("a limit below what is in use was set");
    assert_eq!(error.kind(), ErrorKind::WrongState, "{error}");
    assert!(error.to_string().contains(&format!("set memory.max to {}", 24 * MIB)), "{error}");
    assert_eq!(read(&cgroup_of(&container), "memory.max"), (96 * MIB).to_string());
    assert_eq!((container.try_wait()?, counter(&pod.cgroup_path(), "memory.events", "oom_kill")), (None, 0));
    container.update(&at(72))?;
    assert_eq!(read(&cgroup_of(&container), "memory.max"), (72 * MIB).to_string());
    assert_eq!(container.try_wait()?, None);
    PASS
}

fn memory_that_can_be_reclaimed_is_if_asked_for() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = pod(&fixture, "memory=8Mi", "memory=96Mi");
    let disk = fixture.path("disk");
    fs::create_dir(&disk)?;
    let spec = run_payload("web", &["resizing-cache", "48"]).mount(Mount::bind(&disk, "/disk"));
    let (container, _stdin) = started(&pod, spec, "cached");
    let used = || read(&cgroup_of(&container), "memory.current").parse::<u64>();
    assert!(used()? > 48 * MIB, "the container's own pages are in the cache");
    let before = limits(&pod, &container);
    let less = web(needs("memory=8Mi", "memory=32Mi"));
    assert_eq!(pod.resize(&less).unwrap_err().kind(), ErrorKind::WrongState);
    assert_eq!(limits(&pod, &container), before);

    let resized = pod.resize(&less.shrink(Shrink::Reclaim))?;
    let reclaimed = resized.reclaimed["web"];
    assert!(reclaimed.before > 48 * MIB && reclaimed.after <= 32 * MIB, "{reclaimed:?}");
    assert!(used()? <= 32 * MIB);
    assert_eq!(limits(&pod, &container)[7], (32 * MIB).to_string());
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_kill"), 0);
    assert_eq!(container.try_wait()?, None);
    PASS
}
