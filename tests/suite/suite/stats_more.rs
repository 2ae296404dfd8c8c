//! Stats: limits that are in force, what they cost in system calls, and what the text for Prometheus makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pericarp::spec::{CpuMax, Limit};
use pericarp::stats::StatsOptions;
use pericarp::{PodSpec, Resources};

use crate::robust::again;
use crate::robust::trace::{Call, Then, Who, name, trace};
use crate::support::fixture::script;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    limits_of_processors_and_memory_are_those_of_the_files,
    a_reading_starts_no_process_and_opens_each_file_once,
    rows_of_prometheus_are_the_paths_of_cgroups,
];

/// A host program, and the body of a test that runs alone.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["stats-read", state_dir] => drop(again::node(state_dir).stats().expect("read stats")),
        ["stats-trace"] => again::body(no_process()),
        _ => return false,
    }
    true
}

fn limits_of_processors_and_memory_are_those_of_the_files() -> Outcome {
    let fixture = Fixture::new();
    crate::need!(fixture, "cpu", "memory");
    let resources: Resources = serde_json::from_str(
        r#"{"cpu": {"weight": 39, "max": {"quota": 20000, "period": 50000}, "burst": 3000},
            "memory": {"max": 67108864, "high": 50331648, "low": 8388608, "min": 4194304}}"#,
    )?;
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("main", "exec sleep 1000").resources(resources))?;
    container.start()?;
    let stats = fixture.node.stats_with(&StatsOptions::new().limits(true))?;
    let told = &stats.pods[0].containers[0].cgroup;
    let dir = pod.cgroup_path().join("main");
    let file = |name: &str| fs::read_to_string(dir.join(name)).expect(name).trim_end().to_string();
    let memory = told.memory.as_ref().expect("memory");
    assert_eq!(told.cpu.max, Some(CpuMax { quota: Limit::At(20_000), period: 50_000 }));
    for (name, value) in [
        ("cpu.max", told.cpu.max.map(|max| format!("{} {}", max.quota, max.period))),
        ("cpu.weight", told.cpu.weight.map(|weight| weight.to_string())),
        ("cpu.max.burst", told.cpu.burst_limit_usec.map(|burst| burst.to_string())),
        ("memory.max", memory.limit.map(|limit| limit.to_string())),
        ("memory.high", memory.high.map(|limit| limit.to_string())),
        ("memory.low", memory.low.map(|limit| limit.to_string())),
        ("memory.min", memory.min.map(|limit| limit.to_string())),
    ] {
        assert_eq!(value, Some(file(name)), "{name}");
    }
    assert_eq!((file("cpu.weight").as_str(), file("cpu.max.burst").as_str()), ("39", "3000"));
    // The pod has none of its own: that is told as such.
    assert_eq!(stats.pods[0].cgroup.cpu.max, Some(CpuMax { quota: Limit::MAX, period: 100_000 }));
    let text = stats.to_prometheus();
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{container=\"main\",")));
        line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_string())
    };
    assert_eq!(of("container_spec_cpu_quota").as_deref(), Some("20000"), "{text}");
    assert_eq!(of("container_spec_cpu_period").as_deref(), Some("50000"), "{text}");
    assert_eq!(of("container_spec_memory_limit_bytes").as_deref(), Some("67108864"), "{text}");
    assert!(
        !text.contains("container_spec_cpu_quota{container=\"\""),
        "a pod without a quota has none: {text}"
    );
    // What was not asked for is not read.
    let without = container.stats()?.cgroup;
    assert_eq!((without.cpu.max, without.cpu.weight, without.cpu.burst_limit_usec), (None, None, None));
    PASS
}

/// Whether a call makes a process that is no thread of the program.
fn makes_a_process(call: &Call) -> bool {
    let flags = match call.number {
        libc::SYS_fork | libc::SYS_vfork | libc::SYS_execve | libc::SYS_execveat => return true,
        libc::SYS_clone => call.args[0],
        libc::SYS_clone3 => {
            // The first field of its structure.
            let mut flags = [0; 8];
            let memory = fs::File::open(format!("/proc/{}/mem", call.pid)).expect("open its memory");
            std::os::unix::fs::FileExt::read_exact_at(&memory, &mut flags, call.args[0])
                .expect("read its memory");
            u64::from_ne_bytes(flags)
        }
        _ => return false,
    };
    flags & libc::CLONE_THREAD as u64 == 0
}

