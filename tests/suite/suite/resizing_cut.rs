//! A resize or an update of limits that is cut short: by a system call that fails, or by the death of its program.
//!
//! The host program runs under ptrace(2), see `recovery` and `faults`; only its calls between two marks are counted.

use std::collections::BTreeMap;
use std::fs;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pericarp::spec::kubernetes::{Admission, KubernetesPod, Policy, Requirements, Resize};
use pericarp::spec::{CpuMax, Limit, Resources};
use pericarp::{Container, ErrorKind, Node, Pod, PodSpec, Recovery};

use super::faults::{FAILED, MARK, SUCCEEDED, fail_everywhere, mark};
use super::kubernetes::needs;
use super::limits::{MIB, cgroup_of, counter, read, started};
use crate::need;
use crate::robust::trace::{Call, Then, is_local, name, trace};
use crate::robust::{again, in_guest, tiny};
use crate::support::fixture::payload as run_payload;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    death_at_any_system_call_of_a_resize_leaves_the_old_limits_or_the_new_ones,
    whatever_system_call_of_a_resize_fails_it_is_all_or_nothing,
    death_at_any_system_call_of_an_update_leaves_nothing_that_the_same_update_does_not_put_right,
    whatever_system_call_of_an_update_fails_it_is_all_or_nothing,
    a_resize_that_memory_in_use_keeps_from_being_taken_back_is_finished,
    a_resize_that_can_be_neither_taken_back_nor_finished_is_told_and_tried_again,
    what_may_be_taken_back_is_no_other_pods,
];

/// The commands of the host programs, and the bodies of the tests.
pub fn payload(words: &[&str]) -> bool {
    let result = match words {
        ["cut-test", test] => {
            again::body(match *test {
                "kill-resize" => kill_resizing(),
                "fail-resize" => fail_resizing(),
                "kill-update" => kill_updating(),
                "fail-update" => fail_updating(),
                "finish" => finish(),
                "unsettled" => neither(),
                _ => reserve(),
            });
            return true;
        }
        ["cut-resize", state_dir] => marked(state_dir, |pod| pod.resize(&other()).map(drop)),
        ["cut-update", state_dir] => marked(state_dir, |pod| {
            let (whole, each) = update();
            pod.update_all(&whole, &each)
        }),
        _ => return false,
    };
    std::process::exit(match result {
        Ok(()) => SUCCEEDED,
        Err(error) => {
            println!("{error}");
            FAILED
        }
    })
}

fn marked(state_dir: &str, work: impl FnOnce(&Pod) -> pericarp::Result<()>) -> pericarp::Result<()> {
    let node = again::node(state_dir);
    let pod = node.open_pod("shop").expect("open the pod");
    mark();
    let result = work(&pod);
    mark();
    result
}

/// A pod of which one container grows and one shrinks, and back.
const WEB: [(&str, &str); 2] =
    [("cpu=100m memory=8Mi", "cpu=500m memory=16Mi"), ("cpu=300m memory=16Mi", "cpu=1 memory=64Mi")];
const JOB: [(&str, &str); 2] =
    [("cpu=400m memory=16Mi", "cpu=1 memory=48Mi"), ("cpu=100m memory=8Mi", "cpu=300m memory=24Mi")];

fn of((requests, limits): (&str, &str)) -> Requirements {
    needs(requests, limits)
}

fn resize(which: usize) -> Resize {
    Resize::new().container("web", of(WEB[which])).container("job", of(JOB[which]))
}

fn other() -> Resize {
    resize(1)
}

/// With its two containers, which do nothing.
fn shop(fixture: &Fixture) -> pericarp::Result<(Pod, Vec<Container>)> {
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    let kubernetes = KubernetesPod::new().container("web", of(WEB[0])).container("job", of(JOB[0]));
    let kubernetes = kubernetes.policy(Policy::new().pod_pids_limit(99));
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(kubernetes))?;
    let mut containers = Vec::new();
    for name in ["web", "job"] {
        let container = pod.create_container(&tiny::container(name, &rootfs, "pause"))?;
        container.start()?;
        containers.push(container);
    }
    Ok((pod, containers))
}

