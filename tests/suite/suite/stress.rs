//! Many at once, very often, and from a large program.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use pericarp::{Pod, PodSpec};

use crate::robust::left::Places;
use crate::robust::snapshot::descriptors;
use crate::robust::{again, in_guest, tiny};
use crate::support::fixture::payload as container_payload;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    sixty_four_threads_make_and_remove_pods_at_once,
    sixty_four_threads_want_the_same_name_and_one_gets_it,
    ten_thousand_containers_start_while_the_program_allocates_and_forks,
    a_program_with_a_gibibyte_of_memory_copies_none_of_it,
];

/// The commands of the host programs.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["stress-starts", state_dir, rootfs] => starts(state_dir, Path::new(rootfs)),
        ["stress-large", state_dir, rootfs, mebibytes] => {
            large(state_dir, Path::new(rootfs), mebibytes.parse().expect("a number"));
        }
        ["stress-threads", state_dir, rootfs] => threads(state_dir, Path::new(rootfs)),
        _ => return false,
    }
    true
}

const THREADS: usize = 64;

fn with_rootfs(command: &str, more: &[&str]) -> Outcome {
    let fixture = Fixture::new();
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    let places = Places::of(&fixture);
    let (state_dir, rootfs) = (again::word(&fixture), rootfs.to_string_lossy().into_owned());
    let words: Vec<&str> = [command, &state_dir, &rootfs].into_iter().chain(more.iter().copied()).collect();
    eprint!("{}", again::run(&words));
    assert_eq!(places.look(), [""; 0], "something is left");
    PASS
}

fn sixty_four_threads_make_and_remove_pods_at_once() -> Outcome {
    with_rootfs("stress-threads", &[])
}

/// Each thread has pods of its own, one after the other, with a container each.
fn threads(state_dir: &str, rootfs: &Path) {
    let rounds = if in_guest() { 1 } else { 8 };
    let node = again::node(state_dir);
    let before = descriptors();
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let node = &node;
            scope.spawn(move || {
                for round in 0..rounds {
                    let what = format!("thread {number}, round {round}");
                    let pod = node.create_pod(&PodSpec::new(format!("pod-{number}")));
                    let pod = pod.unwrap_or_else(|error| panic!("{what}: {error}"));
                    let status = pod.run(&tiny::container("main", rootfs, "exit"));
                    assert!(status.unwrap_or_else(|error| panic!("{what}: {error}")).success(), "{what}");
                    let pause = pod.create_container(&tiny::container("main", rootfs, "pause"));
                    pause.and_then(|pause| pause.start()).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(node.open_pod(pod.id()).expect("open").name(), format!("pod-{number}"));
                    pod.remove().unwrap_or_else(|error| panic!("{what}: {error}"));
                }
            });
        }
    });
    assert_eq!(descriptors(), before, "files are left open");
    assert_eq!(crate::robust::snapshot::children(), [""; 0], "children are left");
}

fn sixty_four_threads_want_the_same_name_and_one_gets_it() -> Outcome {
    let fixture = Fixture::new();
    let barrier = std::sync::Barrier::new(THREADS);
    let made: Vec<Pod> = std::thread::scope(|scope| {
        let make = || {
            barrier.wait();
            fixture.node.create_pod(&PodSpec::new("only"))
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(make)).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        let errors =
            |error: pericarp::Error| assert_eq!(error.kind(), pericarp::ErrorKind::AlreadyExists, "{error}");
        results.filter_map(|result| result.map_err(errors).ok()).collect()
    });
    assert_eq!(made.len(), 1);
    assert_eq!(fixture.node.pods()?.len(), 1);
    // The same of containers in it.
    let spec = container_payload("only", &["exit", "0"]);
    let barrier = std::sync::Barrier::new(8);
    let containers: usize = std::thread::scope(|scope| {
        let make = || {
            barrier.wait();
            made[0].create_container(&spec).is_ok()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().expect("no panic"))).sum()
    });
    // A container that nobody holds any more has ended, but its name is taken until it is removed.
    assert_eq!(containers, 1);
    made[0].container("only")?.remove()?;
    assert!(made[0].run(&spec)?.success());
    PASS
}

fn ten_thousand_containers_start_while_the_program_allocates_and_forks() -> Outcome {
    with_rootfs("stress-starts", &[])
}

