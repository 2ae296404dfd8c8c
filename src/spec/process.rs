//! Attributes of a process that few containers ask for: how it is scheduled, who is killed first when memory runs
//! out, which clocks it sees.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::container::ContainerSpec;
use super::validate::absolute;
use crate::error::{Error, Result};

/// A scheduling policy and its parameters, see sched(7) and sched_setattr(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// The nice value, -20 (most time) to 19; for `Other` and `Batch` only.
    #[serde(default)]
    pub nice: i32,
    /// The static priority, 1 to 99; for `Fifo` and `RoundRobin` only, which need it.
    #[serde(default)]
    pub priority: u32,
    /// Flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<SchedulerFlag>,
    /// Nanoseconds of processor time in each period; for `Deadline` only.
    #[serde(default)]
    pub runtime: u64,
    /// Nanoseconds from the start of a period in which that time is given; for `Deadline` only.
    #[serde(default)]
    pub deadline: u64,
    /// Nanoseconds of a period; for `Deadline` only, where 0 means the deadline.
    #[serde(default)]
    pub period: u64,
}

/// A scheduling policy, see sched(7). In JSON `"SCHED_OTHER"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SchedulerPolicy {
    /// The usual one, by nice value.
    #[serde(rename = "SCHED_OTHER")]
    Other,
    /// Real time, first in, first out.
    #[serde(rename = "SCHED_FIFO")]
    Fifo,
    /// Real time, taking turns.
    #[serde(rename = "SCHED_RR")]
    RoundRobin,
    /// For work that computes and nobody waits for.
    #[serde(rename = "SCHED_BATCH")]
    Batch,
    /// Only when nobody else has anything to do.
    #[serde(rename = "SCHED_IDLE")]
    Idle,
    /// Real time by runtime, deadline and period.
    #[serde(rename = "SCHED_DEADLINE")]
    Deadline,
}

impl SchedulerPolicy {
    /// The number of sched_setattr(2).
    pub(crate) fn number(self) -> u32 {
        let number = match self {
            SchedulerPolicy::Other => libc::SCHED_OTHER,
            SchedulerPolicy::Fifo => libc::SCHED_FIFO,
            SchedulerPolicy::RoundRobin => libc::SCHED_RR,
            SchedulerPolicy::Batch => libc::SCHED_BATCH,
            SchedulerPolicy::Idle => libc::SCHED_IDLE,
            SchedulerPolicy::Deadline => libc::SCHED_DEADLINE,
        };
        number as u32
    }
}

/// A flag of sched_setattr(2). In JSON `"SCHED_FLAG_RESET_ON_FORK"` and so on.
///
/// The flags for utilization clamps are not here: the values that they announce have no place in OCI specifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SchedulerFlag {
    /// Children begin with the usual policy.
    // The second name is what oci-spec writes.
    #[serde(rename = "SCHED_FLAG_RESET_ON_FORK", alias = "SCHED_RESET_ON_FORK")]
    ResetOnFork,
    /// Time that others do not use may be used; for `Deadline` only.
    #[serde(rename = "SCHED_FLAG_RECLAIM")]
    Reclaim,
    /// A `SIGXCPU` tells of overruns; for `Deadline` only.
    #[serde(rename = "SCHED_FLAG_DL_OVERRUN", alias = "SCHED_FLAG_D_L_OVERRUN")]
    DeadlineOverrun,
    /// The policy stays as it is.
    #[serde(rename = "SCHED_FLAG_KEEP_POLICY")]
    KeepPolicy,
    /// The parameters stay as they are.
    #[serde(rename = "SCHED_FLAG_KEEP_PARAMS")]
    KeepParams,
}

impl SchedulerFlag {
    /// The bit of `sched_flags` (linux/sched.h).
    pub(crate) fn bit(self) -> u64 {
        match self {
            SchedulerFlag::ResetOnFork => 0x01,
            SchedulerFlag::Reclaim => 0x02,
            SchedulerFlag::DeadlineOverrun => 0x04,
            SchedulerFlag::KeepPolicy => 0x08,
            SchedulerFlag::KeepParams => 0x10,
        }
    }
}

impl Scheduler {
    /// A policy with its parameters still to be set.
    pub fn new(policy: SchedulerPolicy) -> Self {
        Scheduler { policy, nice: 0, priority: 0, flags: Vec::new(), runtime: 0, deadline: 0, period: 0 }
    }

