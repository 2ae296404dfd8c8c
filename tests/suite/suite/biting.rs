//! Limits that are seen to bite from inside, by how much: processor time, memory.high.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use pericarp::spec::kubernetes::KubernetesPod;
use pericarp::spec::{IoLatency, IoResources, IoWeight, Limit, MemoryResources, Resources};
use pericarp::{ErrorKind, ExitStatus, Mount, PodSpec};

use super::cgroups::cgroup2_mounts;
use super::kubernetes::needs;
use super::limits::{MIB, cgroup_of, counter, read, started};
use crate::need;
use crate::support::fixture::{output, payload as run_payload, say, script};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    a_limit_of_cpu_is_what_the_container_gets,
    memory_high_holds_back_and_kills_nobody,
    a_limit_of_memory_in_kubernetes_terms_ends_the_whole_container,
    weights_and_latencies_of_devices_are_in_their_files,
    misc_limits_what_the_machine_has,
];

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["biting-burn", seconds] => burn(Duration::from_secs(seconds.parse().expect("a number"))),
        ["biting-cache", mib] => {
            let mut file = fs::File::create("/disk/file").expect("create");
            for _ in 0..mib.parse().expect("a number") {
                file.write_all(&[7; 1 << 20]).expect("write");
                // Clean pages can be reclaimed at once.
                file.sync_all().expect("sync");
            }
            super::limits::say_and_wait("cached");
        }
        _ => return false,
    }
    true
}

/// Burns so long, and tells how long that was and what of it was used, in microseconds.
fn burn(long: Duration) {
    let used = || {
        let stat = fs::read_to_string("/sys/fs/cgroup/cpu.stat").expect("read cpu.stat");
        let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec ").map(str::to_string));
        line.expect("cpu.stat has usage_usec").parse::<u64>().expect("a number")
    };
    let (begin, before) = (Instant::now(), used());
    while begin.elapsed() < long {
        for i in 0..10_000 {
            std::hint::black_box(i);
        }
    }
    println!("{} {}", begin.elapsed().as_micros(), used() - before);
}

/// What is used over two seconds is within a tenth of the quota: a loaded machine could give less, so that the best of
/// three counts for that; more it never is.
fn a_limit_of_cpu_is_what_the_container_gets() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let pod = KubernetesPod::new().container("web", needs("", "cpu=200m"));
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(pod))?;
    let mut shares = Vec::new();
    for _ in 0..3 {
        let text = say(&pod, run_payload("web", &["biting-burn", "2"]));
        let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let share = numbers[1] / numbers[0];
        assert!(share <= 0.22, "{share} of a processor");
        shares.push(share);
        if share >= 0.18 {
            break;
        }
    }
    assert!(shares.iter().any(|share| *share >= 0.18), "{shares:?}");
    assert!(counter(&pod.cgroup_path(), "cpu.stat", "nr_throttled") > 0);
    PASS
}

/// The block device that a file is on, if it can be limited: a whole disk.
pub fn disk_of(path: &std::path::Path) -> Option<(u32, u32)> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let disk = format!("/sys/dev/block/{major}:{minor}");
    let whole = fs::exists(&disk).ok()? && !fs::exists(format!("{disk}/partition")).ok()?;
    whole.then(|| Some((major.try_into().ok()?, minor.try_into().ok()?)))?
}

fn memory_high_holds_back_and_kills_nobody() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let disk = fixture.path("disk");
    fs::create_dir(&disk)?;
    let memory = MemoryResources { high: Some(Limit::At(16 * MIB)), ..Default::default() };
    let spec = run_payload("a", &["biting-cache", "48"]).mount(Mount::bind(&disk, "/disk"));
    let pod = fixture.pod("web");
    let (container, _stdin) =
        started(&pod, spec.resources(Resources { memory, ..Default::default() }), "cached");
    let cgroup = cgroup_of(&container);
    assert!(counter(&cgroup, "memory.events", "high") > 0);
    assert_eq!(counter(&cgroup, "memory.events", "oom_kill"), 0);
    let used: u64 = read(&cgroup, "memory.current").parse()?;
    assert!(used < 32 * MIB, "{used} bytes of 48 MiB");
    PASS
}

