//! Requests and limits in Kubernetes' terms: the files of the cgroups hold what a kubelet would have written, and pods
//! are admitted by what they request.

use std::fs;

use pericarp::spec::kubernetes::{
    Admission, CgroupDriver, KubernetesPod, MemoryReservation, Policy, QosClass, Requirements,
};
use pericarp::spec::{Limit, MemoryResources, Resources};
use pericarp::{CgroupParent, ErrorKind, Node, NodeOptions, PodSpec};

use super::limits::{MIB, cgroup_of, read};
use crate::need;
use crate::support::fixture::{facts, payload as run_payload, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    pods_and_containers_get_what_a_kubelet_writes,
    what_the_specification_says_besides_goes_on_top,
    a_container_alone_has_requirements_of_its_own,
    requirements_that_the_pod_does_not_know_are_refused,
    the_oom_killer_is_told_whom_to_take_first,
    the_class_is_known_to_whoever_opens_the_pod,
    a_pod_lives_where_the_kubelet_would_have_it,
    the_capacity_is_that_of_the_machine,
    the_capacity_is_what_a_cgroup_above_leaves,
    a_pod_that_does_not_fit_is_refused_with_the_figures_and_leaves_nothing,
    of_many_that_are_admitted_at_once_only_so_many_win_as_fit,
    without_controllers_the_missing_one_is_named,
];

/// `needs("cpu=1 memory=1Gi", "memory=2Gi")`: requests and limits.
pub fn needs(requests: &str, limits: &str) -> Requirements {
    let pairs = |text: &str| -> Vec<(String, String)> {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').expect("a pair"));
        pairs.map(|(name, quantity)| (name.to_string(), quantity.to_string())).collect()
    };
    let mut requirements = Resources::kubernetes();
    for (name, quantity) in pairs(requests) {
        requirements = requirements.request(&name, &quantity).expect("a request");
    }
    for (name, quantity) in pairs(limits) {
        requirements = requirements.limit(&name, &quantity).expect("a limit");
    }
    requirements
}

/// The memory of the machine in bytes.
fn memory_of_the_machine() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("read meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("MemTotal");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn pods_and_containers_get_what_a_kubelet_writes() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    let pod = KubernetesPod::new()
        .container("web", needs("cpu=250m memory=32Mi", "cpu=500m memory=64Mi"))
        .container("job", needs("cpu=500m", "cpu=1 memory=32Mi"))
        .sidecar("log", needs("cpu=100m", "cpu=100m memory=16Mi"))
        .overhead("cpu", "150m")?
        .overhead("memory", "8Mi")?
        .policy(
            Policy::new()
                .memory_throttling_factor("0.9")?
                .memory_reservation_policy(MemoryReservation::TieredReservation)
                .pod_pids_limit(77),
        );
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(pod))?;
    let check = |cgroup: &std::path::Path, files: &[(&str, &str)]| {
        for (file, content) in files {
            assert_eq!(read(cgroup, file), *content, "{file} of {}", cgroup.display());
        }
    };
    // 250 + 500 + 100 + 150 are a whole processor: 1024 shares.
    check(
        &pod.cgroup_path(),
        &[
            ("cpu.weight", "100"),
            ("cpu.max", "175000 100000"),
            ("memory.max", &(120 * MIB).to_string()),
            ("memory.low", &(88 * MIB).to_string()),
            ("memory.min", "0"),
            ("memory.high", "max"),
            ("pids.max", "77"),
        ],
    );
    let high = (32 * MIB + 32 * MIB * 9 / 10) / 4096 * 4096;
    for (name, files) in [
        (
            "web",
            &[
                ("cpu.weight", "35"),
                ("cpu.max", "50000 100000"),
                ("memory.max", &*(64 * MIB).to_string()),
                ("memory.low", &(32 * MIB).to_string()),
                ("memory.high", &high.to_string()),
                ("memory.oom.group", "1"),
                ("memory.swap.max", "0"),
                ("pids.max", "max"),
            ][..],
        ),
        ("job", &[("cpu.weight", "59"), ("cpu.max", "100000 100000"), ("memory.high", "max")]),
        ("log", &[("cpu.weight", "17"), ("cpu.max", "10000 100000")]),
        // In no list: as an ephemeral container of Kubernetes.
        (
            "debug",
            &[("cpu.weight", "1"), ("cpu.max", "max 100000"), ("memory.max", "max"), ("memory.low", "0")],
        ),
    ] {
        let container = pod.create_container(&script(name, "true"))?;
        check(&cgroup_of(&container), files);
        container.remove()?;
    }
    PASS
}

