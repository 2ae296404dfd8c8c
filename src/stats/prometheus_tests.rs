use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::types::{
    CpuStats, DeviceIo, FilesystemStats, HugetlbStats, IoCounters, MemoryDetail, MemoryEvents, PidsStats,
    Pressure, PressureStats, RdmaStats,
};
use super::*;
use crate::spec::CpuMax;

/// A node on which everything is told, with names that need escapes.
fn everything(name: &str) -> NodeStats {
    let stall = |total_usec| Stall { total_usec, ..Stall::default() };
    let pressure = Some(Pressure { some: stall(1_500_000), full: Some(stall(7)) });
    let pressure = PressureStats { cpu: pressure, memory: pressure, io: pressure };
    let cgroup = CgroupStats {
        cpu: CpuStats {
            usage_usec: Some(12_345_678),
            user_usec: Some(12_000_000),
            system_usec: Some(345_678),
            periods: Some(10),
            throttled_periods: Some(3),
            throttled_usec: Some(5),
            burst_periods: Some(1),
            burst_usec: Some(2),
            weight: Some(100),
            burst_limit_usec: Some(0),
            max: Some(CpuMax { quota: Limit::At(20_000), period: 100_000 }),
        },
        memory: Some(MemoryStats {
            usage_bytes: Some(4096),
            peak_bytes: Some(8192),
            working_set_bytes: Some(1024),
            limit: Some(Limit::MAX),
            high: Some(Limit::At(9)),
            low: Some(Limit::MAX),
            min: Some(Limit::At(11)),
            swap_bytes: Some(1),
            swap_limit: Some(Limit::At(2)),
            stat: MemoryDetail {
                anon_bytes: Some(3),
                file_bytes: Some(4),
                page_faults: Some(5),
                major_page_faults: Some(6),
                ..MemoryDetail::default()
            },
            events: MemoryEvents {
                high: Some(6),
                max: Some(7),
                oom_kill: Some(8),
                ..MemoryEvents::default()
            },
        }),
        io: Some(vec![DeviceIo {
            major: 8,
            minor: 1,
            name: Some("cciss!c0d0".into()),
            counters: IoCounters { read_bytes: Some(1), writes: Some(2), ..IoCounters::default() },
        }]),
        pids: Some(PidsStats { current: Some(3), peak: Some(5), limit: Some(Limit::At(10)) }),
        processes: Some(2),
        pressure: pressure.clone(),
        hugetlb: Some(
            [("2MB".to_string(), HugetlbStats { usage_bytes: Some(0), limit_hits: Some(1) })].into(),
        ),
        rdma: Some([("mlx5_0".to_string(), RdmaStats { hca_handles: Some(1), hca_objects: None })].into()),
        misc: Some([("res_a".to_string(), 4)].into()),
    };
    let filesystem = FilesystemStats {
        device: "/dev/sda1".into(),
        used_bytes: 1,
        inodes: Some(2),
        ..FilesystemStats::default()
    };
    let container = ContainerStats {
        name: "main".into(),
        started_at_usec: Some(1_700_000_000_250_000),
        cgroup: cgroup.clone(),
        writable_layer: Some(filesystem.clone()),
        ..ContainerStats::default()
    };
    let pod = PodStats {
        name: name.into(),
        namespace: "default".into(),
        cgroup_path: "/sys/fs/cgroup/pericarp/1".into(),
        cgroup: cgroup.clone(),
        network: Some(vec![InterfaceStats { name: "eth0".into(), received_bytes: 9, ..Default::default() }]),
        volumes: [("data".to_string(), filesystem)].into(),
        containers: vec![container],
        ..PodStats::default()
    };
    let machine = MachineStats {
        cpu: CpuStats { usage_usec: Some(1), ..CpuStats::default() },
        processors: Some(2),
        memory_bytes: Some(1),
        memory_usage_bytes: Some(2),
        working_set_bytes: Some(3),
        swap_bytes: Some(4),
        swap_usage_bytes: Some(5),
        pressure,
    };
    NodeStats {
        timestamp_usec: 1_700_000_001_000_000,
        machine,
        cgroup_mount: "/sys/fs/cgroup".into(),
        cgroup_path: "/sys/fs/cgroup/pericarp".into(),
        cgroup,
        pods: vec![pod],
    }
}

/// One sample as a reader of the format takes it apart.
#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads the format strictly, and makes sure of its rules: help and type before the first sample of a metric, once
/// each, and all samples of a metric together and different.
fn read(text: &str) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(helped.insert(help.split(' ').next().unwrap().to_string()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge") && typed.insert(name.to_string()), "{line}");
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let name = line[..end].to_string();
            assert!(helped.contains(&name) && typed.contains(&name), "{line}");
            if samples.last().is_none_or(|last| last.name != name) {
                assert!(seen.insert(name.clone()), "{name} comes twice");
            }
            let (labels, rest) = match line[end..].strip_prefix('{') {
                Some(rest) => read_labels(rest),
                None => (BTreeMap::new(), &line[end..]),
            };
            let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
            samples.push(Sample { name, labels, value });
        }
    }
    assert_eq!(helped, seen, "no help without a sample");
    for (index, sample) in samples.iter().enumerate() {
        let same = |other: &Sample| other.name == sample.name && other.labels == sample.labels;
        assert!(!samples[..index].iter().any(same), "{sample:?} comes twice");
    }
    samples
}

fn read_labels(mut rest: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        let mut text = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => text.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    other @ ('\\' | '"') => other,
                    other => panic!("\\{other}"),
                }),
                (_, other) => text.push(other),
            }
        };
        assert!(labels.insert(name.to_string(), text).is_none());
        rest = &value[end + 1..];
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return (labels, rest.strip_prefix('}').unwrap()),
        }
    }
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
    };
    samples.iter().find(fits).map(|sample| sample.value)
}

