//! Limits of memory and swap: who goes above them is ended, alone or with the others, and nothing is left of what
//! could not even start.

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use pericarp::spec::{Limit, PidMode};
use pericarp::{ErrorKind, ExitStatus, PodSpec, Stdio};

use super::limits::{MIB, cgroup_of, counter, memory, read, say_and_wait, started};
use crate::need;
use crate::support::fixture::{output, payload as run_payload, say, script};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    memory_max_ends_what_goes_above_it,
    a_memory_limit_of_the_pod_holds_for_its_containers_together,
    an_oom_kill_takes_one_process_or_the_whole_group,
    swap_is_used_up_to_its_limit,
    a_container_with_too_little_memory_to_start_fails_clearly_and_leaves_nothing,
    wherever_memory_ends_during_a_start_nothing_is_left,
];

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["memory-eat", mib] => {
            eat(mib.parse().expect("a number"));
            println!("eaten");
        }
        ["memory-eat-and-wait", mib] => {
            let memory = eat(mib.parse().expect("a number"));
            say_and_wait("eaten");
            drop(memory);
        }
        ["memory-eat-in-a-child", mib] => eat_in_a_child(mib.parse().expect("a number")),
        _ => return false,
    }
    true
}

/// So many MiB of memory that the kernel has to provide: every page is written.
pub fn eat(mib: usize) -> Vec<u8> {
    let mut memory = vec![0_u8; mib << 20];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(memory)
}

fn eat_in_a_child(mib: usize) {
    // SAFETY: this program has one thread here.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            eat(mib);
            std::process::exit(0);
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("wait") {
            WaitStatus::Signaled(_, signal, _) => println!("the child was ended by {signal}"),
            other => println!("the child: {other:?}"),
        },
    }
}

fn memory_max_ends_what_goes_above_it() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.pod("web");
    // What stays below the limit is not touched.
    let within = run_payload("b", &["memory-eat", "16"]).resources(memory(64 * MIB));
    assert_eq!(say(&pod, within), "eaten\n");

    let above = run_payload("a", &["memory-eat", "256"]).resources(memory(64 * MIB));
    let container = pod.create_container(&above)?;
    container.start()?;
    assert_eq!(container.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(counter(&cgroup_of(&container), "memory.events", "oom_kill"), 1);
    // The pod knows of it too, and nothing above it has a limit that was met.
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_kill"), 1);
    assert_eq!(counter(&pod.cgroup_path(), "memory.events.local", "oom"), 0);
    PASS
}

fn a_memory_limit_of_the_pod_holds_for_its_containers_together() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.node.create_pod(&PodSpec::new("web").resources(memory(96 * MIB)))?;
    // Alone the second would fit; next to the first it does not, and is the larger when the limit is met.
    assert_eq!(say(&pod, run_payload("alone", &["memory-eat", "72"])), "eaten\n");
    let (first, _stdin) = started(&pod, run_payload("first", &["memory-eat-and-wait", "32"]), "eaten");
    let second = pod.create_container(&run_payload("second", &["memory-eat", "72"]))?;
    second.start()?;
    assert_eq!(second.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_kill"), 1);
    assert_eq!(counter(&cgroup_of(&second), "memory.events", "oom_kill"), 1);
    assert_eq!(counter(&cgroup_of(&first), "memory.events", "oom_kill"), 0);
    assert_eq!(first.try_wait()?, None);
    PASS
}

fn an_oom_kill_takes_one_process_or_the_whole_group() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.pod("web");
    let spec = |group: bool| {
        let mut resources = memory(64 * MIB);
        resources.memory.oom_group = Some(group);
        run_payload("a", &["memory-eat-in-a-child", "256"]).resources(resources)
    };
    let (status, text) = output(&pod, spec(false))?;
    assert_eq!((status, text.as_str()), (ExitStatus::Exited(0), "the child was ended by SIGKILL\n"));
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_kill"), 1);
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_group_kill"), 0);

    let (status, text) = output(&pod, spec(true))?;
    assert_eq!(status, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(text, "");
    // Of the pod: the containers are removed, what happened in them stays counted. (How many kills a group kill counts
    // as is the kernel's affair.)
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_group_kill"), 1);
    PASS
}