fn what_the_specification_says_besides_goes_on_top() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let high = |bytes: u64| Resources {
        memory: MemoryResources { high: Some(Limit::At(bytes)), ..Default::default() },
        ..Default::default()
    };
    let pod = KubernetesPod::new().container("web", needs("", "cpu=1 memory=64Mi"));
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(pod).resources(high(80 * MIB)))?;
    assert_eq!(read(&pod.cgroup_path(), "memory.max"), (64 * MIB).to_string());
    assert_eq!(read(&pod.cgroup_path(), "memory.high"), (80 * MIB).to_string());
    let mut resources = high(48 * MIB);
    resources.memory.max = Some(Limit::At(56 * MIB));
    let container = pod.create_container(&script("web", "true").resources(resources).oom_score_adj(123))?;
    assert_eq!(read(&cgroup_of(&container), "memory.max"), (56 * MIB).to_string());
    assert_eq!(read(&cgroup_of(&container), "memory.high"), (48 * MIB).to_string());
    assert_eq!(read(&cgroup_of(&container), "cpu.max"), "100000 100000");
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", container.pid()))?;
    assert_eq!(score, "123\n");
    PASS
}

fn a_container_alone_has_requirements_of_its_own() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let pod = fixture.pod("shop");
    assert_eq!(pod.qos_class(), None);
    assert_eq!(pod.kubernetes()?, None);
    let spec = script("web", "true").requirements(needs("cpu=500m", "memory=64Mi"));
    let container = pod.create_container(&spec)?;
    assert_eq!(read(&cgroup_of(&container), "cpu.weight"), "59");
    assert_eq!(read(&cgroup_of(&container), "memory.max"), (64 * MIB).to_string());
    assert_eq!(read(&pod.cgroup_path(), "memory.max"), "max");
    let expected = 1000 - i64::try_from(1000 * 64 * MIB / memory_of_the_machine())?;
    assert_eq!(i64::from(container.spec().oom_score_adj.expect("a score")), expected);
    PASS
}

fn requirements_that_the_pod_does_not_know_are_refused() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let pod = KubernetesPod::new().container("web", needs("cpu=500m", ""));
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(pod))?;
    for (name, requirements, word) in [
        ("web", needs("cpu=600m", ""), "differ from those that the pod has"),
        ("other", needs("cpu=500m", ""), "are not among those that the pod was made with"),
        ("web", needs("cpu=-1", ""), "requirements.requests.cpu"),
    ] {
        let error = pod.create_container(&script(name, "true").requirements(requirements)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(pod.containers()?.is_empty());
    pod.create_container(&script("web", "true").requirements(needs("cpu=500m", "")))?;
    PASS
}

/// A score below the program's own takes CAP_SYS_RESOURCE. Where that is missing, the score is the program's own, and the
/// container says so.
fn the_oom_killer_is_told_whom_to_take_first() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let quarter = memory_of_the_machine() / 4;
    let requests = needs(&format!("memory={quarter}"), "");
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?;
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let may_lower = u64::from_str_radix(effective.trim(), 16)? >> 24 & 1 == 1;
    for (name, containers, score) in [
        ("best-effort", KubernetesPod::new().container("facts", needs("", "")), 1000),
        ("burstable", KubernetesPod::new().container("facts", requests), 750),
        ("guaranteed", KubernetesPod::new().container("facts", needs("", "cpu=1 memory=64Mi")), -997),
    ] {
        let pod = fixture.node.create_pod(&PodSpec::new(name).kubernetes(containers))?;
        let expected = if may_lower { score } else { score.max(own) };
        assert_eq!(facts(&pod, |spec| spec).oom_score_adj.trim(), expected.to_string(), "{name}");
        let container = pod.create_container(&script("facts", "true"))?;
        assert_eq!(container.spec().oom_score_adj, Some(expected), "{name}");
    }
    PASS
}