/// All limits that a resize or an update here changes, and `memory.high`.
fn limits(pod: &Pod, containers: &[Container]) -> Vec<String> {
    const FILES: [&str; 5] = ["cpu.weight", "cpu.max", "memory.max", "memory.high", "pids.max"];
    let cgroups = containers.iter().map(cgroup_of).chain([pod.cgroup_path()]);
    cgroups.flat_map(|cgroup| FILES.map(|file| format!("{file} {}", read(&cgroup, file)))).collect()
}

fn has_record(fixture: &Fixture, pod: &Pod) -> bool {
    fixture.options.state_dir.join("pods").join(pod.id()).join("resize.json").exists()
}

/// Kills the program at its k-th call between the marks, or at the first for which `at` holds. Says which one that was;
/// `None` when it ended before.
fn kill_where(words: &[&str], mut at: impl FnMut(&Call, usize) -> bool) -> Option<String> {
    let (mut count, mut marks, mut killed) = (0, 0, None);
    let ended = trace(words, false, &mut |call: &Call| {
        if call.result.is_some() || is_local(call.number) {
            return Then::Go;
        }
        marks += usize::from(call.number == MARK);
        if marks != 1 || call.number == MARK {
            return Then::Go;
        }
        count += 1;
        if !at(call, count) {
            return Then::Go;
        }
        killed = Some(format!("call {count}, {}", name(call.number)));
        Then::Kill
    });
    assert!(killed.is_some() || ended.code == Some(SUCCEEDED), "it failed by itself: {}", ended.stderr);
    killed
}

/// Kills the program at its last call: all is done, and nobody knows.
fn kill_at_the_end(words: &[&str]) {
    kill_where(words, |call, _| call.number == libc::SYS_unlinkat).expect("the record is removed");
}

fn recover(node: &Node, at: &str) -> Recovery {
    let recovery = node.recover().unwrap_or_else(|error| panic!("killed at {at}: {error}"));
    assert_eq!((&recovery.busy[..], &recovery.removed[..]), (&[][..], &[][..]), "killed at {at}");
    recovery
}

/// In turn, who finds the half of a resize is the recovery of the node, somebody who opens the pod, or the next resize.
/// Mutations, seen in the guest: when `settle` did nothing, the record was still there after the pod was opened ("killed at
/// call 111, write"); without `with_high`, `memory.high` of the container that was to shrink was still 25165824 ("killed at
/// call 351").
fn death_at_any_system_call_of_a_resize_leaves_the_old_limits_or_the_new_ones() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    again::alone(&["cut-test", "kill-resize"])
}

fn kill_resizing() -> Outcome {
    let fixture = Fixture::new();
    let (pod, containers) = shop(&fixture)?;
    let old = (limits(&pod, &containers), pod.kubernetes()?);
    pod.resize(&other())?;
    let new = (limits(&pod, &containers), pod.kubernetes()?);
    pod.resize(&resize(0))?;
    assert_eq!((limits(&pod, &containers), pod.kubernetes()?), old);
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let words = ["cut-resize", &again::word(&fixture)];
    let stride = if in_guest() { 5 } else { 1 };
    for (turn, k) in (1..).step_by(stride).enumerate() {
        let Some(at) = kill_where(&words, |_, count| count == k) else { break };
        let half = has_record(&fixture, &pod);
        let outcome = match turn % 3 {
            0 => {
                let recovery = recover(&fixture.node, &at);
                assert_eq!(
                    recovery.resizes_taken_back.len(),
                    usize::from(half),
                    "killed at {at}: {recovery:?}"
                );
                assert!(recovery.resizes_unsettled.is_empty() && recovery.resizes_finished.is_empty());
                "recovered"
            }
            1 => {
                fixture.reopen().open_pod("shop")?;
                "opened"
            }
            _ => {
                pod.resize(&other()).unwrap_or_else(|error| panic!("killed at {at}: {error}"));
                assert_eq!((limits(&pod, &containers), pod.kubernetes()?), new, "killed at {at}");
                "resized"
            }
        };
        *outcomes.entry(if half { outcome } else { "whole" }).or_default() += 1;
        assert!(!has_record(&fixture, &pod), "killed at {at}: {outcome}");
        let now = (limits(&pod, &containers), pod.kubernetes()?);
        assert!(now == old || now == new, "killed at {at}, then {outcome}: {now:#?}");
        pod.resize(&resize(0))?;
        assert_eq!((limits(&pod, &containers), pod.kubernetes()?), old, "killed at {at}");
    }
    eprintln!("resize: {outcomes:?}");
    for outcome in ["recovered", "opened", "resized"] {
        assert!(outcomes.get(outcome).is_some_and(|count| *count > 1), "{outcomes:?}");
    }
    PASS
}

