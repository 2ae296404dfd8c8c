//! Whom the OOM killer takes: containers before process 1 of their PID namespace, and whoever it was told to take first.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::unistd::{ForkResult, fork};
use pericarp::spec::PidMode;
use pericarp::spec::kubernetes::KubernetesPod;
use pericarp::{Container, ErrorKind, ExitStatus, PodSpec};

use super::kubernetes::needs;
use super::limits::{MIB, counter, memory, say_and_wait, started};
use crate::need;
use crate::support::fixture::{payload as run_payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    the_init_of_a_guaranteed_pod_outlives_its_containers,
    a_container_is_taken_first_when_it_was_told_to_be,
    another_score_reaches_all_processes_of_a_frozen_container,
    a_score_that_cannot_be_is_refused_and_changes_nothing,
];

/// Commands that run in the containers of this module.
pub fn payload(words: &[&str]) -> bool {
    if words != ["oom-hop"] {
        return false;
    }
    // SAFETY: this program has one thread here.
    if let ForkResult::Child = unsafe { fork() }.expect("fork") {
        // From process to process, each of which ends as soon as there is the next one.
        // SAFETY: as above.
        while let ForkResult::Child = unsafe { fork() }.expect("fork") {}
        std::process::exit(0);
    }
    say_and_wait("here");
    true
}

fn score(pid: &str) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

fn processes(cgroup: &Path) -> Vec<String> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).expect("read cgroup.procs");
    text.lines().map(str::to_string).collect()
}

fn may_lower() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("read status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    u64::from_str_radix(effective.trim(), 16).expect("a number") >> 24 & 1 == 1
}

/// Without containers init would have to be the one to take: its score is compared with theirs, of -997.
/// Mutation, seen in the guest: without `spare` its score was 0, not -998.
fn the_init_of_a_guaranteed_pod_outlives_its_containers() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory");
    let each = || needs("", "cpu=1 memory=64Mi");
    let kubernetes = KubernetesPod::new().container("first", each()).container("second", each());
    // Of the pod as a whole less than of its containers: so it is the pod that runs out.
    let spec = PodSpec::new("shop").kubernetes(kubernetes).resources(memory(72 * MIB)).pid(PidMode::Pod);
    let pod = fixture.node.create_pod(&spec)?;
    let init = processes(&pod.cgroup_path().join("_init"));
    let (first, _stdin) = started(&pod, run_payload("first", &["memory-eat-and-wait", "48"]), "eaten");
    let second = pod.create_container(&run_payload("second", &["memory-eat", "48"]))?;
    second.start()?;
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    // Whichever it takes, it takes one, and that is enough for the other.
    let ended = second.wait()?;
    let taken = [ended == killed, first.try_wait()? == Some(killed)];
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{ended:?}");
    assert!(counter(&pod.cgroup_path(), "memory.events", "oom_kill") >= 1);
    assert_eq!(processes(&pod.cgroup_path().join("_init")), init, "init was taken");
    assert_eq!(say(&pod, script("third", "echo here")), "here\n");
    let own: i32 = score("self").expect("a score");
    assert_eq!(score(&init[0]), Some(if may_lower() { own.min(-998) } else { own }));
    PASS
}

/// The kernel takes the largest, and the second is: unless the first was told to be the one.
/// Mutation, seen in the guest: without the call the second was killed.
fn a_container_is_taken_first_when_it_was_told_to_be() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "memory");
    let pod = fixture.node.create_pod(&PodSpec::new("shop").resources(memory(96 * MIB)))?;
    let (first, _stdin) = started(&pod, run_payload("first", &["memory-eat-and-wait", "32"]), "eaten");
    first.set_oom_score_adj(1000)?;
    assert_eq!(say(&pod, run_payload("second", &["memory-eat", "72"])), "eaten\n");
    assert_eq!(first.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    PASS
}

/// Mutation, seen in the guest: without the freeze, a process that was being forked had the old score afterwards.
fn another_score_reaches_all_processes_of_a_frozen_container() -> Outcome {
    let fixture = Fixture::new();
    // Whose init reaps what hops there.
    let pod = fixture.node.create_pod(&PodSpec::new("shop").pid(PidMode::Pod))?;
    let (container, _stdin) = started(&pod, run_payload("a", &["oom-hop"]), "here");
    let before = score("self").expect("a score");
    let cgroup = super::limits::cgroup_of(&container);
    for turn in 1..=40 {
        let wanted = before + turn;
        container.freeze()?;
        container.set_oom_score_adj(wanted)?;
        container.thaw()?;
        let mut seen = BTreeSet::new();
        // Those that were there, and those that came since.
        for _ in 0..5 {
            seen.extend(processes(&cgroup).iter().filter_map(|pid| score(pid)));
        }
        assert_eq!(seen, BTreeSet::from([wanted]));
    }
    let mut exec = pericarp::ExecSpec::new(["/bin/sh", "-c", "exit $(cat /proc/self/oom_score_adj)"]);
    exec.oom_score_adj = Some(before + 3);
    assert_eq!(container.exec(&exec)?.wait()?, ExitStatus::Exited(before + 3));
    PASS
}

fn a_score_that_cannot_be_is_refused_and_changes_nothing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("shop");
    let (container, stdin) = started(&pod, run_payload("a", &["limits-wait"]), "here");
    let scores = |container: &Container| -> Vec<Option<i32>> {
        processes(&super::limits::cgroup_of(container)).iter().map(|pid| score(pid)).collect()
    };
    let before = score("self").expect("a score");
    container.set_oom_score_adj(before + 5)?;
    for wrong in [-1001, 1001] {
        assert_eq!(container.set_oom_score_adj(wrong).unwrap_err().kind(), ErrorKind::InvalidSpec);
    }
    assert_eq!(scores(&container), [Some(before + 5)]);
    match container.set_oom_score_adj(before - 1) {
        Ok(()) => {
            assert!(may_lower());
            assert_eq!(scores(&container), [Some(before - 1)]);
        }
        Err(error) => {
            assert!(!may_lower());
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{error}");
            assert_eq!(scores(&container), [Some(before + 5)]);
        }
    }
    drop(stdin);
    container.wait()?;
    assert_eq!(container.set_oom_score_adj(before).unwrap_err().kind(), ErrorKind::WrongState);
    PASS
}