/// The system calls that a host program makes which reads the stats of a node, by name; none of them makes a process.
fn calls(state_dir: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let ended = trace(&["stats-read", state_dir], false, &mut |call: &Call| {
        if call.result.is_none() {
            assert!(call.who == Who::Host && !makes_a_process(call), "{} makes a process", name(call.number));
            *counts.entry(name(call.number)).or_default() += 1;
        }
        Then::Go
    });
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    counts
}

/// Seen to fail: with `true` run by std's `Command` in `walk::node` it said "clone3 makes a process"; with `cpu.stat` read
/// twice (stats/read.rs), one more file was opened for each container.
fn no_process() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web"))?;
    let word = again::word(&fixture);
    pod.create_container(&script("a", "exec sleep 1000"))?.start()?;
    let one = calls(&word);
    for name in ["b", "c", "d", "e"] {
        pod.create_container(&script(name, "exec sleep 1000"))?.start()?;
    }
    let five = calls(&word);
    let more = |name: &str| five.get(name).unwrap_or(&0) - one.get(name).unwrap_or(&0);
    let dir = pod.cgroup_path().join("a");
    let files = files_of(&dir);
    eprintln!("{} files a container: {files:?}", files.len());
    // And the cgroup's directory.
    assert_eq!(more("openat"), 4 * (files.len() + 1), "{one:?} {five:?}");
    assert_eq!(more("close"), 4 * (files.len() + 1), "{one:?} {five:?}");
    // One read a file: it is whole. `cgroup.procs` is read until its end.
    let present = files.iter().filter(|file| dir.join(file).exists()).count();
    assert_eq!(more("read"), 4 * (present + 1), "{one:?} {five:?}");
    PASS
}

/// The files that are opened for a container without options, of the controllers that it has.
fn files_of(dir: &Path) -> Vec<&'static str> {
    let has = |file: &str| dir.join(file).exists();
    let mut files = vec!["cpu.stat", "cgroup.procs", "cpu.pressure", "memory.pressure", "io.pressure"];
    if has("memory.current") {
        files.extend([
            "memory.current",
            "memory.peak",
            "memory.swap.current",
            "memory.stat",
            "memory.events",
        ]);
    }
    if has("io.stat") {
        files.push("io.stat");
    }
    if has("pids.current") {
        files.extend(["pids.current", "pids.peak"]);
    }
    files
}

fn a_reading_starts_no_process_and_opens_each_file_once() -> Outcome {
    again::alone(&["stats-trace"])
}

fn rows_of_prometheus_are_the_paths_of_cgroups() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("main", "exec sleep 1000"))?;
    container.start()?;
    // As the kernel has the path of its process.
    let told = fs::read_to_string(format!("/proc/{}/cgroup", container.pid()))?;
    let path = told.lines().find_map(|line| line.strip_prefix("0::")).ok_or("no path")?;
    let stats = fixture.node.stats()?;
    let text = stats.to_prometheus();
    let row = |id: &str, more: &str| {
        let start = "container_cpu_usage_seconds_total{";
        text.lines().any(|line| {
            line.starts_with(start) && line.contains(&format!("id=\"{id}\"")) && line.contains(more)
        })
    };
    assert!(row(path, "container=\"main\""), "{path}: {text}");
    let of_pod = Path::new(path).parent().ok_or("no pod")?;
    let of_node = of_pod.parent().ok_or("no node")?;
    assert!(row(&of_pod.to_string_lossy(), "pod=\"web\""), "{text}");
    assert!(row(&of_node.to_string_lossy(), "pod=\"\""), "{text}");
    assert!(row("/", "pod=\"\""), "{text}");
    let online =
        fs::read_to_string("/proc/cpuinfo")?.lines().filter(|line| line.starts_with("processor")).count();
    assert!(text.contains(&format!("\nmachine_cpu_cores {online}\n")), "{text}");
    PASS
}