fn the_class_is_known_to_whoever_opens_the_pod() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    for (name, requirements, class) in [
        ("a", needs("", ""), QosClass::BestEffort),
        ("b", needs("cpu=1m", ""), QosClass::Burstable),
        ("c", needs("", "cpu=1 memory=64Mi"), QosClass::Guaranteed),
    ] {
        let kubernetes = KubernetesPod::new().container("web", requirements);
        let pod = fixture.node.create_pod(&PodSpec::new(name).kubernetes(kubernetes.clone()))?;
        let state = fixture.options.state_dir.join("pods").join(pod.id()).join("kubernetes.json");
        assert!(fs::read_to_string(&state)?.contains(&format!("\"qosClass\":\"{class}\"")));
        let again = fixture.reopen().open_pod(name)?;
        assert_eq!((again.qos_class(), again.kubernetes()?), (Some(class), Some(kubernetes)));
        pod.remove()?;
        assert!(!state.exists());
    }
    PASS
}

fn a_pod_lives_where_the_kubelet_would_have_it() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let top = format!("kubepods-{}", std::process::id());
    for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
        let kubernetes = KubernetesPod::new().container("web", needs("cpu=1m", ""));
        // Below a name of this test's own: a kubelet may be at work.
        let path = driver.pod(kubernetes.qos_class(), "7f-1").replacen("kubepods", &top, 1);
        let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(kubernetes).cgroup(&path))?;
        assert!(pod.cgroup_path().ends_with(path.trim_start_matches('/')));
        assert_eq!(read(&pod.cgroup_path(), "cpu.weight"), "1");
        let above: Vec<_> = pod.cgroup_path().ancestors().skip(1).take(2).map(ToOwned::to_owned).collect();
        pod.remove()?;
        above.iter().try_for_each(fs::remove_dir)?;
    }
    PASS
}

fn the_capacity_is_that_of_the_machine() -> Outcome {
    let fixture = Fixture::new();
    let capacity = fixture.node.capacity()?;
    if std::env::var_os("PERICARP_VM").is_some() {
        assert_eq!(capacity.memory, memory_of_the_machine());
        assert_eq!(capacity.swap, Some(0));
        assert!(capacity.huge_pages.contains_key(&(2 * MIB)), "{capacity:?}");
    }
    assert!((1..=memory_of_the_machine()).contains(&capacity.memory));
    let online = std::thread::available_parallelism()?.get() as u64;
    assert!((1..=online * 1000).contains(&capacity.cpu_millis), "{capacity:?}");
    let most: u64 = fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse()?;
    assert!((1..=most).contains(&capacity.pids), "{capacity:?}");
    assert_eq!(capacity.page_size, 4096);
    PASS
}

fn the_capacity_is_what_a_cgroup_above_leaves() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    let own = fixture.pod("x").cgroup_path().parent().expect("a parent").to_path_buf();
    for (file, value) in [("memory.max", "134217728"), ("cpu.max", "25000 50000"), ("pids.max", "99")] {
        fs::write(own.join(file), value)?;
    }
    // Of one below that has no limits, too.
    let below = own.join("below");
    fs::create_dir(&below)?;
    let options =
        NodeOptions::new().state_dir(fixture.path("state")).cgroup_parent(CgroupParent::Path(below.clone()));
    let node = Node::open(&options)?;
    for node in [&fixture.node, &node] {
        let capacity = node.capacity()?;
        assert_eq!((capacity.memory, capacity.cpu_millis, capacity.pids), (128 * MIB, 500, 99));
    }
    node.remove()?;
    fs::remove_dir(below)?;
    PASS
}

