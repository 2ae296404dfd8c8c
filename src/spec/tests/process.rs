//! Any attributes of a process, and any filter, sound or not.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::path;
use crate::spec::*;

fn scheduler() -> impl Strategy<Value = Scheduler> {
    use SchedulerPolicy::*;
    let policy = select(vec![Other, Fifo, RoundRobin, Batch, Idle, Deadline]);
    let flag = select(vec![SchedulerFlag::ResetOnFork, SchedulerFlag::Reclaim, SchedulerFlag::KeepParams]);
    let numbers = (any::<i32>(), any::<u32>(), any::<[u64; 3]>());
    (policy, numbers, vec(flag, 0..3)).prop_map(|(policy, (nice, priority, times), flags)| {
        let scheduler = Scheduler::new(policy).nice(nice).priority(priority);
        flags.into_iter().fold(scheduler.deadline(times[0], times[1], times[2]), Scheduler::flag)
    })
}

fn time() -> impl Strategy<Value = TimeNamespace> {
    let offset = || (any::<i64>(), any::<u32>()).prop_map(|(secs, nanosecs)| TimeOffset { secs, nanosecs });
    let offsets = (offset(), offset())
        .prop_map(|(monotonic, boottime)| TimeNamespace::New(TimeOffsets { monotonic, boottime }));
    prop_oneof![Just(TimeNamespace::Host), offsets, path().prop_map(TimeNamespace::Path)]
}

/// A container with any attributes.
pub(super) fn attributes(spec: ContainerSpec) -> impl Strategy<Value = ContainerSpec> {
    let priority = (
        select(vec![IoPriorityClass::RealTime, IoPriorityClass::BestEffort, IoPriorityClass::Idle]),
        any::<u8>(),
    )
        .prop_map(|(class, priority)| IoPriority { class, priority });
    let affinity = (of("[0-9,-]{0,9}"), of("[0-9,-]{0,9}"))
        .prop_map(|(initial, at_exec)| CpuAffinity { initial, at_exec });
    let personality = of(select(vec![Personality::Linux, Personality::Linux32]));
    let policy = (
        select(vec![MemoryPolicyMode::Default, MemoryPolicyMode::Bind, MemoryPolicyMode::Preferred]),
        "[0-9,-]{0,9}",
        vec(select(vec![MemoryPolicyFlag::StaticNodes, MemoryPolicyFlag::RelativeNodes]), 0..3),
    )
        .prop_map(|(mode, nodes, flags)| MemoryPolicy { mode, nodes, flags });
    let numa = (personality, of(policy));
    (of(any::<i32>()), of(scheduler()), of(priority), of(affinity), numa, time()).prop_map(
        move |(adjustment, scheduler, priority, affinity, (personality, policy), time)| {
            let mut spec = spec.clone();
            (spec.oom_score_adj, spec.scheduler, spec.io_priority) = (adjustment, scheduler, priority);
            (spec.cpu_affinity, spec.exec_cpu_affinity) = (affinity.clone(), affinity);
            (spec.personality, spec.time) = (personality, time);
            spec.memory_policy = policy;
            spec
        },
    )
}

fn rule() -> impl Strategy<Value = SeccompSyscall> {
    use SeccompOp::*;
    let op = select(vec![Ne, Lt, Le, Eq, Ge, Gt, MaskedEq]);
    let arg = (any::<u32>(), any::<u64>(), any::<u64>(), op)
        .prop_map(|(index, value, value_two, op)| SeccompArg { index, value, value_two, op });
    (vec(any::<String>(), 0..3), action(), of(any::<u32>()), vec(arg, 0..3)).prop_map(
        |(names, action, errno_ret, args)| {
            let mut rule = SeccompSyscall::new(names, action);
            (rule.errno_ret, rule.args) = (errno_ret, args);
            rule
        },
    )
}

fn action() -> impl Strategy<Value = SeccompAction> {
    use SeccompAction::*;
    select(vec![Kill, KillProcess, KillThread, Trap, Errno, Trace, Allow, Log, Notify])
}

/// Any filter.
pub(super) fn seccomp() -> impl Strategy<Value = SeccompProfile> {
    let flags = vec(select(vec![SeccompFlag::Log, SeccompFlag::WaitKillableRecv]), 0..2);
    let architectures = vec(select(vec![SeccompArch::X32, SeccompArch::Riscv64]), 0..2);
    let listener = (of(path()), of(any::<String>()));
    let custom = (action(), of(any::<u32>()), flags, architectures, vec(rule(), 0..3), listener).prop_map(
        |(default, errno, flags, architectures, rules, (path, metadata))| {
            let mut filter = Seccomp::new(default);
            (filter.default_errno_ret, filter.flags, filter.architectures) = (errno, flags, architectures);
            (filter.syscalls, filter.listener_path, filter.listener_metadata) = (rules, path, metadata);
            SeccompProfile::Custom(Box::new(filter))
        },
    );
    prop_oneof![select(vec![SeccompProfile::RuntimeDefault, SeccompProfile::Unconfined]), custom]
}
