//! Limits that are seen to bite against something else: a disk's rates from both sides, a neighbour's share of the
//! processor, huge pages, memory that others may not take, swap.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use pericarp::spec::kubernetes::{KubernetesPod, Policy, SwapBehavior};
use pericarp::spec::{CpuResources, CpusetResources, IoMax, IoResources, Limit, MemoryResources, Resources};
use pericarp::{ContainerSpec, ExitStatus, Mount, Pod, PodSpec, Stdio};

use super::biting::disk_of;
use super::kubernetes::needs;
use super::limits::{MIB, cgroup_of, counter, read, started};
use super::memory::Swap;
use crate::need;
use crate::robust::in_guest;
use crate::support::fixture::{payload as run_payload, say};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    each_rate_of_a_disk_is_what_the_container_gets_and_no_less,
    weights_divide_a_processor,
    huge_pages_end_at_the_limit,
    protected_memory_stays_when_a_neighbour_needs_some,
    swap_in_kubernetes_terms_is_none_or_a_share_of_the_machines,
];

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["biting-disk", how, size, count] => {
            disk(how == &"read", size.parse().expect("a number"), count.parse().expect("a number"));
        }
        ["biting-spin"] => loop {
            std::hint::black_box(0);
        },
        ["biting-pages", mib] => {
            // Huge pages are swapped as a whole: a few on their way to the disk at a time fill a small share.
            // SAFETY: concerns nothing but how the kernel backs later mappings of this program.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0, "no small pages");
            drop(super::memory::eat(mib.parse().expect("a number")));
        }
        ["biting-huge", pages] => huge(pages.parse().expect("a number")),
        _ => return false,
    }
    true
}

/// The sum of a key over all devices of `io.stat` of the container that this runs in.
fn counted(key: &str) -> u64 {
    let text = fs::read_to_string("/sys/fs/cgroup/io.stat").expect("read io.stat");
    let values = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    values.map(|value| value.parse::<u64>().expect("a number")).sum()
}

/// Reads or writes a file that is there, past the page cache. Tells how many microseconds it took, and what the kernel
/// counted meanwhile: bytes, and operations.
fn disk(reads: bool, size: usize, count: usize) {
    let mut options = fs::OpenOptions::new();
    options.read(reads).write(!reads).custom_flags(libc::O_DIRECT);
    let file = options.open("/disk/file").expect("open");
    let mut memory = vec![7_u8; size + 4096];
    let begin = memory.as_ptr().align_offset(4096);
    let buffer = &mut memory[begin..begin + size];
    let keys = if reads { ["rbytes", "rios"] } else { ["wbytes", "wios"] };
    let (before, clock) = (keys.map(counted), Instant::now());
    for number in 0..count {
        let at = (number * size) as u64;
        if reads {
            file.read_exact_at(buffer, at).expect("read");
        } else {
            file.write_all_at(buffer, at).expect("write");
        }
    }
    let time = clock.elapsed().as_micros();
    let after = keys.map(counted);
    println!("{time} {} {}", after[0] - before[0], after[1] - before[1]);
}

/// Each of the four rates, by what `io.stat` counts in the time that it took. More than the limit it never is, but for
/// what the kernel lets through before it counts; a busy machine can give less, so that the best of three counts.
///
/// Mutation, seen in the guest: with "max" always written as `wiops` (`io_max` of src/cgroup/settings.rs), "wiops: 72.79 of the
/// limit".
fn each_rate_of_a_disk_is_what_the_container_gets_and_no_less() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "io");
    let disk = fixture.path("disk");
    fs::create_dir(&disk)?;
    let Some((major, minor)) = disk_of(&disk) else {
        return skip("the temporary directory is not on a disk of its own");
    };
    // What is written over is there: no other writes come with it.
    let mut file = fs::File::create(disk.join("file"))?;
    file.write_all(&vec![1; 8 << 20])?;
    file.sync_all()?;
    let pod = fixture.pod("web");
    let none = IoMax { major, minor, rbps: None, wbps: None, riops: None, wiops: None };
    const BYTES: u64 = 2 << 20;
    const OPERATIONS: u64 = 40;
    for (name, max, how, size, count, limit) in [
        ("rbps", IoMax { rbps: Some(Limit::At(BYTES)), ..none }, "read", 128 << 10, 48, BYTES),
        ("wbps", IoMax { wbps: Some(Limit::At(BYTES)), ..none }, "write", 128 << 10, 48, BYTES),
        ("riops", IoMax { riops: Some(Limit::At(OPERATIONS)), ..none }, "read", 4096, 120, OPERATIONS),
        ("wiops", IoMax { wiops: Some(Limit::At(OPERATIONS)), ..none }, "write", 4096, 120, OPERATIONS),
    ] {
        let io = IoResources { max: vec![max], ..Default::default() };
        let words = ["biting-disk", how, &i32::to_string(&size), &i32::to_string(&count)];
        let spec = run_payload("a", &words).mount(Mount::bind(&disk, "/disk"));
        let spec = spec.resources(Resources { io, ..Default::default() });
        let mut rates = Vec::new();
        for _ in 0..3 {
            let text = say(&pod, spec.clone());
            let numbers: Vec<f64> =
                text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            let (bytes, operations) = (numbers[1], numbers[2]);
            let all = f64::from(size * count);
            assert!(bytes >= all && bytes < all * 1.1, "{name}: io.stat counts {bytes} of {all} bytes");
            assert!(operations >= f64::from(count) || size > 4096, "{name}: {operations} of {count}");
            let done = if name.ends_with("iops") { operations } else { bytes };
            let share = done / (numbers[0] / 1e6) / limit as f64;
            assert!(share <= 1.25, "{name}: {share} of the limit");
            rates.push(share);
            if share >= 0.75 {
                break;
            }
        }
        assert!(rates.iter().any(|share| *share >= 0.75), "{name}: {rates:?} of the limit");
    }
    PASS
}

