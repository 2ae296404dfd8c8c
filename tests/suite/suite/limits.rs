//! Limits of pods and containers: what is asked for stands in the files of the cgroup, is seen from inside, and bites.
//!
//! Most of this needs the controllers of cgroup v2: the guest has them all, and there nothing may be skipped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{ForkResult, fork};
use pericarp::spec::{
    CpuMax, CpuResources, CpusetResources, IoMax, IoResources, Limit, MemoryResources, Resources,
};
use pericarp::{Container, ContainerSpec, ErrorKind, Pod, PodSpec, Stdio};

use crate::support::fixture::{facts, payload as run_payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    every_limit_of_a_container_is_in_its_files_and_seen_from_inside,
    every_limit_of_a_pod_is_in_its_files,
    a_container_cannot_change_its_limits,
    what_is_not_asked_for_is_left_to_the_kernel,
    pids_max_stops_forks,
    a_pids_limit_of_the_pod_holds_for_its_containers_together,
    a_cpuset_is_the_affinity_of_the_container,
    processors_that_are_not_there_are_refused_and_nothing_is_left,
    cpu_max_throttles,
    a_block_device_that_is_not_there_is_refused_and_nothing_is_left,
];

pub const MIB: u64 = 1 << 20;

/// Why the machine cannot run a test that needs these controllers; nothing is an excuse in the guest.
pub fn lacks(fixture: &Fixture, controllers: &[&str]) -> Option<String> {
    let there = fixture.node.controllers();
    let missing: Vec<_> = controllers.iter().filter(|name| !there.iter().any(|has| has == *name)).collect();
    assert!(
        missing.is_empty() || std::env::var_os("PERICARP_VM").is_none(),
        "the guest lacks the controllers {missing:?}"
    );
    (!missing.is_empty()).then(|| format!("cgroup v2 of this machine lacks the controllers {missing:?}"))
}

#[macro_export]
macro_rules! need {
    ($fixture:expr, $($controller:literal),+) => {
        if let Some(reason) = $crate::limits::lacks(&$fixture, &[$($controller),+]) {
            return $crate::support::skip(reason);
        }
    };
}

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["limits-cat", files @ ..] => {
            for file in files {
                let text = fs::read_to_string(format!("/sys/fs/cgroup/{file}"));
                let text = text.unwrap_or_else(|error| panic!("read {file}: {error}"));
                println!("{file}: {}", text.trim_end().replace('\n', "; "));
            }
        }
        ["limits-write", file] => match fs::write(format!("/sys/fs/cgroup/{file}"), "max") {
            Ok(()) => println!("written"),
            Err(error) => println!("{:?}", Errno::from_raw(error.raw_os_error().expect("an errno"))),
        },
        ["limits-wait"] => say_and_wait("here"),
        ["limits-fork"] => fork_until_refused(),
        ["limits-burn"] => burn_until_throttled(),
        ["limits-affinity"] => {
            let set =
                nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("sched_getaffinity");
            let cpus = (0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true));
            println!("{:?}", cpus.collect::<Vec<_>>());
        }
        _ => return false,
    }
    true
}

