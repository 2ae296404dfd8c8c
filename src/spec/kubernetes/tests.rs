//! Pods as Kubernetes sees them: classes, scores, sums and the limits of their cgroups.

use proptest::prelude::*;

use super::*;
use crate::spec::{CpuMax, Limit, PodSpec, Resources};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn machine() -> Capacity {
    Capacity {
        cpu_millis: 4000,
        memory: 16 * GIB,
        allocatable_memory: None,
        swap: Some(8 * GIB),
        huge_pages: [(2 * MIB, 64 * MIB), (GIB, 0)].into(),
        pids: 32_768,
        page_size: 4096,
    }
}

/// `"cpu=1 memory=1Gi / memory=2Gi"`: requests, and behind the slash limits.
fn needs(text: &str) -> Requirements {
    let (requests, limits) = text.split_once('/').unwrap_or((text, ""));
    let list = |text: &str| -> ResourceList {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, quantity)| (name.parse().unwrap(), quantity.parse().unwrap())).collect()
    };
    Requirements { requests: list(requests), limits: list(limits) }
}

fn pod(containers: &[&str]) -> KubernetesPod {
    let mut pod = KubernetesPod::new();
    for (i, text) in containers.iter().enumerate() {
        pod = pod.container(format!("c{i}"), needs(text));
    }
    pod
}

fn list(text: &str) -> ResourceList {
    needs(text).requests
}

#[test]
fn the_class_follows_from_cpu_and_memory_of_all_containers() {
    use QosClass::*;
    for (containers, class) in [
        (&[""][..], BestEffort),
        (&["", ""], BestEffort),
        (&["cpu=0 memory=0 / cpu=0"], BestEffort),
        (&["/ hugepages-2Mi=2Mi"], BestEffort),
        (&["cpu=1"], Burstable),
        (&["/ memory=1Gi"], Burstable),
        (&["cpu=1 memory=1Gi / cpu=1 memory=1Gi"], Guaranteed),
        (&["/ cpu=1 memory=1Gi"], Guaranteed),
        (&["cpu=1000m memory=1024Mi / cpu=1 memory=1Gi"], Guaranteed),
        (&["cpu=1 memory=1Gi / cpu=2 memory=1Gi"], Burstable),
        (&["/ cpu=1 memory=1Gi", ""], Burstable),
        (&["/ cpu=1 memory=1Gi", "/ cpu=1"], Burstable),
        (&["/ cpu=1 memory=1Gi", "/ cpu=2 memory=2Gi"], Guaranteed),
    ] {
        assert_eq!(pod(containers).qos_class(), class, "{containers:?}");
    }
    let guaranteed = "/ cpu=1 memory=1Gi";
    assert_eq!(pod(&[guaranteed]).init_container("i", needs("cpu=1")).qos_class(), Burstable);
    assert_eq!(pod(&[guaranteed]).init_container("i", needs(guaranteed)).qos_class(), Guaranteed);
    // What the pod says as a whole decides alone.
    assert_eq!(pod(&["cpu=1"]).resources(needs("/ cpu=2 memory=2Gi")).qos_class(), Burstable);
    assert_eq!(pod(&[""]).resources(needs("/ cpu=2 memory=2Gi")).qos_class(), Guaranteed);
    assert_eq!(pod(&["/ cpu=1 memory=1Gi"]).resources(needs("cpu=2")).qos_class(), Burstable);
    assert_eq!(pod(&["cpu=1"]).overhead("cpu", "1").unwrap().qos_class(), Burstable);
}

