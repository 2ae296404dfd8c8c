//! Stats: what is told agrees with the files of the cgroup and with what containers see, and what the machine does not
//! have is not told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pericarp::spec::{Limit, NamespaceMode, Upper};
use pericarp::stats::{CgroupStats, FilesystemOptions, Pressure, StatsOptions};
use pericarp::{
    CgroupParent, ContainerSpec, ErrorKind, Mount, Node, NodeOptions, Pod, PodSpec, Resources, Rootfs, Volume,
};

use crate::stdio::Shell;
use crate::support::fixture::{payload as inside, rootfs, script};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    every_number_is_that_of_its_file,
    what_has_no_file_is_not_told,
    a_pod_is_the_sum_of_its_containers,
    the_network_counters_are_those_of_the_pod,
    what_has_ended_is_told_until_it_is_removed,
    limits_and_huge_pages_are_told,
    oom_kills_and_throttling_are_counted,
    block_devices_are_counted_by_name,
    volumes_and_writable_layers_are_measured,
    a_container_cannot_have_another_filesystem_measured,
    counting_files_is_bounded,
    a_node_tells_of_all_its_pods,
    many_pods_take_few_descriptors,
    prometheus_gets_the_same_numbers,
    the_machine_is_told_as_proc_has_it,
];

/// Commands that run in the containers of this module, and one that runs as a host program.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["stats-send", count, bytes] => {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
            let (count, bytes) = (count.parse().expect("a number"), bytes.parse().expect("a number"));
            for _ in 0..count {
                socket.send_to(&vec![0; bytes], socket.local_addr().expect("an address")).expect("send");
            }
        }
        ["stats-elsewhere"] => {
            nix::unistd::chroot("/dev/shm").expect("chroot");
            crate::limits::say_and_wait("here");
        }
        ["stats-few", state, cgroup] => few_descriptors(state, cgroup),
        _ => return false,
    }
    true
}

/// The numbers of a flat keyed file; of one with a single number, under the empty name.
fn file(dir: &Path, name: &str) -> Option<BTreeMap<String, u64>> {
    let text = fs::read_to_string(dir.join(name)).ok()?;
    let pair = |line: &str| match line.split_once(' ') {
        Some((key, value)) => Some((key.to_string(), value.trim().parse().ok()?)),
        None => Some((String::new(), line.parse().ok()?)),
    };
    Some(text.lines().filter_map(pair).collect())
}

/// Each number that is told, with the file and the key that it is of.
fn numbers(stats: &CgroupStats) -> Vec<(&'static str, &'static str, Option<u64>)> {
    let cpu = &stats.cpu;
    let memory = stats.memory.clone().unwrap_or_default();
    let pids = stats.pids.clone().unwrap_or_default();
    vec![
        ("cpu.stat", "usage_usec", cpu.usage_usec),
        ("cpu.stat", "user_usec", cpu.user_usec),
        ("cpu.stat", "system_usec", cpu.system_usec),
        ("cpu.stat", "nr_periods", cpu.periods),
        ("cpu.stat", "nr_throttled", cpu.throttled_periods),
        ("cpu.stat", "throttled_usec", cpu.throttled_usec),
        ("cpu.stat", "nr_bursts", cpu.burst_periods),
        ("cpu.stat", "burst_usec", cpu.burst_usec),
        ("memory.current", "", memory.usage_bytes),
        ("memory.peak", "", memory.peak_bytes),
        ("memory.swap.current", "", memory.swap_bytes),
        ("memory.stat", "anon", memory.stat.anon_bytes),
        ("memory.stat", "file", memory.stat.file_bytes),
        ("memory.stat", "kernel", memory.stat.kernel_bytes),
        ("memory.stat", "kernel_stack", memory.stat.kernel_stack_bytes),
        ("memory.stat", "slab", memory.stat.slab_bytes),
        ("memory.stat", "sock", memory.stat.sock_bytes),
        ("memory.stat", "shmem", memory.stat.shmem_bytes),
        ("memory.stat", "file_mapped", memory.stat.mapped_file_bytes),
        ("memory.stat", "file_dirty", memory.stat.dirty_file_bytes),
        ("memory.stat", "file_writeback", memory.stat.writeback_bytes),
        ("memory.stat", "active_anon", memory.stat.active_anon_bytes),
        ("memory.stat", "inactive_anon", memory.stat.inactive_anon_bytes),
        ("memory.stat", "active_file", memory.stat.active_file_bytes),
        ("memory.stat", "inactive_file", memory.stat.inactive_file_bytes),
        ("memory.stat", "unevictable", memory.stat.unevictable_bytes),
        ("memory.stat", "pgfault", memory.stat.page_faults),
        ("memory.stat", "pgmajfault", memory.stat.major_page_faults),
        ("memory.events", "low", memory.events.low),
        ("memory.events", "high", memory.events.high),
        ("memory.events", "max", memory.events.max),
        ("memory.events", "oom", memory.events.oom),
        ("memory.events", "oom_kill", memory.events.oom_kill),
        ("memory.events", "oom_group_kill", memory.events.oom_group_kill),
        ("pids.current", "", pids.current),
        ("pids.peak", "", pids.peak),
    ]
}