    /// Sets [`nice`](Self::nice).
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = nice;
        self
    }

    /// Sets [`priority`](Self::priority).
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: SchedulerFlag) -> Self {
        self.flags.push(flag);
        self
    }

    /// Sets the three times of the deadline policy, in nanoseconds.
    pub fn deadline(mut self, runtime: u64, deadline: u64, period: u64) -> Self {
        (self.runtime, self.deadline, self.period) = (runtime, deadline, period);
        self
    }

    /// Whether a fork(2) would lose the policy, or fail.
    pub(crate) fn ends_at_fork(&self) -> bool {
        self.policy == SchedulerPolicy::Deadline || self.flags.contains(&SchedulerFlag::ResetOnFork)
    }

    fn validate(&self) -> Result<()> {
        use SchedulerPolicy::*;
        let refused = |field: &str, why: &str| {
            Err(Error::invalid(format!("scheduler.{field}"), format!("{why} with {:?}", self.policy)))
        };
        if !(-20..=19).contains(&self.nice) {
            return Err(Error::invalid("scheduler.nice", format!("{} is not -20 to 19", self.nice)));
        }
        if self.nice != 0 && !matches!(self.policy, Other | Batch) {
            return refused("nice", "has no meaning");
        }
        match self.policy {
            Fifo | RoundRobin if !(1..=99).contains(&self.priority) => {
                return refused("priority", "must be 1 to 99");
            }
            Other | Batch | Idle | Deadline if self.priority != 0 => {
                return refused("priority", "has no meaning");
            }
            _ => {}
        }
        let times = [self.runtime, self.deadline, self.period];
        if self.policy == Deadline {
            let period = if self.period == 0 { self.deadline } else { self.period };
            if self.runtime == 0 || self.runtime > self.deadline || self.deadline > period {
                return refused(
                    "runtime",
                    "must be above 0, at most the deadline, and that at most the period,",
                );
            }
        } else if times != [0; 3] {
            return refused("runtime", "nor deadline and period have a meaning");
        }
        if self.policy != Deadline
            && self.flags.iter().any(|f| matches!(f, SchedulerFlag::Reclaim | SchedulerFlag::DeadlineOverrun))
        {
            return refused("flags", "SCHED_FLAG_RECLAIM and SCHED_FLAG_DL_OVERRUN have no meaning");
        }
        if self.flags.len() > 16 {
            return Err(Error::invalid("scheduler.flags", "are more than there are"));
        }
        Ok(())
    }
}

/// A priority at disks, see ioprio_set(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoPriority {
    /// The class.
    pub class: IoPriorityClass,
    /// Within the class: 0 (first) to 7.
    pub priority: u8,
}

/// A class of priorities at disks. In JSON `"IOPRIO_CLASS_BE"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum IoPriorityClass {
    /// Before all others.
    #[serde(rename = "IOPRIO_CLASS_RT")]
    RealTime,
    /// The usual one.
    #[serde(rename = "IOPRIO_CLASS_BE")]
    BestEffort,
    /// Only when nobody else has anything to do.
    #[serde(rename = "IOPRIO_CLASS_IDLE")]
    Idle,
}

impl IoPriority {
    /// The number of ioprio_set(2).
    pub(crate) fn number(self) -> u32 {
        let class = match self.class {
            IoPriorityClass::RealTime => 1,
            IoPriorityClass::BestEffort => 2,
            IoPriorityClass::Idle => 3,
        };
        class << 13 | u32::from(self.priority)
    }
}

/// The processors that a process may use, as lists such as `0-3,8`; see sched_setaffinity(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CpuAffinity {
    /// While the container is made; the calling program's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// When the program begins; `initial` unless given.
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub at_exec: Option<String>,
}

/// An execution domain, see personality(2). In JSON `"LINUX"` and `"LINUX32"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Personality {
    /// The usual one.
    #[serde(rename = "LINUX")]
    Linux,
    /// uname(2) tells of a 32-bit machine.
    #[serde(rename = "LINUX32")]
    Linux32,
}

impl Personality {
    /// The number of personality(2).
    pub(crate) fn number(self) -> u32 {
        match self {
            Personality::Linux => 0,
            Personality::Linux32 => 8,
        }
    }
}

/// The time namespace of a container, see time_namespaces(7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TimeNamespace {
    /// That of the calling program.
    #[default]
    Host,
    /// A new one, with these offsets of its clocks.
    New(TimeOffsets),
    /// The one that a file refers to, such as `/proc/1/ns/time`.
    Path(PathBuf),
}

impl TimeNamespace {
    pub(crate) fn is_host(&self) -> bool {
        *self == TimeNamespace::Host
    }
}

/// By how much clocks differ from those of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimeOffsets {
    /// `CLOCK_MONOTONIC`.
    pub monotonic: TimeOffset,
    /// `CLOCK_BOOTTIME`.
    pub boottime: TimeOffset,
}