#[test]
fn the_oom_killer_takes_who_requests_least_first() {
    let memory = 16 * GIB;
    let score = |pod: &KubernetesPod, name: &str| pod.oom_score_adj(name, memory);
    assert_eq!(score(&pod(&["/ cpu=1 memory=1Gi"]), "c0"), -997);
    assert_eq!(score(&pod(&[""]), "c0"), 1000);
    assert_eq!(score(&pod(&["cpu=1"]), "c0"), 999);
    assert_eq!(score(&pod(&["memory=1"]), "c0"), 999);
    assert_eq!(score(&pod(&["memory=4Gi"]), "c0"), 750);
    assert_eq!(score(&pod(&["/ memory=4Gi"]), "c0"), 750, "a limit is a request");
    assert_eq!(score(&pod(&["memory=5Gi"]), "c0"), 1000 - 312, "rounded down");
    assert_eq!(score(&pod(&["memory=16Gi"]), "c0"), 3);
    assert_eq!(score(&pod(&["memory=400Gi"]), "c0"), 3);
    assert_eq!(score(&pod(&["memory=4Gi"]), "unknown"), 999);
    assert_eq!(score(&pod(&[""]).priority_class_name("system-node-critical"), "c0"), -997);
    assert_eq!(score(&pod(&["memory=4Gi"]).priority_class_name("system-cluster-critical"), "c0"), 750);
    // No sooner than any other container.
    let with_sidecar = pod(&["memory=4Gi", "memory=8Gi"]).sidecar("s", needs("memory=1Gi"));
    assert_eq!((score(&with_sidecar, "s"), score(&with_sidecar, "c0")), (750, 750));
    let large = pod(&["memory=4Gi"]).sidecar("s", needs("memory=8Gi"));
    assert_eq!(score(&large, "s"), 500);
    let init = pod(&["memory=4Gi"]).init_container("i", needs("memory=1Gi"));
    assert_eq!(score(&init, "i"), 938);
    // 6 GiB are nobody's: 2 each.
    let whole = pod(&["memory=1Gi", ""]).sidecar("s", needs("memory=1Gi")).resources(needs("memory=8Gi"));
    assert_eq!(["c0", "c1", "s"].map(|name| score(&whole, name)), [813, 875, 813]);
}

#[test]
fn a_pod_requests_what_it_needs_at_its_greediest_moment() {
    for (pod, requests) in [
        (pod(&["cpu=1 memory=1Gi", "cpu=500m"]), "cpu=1500m memory=1Gi"),
        (pod(&["cpu=1"]).init_container("i", needs("cpu=3 memory=1Gi")), "cpu=3 memory=1Gi"),
        (pod(&["cpu=1"]).sidecar("s", needs("cpu=3")), "cpu=4"),
        // The sidecar runs next to the second, not next to the first.
        (
            pod(&["cpu=1"])
                .init_container("a", needs("cpu=5"))
                .sidecar("s", needs("cpu=2"))
                .init_container("b", needs("cpu=4")),
            "cpu=6",
        ),
        (pod(&["/ cpu=2"]), "cpu=2"),
        (pod(&["cpu=1 memory=1Gi"]).overhead("cpu", "250m").unwrap(), "cpu=1250m memory=1Gi"),
        (pod(&["cpu=1"]).resources(needs("cpu=2 memory=2Gi")), "cpu=2 memory=2Gi"),
        (pod(&["cpu=1"]).resources(needs("/ cpu=2 memory=2Gi")), "cpu=1 memory=2Gi"),
    ] {
        assert_eq!(pod.requests(), list(requests), "{pod:?}");
    }
    for (pod, limits) in [
        (pod(&["/ cpu=1 memory=1Gi", "/ cpu=1"]), "cpu=2"),
        (pod(&["/ cpu=1", ""]), ""),
        (pod(&["/ cpu=1"]).init_container("i", needs("")), ""),
        (pod(&["/ cpu=1"]).init_container("i", needs("/ cpu=3")), "cpu=3"),
        (pod(&["/ cpu=1"]).overhead("cpu", "1").unwrap().overhead("memory", "1Gi").unwrap(), "cpu=2"),
        (pod(&["/ cpu=1", ""]).resources(needs("/ memory=1Gi")), "memory=1Gi"),
    ] {
        assert_eq!(pod.limits(), list(limits), "{pod:?}");
    }
}