/// What the files say of `numbers`, in their order.
fn by_hand(dir: &Path) -> Vec<Option<u64>> {
    let keys = numbers(&CgroupStats::default());
    keys.into_iter().map(|(name, key, _)| file(dir, name)?.get(key).copied()).collect()
}

/// What was told lies between what the files said before and after it.
fn agree(stats: &CgroupStats, before: &[Option<u64>], after: &[Option<u64>]) -> Result<(), String> {
    for (((name, key, told), before), after) in numbers(stats).into_iter().zip(before).zip(after) {
        let right = match (told, before, after) {
            (None, None, None) => true,
            (Some(told), Some(a), Some(b)) => (*a.min(b)..=*a.max(b)).contains(&told),
            _ => false,
        };
        if !right {
            return Err(format!("{name} {key}: {told:?} is told, not {before:?} to {after:?}"));
        }
    }
    Ok(())
}

/// A container of which the kernel has something to tell: it has worked, and stands still.
fn still(pod: &Pod, name: &str) -> Result<pericarp::Container, libtest_mimic::Failed> {
    let mut shell = Shell::start(pod, script(name, ""));
    let work = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/x bs=65536 count=32 2>/dev/null";
    assert_eq!(shell.run(work), "");
    shell.container.freeze()?;
    // The container stands still: this end of its pipes may go.
    Ok(shell.container)
}

fn every_number_is_that_of_its_file() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = still(&pod, "main")?;
    let dir = pod.cgroup_path().join("main");
    let mut said = Ok(());
    // The kernel gives memory of the frozen back when it likes: a number may move there and back in between.
    for _ in 0..20 {
        let before = by_hand(&dir);
        let stats = container.stats()?.cgroup;
        said = agree(&stats, &before, &by_hand(&dir));
        assert!(stats.cpu.usage_usec.is_some_and(|usage| usage > 0), "{stats:?}");
        assert!(stats.processes.is_some_and(|processes| processes >= 1), "{stats:?}");
        if let Some(memory) = &stats.memory {
            let usage = memory.usage_bytes.expect("a usage");
            let inactive = memory.stat.inactive_file_bytes.expect("inactive files");
            assert_eq!(memory.working_set_bytes, Some(usage.saturating_sub(inactive)));
            assert!(memory.stat.shmem_bytes >= Some(2 << 20), "the layer's tmpfs is its memory: {memory:?}");
        }
        if said.is_ok() {
            break;
        }
    }
    said?;
    let stats = container.stats()?.cgroup;
    for (name, told) in
        [("cpu", stats.pressure.cpu), ("memory", stats.pressure.memory), ("io", stats.pressure.io)]
    {
        let text = fs::read_to_string(dir.join(format!("{name}.pressure")));
        assert_eq!(told.is_some(), text.is_ok(), "{name}.pressure");
        let (Some(told), Ok(text)) = (told, text) else { continue };
        same_totals(name, &told, &text);
    }
    container.thaw()?;
    PASS
}

/// Nothing in the cgroup waits, so that the totals stand still.
fn same_totals(name: &str, told: &Pressure, text: &str) {
    let total = |word: &str| {
        let line = text.lines().find(|line| line.starts_with(word))?;
        line.rsplit_once("total=")?.1.parse::<u64>().ok()
    };
    assert_eq!(Some(told.some.total_usec), total("some"), "{name}: {text}");
    assert_eq!(told.full.map(|full| full.total_usec), total("full"), "{name}: {text}");
}