/// An offset of a clock. Negative ones are negative seconds and positive nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimeOffset {
    /// Seconds. A clock cannot be set before 0 or after 146 years: `ERANGE`.
    pub secs: i64,
    /// Nanoseconds, 0 to 999999999.
    pub nanosecs: u32,
}

/// Processors that a list may name: the kernel knows no larger numbers on any architecture.
const MAX_PROCESSORS: u32 = 8192;

/// A list of processors as sched_setaffinity(2) takes it, bit N for processor N.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn cpu_mask(list: &str) -> std::result::Result<Vec<u8>, String> {
    number_mask(list, MAX_PROCESSORS)
}

/// The same for any numbers below a limit.
pub(super) fn number_mask(list: &str, limit: u32) -> std::result::Result<Vec<u8>, String> {
    let number = |text: &str| match text.parse::<u32>() {
        Ok(number) if number < limit && text.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ => Err(format!("{text:?} is not a number below {limit}")),
    };
    let mut mask = Vec::new();
    for part in list.trim_end_matches('\n').split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{part:?} ends before it begins"));
        }
        for bit in first..=last {
            let byte = bit as usize / 8;
            if mask.len() <= byte {
                // The kernel takes whole words.
                mask.resize((byte / 8 + 1) * 8, 0);
            }
            mask[byte] |= 1 << (bit % 8);
        }
    }
    Ok(mask)
}

impl CpuAffinity {
    fn validate(&self, name: &str) -> Result<()> {
        for (field, list) in [("initial", &self.initial), ("final", &self.at_exec)] {
            if let Some(list) = list {
                // Every number once, alone: no more bytes than that can mean anything.
                let long = list.len() > MAX_PROCESSORS as usize * 5;
                let wrong = if long { Err("is too long".into()) } else { cpu_mask(list) };
                wrong.map_err(|why| Error::invalid(format!("{name}.{field}"), why))?;
            }
        }
        Ok(())
    }
}

impl ContainerSpec {
    /// Sets [`oom_score_adj`](Self::oom_score_adj).
    pub fn oom_score_adj(mut self, adjustment: i32) -> Self {
        self.oom_score_adj = Some(adjustment);
        self
    }

    /// Sets [`scheduler`](Self::scheduler).
    pub fn scheduler(mut self, scheduler: Scheduler) -> Self {
        self.scheduler = Some(scheduler);
        self
    }

    /// Sets [`io_priority`](Self::io_priority).
    pub fn io_priority(mut self, class: IoPriorityClass, priority: u8) -> Self {
        self.io_priority = Some(IoPriority { class, priority });
        self
    }

    /// Sets the processors that the program may use, a list such as `0-3,8`.
    pub fn cpu_affinity(mut self, processors: impl Into<String>) -> Self {
        self.cpu_affinity.get_or_insert_default().at_exec = Some(processors.into());
        self
    }

    /// Sets the processors that programs executed in the container may use, a list such as `0-3,8`.
    pub fn exec_cpu_affinity(mut self, processors: impl Into<String>) -> Self {
        self.exec_cpu_affinity.get_or_insert_default().at_exec = Some(processors.into());
        self
    }

    /// Sets [`personality`](Self::personality).
    pub fn personality(mut self, personality: Personality) -> Self {
        self.personality = Some(personality);
        self
    }

    /// Sets [`time`](Self::time).
    pub fn time(mut self, namespace: TimeNamespace) -> Self {
        self.time = namespace;
        self
    }