/// The locks of the allocator are taken all the time, and the program forks, as any program may.
fn starts(state_dir: &str, rootfs: &Path) {
    const WORKERS: u64 = 4;
    // The guest's processor is emulated: what takes 20 s natively would take more than a quarter of an hour there.
    let all: u64 = if in_guest() { 2_000 } else { 10_000 };
    println!("stress: {all} containers");
    let node = again::node(state_dir);
    let pod = node.create_pod(&PodSpec::new("pod")).expect("create a pod");
    let before = descriptors();
    let (started, done, forks) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let work = |worker: u64| {
        let spec = tiny::container(&format!("c{worker}"), rootfs, "exit");
        while started.fetch_add(1, Ordering::Relaxed) < all {
            assert!(pod.run(&spec).expect("run a container").success());
        }
    };
    let allocate = || {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let mut size = 1usize;
        while !done.load(Ordering::Relaxed) {
            size = size * 7 % 65_521;
            kept.push(vec![1; size]);
            if kept.len() > 64 {
                kept.clear();
            }
            // One processor for all in the guest.
            std::thread::yield_now();
        }
    };
    let fork_on = || {
        while !done.load(Ordering::Relaxed) {
            // SAFETY: the child of this threaded program does nothing but _exit, which is safe there.
            match unsafe { fork() }.expect("fork") {
                // SAFETY: as above.
                ForkResult::Child => unsafe { libc::_exit(0) },
                ForkResult::Parent { child } => drop(waitpid(child, None).expect("wait for the fork")),
            }
            forks.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let others = [scope.spawn(allocate), scope.spawn(allocate), scope.spawn(fork_on)];
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|other| other.join().expect("allocate and fork"));
        assert!(results.iter().all(|result| result.is_ok()), "a container did not run");
    });
    assert!(forks.load(Ordering::Relaxed) > all / 100, "hardly ever forked meanwhile");
    assert_eq!(descriptors(), before, "files are left open");
    assert!(pod.containers().expect("list").is_empty());
    pod.remove().expect("remove the pod");
}

fn a_program_with_a_gibibyte_of_memory_copies_none_of_it() -> Outcome {
    // The guest has one gibibyte in all.
    with_rootfs("stress-large", &[if in_guest() { "384" } else { "1024" }])
}

/// What a child of fork(2) would need: page tables for all of the memory, 2 MiB for each gibibyte. By the kernel's own
/// figures, not by time.
fn large(state_dir: &str, rootfs: &Path, mebibytes: usize) {
    let mut memory = vec![0u8; mebibytes << 20];
    // Huge pages would hide what copying page tables costs.
    nix::sys::prctl::set_thp_disable(true).expect("turn huge pages off");
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    let resident = field("self", "VmRSS");
    assert!(resident as usize >= mebibytes << 10, "only {resident} KiB are resident");
    let node = again::node(state_dir);
    let pod = node.create_pod(&PodSpec::new("pod")).expect("create a pod");
    let container = pod.create_container(&tiny::container("main", rootfs, "pause")).expect("create");
    let faults = minor_faults("self");
    for stage in ["init at the barrier", "the program"] {
        let pid = container.pid().to_string();
        let (tables, size, peak) = (field(&pid, "VmPTE"), field(&pid, "VmSize"), field(&pid, "VmHWM"));
        assert!(tables <= 128, "{stage} has {tables} KiB of page tables");
        assert!(
            size <= 4096 && peak <= 4096,
            "{stage} has {size} KiB of memory, at most {peak} KiB resident"
        );
        assert!(minor_faults(&pid) < 1000, "{stage} had {} page faults", minor_faults(&pid));
        if stage == "init at the barrier" {
            container.start().expect("start");
        }
    }
    // The host program's own pages were not marked for copy on write: to write to all of them faults no more than
    // other work does.
    let started = minor_faults("self");
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 2);
    let rewritten = minor_faults("self") - started;
    assert!(
        rewritten < (mebibytes as u64 * 256) / 100,
        "writing to the memory again faulted {rewritten} times"
    );
    assert!(started - faults < 2000, "starting faulted {} times", started - faults);
    pod.remove().expect("remove the pod");
    assert!(memory.iter().step_by(4096).all(|byte| *byte == 2));
}

/// A figure of `/proc/PID/status`, in KiB.
fn field(pid: &str, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|text| text.parse().ok())
        .expect("a figure")
}

/// Page faults that needed no I/O: the 10th field of proc_pid_stat(5).
fn minor_faults(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read the stat");
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields.split_ascii_whitespace().nth(7).and_then(|text| text.parse().ok()).expect("a figure")
}