/// With every controller there is, and with none.
fn what_has_no_file_is_not_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let _container = still(&pod, "main")?;
    let stats = pod.stats()?;
    for (dir, stats) in
        [(pod.cgroup_path(), &stats.cgroup), (pod.cgroup_path().join("main"), &stats.containers[0].cgroup)]
    {
        let there = |name: &str| dir.join(name).exists();
        assert_eq!(stats.memory.is_some(), there("memory.current"), "{}", dir.display());
        assert_eq!(stats.io.is_some(), there("io.stat"), "{}", dir.display());
        assert_eq!(stats.pids.is_some(), there("pids.current"), "{}", dir.display());
        assert_eq!(stats.hugetlb.is_some(), there("hugetlb.2MB.current"), "{}", dir.display());
        assert_eq!(stats.rdma.is_some(), there("rdma.current"), "{}", dir.display());
        assert_eq!(stats.misc.is_some(), there("misc.current"), "{}", dir.display());
        let json = serde_json::to_value(stats)?;
        assert_eq!(json.get("memory").is_some(), there("memory.current"), "{json}");
    }
    pod.container("main")?.thaw()?;
    PASS
}

fn a_pod_is_the_sum_of_its_containers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let containers = [still(&pod, "a")?, still(&pod, "b")?];
    let stats = pod.stats()?;
    assert_eq!(stats.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((stats.name.as_str(), stats.id.as_str()), ("web", pod.id()));
    assert_eq!(stats.cgroup_path, pod.cgroup_path());
    let sum = |of: fn(&CgroupStats) -> Option<u64>| -> Option<u64> {
        stats.containers.iter().map(|container| of(&container.cgroup)).sum()
    };
    assert_eq!(stats.cgroup.processes, sum(|cgroup| cgroup.processes));
    assert!(stats.cgroup.cpu.usage_usec >= sum(|cgroup| cgroup.cpu.usage_usec), "{stats:?}");
    for (container, told) in containers.iter().zip(&stats.containers) {
        let alone = container.stats()?;
        assert_eq!(alone.cgroup.cpu, told.cgroup.cpu);
        assert_eq!(alone.started_at_usec, told.started_at_usec);
        // The times of files are those of the kernel's last tick, a hundredth of a second ago at most.
        assert!(told.created_at_usec + 10_000 >= stats.created_at_usec);
        assert!(
            told.started_at_usec.is_some_and(|at| at >= told.created_at_usec && at <= told.timestamp_usec)
        );
        container.thaw()?;
    }
    PASS
}

fn the_network_counters_are_those_of_the_pod() -> Outcome {
    let fixture = Fixture::new();
    let (web, other) = (fixture.pod("web"), fixture.pod("other"));
    assert!(web.run(&inside("send", &["stats-send", "7", "1000"]))?.success());
    let lo = |pod: &Pod| -> Result<_, libtest_mimic::Failed> {
        let all = pod.stats()?.network.expect("a network of its own");
        Ok(all.into_iter().find(|one| one.name == "lo").expect("lo"))
    };
    let told = lo(&web)?;
    // 20 bytes of IP and 8 of UDP each.
    assert_eq!((told.received_packets, told.sent_packets), (7, 7), "{told:?}");
    assert_eq!((told.received_bytes, told.sent_bytes), (7 * 1028, 7 * 1028), "{told:?}");
    assert_eq!(lo(&other)?.received_packets, 0);
    // As a process of the pod sees them, in the order of /proc/net/dev.
    let text = crate::support::fixture::say(&web, script("look", "cat /proc/net/dev"));
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("lo");
    let seen: Vec<u64> = line.split_ascii_whitespace().map(|word| word.parse()).collect::<Result<_, _>>()?;
    let received = [told.received_bytes, told.received_packets, told.receive_errors, told.receive_dropped];
    let sent = [told.sent_bytes, told.sent_packets, told.send_errors, told.send_dropped];
    assert_eq!((&seen[..4], &seen[8..12]), (&received[..], &sent[..]), "{text}");
    let host = fixture.node.create_pod(&PodSpec::new("host").network(NamespaceMode::Host))?;
    assert_eq!(host.stats()?.network, None, "the host's are not the pod's");
    assert_eq!(web.stats_with(&StatsOptions::new().network(false))?.network, None);
    let ephemeral = fixture.node.create_pod(&PodSpec::new("short").ephemeral(true))?;
    assert_eq!(lo(&ephemeral)?.sent_bytes, 0);
    PASS
}