/// Tells that it is ready, and stays until its standard input ends.
pub fn say_and_wait(word: &str) {
    println!("{word}");
    std::io::stdout().flush().expect("flush");
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn fork_until_refused() {
    let mut children = 0;
    loop {
        // SAFETY: this program has one thread here.
        match unsafe { fork() } {
            // They end with the PID namespace.
            Ok(ForkResult::Child) => loop {
                nix::unistd::pause();
            },
            Ok(ForkResult::Parent { .. }) => children += 1,
            Err(errno) => return println!("{children} children, then {errno:?}"),
        }
        assert!(children < 1000, "nothing stops forks");
    }
}

fn burn_until_throttled() {
    let throttled = || {
        let stat = fs::read_to_string("/sys/fs/cgroup/cpu.stat").expect("read cpu.stat");
        let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ").map(str::to_string));
        line.expect("cpu.stat has nr_throttled").parse::<u64>().expect("a number")
    };
    while throttled() == 0 {
        for i in 0..100_000 {
            std::hint::black_box(i);
        }
    }
    println!("throttled");
}

/// A memory limit without a way around it through swap.
pub fn memory(max: u64) -> Resources {
    Resources {
        memory: MemoryResources {
            max: Some(Limit::At(max)),
            swap_max: Some(Limit::At(0)),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn pids(max: u64) -> Resources {
    Resources { pids_max: Some(Limit::At(max)), ..Default::default() }
}

/// Every field of [`Resources`], with values that the guest can give, and what the files then hold.
fn every_limit() -> (Resources, Vec<(&'static str, String)>) {
    // null_blk, or a disk of the guest.
    let (major, minor) = block_device().expect("the guest has block devices");
    let resources = Resources {
        cpu: CpuResources {
            weight: Some(79),
            max: Some(CpuMax::millis(1500)),
            burst: Some(50_000),
            idle: Some(false),
        },
        memory: MemoryResources {
            check_before_update: false,
            max: Some(Limit::At(512 * MIB)),
            high: Some(Limit::At(384 * MIB)),
            low: Some(Limit::At(16 * MIB)),
            min: Some(Limit::At(8 * MIB)),
            swap_max: Some(Limit::At(64 * MIB)),
            oom_group: Some(true),
        },
        pids_max: Some(Limit::At(321)),
        cpuset: CpusetResources { cpus: Some("0".into()), mems: Some("0".into()) },
        io: IoResources {
            weight: Some(200),
            max: vec![IoMax {
                major,
                minor,
                rbps: Some(Limit::At(2 * MIB)),
                wbps: Some(Limit::MAX),
                riops: None,
                wiops: Some(Limit::At(120)),
            }],
            ..Default::default()
        },
        unified: [("cgroup.max.descendants".to_string(), "9".to_string())].into(),
        ..Default::default()
    };
    let files = [
        ("cpu.weight", "79".to_string()),
        ("cpu.max", "150000 100000".to_string()),
        ("cpu.max.burst", "50000".to_string()),
        ("cpu.idle", "0".to_string()),
        ("cgroup.max.descendants", "9".to_string()),
        ("memory.max", (512 * MIB).to_string()),
        ("memory.high", (384 * MIB).to_string()),
        ("memory.low", (16 * MIB).to_string()),
        ("memory.min", (8 * MIB).to_string()),
        ("memory.swap.max", (64 * MIB).to_string()),
        ("memory.oom.group", "1".to_string()),
        ("pids.max", "321".to_string()),
        ("cpuset.cpus", "0".to_string()),
        ("cpuset.mems", "0".to_string()),
        ("io.weight", "default 200".to_string()),
        ("io.max", format!("{major}:{minor} rbps={} wbps=max riops=max wiops=120", 2 * MIB)),
    ];
    (resources, files.into())
}

fn block_device() -> Option<(u32, u32)> {
    let text =
        fs::read_to_string("/sys/block/nullb0/dev").or_else(|_| fs::read_to_string("/sys/block/vda/dev"));
    let text = text.ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

pub fn read(cgroup: &Path, file: &str) -> String {
    let path = cgroup.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    text.trim_end().to_string()
}

/// The value of a key in a flat keyed file (`memory.events`).
pub fn counter(cgroup: &Path, file: &str, key: &str) -> u64 {
    let text = read(cgroup, file);
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{file} has no {key}: {text}"))
}

pub fn cgroup_of(container: &Container) -> PathBuf {
    container.pod().cgroup_path().join(container.name())
}

/// A container that says a line when it is where the test wants it, and stays until it is removed. Its standard input
/// must be kept open.
pub fn started(pod: &Pod, spec: ContainerSpec, word: &str) -> (Container, fs::File) {
    let container = pod.create_container(&spec.stdin(Stdio::Pipe).stdout(Stdio::Pipe)).expect("create");
    let stdout = container.take_stdout().expect("a pipe");
    container.start().expect("start");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("read a line");
    assert_eq!(line, format!("{word}\n"));
    let stdin = container.take_stdin().expect("a pipe");
    (container, stdin)
}

fn every_limit_of_a_container_is_in_its_files_and_seen_from_inside() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids", "cpuset", "io");
    let pod = fixture.pod("web");
    let (resources, files) = every_limit();
    let names: Vec<_> = files.iter().map(|(file, _)| *file).collect();
    let command: Vec<_> = ["limits-cat"].into_iter().chain(names).collect();
    let spec = run_payload("a", &command).resources(resources).stdout(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let stdout = container.take_stdout().expect("a pipe");
    // Init waits at its barrier: the limits hold before the program does anything.
    let cgroup = cgroup_of(&container);
    for (file, content) in &files {
        assert_eq!(read(&cgroup, file), *content, "{file}");
    }
    assert_eq!(read(&cgroup, "cpuset.cpus.effective"), "0");
    container.start()?;
    let text = std::io::read_to_string(stdout)?;
    assert!(container.wait()?.success(), "{text}");
    let expected: String = files.iter().map(|(file, content)| format!("{file}: {content}\n")).collect();
    assert_eq!(text, expected);
    container.remove()?;
    assert!(!cgroup.exists());
    PASS
}

fn every_limit_of_a_pod_is_in_its_files() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids", "cpuset", "io");
    let (resources, files) = every_limit();
    let pod = fixture.node.create_pod(&PodSpec::new("web").resources(resources))?;
    for (file, content) in &files {
        assert_eq!(read(&pod.cgroup_path(), file), *content, "{file}");
    }
    // A container has its own files, which say nothing; the pod's hold all the same, and are not seen from inside.
    let text =
        say(&pod, run_payload("a", &["limits-cat", "memory.max", "pids.max", "cpuset.cpus.effective"]));
    assert_eq!(text, "memory.max: max\npids.max: max\ncpuset.cpus.effective: 0\n");
    PASS
}

/// CVE-2022-0492. With a cgroup2 that is not read-only (`src/container/plan/build/mounts.rs`) the kernel looks at what is
/// written: EINVAL.
fn a_container_cannot_change_its_limits() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // Every cgroup has the first one, whatever controllers there are.
    let (files, limited) = match lacks(&fixture, &["memory", "pids"]) {
        Some(_) => (&["cgroup.procs"][..], Resources::default()),
        None => {
            let limited = Resources { memory: memory(256 * MIB).memory, ..pids(50) };
            (&["cgroup.procs", "memory.max", "pids.max"][..], limited)
        }
    };
    for file in files {
        let spec = run_payload("a", &["limits-write", file]).resources(limited.clone());
        assert_eq!(say(&pod, spec), "EROFS\n", "{file}");
    }
    PASS
}

fn what_is_not_asked_for_is_left_to_the_kernel() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids", "cpuset", "io");
    let pod = fixture.pod("web");
    let container = pod.create_container(&run_payload("a", &["exit", "0"]))?;
    for cgroup in [pod.cgroup_path(), cgroup_of(&container)] {
        for (file, content) in [
            ("cpu.weight", "100"),
            ("cpu.max", "max 100000"),
            ("memory.max", "max"),
            ("memory.high", "max"),
            ("memory.low", "0"),
            ("memory.min", "0"),
            ("memory.swap.max", "max"),
            ("memory.oom.group", "0"),
            ("pids.max", "max"),
            ("cpuset.cpus", ""),
            ("cpuset.mems", ""),
            ("io.weight", "default 100"),
            ("io.max", ""),
        ] {
            assert_eq!(read(&cgroup, file), content, "{file} of {}", cgroup.display());
        }
    }
    PASS
}

fn pids_max_stops_forks() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "pids");
    let pod = fixture.pod("web");
    for (max, children) in [(8, 7), (1, 0)] {
        let text = say(&pod, run_payload("a", &["limits-fork"]).resources(pids(max)));
        assert_eq!(text, format!("{children} children, then EAGAIN\n"));
    }
    PASS
}

fn a_pids_limit_of_the_pod_holds_for_its_containers_together() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "pids");
    let pod = fixture.node.create_pod(&PodSpec::new("web").resources(pids(5)))?;
    let fork = || say(&pod, run_payload("a", &["limits-fork"]));
    assert_eq!(fork(), "4 children, then EAGAIN\n");
    let (waiting, _stdin) = started(&pod, run_payload("b", &["limits-wait"]), "here");
    assert_eq!(fork(), "3 children, then EAGAIN\n");
    assert_eq!(read(&cgroup_of(&waiting), "pids.current"), "1");

    // A pod that is full takes no container more, says so, and keeps those that it has.
    let (_c, _in_c) = started(&pod, run_payload("c", &["limits-wait"]), "here");
    let (_d, _in_d) = started(&pod, run_payload("d", &["limits-wait"]), "here");
    let (_e, _in_e) = started(&pod, run_payload("e", &["limits-wait"]), "here");
    let (_f, _in_f) = started(&pod, run_payload("f", &["limits-wait"]), "here");
    let error = pod.create_container(&script("g", "true")).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exhausted, Some(libc::EAGAIN)), "{error}");
    assert!(!pod.cgroup_path().join("g").exists());
    assert_eq!(pod.container("g").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pod.containers()?.len(), 5);
    PASS
}