    /// Checks what this module is about.
    pub(super) fn validate_attributes(&self) -> Result<()> {
        if let Some(adjustment) = self.oom_score_adj
            && !(-1000..=1000).contains(&adjustment)
        {
            return Err(Error::invalid("oomScoreAdj", format!("{adjustment} is not -1000 to 1000")));
        }
        if let Some(scheduler) = &self.scheduler {
            scheduler.validate()?;
        }
        if let Some(IoPriority { priority: priority @ 8.., .. }) = self.io_priority {
            return Err(Error::invalid("ioPriority.priority", format!("{priority} is not 0 to 7")));
        }
        for (name, affinity) in
            [("cpuAffinity", &self.cpu_affinity), ("execCpuAffinity", &self.exec_cpu_affinity)]
        {
            affinity.as_ref().map_or(Ok(()), |affinity| affinity.validate(name))?;
        }
        if let Some(policy) = &self.memory_policy {
            policy.validate()?;
        }
        match &self.time {
            TimeNamespace::Host => Ok(()),
            TimeNamespace::Path(path) => absolute("time.path", path),
            TimeNamespace::New(offsets) => {
                for (clock, offset) in [("monotonic", offsets.monotonic), ("boottime", offsets.boottime)] {
                    if offset.nanosecs >= 1_000_000_000 {
                        return Err(Error::invalid(
                            format!("time.new.{clock}.nanosecs"),
                            format!("{} is a second or more", offset.nanosecs),
                        ));
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Rootfs;

    fn spec() -> ContainerSpec {
        ContainerSpec::new("a", Rootfs::directory("/")).args(["x"])
    }

    #[test]
    fn lists_of_processors_are_masks_of_whole_words() {
        assert_eq!(cpu_mask("0").unwrap(), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cpu_mask("1-3,8").unwrap(), [0b1110, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cpu_mask("64,2").unwrap()[8..], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cpu_mask("8191").unwrap().len(), 1024);
        for wrong in ["", "8192", "3-1", "a", "1,", "-1", "+1", "0-", "1 ", "0-7:2/4"] {
            assert!(cpu_mask(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_the_kernel_would_ignore_or_refuse_is_named() {
        use SchedulerPolicy::*;
        let scheduled = |scheduler| spec().scheduler(scheduler);
        for (wrong, field) in [
            (spec().oom_score_adj(1001), "oomScoreAdj"),
            (spec().oom_score_adj(-1001), "oomScoreAdj"),
            (scheduled(Scheduler::new(Other).nice(20)), "scheduler.nice"),
            (scheduled(Scheduler::new(Fifo).priority(1).nice(1)), "scheduler.nice"),
            (scheduled(Scheduler::new(Fifo)), "scheduler.priority"),
            (scheduled(Scheduler::new(RoundRobin).priority(100)), "scheduler.priority"),
            (scheduled(Scheduler::new(Batch).priority(1)), "scheduler.priority"),
            (scheduled(Scheduler::new(Deadline)), "scheduler.runtime"),
            (scheduled(Scheduler::new(Deadline).deadline(3, 2, 4)), "scheduler.runtime"),
            (scheduled(Scheduler::new(Deadline).deadline(1, 5, 4)), "scheduler.runtime"),
            (scheduled(Scheduler::new(Idle).deadline(1, 2, 3)), "scheduler.runtime"),
            (scheduled(Scheduler::new(Idle).flag(SchedulerFlag::Reclaim)), "scheduler.flags"),
            (spec().io_priority(IoPriorityClass::Idle, 8), "ioPriority.priority"),
            (spec().cpu_affinity("0-x"), "cpuAffinity.final"),
            (spec().exec_cpu_affinity("0-x"), "execCpuAffinity.final"),
            (spec().time(TimeNamespace::Path("ns".into())), "time.path"),
            (
                spec().time(TimeNamespace::New(TimeOffsets {
                    boottime: TimeOffset { secs: 0, nanosecs: 1_000_000_000 },
                    ..TimeOffsets::default()
                })),
                "time.new.boottime.nanosecs",
            ),
        ] {
            let error = wrong.validate().unwrap_err();
            assert_eq!(error.subject(), Some(field), "{error}");
        }
        scheduled(Scheduler::new(Deadline).deadline(1, 2, 0)).validate().unwrap();
        scheduled(Scheduler::new(Other).nice(-20)).validate().unwrap();
    }

    #[test]
    fn names_in_json_are_those_of_the_oci() {
        let json = r#"{"policy":"SCHED_FIFO","nice":0,"priority":5,"flags":["SCHED_FLAG_RESET_ON_FORK"],"runtime":0,"deadline":0,"period":0}"#;
        let scheduler: Scheduler = serde_json::from_str(json).unwrap();
        assert_eq!(
            scheduler,
            Scheduler::new(SchedulerPolicy::Fifo).priority(5).flag(SchedulerFlag::ResetOnFork)
        );
        assert_eq!(serde_json::to_string(&scheduler).unwrap(), json);
        let priority: IoPriority =
            serde_json::from_str(r#"{"class":"IOPRIO_CLASS_IDLE","priority":3}"#).unwrap();
        assert_eq!(priority.number(), 3 << 13 | 3);
        let affinity: CpuAffinity = serde_json::from_str(r#"{"initial":"0","final":"1"}"#).unwrap();
        assert_eq!((affinity.initial.as_deref(), affinity.at_exec.as_deref()), (Some("0"), Some("1")));
        let time: TimeNamespace = serde_json::from_str(r#"{"new":{"monotonic":{"secs":-5}}}"#).unwrap();
        let TimeNamespace::New(offsets) = time else { panic!() };
        assert_eq!(offsets.monotonic, TimeOffset { secs: -5, nanosecs: 0 });
        // What is not asked for is not written.
        let text = serde_json::to_string(&spec()).unwrap();
        for key in ["oomScoreAdj", "scheduler", "ioPriority", "cpuAffinity", "personality", "time"] {
            assert!(!text.contains(&format!("\"{key}\"")), "{key} in {text}");
        }
    }
}