fn what_has_ended_is_told_until_it_is_removed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container =
        pod.create_container(&script("main", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done"))?;
    assert_eq!(container.stats()?.started_at_usec, None, "it was not started");
    container.start()?;
    container.wait()?;
    let ended = container.stats()?;
    assert!(ended.cgroup.cpu.usage_usec.is_some_and(|usage| usage > 0), "{ended:?}");
    assert_eq!(ended.cgroup.processes, Some(0));
    container.remove()?;
    assert_eq!(container.stats().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pod.stats()?.containers, []);
    // A later one of that name is another one.
    let later = pod.create_container(&script("main", "exec sleep 1000"))?;
    assert_eq!(container.stats().unwrap_err().kind(), ErrorKind::NotFound);
    later.remove()?;
    pod.remove()?;
    assert_eq!(pod.stats().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.node.stats()?.pods, []);
    PASS
}

fn limits_and_huge_pages_are_told() -> Outcome {
    let fixture = Fixture::new();
    crate::need!(fixture, "hugetlb");
    let pod = fixture.pod("web");
    let mut spec = script("main", "exec sleep 1000");
    spec.resources.hugetlb = [("2MB".to_string(), Limit::At(4 << 20))].into();
    let memory = fixture.node.controllers().iter().any(|name| name == "memory");
    if memory {
        spec.resources.memory.max = Some(Limit::At(64 << 20));
        spec.resources.pids_max = Some(Limit::At(10));
    }
    let container = pod.create_container(&spec)?;
    container.start()?;
    let limits = container.stats_with(&StatsOptions::new().limits(true))?.cgroup;
    let pages = limits.hugetlb.expect("it has the controller");
    let usage = file(&pod.cgroup_path().join("main"), "hugetlb.2MB.current").expect("a file");
    assert_eq!(pages["2MB"].usage_bytes, usage.get("").copied());
    assert_eq!(pages["2MB"].limit_hits, Some(0));
    assert!(pages.keys().all(|size| !size.contains('.')), "{pages:?}");
    if memory {
        assert_eq!(limits.memory.expect("memory").limit, Some(Limit::At(64 << 20)));
        assert_eq!(limits.pids.expect("pids").limit, Some(Limit::At(10)));
        let without = container.stats()?.cgroup;
        assert_eq!((without.memory.expect("memory").limit, without.pids.expect("pids").limit), (None, None));
    }
    PASS
}

fn oom_kills_and_throttling_are_counted() -> Outcome {
    let fixture = Fixture::new();
    crate::need!(fixture, "memory", "cpu");
    let pod = fixture.pod("web");
    let resources: Resources = serde_json::from_str(
        r#"{"memory": {"max": 16777216, "swapMax": 0}, "cpu": {"max": {"quota": 20000, "period": 100000}}}"#,
    )?;
    let mut spec = script(
        "main",
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/null bs=67108864 count=1",
    );
    spec.resources = resources;
    let container = pod.create_container(&spec)?;
    container.start()?;
    container.wait()?;
    let told = container.stats()?.cgroup;
    let events = told.memory.expect("memory").events;
    assert!(events.oom_kill >= Some(1) && events.max >= Some(1), "{events:?}");
    assert!(told.cpu.throttled_periods >= Some(1) && told.cpu.periods >= told.cpu.throttled_periods);
    assert!(told.cpu.throttled_usec > Some(0), "{:?}", told.cpu);
    let all = pod.stats()?.cgroup.memory.expect("memory").events;
    assert!(all.oom_kill >= events.oom_kill, "the pod counts what its containers do");
    PASS
}

fn block_devices_are_counted_by_name() -> Outcome {
    let fixture = Fixture::new();
    crate::need!(fixture, "io");
    let pod = fixture.pod("web");
    let write = "dd if=/dev/zero of=/out/file bs=65536 count=32 conv=fsync 2>/dev/null";
    let spec = script("main", write).mount(Mount::bind(fixture.dir.path(), "/out"));
    let container = pod.create_container(&spec)?;
    container.start()?;
    assert!(container.wait()?.success());
    let devices = container.stats()?.cgroup.io.expect("it has the controller");
    use std::os::unix::fs::MetadataExt;
    let number = fs::metadata(fixture.path("file"))?.dev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let Some(device) =
        devices.iter().find(|one| (u64::from(one.major), u64::from(one.minor)) == (major, minor))
    else {
        return skip(format!(
            "temporary files are on {major}:{minor}, which is no block device: {devices:?}"
        ));
    };
    assert!(device.counters.written_bytes >= Some(32 << 16), "{device:?}");
    assert!(device.counters.writes > Some(0), "{device:?}");
    // What has ended does nothing more; but what it wrote before may be written twice, by the journal of its filesystem.
    let mut agree = None;
    for _ in 0..10 {
        let text = fs::read_to_string(pod.cgroup_path().join("main/io.stat"))?;
        let told = container.stats()?.cgroup.io.expect("it has the controller");
        let after = fs::read_to_string(pod.cgroup_path().join("main/io.stat"))?;
        if text == after {
            agree = Some((text, told));
            break;
        }
    }
    let (text, told) = agree.ok_or("io.stat never stands still")?;
    let line = text.lines().find(|line| line.starts_with(&format!("{major}:{minor} "))).expect("the device");
    let one = told.iter().find(|one| one.name == device.name).expect("the device");
    let pairs: BTreeMap<&str, u64> = line
        .split(' ')
        .filter_map(|word| word.split_once('='))
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect();
    let counters = &one.counters;
    for (key, value) in [
        ("rbytes", counters.read_bytes),
        ("wbytes", counters.written_bytes),
        ("rios", counters.reads),
        ("wios", counters.writes),
        ("dbytes", counters.discarded_bytes),
        ("dios", counters.discards),
    ] {
        assert_eq!(value, pairs.get(key).copied(), "{key} of {line}");
    }
    let name = device.name.as_ref().expect("a name");
    assert_eq!(fs::read_to_string(format!("/sys/block/{name}/dev"))?.trim(), format!("{major}:{minor}"));
    PASS
}

/// What du(1) says, in bytes.
fn du(path: &Path) -> Result<u64, libtest_mimic::Failed> {
    // busybox has no -B.
    let output = Command::new("du").arg("-sk").arg(path).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_ascii_whitespace().next().ok_or("du says nothing")?.parse::<u64>()? * 1024)
}