#[test]
fn names_and_labels_are_those_of_cadvisor_and_the_kubelet() {
    let samples = read(&everything("web").to_prometheus());
    let container = [("container", "main"), ("namespace", "default"), ("pod", "web")];
    let of = |name: &str, more: &[(&str, &str)]| value(&samples, name, &[&container[..], more].concat());
    assert_eq!(of("container_cpu_usage_seconds_total", &[("cpu", "total")]), Some(12.345_678));
    assert_eq!(of("container_cpu_cfs_throttled_seconds_total", &[]), Some(0.000_005));
    assert_eq!(of("container_memory_working_set_bytes", &[]), Some(1024.0));
    assert_eq!(of("container_memory_rss", &[]), Some(3.0));
    let fault = [("failure_type", "pgmajfault"), ("scope", "hierarchy")];
    assert_eq!(of("container_memory_failures_total", &fault), Some(6.0));
    assert_eq!(of("container_spec_memory_limit_bytes", &[]), Some(0.0));
    assert_eq!(of("container_spec_cpu_period", &[]), Some(100_000.0));
    assert_eq!(of("container_spec_cpu_quota", &[]), Some(20_000.0));
    assert_eq!(of("container_spec_cpu_shares", &[]), Some(1024.0));
    assert_eq!(of("container_spec_memory_reservation_limit_bytes", &[]), Some(11.0));
    assert_eq!(of("container_spec_memory_high_bytes", &[]), Some(9.0));
    assert_eq!(of("container_spec_memory_protection_bytes", &[("kind", "min")]), Some(11.0));
    assert_eq!(of("container_spec_memory_protection_bytes", &[("kind", "low")]), None, "all of it");
    assert_eq!(of("container_memory_events_total", &[("event", "high")]), Some(6.0));
    assert_eq!(of("container_threads_peak", &[]), Some(5.0));
    assert_eq!(of("container_fs_usage_bytes", &[("device", "/dev/sda1")]), Some(1.0));
    assert_eq!(of("container_memory_rss", &[("id", "/pericarp/1/main")]), Some(3.0));
    assert_eq!(of("container_pressure_io_waiting_seconds_total", &[]), Some(1.5));
    assert_eq!(of("container_pressure_cpu_stalled_seconds_total", &[]), Some(0.000_007));
    assert_eq!(of("container_fs_reads_bytes_total", &[("device", "/dev/cciss/c0d0")]), Some(1.0));
    assert_eq!(of("container_fs_writes_bytes_total", &[]), None, "not told");
    assert_eq!(of("container_hugetlb_usage_bytes", &[("pagesize", "2MB")]), Some(0.0));
    assert_eq!(of("container_start_time_seconds", &[]), Some(1_700_000_000.25));
    assert_eq!(of("container_network_receive_bytes_total", &[]), None, "the pod's, not a container's");
    let pod = [("container", ""), ("pod", "web"), ("interface", "eth0")];
    assert_eq!(value(&samples, "container_network_receive_bytes_total", &pod), Some(9.0));
    assert_eq!(value(&samples, "pod_memory_working_set_bytes", &[("pod", "web")]), Some(1024.0));
    assert_eq!(value(&samples, "kubelet_volume_stats_used_bytes", &[("volume", "data")]), Some(1.0));
    assert_eq!(value(&samples, "node_memory_working_set_bytes", &[]), Some(3.0));
    assert_eq!(value(&samples, "container_memory_usage_bytes", &[("id", "/")]), Some(2.0));
    assert_eq!(value(&samples, "machine_cpu_cores", &[]), Some(2.0));
    let all = [("container", ""), ("id", "/pericarp"), ("namespace", ""), ("pod", "")];
    assert_eq!(value(&samples, "container_memory_usage_bytes", &all), Some(4096.0));
    assert_eq!(value(&samples, "container_last_seen", &all), Some(1_700_000_001.0));
}

#[test]
fn ids_are_paths_from_the_top_of_the_hierarchy() {
    let ids = |mount: &str, path: &str| {
        let mut stats = everything("web");
        stats.cgroup_mount = mount.into();
        stats.cgroup_path = path.into();
        stats.pods[0].cgroup_path = Path::new(path).join("1");
        let samples = read(&stats.to_prometheus());
        let usage = samples.into_iter().filter(|sample| sample.name == "container_memory_usage_bytes");
        usage.map(|sample| sample.labels["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("/cg/unified", "/cg/unified/a"), ["/", "/a", "/a/1", "/a/1/main"]);
    // The node's cgroup is the machine's: that is one row.
    assert_eq!(ids("/cg", "/cg"), ["/", "/1", "/1/main"]);
}

#[test]
fn what_is_not_told_has_no_sample() {
    assert_eq!(read(&NodeStats::default().to_prometheus()), []);
    let pod = PodStats { containers: vec![ContainerStats::default()], ..PodStats::default() };
    assert_eq!(read(&NodeStats { pods: vec![pod], ..NodeStats::default() }.to_prometheus()), []);
}

#[test]
fn stats_come_back_from_json() {
    let stats = everything("web");
    let json = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<NodeStats>(&json).unwrap(), stats);
    let nothing = serde_json::to_value(ContainerStats::default()).unwrap();
    assert_eq!(nothing["cgroup"], serde_json::json!({ "cpu": {} }), "what is not told is not in the JSON");
}

proptest! {
    #[test]
    fn no_name_breaks_the_format(name in "\\PC{0,10}[\n\"\\\\,{}= ]{0,4}") {
        let samples = read(&everything(&name).to_prometheus());
        prop_assert_eq!(value(&samples, "container_memory_rss", &[("container", "main"), ("pod", &name)]), Some(3.0));
    }
}
