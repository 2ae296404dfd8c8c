//! Where the steps of attributes are among the others, and what is refused for the steps that there would be.

use crate::container::plan::{Plan, PodContext, Source, Step, compile};
use crate::error::{ErrorKind, Result};
use crate::spec::*;

fn container() -> ContainerSpec {
    ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"])
}

fn plan(pod: &PodSpec, container: &ContainerSpec) -> Result<Plan> {
    container.validate()?;
    compile(&PodContext { spec: pod, ids: None, ordinary: None }, container)
}

fn notifying(security: Security) -> Security {
    let profile =
        Seccomp::new(SeccompAction::Allow).rule(SeccompSyscall::new(["mkdir"], SeccompAction::Notify));
    security.seccomp(SeccompProfile::Custom(Box::new(profile)))
}

fn everything() -> ContainerSpec {
    let security = Security::default().apparmor_profile("confined").selinux_label("a:b:c:d");
    let mut container = container()
        .oom_score_adj(7)
        .scheduler(Scheduler::new(SchedulerPolicy::Batch).nice(3))
        .io_priority(IoPriorityClass::Idle, 1)
        .cpu_affinity("0-1")
        .personality(Personality::Linux32)
        .memory_policy(MemoryPolicy::new(MemoryPolicyMode::Bind, "0-1").flag(MemoryPolicyFlag::StaticNodes))
        .time(TimeNamespace::New(TimeOffsets {
            monotonic: TimeOffset { secs: -1, nanosecs: 2 },
            boottime: TimeOffset { secs: 3, nanosecs: 4 },
        }))
        .security(notifying(security));
    container.cpu_affinity.get_or_insert_default().initial = Some("1".into());
    container
}

/// The index of the one step in these words.
fn at(plan: &Plan, words: &str) -> usize {
    let found: Vec<usize> = (0..plan.steps.len()).filter(|&i| plan.steps[i].to_string() == words).collect();
    assert_eq!(found.len(), 1, "{words}: {plan}");
    found[0]
}

fn is_seccomp(step: &Step) -> bool {
    matches!(step, Step::Seccomp(_))
}

#[test]
fn attributes_are_taken_while_the_privileges_are_there_and_no_filter_is() {
    for no_new_privileges in [true, false] {
        let container = everything();
        let security = container.security.clone().no_new_privileges(no_new_privileges);
        let plan = plan(&PodSpec::new("web"), &container.security(security)).unwrap();
        let order = [
            "stay on the processors 1",
            "make a time namespace",
            "set offsets of the time namespace to monotonic -1 2, boottime 3 4",
            "enter the time namespace",
            "pivot into the root filesystem",
            "set oom_score_adj to 7",
            "take the scheduling policy Batch, nice 3",
            "take the I/O priority 1 of class 3",
            "stay on the processors 0-1",
            "take the execution domain 8",
            "take memory by the policy Bind from the nodes 0-1, StaticNodes",
            "set the AppArmor profile to exec confined",
            "set the SELinux label to a:b:c:d",
        ];
        let places: Vec<usize> = order.iter().map(|words| at(&plan, words)).collect();
        assert!(places.is_sorted(), "{plan}");
        let last = places[places.len() - 1];
        let identity = plan.steps.iter().position(|step| matches!(step, Step::Identity { .. })).unwrap();
        let filter = plan.steps.iter().position(is_seccomp).unwrap();
        assert!(last < identity && last < filter, "{plan}");
        // Without the promise of no new privileges, loading takes one that the identity does away with.
        assert_eq!(identity < filter, no_new_privileges);
        assert!(plan.listens());
        // One proc for all of them, opened by the library.
        assert_eq!(plan.sources.iter().filter(|source| **source == Source::PrivateProc).count(), 1);
    }
}

#[test]
fn what_is_not_asked_for_costs_nothing() {
    let plan = plan(&PodSpec::new("web"), &container()).unwrap();
    assert!(!plan.sources.contains(&Source::PrivateProc));
    assert!(!plan.listens());
    for step in &plan.steps {
        let attribute = matches!(
            step,
            Step::WriteProc { .. }
                | Step::Scheduler(_)
                | Step::IoPriority(_)
                | Step::Affinity { .. }
                | Step::Personality(_)
                | Step::MemoryPolicy { .. }
                | Step::UnshareTime
                | Step::JoinTime { .. }
                | Step::EnterTime { .. }
        );
        assert!(!attribute, "{step}");
    }
}

#[test]
fn what_the_last_fork_would_lose_is_refused() {
    let pod = PodSpec::new("web").pid(PidMode::Pod);
    let deadline = Scheduler::new(SchedulerPolicy::Deadline).deadline(1, 2, 3);
    let early = notifying(Security::default().no_new_privileges(false));
    for (container, field) in
        [(container().scheduler(deadline), "scheduler"), (container().security(early), "security.seccomp")]
    {
        let error = plan(&pod, &container).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some(field)), "{error}");
        plan(&PodSpec::new("web"), &container).unwrap();
    }
    plan(&pod, &everything()).unwrap();
}

#[test]
fn the_words_tell_sets_of_capabilities_that_are_not_the_usual_ones() {
    let words = |capabilities: Capabilities, uid| {
        let security = Security::default().capabilities(capabilities);
        let plan = plan(&PodSpec::new("web"), &container().user(uid, 0).security(security)).unwrap();
        let step = plan.steps.iter().find(|step| matches!(step, Step::Identity { .. })).unwrap();
        step.to_string()
    };
    let one = Capabilities::none().with(Capability::CAP_CHOWN);
    let set = one.bounding;
    assert_eq!(words(one.clone(), 0), "become user 0, group 0, groups [], capabilities 0x1, ambient 0x0");
    assert_eq!(
        words(one.inheritable(set), 5),
        "become user 5, group 0, groups [], capabilities 0x1, ambient 0x0, permitted 0x0, effective 0x0, inheritable 0x1"
    );
}