/// Two that want all of one processor get it by their weights.
/// Mutation, seen in the guest: with `cpu.weight` not written, "1.0008 times as much".
fn weights_divide_a_processor() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "cpuset");
    let pod = fixture.pod("web");
    let spin = |name: &str, weight: u64| -> Result<_, libtest_mimic::Failed> {
        let cpu = CpuResources { weight: Some(weight), ..Default::default() };
        let cpuset = CpusetResources { cpus: Some("0".to_string()), ..Default::default() };
        let spec =
            run_payload(name, &["biting-spin"]).resources(Resources { cpu, cpuset, ..Default::default() });
        let container = pod.create_container(&spec)?;
        container.start()?;
        Ok(cgroup_of(&container))
    };
    let both = [spin("light", 50)?, spin("heavy", 200)?];
    let used = || both.each_ref().map(|cgroup| counter(cgroup, "cpu.stat", "usage_usec"));
    // Both have come to their loops.
    let wait = |more: u64| {
        let before = used();
        while used().iter().sum::<u64>() < before.iter().sum::<u64>() + more {
            std::thread::sleep(Duration::from_millis(50));
        }
        (before, used())
    };
    wait(1_000_000);
    let (before, after) = wait(4_000_000);
    let ratio = (after[1] - before[1]) as f64 / (after[0] - before[0]) as f64;
    assert!((3.0..=5.0).contains(&ratio), "{ratio} times as much, with 4 times the weight");
    PASS
}

/// Reserves huge pages of 2 MiB one by one and touches each, until the kernel refuses.
fn huge(pages: usize) {
    let mut maps = Vec::new();
    let refused = (0..pages).find_map(|_| {
        let length = std::num::NonZeroUsize::new(2 << 20).expect("not zero");
        let protection = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
        let flags = nix::sys::mman::MapFlags::MAP_PRIVATE | nix::sys::mman::MapFlags::MAP_HUGETLB;
        // SAFETY: a new mapping, which nothing else refers to.
        match unsafe { nix::sys::mman::mmap_anonymous(None, length, protection, flags) } {
            Ok(map) => {
                // SAFETY: it is that long, and may be written.
                unsafe { map.cast::<u8>().write_volatile(1) };
                maps.push(map);
                None
            }
            Err(errno) => Some(errno),
        }
    });
    println!("{} pages, then {refused:?}", maps.len());
}

/// The machine's huge pages; what it had before comes back.
struct HugePages(String);

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl HugePages {
    /// So many, if there is the memory for them.
    fn have(count: u64) -> Option<HugePages> {
        let before = HugePages(fs::read_to_string(HUGE_PAGES).ok()?);
        fs::write(HUGE_PAGES, count.to_string()).ok()?;
        let have: u64 = fs::read_to_string(HUGE_PAGES).ok()?.trim().parse().ok()?;
        (have >= count).then_some(before)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = fs::write(HUGE_PAGES, self.0.trim());
    }
}

/// Mutation, seen in the guest: with `hugetlb.2MB.rsvd.max` not written, "the container killed by signal 7" (SIGBUS).
fn huge_pages_end_at_the_limit() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "hugetlb");
    if !in_guest() {
        return skip("huge pages are the whole machine's, and this one is not ours alone");
    }
    let Some(_pages) = HugePages::have(4) else { return skip("no memory for four huge pages") };
    let pod = fixture.pod("web");
    let with = |limit: Limit| {
        let hugetlb = [("2MB".to_string(), limit)].into();
        run_payload("a", &["biting-huge", "4"]).resources(Resources { hugetlb, ..Default::default() })
    };
    assert_eq!(say(&pod, with(Limit::MAX)), "4 pages, then None\n");
    assert_eq!(say(&pod, with(Limit::At(2 * 2 * MIB))), "2 pages, then Some(ENOMEM)\n");
    assert_eq!(say(&pod, with(Limit::At(0))), "0 pages, then Some(ENOMEM)\n");
    PASS
}