fn a_pod_that_does_not_fit_is_refused_with_the_figures_and_leaves_nothing() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let capacity = fixture.node.capacity()?;
    // All but 1.5 processors' worth is reserved, whatever the machine has.
    let reserved = capacity.cpu_millis.saturating_sub(900);
    let admission = Admission::new().reserve("cpu", &format!("{reserved}m"))?;
    let node = Node::open(&fixture.options.clone().admission(admission))?;
    let spec = |name: &str, cpu: &str| {
        PodSpec::new(name).kubernetes(KubernetesPod::new().container("web", needs(&format!("cpu={cpu}"), "")))
    };
    let first = node.create_pod(&spec("first", "500m"))?;
    // Made by others, ephemeral or not: it counts.
    let second = fixture.node.create_pod(&spec("second", "300m").ephemeral(true))?;
    let error = node.create_pod(&spec("third", "200m")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let text = error.to_string();
    assert!(text.contains("cpu: requested 200m, used 800m, reserved"), "{text}");
    assert!(!text.contains("memory"), "{text}");
    for phase in ["new", "pods", "garbage"] {
        let left = fs::read_dir(fixture.options.state_dir.join(phase))?.count();
        assert_eq!(left, usize::from(phase == "pods"), "{phase}");
    }
    assert_eq!(node.open_pod("third").unwrap_err().kind(), ErrorKind::NotFound);
    // Without requests it is none of admission's business; nor is it with this handle.
    node.create_pod(&PodSpec::new("none"))?;
    fixture.node.create_pod(&spec("unasked", "99"))?.remove()?;
    second.remove()?;
    node.create_pod(&spec("third", "400m"))?;
    first.remove()?;
    PASS
}

fn of_many_that_are_admitted_at_once_only_so_many_win_as_fit() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let reserved = fixture.node.capacity()?.cpu_millis - 500;
    let admission = Admission::new().reserve("cpu", &format!("{reserved}m"))?;
    let options = fixture.options.clone().admission(admission);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let admit = |number: usize| {
            let options = &options;
            scope.spawn(move || {
                // Each as another program would: with a node of its own.
                let node = Node::open(options).expect("open");
                let pod = KubernetesPod::new().container("web", needs("cpu=100m", ""));
                node.create_pod(&PodSpec::new(format!("p{number}")).kubernetes(pod)).map(drop)
            })
        };
        let threads: Vec<_> = (0..12).map(admit).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(refused.iter().all(|error| error.kind() == ErrorKind::Exhausted), "{refused:?}");
    // Mutation: with a shared lock in `admit`, 9 won.
    assert_eq!(outcomes.len() - refused.len(), 5);
    assert_eq!(fixture.node.pods()?.len(), 5);
    PASS
}

fn without_controllers_the_missing_one_is_named() -> Outcome {
    let fixture = Fixture::new();
    let pod = KubernetesPod::new().container("web", needs("cpu=500m", "memory=64Mi"));
    let spec = PodSpec::new("shop").kubernetes(pod);
    let there = fixture.node.controllers();
    match ["cpu", "memory"].iter().find(|name| !there.iter().any(|has| has == *name)) {
        None => {
            let pod = fixture.node.create_pod(&spec)?;
            pod.create_container(&run_payload("web", &["exit", "0"]))?;
        }
        Some(missing) => {
            let error = fixture.node.create_pod(&spec).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&format!("the controller {missing}")), "{error}");
            assert!(fixture.node.pods()?.is_empty());
        }
    }
    PASS
}