#[test]
fn containers_get_their_limits() {
    let pod = pod(&["cpu=250m memory=1Gi / cpu=1500m memory=2Gi hugepages-2Mi=4Mi", "", "/ cpu=2"]);
    let resources = pod.container_resources("c0", &machine());
    assert_eq!(resources.cpu.weight, Some(35));
    assert_eq!(resources.cpu.max, Some(CpuMax { quota: Limit::At(150_000), period: 100_000 }));
    assert_eq!(resources.memory.max, Some(Limit::At(2 * GIB)));
    assert_eq!(resources.memory.oom_group, Some(true));
    assert_eq!(resources.memory.swap_max, Some(Limit::At(0)));
    assert_eq!((resources.memory.high, resources.memory.low, resources.memory.min), (None, None, None));
    assert_eq!(resources.hugetlb, [("2MB".into(), Limit::At(4 * MIB)), ("1GB".into(), Limit::At(0))].into());
    crate::cgroup::validate(&resources).unwrap();
    for (name, weight, max) in [("c1", 1, None), ("c2", 174, Some(CpuMax::millis(2000))), ("other", 1, None)]
    {
        let resources = pod.container_resources(name, &machine());
        assert_eq!((resources.cpu.weight, resources.cpu.max), (Some(weight), max), "{name}");
        assert_eq!(resources.memory.max, None);
    }
    let no_swap = Capacity { swap: None, ..machine() };
    assert_eq!(pod.container_resources("c0", &no_swap).memory.swap_max, None);
    // A limit of the whole pod is also that of a container without one.
    let whole = self::pod(&["", "/ memory=1Gi"]).resources(needs("/ cpu=2 memory=4Gi"));
    let of = |name| whole.container_resources(name, &machine());
    assert_eq!(
        (of("c0").memory.max, of("c0").cpu.max),
        (Some(Limit::At(4 * GIB)), Some(CpuMax::millis(2000)))
    );
    assert_eq!((of("c1").memory.max, of("c0").cpu.weight), (Some(Limit::At(GIB)), Some(174)));
}

#[test]
fn pods_get_their_limits() {
    let of = |pod: &KubernetesPod| pod.pod_resources(&machine());
    let both = of(&pod(&["cpu=250m / cpu=1 memory=1Gi", "cpu=250m / cpu=1 memory=1Gi"]));
    assert_eq!((both.cpu.weight, both.cpu.max), (Some(59), Some(CpuMax::millis(2000))));
    assert_eq!((both.memory.max, both.memory.oom_group), (Some(Limit::At(2 * GIB)), None));
    let one = of(&pod(&["cpu=250m / cpu=1 memory=1Gi", "/ memory=1Gi"]));
    assert_eq!((one.cpu.max, one.memory.max), (None, Some(Limit::At(2 * GIB))));
    let nothing = of(&pod(&[""]).overhead("cpu", "4").unwrap());
    assert_eq!((nothing.cpu.weight, nothing.cpu.max, nothing.memory.max), (Some(1), None, None));
    assert_eq!(nothing.hugetlb, [("2MB".into(), Limit::At(0)), ("1GB".into(), Limit::At(0))].into());
    let pids = pod(&["cpu=1"]).policy(Policy::new().pod_pids_limit(99));
    assert_eq!(
        (of(&pids).pids_max, pids.container_resources("c0", &machine()).pids_max),
        (Some(Limit::At(99)), None)
    );
    let unlimited = pod(&["/ cpu=1"]).policy(Policy::new().cpu_cfs_quota(false));
    assert_eq!(
        (of(&unlimited).cpu.max, unlimited.container_resources("c0", &machine()).cpu.max),
        (None, None)
    );
}

#[test]
fn memory_qos_is_as_the_policy_says() {
    let policy = Policy::new()
        .memory_throttling_factor("0.9")
        .unwrap()
        .memory_reservation_policy(MemoryReservation::TieredReservation);
    let memory = |pod: KubernetesPod| {
        let pod = pod.policy(policy.clone());
        let memory = pod.container_resources("c0", &machine()).memory;
        let whole = pod.pod_resources(&machine()).memory;
        assert_eq!((memory.min, memory.low), (whole.min, whole.low));
        (memory.high, memory.min, memory.low)
    };
    let at = |bytes| Some(Limit::At(bytes));
    assert_eq!(
        memory(pod(&["memory=1Gi / memory=2Gi"])),
        (at((GIB + GIB / 10 * 9) / 4096 * 4096), None, at(GIB))
    );
    assert_eq!(memory(pod(&["memory=1Gi"])), (at((GIB + 15 * GIB * 9 / 10) / 4096 * 4096), None, at(GIB)));
    let less = Capacity { allocatable_memory: Some(11 * GIB), ..machine() };
    let without_limit = pod(&["memory=1Gi"]).policy(policy.clone()).container_resources("c0", &less);
    assert_eq!(without_limit.memory.high, at(10 * GIB), "not of what is reserved for others");
    assert_eq!(memory(pod(&["/ cpu=1 memory=1Gi"])), (None, at(GIB), None));
    assert_eq!(memory(pod(&["/ memory=1Gi"])), (None, None, at(GIB)), "equal, although Burstable");
    assert_eq!(memory(pod(&[""])), (None, None, None));
}

