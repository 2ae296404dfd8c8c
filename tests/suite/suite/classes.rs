//! The cgroups of QoS classes, and what a container alone requests.

use std::fs;
use std::path::PathBuf;

use pericarp::spec::kubernetes::{
    Admission, CgroupDriver, KubernetesPod, MemoryReservation, Policy, QosClass, Resize, cpu_shares,
    cpu_weight,
};
use pericarp::{ErrorKind, Node, Pod, PodSpec};

use super::kubernetes::needs;
use super::limits::{MIB, cgroup_of, read};
use crate::need;
use crate::support::fixture::script;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    the_cgroups_of_classes_follow_their_pods,
    a_class_that_somebody_else_has_made_is_left_alone,
    containers_that_request_by_themselves_are_admitted,
    what_is_reserved_is_not_for_containers_without_a_limit,
];

/// Below a name of this test's own: a kubelet may be at work.
fn top(suffix: &str) -> String {
    format!("kubepods{suffix}-{}", std::process::id())
}

fn pod(node: &Node, driver: CgroupDriver, top: &str, uid: &str, needs: (&str, &str)) -> Pod {
    let kubernetes = KubernetesPod::new()
        .container("web", super::kubernetes::needs(needs.0, needs.1))
        .policy(Policy::new().memory_reservation_policy(MemoryReservation::TieredReservation));
    let path = driver.pod(kubernetes.qos_class(), uid).replacen("kubepods", top, 1);
    node.create_pod(&PodSpec::new(uid).kubernetes(kubernetes).cgroup(&path)).expect("create a pod")
}

fn weight(millicpu: u64) -> String {
    cpu_weight(cpu_shares(millicpu)).expect("a weight").to_string()
}

/// Mutation, seen in the guest: without a look at the classes after a removal, the weight was still 100, not 59.
fn the_cgroups_of_classes_follow_their_pods() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    for (driver, name) in [(CgroupDriver::Cgroupfs, top("")), (CgroupDriver::Systemd, top("s"))] {
        let above = |pod: &Pod| pod.cgroup_path().parent().expect("a class").to_path_buf();
        let first = pod(&fixture.node, driver, &name, "b1", ("cpu=250m memory=32Mi", "memory=64Mi"));
        let burstable = above(&first);
        let all = burstable.parent().expect("the top").to_path_buf();
        let check = |millicpu: u64, low: u64, min: u64| {
            assert_eq!(read(&burstable, "cpu.weight"), weight(millicpu));
            assert_eq!(read(&burstable, "memory.low"), (low * MIB).to_string());
            assert_eq!(read(&all, "memory.min"), (min * MIB).to_string());
            assert_eq!([read(&burstable, "memory.min"), read(&all, "memory.low")], ["0", "0"]);
        };
        check(250, 32, 32);
        // Of other programs, too.
        let other = fixture.reopen();
        let second = pod(&other, driver, &name, "b2", ("cpu=500m memory=64Mi", ""));
        check(750, 96, 96);
        let best_effort = pod(&other, driver, &name, "e1", ("", ""));
        assert_eq!(best_effort.qos_class(), Some(QosClass::BestEffort));
        let low = above(&best_effort);
        assert_eq!(read(&low, "cpu.weight"), "1");
        let guaranteed = pod(&fixture.node, driver, &name, "g1", ("", "cpu=1 memory=16Mi"));
        assert_eq!(above(&guaranteed), all);
        check(750, 96, 112);
        // The cgroup of all pods is weighed by whoever made it.
        assert_eq!(read(&all, "cpu.weight"), "100");

        first.resize(&Resize::new().container("web", needs("cpu=500m memory=48Mi", "memory=64Mi")))?;
        check(1000, 112, 128);
        second.remove()?;
        check(500, 48, 64);
        // What a program did not come to is done by whoever recovers the node.
        fs::write(burstable.join("cpu.weight"), "77")?;
        fs::write(all.join("memory.min"), "0")?;
        fixture.node.recover()?;
        check(500, 48, 64);
        guaranteed.remove()?;
        first.remove()?;
        check(0, 0, 0);
        best_effort.remove()?;
        [&burstable, &low, &all].into_iter().try_for_each(fs::remove_dir)?;
    }
    PASS
}

/// Mutation, seen in the guest: when what was there was taken for made, the class had a weight of 59 and 48 MiB reserved.
fn a_class_that_somebody_else_has_made_is_left_alone() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let name = top("k");
    let root: PathBuf = fixture.pod("x").cgroup_path().ancestors().nth(2).expect("the top").to_path_buf();
    let burstable = root.join(&name).join("burstable");
    fs::create_dir_all(&burstable)?;
    let pod = pod(&fixture.node, CgroupDriver::Cgroupfs, &name, "b1", ("cpu=250m memory=32Mi", ""));
    assert_eq!(pod.cgroup_path().parent(), Some(&*burstable));
    pod.resize(&Resize::new().container("web", needs("cpu=500m memory=48Mi", "")))?;
    assert_eq!([read(&burstable, "cpu.weight"), read(&burstable, "memory.low")], ["100", "0"]);
    pod.remove()?;
    assert_eq!([read(&burstable, "cpu.weight"), read(&burstable, "memory.low")], ["100", "0"]);
    fs::remove_dir(&burstable)?;
    fs::remove_dir(root.join(name))?;
    PASS
}

/// Mutation, seen in the guest: without `admit_alone` the second container was made.
fn containers_that_request_by_themselves_are_admitted() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let reserved = fixture.node.capacity()?.cpu_millis - 500;
    let admission = Admission::new().reserve("cpu", &format!("{reserved}m"))?;
    let node = Node::open(&fixture.options.clone().admission(admission))?;
    let pod = node.create_pod(&PodSpec::new("shop"))?;
    let spec = |name: &str| script(name, "true").requirements(needs("cpu=300m", ""));
    // Made by others, it counts; and for them there is no admission.
    let first = fixture.reopen().open_pod("shop")?.create_container(&spec("first"))?;
    let error = pod.create_container(&spec("second")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("cpu: requested 300m, used 300m"), "{error}");
    let names: Vec<_> = pod.containers()?.iter().map(|container| container.name().to_string()).collect();
    assert_eq!(names, ["first"]);
    let whole =
        PodSpec::new("other").kubernetes(KubernetesPod::new().container("web", needs("cpu=300m", "")));
    assert_eq!(node.create_pod(&whole).unwrap_err().kind(), ErrorKind::Exhausted);
    first.remove()?;
    pod.create_container(&spec("second"))?;
    PASS
}

/// Mutation, seen in the guest: with the whole memory in the place of what is for pods, `memory.high` was 920875008, not 679284736.
fn what_is_reserved_is_not_for_containers_without_a_limit() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let node = Node::open(&fixture.options.clone().admission(Admission::new().reserve("memory", "256Mi")?))?;
    let capacity = node.capacity()?;
    assert_eq!(capacity.allocatable_memory, Some(capacity.memory - 256 * MIB));
    let kubernetes = KubernetesPod::new()
        .container("web", needs("memory=32Mi", ""))
        .policy(Policy::new().memory_throttling_factor("0.9")?);
    let pod = node.create_pod(&PodSpec::new("shop").kubernetes(kubernetes))?;
    // It is what the pod was made with, whoever makes its containers.
    let pod = fixture.reopen().open_pod(pod.id())?;
    let container = pod.create_container(&script("web", "true"))?;
    let high = 32 * MIB + (capacity.memory - 288 * MIB) * 9 / 10;
    assert_eq!(read(&cgroup_of(&container), "memory.high"), (high / 4096 * 4096).to_string());
    PASS
}