fn a_cpuset_is_the_affinity_of_the_container() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpuset");
    let pod = fixture.pod("web");
    let cpuset = CpusetResources { cpus: Some("0".into()), mems: Some("0".into()) };
    let resources = Resources { cpuset, ..Default::default() };
    assert_eq!(say(&pod, run_payload("a", &["limits-affinity"]).resources(resources.clone())), "[0]\n");
    let facts = facts(&pod, |spec| spec.resources(resources));
    assert_eq!(facts.status["Cpus_allowed_list"], "0");
    assert_eq!(facts.status["Mems_allowed_list"], "0");
    PASS
}

fn processors_that_are_not_there_are_refused_and_nothing_is_left() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpuset");
    let cpuset = |cpus: &str| Resources {
        cpuset: CpusetResources { cpus: Some(cpus.into()), mems: None },
        ..Default::default()
    };
    let error = fixture.node.create_pod(&PodSpec::new("web").resources(cpuset("0-1023"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
    assert!(fixture.node.pods()?.is_empty());

    let pod = fixture.pod("web");
    let error = pod.create_container(&script("a", "true").resources(cpuset("0-1023"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
    assert!(!pod.cgroup_path().join("a").exists());
    assert!(pod.containers()?.is_empty());
    PASS
}

fn cpu_max_throttles() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu");
    let pod = fixture.pod("web");
    let max = Some(CpuMax { quota: Limit::At(5_000), period: 100_000 });
    let resources = Resources { cpu: CpuResources { max, ..Default::default() }, ..Default::default() };
    // It ends when its own cpu.stat says that it was throttled.
    assert_eq!(say(&pod, run_payload("a", &["limits-burn"]).resources(resources)), "throttled\n");
    PASS
}

fn a_block_device_that_is_not_there_is_refused_and_nothing_is_left() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "io");
    let line =
        IoMax { major: 4000, minor: 7, rbps: Some(Limit::At(1)), wbps: None, riops: None, wiops: None };
    let resources =
        Resources { io: IoResources { max: vec![line], ..Default::default() }, ..Default::default() };
    let pod = fixture.pod("web");
    let error = pod.create_container(&script("a", "true").resources(resources)).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, Some(libc::ENODEV)), "{error}");
    assert!(error.to_string().contains("4000:7") && error.to_string().contains("io.max"), "{error}");
    assert!(!pod.cgroup_path().join("a").exists());
    assert!(pod.containers()?.is_empty());
    PASS
}