#[test]
fn swap_is_for_burstable_pods_that_request_some_memory() {
    let policy = Policy::new().swap_behavior(SwapBehavior::LimitedSwap);
    let swap = |pod: KubernetesPod| match pod.policy(policy.clone()).container_resources("c0", &machine()) {
        Resources {
            memory: crate::spec::MemoryResources { swap_max: Some(Limit::At(swap)), .. }, ..
        } => swap,
        other => panic!("{other:?}"),
    };
    assert_eq!(swap(pod(&["memory=1Gi / memory=2Gi"])), GIB / 2);
    assert_eq!(swap(pod(&["memory=1Gi"])), GIB / 2);
    assert_eq!(swap(pod(&["memory=1Gi / memory=1Gi"])), 0);
    assert_eq!(swap(pod(&["/ cpu=1 memory=1Gi"])), 0);
    assert_eq!(swap(pod(&["cpu=1"])), 0);
    assert_eq!(swap(pod(&[""])), 0);
    for class in ["system-node-critical", "system-cluster-critical"] {
        assert_eq!(swap(pod(&["memory=1Gi"]).priority_class_name(class)), 0);
    }
    assert_eq!(swap(pod(&["memory=1Gi"]).priority_class_name("important")), GIB / 2);
}

#[test]
fn cgroups_of_whole_classes() {
    let pods = [pod(&["cpu=1"]), pod(&["cpu=500m", "cpu=500m"]), pod(&[""]), pod(&["/ cpu=8 memory=1Gi"])];
    assert_eq!(qos_resources(QosClass::Burstable, &pods).cpu.weight, Some(174));
    assert_eq!(qos_resources(QosClass::BestEffort, &pods).cpu.weight, Some(1));
    assert_eq!(qos_resources(QosClass::Guaranteed, &pods).cpu.weight, None);
    let memory = |class, pods: &[KubernetesPod]| {
        let memory = qos_resources(class, pods).memory;
        (memory.min, memory.low)
    };
    let none = Some(Limit::At(0));
    assert_eq!(memory(QosClass::Guaranteed, &pods), (none, None));
    // Values of the kubelet's own test: all that is reserved is at the top.
    let policy = Policy::new().memory_reservation_policy(MemoryReservation::TieredReservation);
    let pods = [
        "cpu=1 memory=128Mi / cpu=1 memory=128Mi",
        "cpu=1 memory=128Mi / cpu=2 memory=256Mi",
        "cpu=2 memory=256Mi",
        "",
    ]
    .map(|needs| pod(&[needs]).policy(policy.clone()));
    assert_eq!(memory(QosClass::Guaranteed, &pods), (Some(Limit::At(512 * MIB)), None));
    assert_eq!(memory(QosClass::Burstable, &pods), (None, Some(Limit::At(384 * MIB))));
    assert_eq!(memory(QosClass::BestEffort, &pods), (None, None));
    assert_eq!(memory(QosClass::Burstable, &[]), (None, none));
}