fn volumes_and_writable_layers_are_measured() -> Outcome {
    let fixture = Fixture::new();
    let directory = fixture.path("volume");
    fs::create_dir(&directory)?;
    let spec = PodSpec::new("web")
        .volume(Volume::tmpfs("memory", 8 << 20))
        .volume(Volume::directory("directory", &directory));
    let pod = fixture.node.create_pod(&spec)?;
    let write = "dd if=/dev/zero of=/memory/x bs=65536 count=16 2>/dev/null; mkdir -p /directory/a/b; \
                 dd if=/dev/zero of=/directory/a/b/x bs=65536 count=5 2>/dev/null; \
                 dd if=/dev/zero of=/layer bs=65536 count=32 2>/dev/null; sync";
    let mounts = |spec: ContainerSpec| {
        spec.mount(Mount::volume("memory", "/memory")).mount(Mount::volume("directory", "/directory"))
    };
    let mut shell = Shell::start(&pod, mounts(script("main", "")));
    assert_eq!(shell.run(write), "");
    let options = StatsOptions::new().filesystems(FilesystemOptions::default());
    let stats = pod.stats_with(&options)?;
    let memory = &stats.volumes["memory"];
    assert_eq!((memory.used_bytes, memory.capacity_bytes), (1 << 20, 8 << 20));
    assert_eq!(memory.available_bytes, 7 << 20);
    let below = &stats.volumes["directory"];
    assert!(below.complete && below.used_bytes.div_ceil(1024) * 1024 == du(&directory)?, "{below:?}");
    assert_eq!(below.used_inodes, 4);
    assert!(below.capacity_bytes > below.used_bytes);
    let layer = stats.containers[0].writable_layer.clone().expect("a layer");
    let slack = 1 << 20;
    assert!((2 << 20..(2 << 20) + slack).contains(&layer.used_bytes), "{layer:?}");
    let alone = shell.container.stats_with(&options)?.writable_layer;
    assert_eq!(alone, Some(layer));
    assert_eq!(shell.container.stats()?.writable_layer, None, "not asked for");
    // The tmpfs of a container that has ended is gone.
    shell.container.kill()?;
    shell.container.wait()?;
    assert_eq!(shell.container.stats_with(&options)?.writable_layer, None);
    PASS
}