fn whatever_system_call_of_a_resize_fails_it_is_all_or_nothing() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    again::alone(&["cut-test", "fail-resize"])
}

fn fail_resizing() -> Outcome {
    let fixture = Fixture::new();
    let (pod, containers) = shop(&fixture)?;
    let old = (limits(&pod, &containers), pod.kubernetes()?);
    fail_everywhere(&["cut-resize", &again::word(&fixture)], |failed, code| {
        let now = (limits(&pod, &containers), pod.kubernetes().expect("requests"));
        assert_eq!(now == old, code == FAILED, "{failed}: {now:#?}");
        assert!(!has_record(&fixture, &pod), "{failed}");
        if code == SUCCEEDED {
            pod.resize(&resize(0)).unwrap_or_else(|error| panic!("{failed}: {error}"));
        }
    });
    PASS
}

/// Limits for the pod and its containers, all of them others than they have.
fn update() -> (Resources, BTreeMap<String, Resources>) {
    let of = |mib: u64, millis: u64| {
        let mut resources = Resources { pids_max: Some(Limit::At(mib)), ..Default::default() };
        resources.cpu.max = Some(CpuMax::millis(millis));
        resources.memory.max = Some(Limit::At(mib * MIB));
        resources
    };
    (of(70, 1700), [("web".to_string(), of(30, 700)), ("job".to_string(), of(40, 900))].into())
}

fn death_at_any_system_call_of_an_update_leaves_nothing_that_the_same_update_does_not_put_right() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    again::alone(&["cut-test", "kill-update"])
}

/// What a resize would make of it is known, so that it puts back what an update has changed.
fn undo_update(pod: &Pod, containers: &[Container], old: &[String]) -> Outcome {
    for (cgroup, limits) in
        containers.iter().map(cgroup_of).chain([pod.cgroup_path()]).zip(old.chunks(old.len() / 3))
    {
        for limit in limits {
            let (file, value) = limit.split_once(' ').expect("a file and its value");
            fs::write(cgroup.join(file), value)?;
        }
    }
    PASS
}

fn kill_updating() -> Outcome {
    let fixture = Fixture::new();
    let (pod, containers) = shop(&fixture)?;
    let old = limits(&pod, &containers);
    let (whole, each) = update();
    pod.update_all(&whole, &each)?;
    let new = limits(&pod, &containers);
    undo_update(&pod, &containers, &old)?;
    let words = ["cut-update", &again::word(&fixture)];
    let stride = if in_guest() { 3 } else { 1 };
    let mut mixed = 0;
    for k in (1..).step_by(stride) {
        let Some(at) = kill_where(&words, |_, count| count == k) else { break };
        let now = limits(&pod, &containers);
        mixed += usize::from(now != old && now != new);
        // Each limit is the old or the new one.
        let known = now.iter().zip(old.iter().zip(&new)).all(|(now, (old, new))| now == old || now == new);
        assert!(known, "killed at {at}: {now:#?}");
        assert_eq!(recover(&fixture.node, &at).adopted.len(), 1);
        let again = fixture.reopen().open_pod("shop")?;
        again.update_all(&whole, &each).unwrap_or_else(|error| panic!("killed at {at}: {error}"));
        assert_eq!(limits(&pod, &containers), new, "killed at {at}");
        undo_update(&pod, &containers, &old)?;
    }
    assert!(mixed > 1, "killed in the middle {mixed} times");
    PASS
}

fn whatever_system_call_of_an_update_fails_it_is_all_or_nothing() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    again::alone(&["cut-test", "fail-update"])
}

fn fail_updating() -> Outcome {
    let fixture = Fixture::new();
    let (pod, containers) = shop(&fixture)?;
    let old = limits(&pod, &containers);
    fail_everywhere(&["cut-update", &again::word(&fixture)], |failed, code| {
        let now = limits(&pod, &containers);
        assert_eq!(now == old, code == FAILED, "{failed}: {now:#?}");
        undo_update(&pod, &containers, &old).expect("the old limits");
    });
    PASS
}