/// Swap is on while this lives.
pub struct Swap(String);

impl Swap {
    pub fn on(device: String) -> Swap {
        let status = std::process::Command::new("swapon").arg(&device).status().expect("run swapon");
        assert!(status.success(), "swapon {device}");
        Swap(device)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let status = std::process::Command::new("swapoff").arg(&self.0).status().expect("run swapoff");
        assert!(status.success() || std::thread::panicking(), "swapoff {}", self.0);
    }
}

fn swap_is_used_up_to_its_limit() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let Ok(device) = std::env::var("PERICARP_VM_SWAP") else {
        return skip("no disk that may be swapped to (PERICARP_VM_SWAP)");
    };
    let pod = fixture.pod("web");
    let swap = Swap::on(device);
    let eat = |name: &str, swap: u64| {
        let mut resources = memory(48 * MIB);
        resources.memory.swap_max = Some(Limit::At(swap));
        run_payload(name, &["memory-eat-and-wait", "80"]).resources(resources)
    };
    let (container, stdin) = started(&pod, eat("some", 64 * MIB), "eaten");
    let cgroup = cgroup_of(&container);
    let swapped: u64 = read(&cgroup, "memory.swap.current").parse()?;
    assert!((1..=64 * MIB).contains(&swapped), "{swapped}");
    assert_eq!(counter(&cgroup, "memory.events", "oom_kill"), 0);
    drop(stdin);
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    container.remove()?;

    let (status, _) = output(&pod, eat("none", 0).stdin(Stdio::Null))?;
    assert_eq!(status, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    drop(swap);
    PASS
}

fn a_container_with_too_little_memory_to_start_fails_clearly_and_leaves_nothing() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.pod("web");
    // One page: not even init fits. So the limit was there before the first process.
    let error = pod.create_container(&script("a", "true").resources(memory(4096))).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("create container \"a\" of pod web: ") && text.contains("memory"), "{text}");
    assert!(!pod.cgroup_path().join("a").exists());
    assert_eq!(pod.container("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(pod.containers()?.is_empty());
    // The name is free, and the pod as good as before.
    assert_eq!(say(&pod, script("a", "echo hello").resources(memory(64 * MIB))), "hello\n");
    PASS
}

fn wherever_memory_ends_during_a_start_nothing_is_left() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    for mode in [PidMode::Container, PidMode::Pod] {
        let pod = fixture.node.create_pod(&PodSpec::new("web").pid(mode))?;
        // From one page to what a program needs: the kernel ends init at one step or the other, or the program. What
        // ends is told, never a success; and the name is free for the next every time.
        let mut outcomes = std::collections::BTreeSet::new();
        for pages in [1, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 16384] {
            let spec = script("a", "exit 5").resources(memory(pages * 4096));
            match pod.run(&spec) {
                Ok(ExitStatus::Exited(5)) => outcomes.insert("ran"),
                Ok(ExitStatus::Signaled { signal: libc::SIGKILL, .. }) => outcomes.insert("killed"),
                Ok(other) => return Err(format!("{pages} pages: {other}").into()),
                Err(error) => {
                    assert!(error.to_string().contains("container \"a\""), "{pages} pages: {error}");
                    outcomes.insert("failed")
                }
            };
            assert!(!pod.cgroup_path().join("a").exists(), "{pages} pages");
            assert!(pod.containers()?.is_empty(), "{pages} pages");
        }
        assert!(outcomes.contains("failed") && outcomes.contains("ran"), "{outcomes:?}");
        pod.remove().expect("remove the pod");
    }
    PASS
}