/// Who serves a filesystem (FUSE) can leave whoever asks how full it is waiting for ever: what a process has made its
/// root is asked only if it is an overlay. Without that rule, the container that has moved its root to `/dev/shm` is told
/// to have a writable layer.
fn a_container_cannot_have_another_filesystem_measured() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let options = StatsOptions::new().filesystems(FilesystemOptions::default());
    for (command, told) in [("limits-wait", true), ("stats-elsewhere", false)] {
        let spec = inside(command, &[command]).stdin(pericarp::Stdio::Pipe).stdout(pericarp::Stdio::Pipe);
        let container = pod.create_container(&spec)?;
        let _stdin = container.take_stdin();
        let mut out = BufReader::new(container.take_stdout().ok_or("no pipe")?);
        container.start()?;
        let mut line = String::new();
        out.read_line(&mut line)?;
        assert_eq!(line, "here\n");
        assert_eq!(container.stats_with(&options)?.writable_layer.is_some(), told, "{command}");
        container.remove()?;
    }
    PASS
}

/// When links were followed and mounts entered, the count ran through the whole machine up to its bound.
fn counting_files_is_bounded() -> Outcome {
    let fixture = Fixture::new();
    let directory = fixture.path("volume");
    for number in 0..30 {
        fs::create_dir_all(directory.join(number.to_string()))?;
    }
    let spec = PodSpec::new("web").volume(Volume::directory("many", &directory));
    let pod = fixture.node.create_pod(&spec)?;
    let count = |max_files| -> Result<_, libtest_mimic::Failed> {
        let options = StatsOptions::new().filesystems(FilesystemOptions::max_files(max_files));
        let many = &pod.stats_with(&options)?.volumes["many"];
        Ok((many.used_inodes, many.complete))
    };
    assert_eq!(count(1000)?, (31, true));
    assert_eq!(count(10)?, (11, false));
    // The layer of an overlay in a directory is counted, too; a link in it is not followed.
    let (upper, work) = (fixture.path("upper"), fixture.path("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    std::os::unix::fs::symlink("/", upper.join("root"))?;
    let layered = Rootfs::Overlay {
        lower: vec![PathBuf::from("/")],
        upper: Upper::Directory { upper: upper.clone(), work },
        readonly: false,
    };
    let mut spec = script("main", "exec sleep 1000");
    spec.rootfs = layered;
    let container = match pod.create_container(&spec) {
        Ok(container) => container,
        Err(error) => return skip(format!("an overlay cannot be on temporary files here: {error}")),
    };
    let options = StatsOptions::new().filesystems(FilesystemOptions::max_files(1000));
    let layer = container.stats_with(&options)?.writable_layer.expect("a layer");
    assert!(layer.complete && layer.used_inodes < 40, "{layer:?}");
    assert_eq!(layer.used_bytes.div_ceil(1024) * 1024, du(&upper)?);
    PASS
}

fn a_node_tells_of_all_its_pods() -> Outcome {
    let fixture = Fixture::new();
    let specs = [
        PodSpec::new("b"),
        PodSpec::new("a"),
        PodSpec::new("a").namespace("aa"),
        PodSpec::new("short").ephemeral(true),
    ];
    let pods =
        specs.iter().map(|spec| fixture.node.create_pod(spec)).collect::<pericarp::Result<Vec<_>>>()?;
    let container = still(&pods[0], "main")?;
    let stats = fixture.node.stats()?;
    let names: Vec<(&str, &str)> =
        stats.pods.iter().map(|pod| (pod.namespace.as_str(), pod.name.as_str())).collect();
    assert_eq!(names, [("aa", "a"), ("default", "a"), ("default", "b"), ("default", "short")]);
    assert_eq!(stats.pods[2].containers[0].cgroup.cpu, container.stats()?.cgroup.cpu);
    assert!(stats.pods.iter().all(|pod| pod.network.as_ref().is_some_and(|all| all.len() == 1)));
    assert!(stats.cgroup.cpu.usage_usec >= stats.pods[2].cgroup.cpu.usage_usec);
    container.thaw()?;
    // Another program sees the pods that are not this one's alone.
    assert_eq!(fixture.reopen().stats()?.pods.len(), 3);
    PASS
}

/// Reads the stats of a node with 24 descriptors to spare, for all of the threads that do it.
fn few_descriptors(state: &str, cgroup: &str) {
    let options = NodeOptions::new().state_dir(state).cgroup_parent(CgroupParent::Named(cgroup.to_string()));
    let node = Node::open(&options).expect("open the node");
    let open = fs::read_dir("/proc/self/fd").expect("list the descriptors").count() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, open + 24, hard).expect("setrlimit");
    let stats = node.stats().expect("read stats");
    assert!(stats.pods.is_sorted_by_key(|pod| &pod.name), "threads must not mix the pods up");
    println!("{} {}", stats.pods.len(), stats.pods.iter().map(|pod| pod.containers.len()).sum::<usize>());
}

/// When the pods were kept open to the end of the reading, it failed with EMFILE.
fn many_pods_take_few_descriptors() -> Outcome {
    let fixture = Fixture::new();
    for number in 0..40 {
        let pod = fixture.pod(&format!("pod-{number}"));
        pod.create_container(&ContainerSpec::new("main", rootfs()).args(["/bin/true"]))?.start()?;
    }
    let state = &fixture.options.state_dir;
    let output = Command::new(std::env::current_exe()?)
        .args(["payload", "stats-few"])
        .arg(state)
        .arg(state.file_name().expect("a name"))
        .output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "40 40\n", "{err}");
    PASS
}