/// Mutation, seen in the guest: without the way forward the resize was unsettled, with 0 bytes reclaimed.
fn a_resize_that_memory_in_use_keeps_from_being_taken_back_is_finished() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    again::alone(&["cut-test", "finish"])
}

fn finish() -> Outcome {
    let fixture = Fixture::new();
    let kubernetes = KubernetesPod::new().container("web", of(WEB[0])).container("job", of(JOB[0]));
    let pod = fixture.node.create_pod(&PodSpec::new("shop").kubernetes(kubernetes))?;
    kill_at_the_end(&["cut-resize", &again::word(&fixture)]);
    // It has the new limit, and uses more than the old one: nobody can take that back.
    let (web, _stdin) = started(&pod, run_payload("web", &["memory-eat-and-wait", "40"]), "eaten");
    let recovery = recover(&fixture.node, "the end");
    assert_eq!(recovery.resizes_finished, [pod.id()], "{recovery:?}");
    assert!(!has_record(&fixture, &pod));
    assert_eq!(pod.kubernetes()?.expect("requests").containers[0].resources, of(WEB[1]));
    assert_eq!(read(&cgroup_of(&web), "memory.max"), (64 * MIB).to_string());
    assert_eq!(read(&cgroup_of(&web), "memory.high"), "max");
    assert_eq!(counter(&pod.cgroup_path(), "memory.events", "oom_kill"), 0);
    assert_eq!(web.try_wait()?, None);
    PASS
}

fn a_resize_that_can_be_neither_taken_back_nor_finished_is_told_and_tried_again() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    again::alone(&["cut-test", "unsettled"])
}

/// A file that both ways have to write is read-only for a while.
fn neither() -> Outcome {
    let fixture = Fixture::new();
    let (pod, containers) = shop(&fixture)?;
    let old = limits(&pod, &containers);
    kill_at_the_end(&["cut-resize", &again::word(&fixture)]);
    let file = pod.cgroup_path().join("cpu.weight");
    let bind = |flags| mount(Some(&file), &file, None::<&str>, flags, None::<&str>);
    bind(MsFlags::MS_BIND)?;
    let readonly = bind(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    let recovery = fixture.node.recover();
    // Whoever only opens the pod is not kept from it.
    let opened = fixture.reopen().open_pod("shop");
    let resized = pod.resize(&other());
    umount2(&file, MntFlags::MNT_DETACH)?;
    readonly?;
    let recovery = recovery?;
    let [(id, why)] = &recovery.resizes_unsettled[..] else { panic!("{recovery:?}") };
    assert_eq!(id, pod.id());
    assert!(why.contains("cpu.weight") && why.contains("cannot be finished"), "{why}");
    assert_eq!(recovery.adopted, [pod.id()]);
    opened?;
    assert_eq!(resized.unwrap_err().errno(), Some(Errno::EROFS as i32));
    assert!(has_record(&fixture, &pod));
    let recovery = recover(&fixture.node, "the end");
    assert_eq!(recovery.resizes_taken_back, [pod.id()], "{recovery:?}");
    assert_eq!(limits(&pod, &containers), old);
    assert_eq!(pod.kubernetes()?, pod.spec().kubernetes);
    PASS
}

/// Mutation, seen in the guest: with `record.old` not counted, the other pod was admitted.
fn what_may_be_taken_back_is_no_other_pods() -> Outcome {
    let fixture = Fixture::new();
    need!(fixture, "cpu", "memory", "pids");
    again::alone(&["cut-test", "reserve"])
}

fn reserve() -> Outcome {
    let fixture = Fixture::new();
    let (pod, _containers) = shop(&fixture)?;
    // Of memory the resize leaves as much as there was, of cpu less: 500m become 400m.
    kill_at_the_end(&["cut-resize", &again::word(&fixture)]);
    let reserved = fixture.node.capacity()?.cpu_millis - 1000;
    let admission = Admission::new().reserve("cpu", &format!("{reserved}m"))?;
    let node = Node::open(&fixture.options.clone().admission(admission))?;
    let spec = PodSpec::new("new").kubernetes(KubernetesPod::new().container("a", needs("cpu=600m", "")));
    let error = node.create_pod(&spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("requested 600m, used 500m"), "{error}");
    assert_eq!(recover(&node, "the end").resizes_taken_back, [pod.id()]);
    pod.resize(&other())?;
    node.create_pod(&spec)?;
    PASS
}