/// What the API server of Kubernetes 1.36 fills in.
#[test]
fn what_a_pod_asks_for_as_a_whole_has_defaults() {
    use QosClass::*;
    for (containers, given, requests, class) in [
        // What containers request is the pod's request as soon as it has any limit.
        ("cpu=1 memory=1Gi", "/ hugepages-2Mi=2Mi", "cpu=1 memory=1Gi hugepages-2Mi=2Mi", Burstable),
        ("cpu=1 memory=1Gi", "/ cpu=2", "cpu=1 memory=1Gi", Burstable),
        ("", "/ cpu=2 memory=1Gi", "cpu=2 memory=1Gi", Guaranteed),
        ("cpu=0", "/ cpu=2 memory=1Gi", "cpu=0 memory=1Gi", Burstable),
        // Without one there is no default.
        ("cpu=1 memory=1Gi", "cpu=2", "cpu=2", Burstable),
        ("memory=1Gi", "cpu=0", "cpu=0", BestEffort),
        // Huge pages of containers are a limit of the pod, and with that there is one.
        (
            "memory=1Gi hugepages-2Mi=4Mi / hugepages-2Mi=4Mi",
            "cpu=2",
            "cpu=2 memory=1Gi hugepages-2Mi=4Mi",
            Burstable,
        ),
        ("", "", "", BestEffort),
    ] {
        let pod = pod(&[containers]).resources(needs(given));
        pod.validate().unwrap();
        assert_eq!(pod.whole().requests, list(requests), "{containers} in {given}");
        assert_eq!(pod.qos_class(), class, "{containers} in {given}");
    }
    let burstable = pod(&["cpu=1 memory=8Gi"]).resources(needs("/ hugepages-2Mi=2Mi"));
    assert_eq!(burstable.oom_score_adj("c0", machine().memory), 500);
    assert_eq!(burstable.pod_resources(&machine()).cpu.weight, Some(100));
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    let sidecar = KubernetesContainer {
        name: "x".into(),
        restart_policy: Some(RestartPolicy::Always),
        ..Default::default()
    };
    let wrong_sidecar = KubernetesPod { containers: vec![sidecar], ..Default::default() };
    for (pod, field) in [
        (KubernetesPod::new(), "kubernetes.containers"),
        (pod(&["cpu=-1"]), "kubernetes.containers[0].resources.requests.cpu"),
        (pod(&["cpu=2 / cpu=1"]), "kubernetes.containers[0].resources.requests.cpu"),
        (pod(&["", "/ memory=10"]), "kubernetes.containers[1].resources.limits.memory"),
        (pod(&["hugepages-2Mi=2Mi"]), "requests.hugepages-2Mi"),
        (pod(&["/ hugepages-2Mi=3Mi"]), "limits.hugepages-2Mi"),
        (pod(&["memory=9223372036854775807"]), "requests.memory"),
        (pod(&[""]).container("c0", needs("")), "a second container is named \"c0\""),
        (pod(&[""]).container("C", needs("")), "kubernetes.containers[1].name"),
        (wrong_sidecar, "kubernetes.containers[0].restartPolicy"),
        (pod(&["cpu=2"]).resources(needs("cpu=1")), "kubernetes.resources.requests.cpu"),
        (pod(&["cpu=1", "cpu=1"]).resources(needs("/ cpu=1")), "kubernetes.resources.requests.cpu"),
        (pod(&["cpu=1"]).resources(needs("/ cpu=0")), "kubernetes.resources.requests.cpu"),
        (pod(&["cpu=1 / cpu=0"]), "kubernetes.containers[0].resources.requests.cpu"),
        (pod(&["/ hugepages-2Mi=2Mi"]), "kubernetes.containers[0].resources"),
        (pod(&[""]).resources(needs("/ hugepages-2Mi=2Mi")), "kubernetes.resources"),
        (
            pod(&["cpu=1 / hugepages-2Mi=4Mi"]).resources(needs("/ hugepages-2Mi=2Mi")),
            "kubernetes.resources.requests.hugepages-2Mi",
        ),
        (pod(&["/ cpu=2"]).resources(needs("/ cpu=1")), "kubernetes.resources"),
        (pod(&[""]).overhead("cpu", "-1").unwrap(), "kubernetes.overhead.cpu"),
        (pod(&[""]).priority_class_name("a b"), "kubernetes.priorityClassName"),
        (pod(&[""]).policy(Policy::new().memory_throttling_factor("2").unwrap()), "memoryThrottlingFactor"),
        (pod(&[""]).policy(Policy::new().cpu_cfs_quota_period(1)), "kubernetes.policy.cpuCFSQuotaPeriod"),
        (pod(&[""]).policy(Policy::new().pod_pids_limit(0)), "kubernetes.policy.podPidsLimit"),
    ] {
        let error = PodSpec::new("a").kubernetes(pod).validate().expect_err(field).to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    for (name, word) in [
        ("ephemeral-storage", "not counted here"),
        ("nvidia.com/gpu", "is none of"),
        ("hugepages-3Mi", "size"),
    ] {
        let error = Resources::kubernetes().request(name, "1").unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
}

#[test]
fn json_is_that_of_a_manifest() {
    let json = r#"{
        "containers": [{"name": "web", "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}}],
        "initContainers": [{"name": "log", "restartPolicy": "Always", "resources": {"requests": {"cpu": 0.1}}}],
        "resources": {"limits": {"cpu": 2}},
        "overhead": {"memory": "16Mi"},
        "priorityClassName": "high",
        "policy": {"memoryThrottlingFactor": 0.9, "memoryReservationPolicy": "TieredReservation",
            "swapBehavior": "LimitedSwap", "podPidsLimit": 100, "cpuCFSQuota": false, "cpuCFSQuotaPeriod": 5000,
            "singleProcessOOMKill": true}
    }"#;
    let pod: KubernetesPod = serde_json::from_str(json).unwrap();
    pod.validate().unwrap();
    assert_eq!(pod.requests(), list("cpu=600m memory=80Mi"));
    assert_eq!(serde_json::from_str::<KubernetesPod>(&serde_json::to_string(&pod).unwrap()).unwrap(), pod);
    for (json, word) in [
        (r#"{"containers": [{"name": "a", "resources": {"requests": {"cpu": "1x"}}}]}"#, "quantity \"1x\""),
        (r#"{"containers": [{"name": "a", "resources": {"requests": {"gpu": "1"}}}]}"#, "resource \"gpu\""),
        (r#"{"containers": [{"name": "a", "image": "b"}]}"#, "unknown field `image`"),
    ] {
        let error = serde_json::from_str::<KubernetesPod>(json).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_pod_is_admitted_if_it_fits_what_is_left() {
    let admission = Admission::new().reserve("cpu", "500m").unwrap();
    let check = |requests: &str, used: &str| admission.check(&list(requests), &list(used), &machine());
    check("cpu=1500m memory=8Gi", "cpu=2 memory=8Gi").unwrap();
    check("", "cpu=99").unwrap();
    check("cpu=0 memory=1Gi", "cpu=99").unwrap();
    let error = check("cpu=1501m memory=9Gi hugepages-2Mi=2Mi", "cpu=2 memory=8Gi").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Exhausted);
    let text = error.to_string();
    assert!(text.contains("cpu: requested 1501m, used 2, reserved 500m, capacity 4;"), "{text}");
    assert!(text.contains("memory: requested 9Gi, used 8Gi, reserved 0, capacity 16Gi"), "{text}");
    assert!(!text.contains("hugepages"), "{text}");
    let error = check("hugepages-4Mi=4Mi", "").unwrap_err().to_string();
    assert!(error.contains("hugepages-4Mi: requested 4Mi, used 0, reserved 0, capacity 0"), "{error}");
}

#[test]
fn a_resize_keeps_the_class_and_what_is_there() {
    let burstable = pod(&["cpu=1 memory=1Gi / memory=2Gi", ""]).init_container("i", needs("cpu=1"));
    let one = |text: &str| Resize::new().container("c0", needs(text));
    let after = burstable.resized(&one("cpu=2 memory=512Mi / cpu=3 memory=3Gi")).unwrap();
    assert_eq!(after.find("c0").unwrap().0, &needs("cpu=2 memory=512Mi / cpu=3 memory=3Gi"));
    assert_eq!(after.find("c1"), burstable.find("c1"));
    for (pod, resize, word) in [
        (burstable.clone(), one("cpu=1 memory=1Gi"), "limits.memory: is there and cannot be removed"),
        (burstable.clone(), one("memory=1Gi / memory=2Gi"), "requests.cpu: is there and cannot be removed"),
        (burstable.clone(), one("cpu=1 memory=0 / memory=0"), "limits.memory: would be zero"),
        (burstable.clone(), one("cpu=1 memory=3Gi / memory=2Gi"), "more than the limit"),
        (
            burstable.clone(),
            one("cpu=1 memory=1Gi / memory=2Gi hugepages-2Mi=2Mi"),
            "only cpu and memory can",
        ),
        (burstable.clone(), Resize::new().container("x", needs("")), "is no container"),
        (burstable.clone(), Resize::new().container("i", needs("cpu=2")), "no sidecar"),
        (pod(&[""]), one("cpu=1"), "is BestEffort and would become Burstable"),
        (
            pod(&["/ cpu=1 memory=1Gi"]),
            one("cpu=500m / cpu=1 memory=1Gi"),
            "is Guaranteed and would become Burstable",
        ),
        (
            pod(&["cpu=1 memory=1Gi / cpu=2 memory=1Gi"]),
            one("cpu=2 memory=1Gi / cpu=2 memory=1Gi"),
            "become Guaranteed",
        ),
    ] {
        let error = pod.resized(&resize).expect_err(word);
        assert_eq!(error.kind(), crate::ErrorKind::InvalidSpec);
        assert!(error.to_string().contains(word), "{error}");
    }
}

fn amount() -> impl Strategy<Value = Requirements> {
    (0_u64..4000, 0_u64..4000, 0_u64..1 << 20, 0_u64..1 << 20).prop_map(
        |(cpu, more_cpu, memory, more_memory)| {
            let milli = |value: u64| Quantity::from_milli(value as i64);
            let kib = |value: u64| Quantity::from_bytes((value + 4) << 10);
            Requirements {
                requests: [(ResourceName::Cpu, milli(cpu)), (ResourceName::Memory, kib(memory))].into(),
                limits: [
                    (ResourceName::Cpu, milli(cpu + more_cpu)),
                    (ResourceName::Memory, kib(memory + more_memory)),
                ]
                .into(),
            }
        },
    )
}

/// Found by fuzzing: these were valid, and the limits that they made were not.
#[test]
fn limits_that_no_machine_has_are_the_greatest_of_the_kernel_or_refused() {
    let pod = pod(&["cpu=1 / cpu=1Pi memory=1Gi"]);
    pod.validate().unwrap();
    for resources in [pod.pod_resources(&machine()), pod.container_resources("c0", &machine())] {
        crate::cgroup::validate(&resources).unwrap();
        assert_eq!(resources.cpu.max, Some(CpuMax { quota: Limit::At((1 << 44) - 1), period: 100_000 }));
    }
    let limited = |tasks| pod.clone().policy(Policy::new().pod_pids_limit(tasks)).validate();
    limited(4_194_304).unwrap();
    let error = limited(4_194_305).unwrap_err().to_string();
    assert!(error.contains("kubernetes.policy.podPidsLimit"), "{error}");
}

proptest! {
    #[test]
    fn whatever_is_valid_makes_limits_that_the_kernel_takes(
        containers in proptest::collection::vec(amount(), 1..4),
        init in proptest::collection::vec((amount(), any::<bool>()), 0..3),
        factor in 1_u32..=1000,
    ) {
        let mut pod = KubernetesPod::new().policy(
            Policy::new().memory_throttling_factor(&format!("{factor}m")).unwrap()
                .memory_reservation_policy(MemoryReservation::TieredReservation)
                .swap_behavior(SwapBehavior::LimitedSwap),
        );
        for (i, resources) in containers.into_iter().enumerate() {
            pod = pod.container(format!("c{i}"), resources);
        }
        for (i, (resources, sidecar)) in init.into_iter().enumerate() {
            let name = format!("i{i}");
            pod = if sidecar { pod.sidecar(name, resources) } else { pod.init_container(name, resources) };
        }
        pod.validate().unwrap();
        let whole = pod.pod_resources(&machine());
        crate::cgroup::validate(&whole).unwrap();
        let (requests, limits) = (pod.requests(), pod.limits());
        for container in pod.all() {
            let resources = pod.container_resources(&container.name, &machine());
            crate::cgroup::validate(&resources).unwrap();
            prop_assert!(resources.cpu.weight <= whole.cpu.weight);
            for (name, quantity) in container.resources.effective_requests() {
                prop_assert!(quantity <= requests[&name]);
                prop_assert!(limits.get(&name).is_none_or(|limit| requests[&name] <= *limit));
            }
            if let (Some(Limit::At(own)), Some(Limit::At(all))) = (resources.memory.max, whole.memory.max) {
                prop_assert!(own <= all);
            }
            let score = pod.oom_score_adj(&container.name, machine().memory);
            prop_assert!(score == -997 || score == 1000 || (3..=999).contains(&score));
        }
    }
}