fn prometheus_gets_the_same_numbers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = still(&pod, "main")?;
    let stats = fixture.node.stats()?;
    let text = stats.to_prometheus();
    let of = |name: &str, container: &str| {
        let start = format!("{name}{{container=\"{container}\",");
        let line = text.lines().find(|line| line.starts_with(&start) && line.contains("pod=\"web\""))?;
        line.rsplit_once(' ').map(|(_, value)| value.to_string())
    };
    let usage = stats.pods[0].containers[0].cgroup.cpu.usage_usec.expect("a usage");
    let seconds = format!("{}.{:06}", usage / 1_000_000, usage % 1_000_000);
    assert_eq!(of("container_cpu_usage_seconds_total", "main"), Some(seconds), "{text}");
    let processes = stats.pods[0].cgroup.processes.map(|count| count.to_string());
    assert_eq!(of("container_processes", ""), processes, "{text}");
    assert_eq!(of("container_network_receive_bytes_total", "").as_deref(), Some("0"), "{text}");
    let memory = stats.pods[0].containers[0].cgroup.memory.as_ref();
    let working_set = memory.and_then(|memory| memory.working_set_bytes).map(|bytes| bytes.to_string());
    assert_eq!(of("container_memory_working_set_bytes", "main"), working_set, "{text}");
    assert!(text.contains("\nnode_memory_working_set_bytes "), "{text}");
    container.thaw()?;
    PASS
}

fn the_machine_is_told_as_proc_has_it() -> Outcome {
    let fixture = Fixture::new();
    let ticks = || -> Result<u64, libtest_mimic::Failed> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().ok_or("no line")?;
        let fields: Vec<u64> =
            line.split_ascii_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
        // All but idle and waiting for disks; guests are in it already.
        Ok(fields[..8].iter().sum::<u64>() - fields[3] - fields[4])
    };
    let before = ticks()?;
    let machine = fixture.node.stats()?.machine;
    let after = ticks()?;
    let told = machine.cpu.usage_usec.expect("a usage") / 10_000;
    assert!((before..=after).contains(&told), "{before} {told} {after}");
    let text = fs::read_to_string("/proc/meminfo")?;
    let total = text.lines().next().and_then(|line| line.split_ascii_whitespace().nth(1)).expect("MemTotal");
    assert_eq!(machine.memory_bytes, Some(total.parse::<u64>()? * 1024));
    assert!(machine.working_set_bytes <= machine.memory_usage_bytes);
    assert!(machine.memory_usage_bytes < machine.memory_bytes);
    assert_eq!(machine.pressure.cpu.is_some(), fs::read_to_string("/proc/pressure/cpu").is_ok());
    PASS
}