fn a_limit_of_memory_in_kubernetes_terms_ends_the_whole_container() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let pod = KubernetesPod::new().container("web", needs("memory=16Mi", "memory=48Mi"));
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(pod))?;
    let (status, text) = output(&pod, run_payload("web", &["memory-eat-in-a-child", "128"]))?;
    assert_eq!(status, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(text, "");
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_group_kill"), 1);
    PASS
}

/// The kernel weighs a device only when it is told to, for all of the machine.
pub struct Weighed(std::path::PathBuf, String);

impl Weighed {
    pub fn on(device: &str) -> Option<Weighed> {
        let file = cgroup2_mounts().into_iter().next()?.join("io.cost.qos");
        fs::write(&file, format!("{device} enable=1")).ok()?;
        Some(Weighed(file, device.to_string()))
    }
}

impl Drop for Weighed {
    fn drop(&mut self) {
        let off = fs::write(&self.0, format!("{} enable=0", self.1));
        assert!(off.is_ok() || std::thread::panicking(), "{off:?}");
    }
}

fn weights_and_latencies_of_devices_are_in_their_files() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "io");
    let Some((major, minor)) = disk_of(fixture.dir.path()) else {
        return skip("the temporary directory is not on a disk of its own");
    };
    let pod = fixture.pod("web");
    let weights = vec![IoWeight { major, minor, weight: 50 }];
    let latency = vec![IoLatency { major, minor, target: 2000 }];
    let weight =
        Resources { io: IoResources { device_weights: weights, ..Default::default() }, ..Default::default() };
    let latency = Resources { io: IoResources { latency, ..Default::default() }, ..Default::default() };
    let check = |resources: &Resources, file: &str, line: &str| -> Outcome {
        match pod.create_container(&script("a", "true").resources(resources.clone())) {
            Ok(container) => {
                let text = read(&cgroup_of(&container), file);
                assert!(text.lines().any(|written| written == line), "{line:?} in {text:?}");
                container.remove()?;
            }
            // A kernel without it says so.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(error.to_string().contains("CONFIG_BLK_CGROUP_IO"), "{error}");
            }
        }
        PASS
    };
    check(&latency, "io.latency", &format!("{major}:{minor} target=2000"))?;
    let error = pod.create_container(&script("a", "true").resources(weight.clone())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("io.cost.qos") || error.to_string().contains("IOCOST"), "{error}");
    if let Some(_weighed) = Weighed::on(&format!("{major}:{minor}")) {
        check(&weight, "io.weight", &format!("{major}:{minor} 50"))?;
    }
    PASS
}

/// What `misc` counts only some processors have: on others the kernel knows none of it.
fn misc_limits_what_the_machine_has() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let with = |name: &str| {
        let misc = [(name.to_string(), Limit::At(3))].into();
        script("a", "true").resources(Resources { misc, ..Default::default() })
    };
    if !fixture.node.controllers().iter().any(|name| name == "misc") {
        let error = pod.create_container(&with("sev")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("the controller misc"), "{error}");
        return PASS;
    }
    let error = pod.create_container(&with("nothing-of-the-kind")).unwrap_err();
    assert!(error.to_string().contains("write nothing-of-the-kind 3 to misc.max"), "{error}");
    assert!(pod.containers()?.is_empty());
    let top = pod.cgroup_path().parent().and_then(|node| Some(node.parent()?.join("misc.capacity")));
    let known = fs::read_to_string(top.expect("the top")).unwrap_or_default();
    if let Some(name) = known.split_whitespace().next() {
        let container = pod.create_container(&with(name))?;
        assert!(read(&cgroup_of(&container), "misc.max").contains(&format!("{name} 3")));
    }
    PASS
}