/// A pod of 96 MiB: one container has 32 MiB of a file in the page cache, its neighbour then reads far more than there
/// is room for. Returns what the first one has left.
fn left(pod: &Pod, disk: &std::path::Path, memory: MemoryResources) -> Result<u64, libtest_mimic::Failed> {
    let cache = |name: &str, mib: &str| -> ContainerSpec {
        let dir = disk.join(name);
        fs::create_dir_all(&dir).expect("make a directory");
        run_payload(name, &["biting-cache", mib]).mount(Mount::bind(dir, "/disk"))
    };
    let first = cache("first", "32").resources(Resources { memory, ..Default::default() });
    let (first, _stdin) = started(pod, first, "cached");
    assert!(counter(&cgroup_of(&first), "memory.stat", "file") >= 32 * MIB);
    let (second, _other) = started(pod, cache("second", "160"), "cached");
    let left = counter(&cgroup_of(&first), "memory.stat", "file");
    second.remove()?;
    first.remove()?;
    // What is still cached of them stays with the pod, and would take the room of the next two.
    for name in ["first", "second"] {
        fs::remove_dir_all(disk.join(name))?;
    }
    Ok(left)
}

/// Mutation, seen in the guest: with `memory.low` and `memory.min` not written, "13602816 with memory.low, 12533760 with
/// memory.min".
fn protected_memory_stays_when_a_neighbour_needs_some() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let disk = fixture.path("disk");
    fs::create_dir(&disk)?;
    let max = MemoryResources { max: Some(Limit::At(96 * MIB)), ..Default::default() };
    let pod = PodSpec::new("web").resources(Resources { memory: max, ..Default::default() });
    let pod = fixture.node.create_pod(&pod)?;
    let protection = Some(Limit::At(48 * MIB));
    let low = left(&pod, &disk, MemoryResources { low: protection, ..Default::default() })?;
    let min = left(&pod, &disk, MemoryResources { min: protection, ..Default::default() })?;
    let none = left(&pod, &disk, MemoryResources::default())?;
    assert!(low >= 32 * MIB && min >= 32 * MIB, "{low} with memory.low, {min} with memory.min");
    assert!(none < 28 * MIB, "without protection it has {none} bytes left");
    PASS
}

/// With swap on: a kubelet's default gives none, `LimitedSwap` the share of the machine's swap that the request is of
/// its memory.
///
/// Mutation, seen in the guest: with `memory.swap.max` not written, the first container had ("max", Exited(0)).
fn swap_in_kubernetes_terms_is_none_or_a_share_of_the_machines() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let Ok(device) = std::env::var("PERICARP_VM_SWAP") else {
        return skip("no disk that may be swapped to (PERICARP_VM_SWAP)");
    };
    let swap = Swap::on(device);
    let node = fixture.reopen();
    let capacity = node.capacity()?;
    let (memory_of_all, swap_of_all) = (capacity.memory, capacity.swap.unwrap_or(0));
    assert!(swap_of_all > 0, "{capacity:?}");
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    let run = |behavior: SwapBehavior, mib: u64| -> Result<_, libtest_mimic::Failed> {
        let pod = KubernetesPod::new()
            .container("web", needs("memory=64Mi", "memory=80Mi"))
            .policy(Policy::default().swap_behavior(behavior));
        let pod = node.create_pod(&PodSpec::new("shop").kubernetes(pod))?;
        let eat = run_payload("web", &["biting-pages", &mib.to_string()]);
        let container = pod.create_container(&eat.stdin(Stdio::Null))?;
        let cgroup = cgroup_of(&container);
        let limit = read(&cgroup, "memory.swap.max");
        container.start()?;
        let status = container.wait()?;
        pod.remove()?;
        Ok((limit, status))
    };
    // The machine has swap, and the container gets none.
    assert_eq!(run(SwapBehavior::NoSwap, 88)?, ("0".to_string(), killed));
    let share = 64 * MIB as u128 * u128::from(swap_of_all) / u128::from(memory_of_all);
    let share = u64::try_from(share)? / 4096 * 4096;
    let (limit, status) = run(SwapBehavior::LimitedSwap, 88)?;
    let limit: u64 = limit.parse()?;
    assert!(limit.abs_diff(share) <= 4096 && limit > 24 * MIB, "{limit}, not {share}");
    assert_eq!(status, ExitStatus::Exited(0), "8 MiB more than its memory, in {limit} bytes of swap");
    // More than memory and its share of swap together.
    let above = 80 + limit / MIB + 16;
    assert_eq!(run(SwapBehavior::LimitedSwap, above)?.1, killed);
    drop(swap);
    PASS
}
