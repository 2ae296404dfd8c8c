//! The events of a pod.

use serde::Serialize;

use super::options::PressureTrigger;
use crate::container::ExitStatus;

/// Something that happened in a pod, see [`Pod::events`](crate::Pod::events). Containers are named.
///
/// Those of one container come in the order of its life: created, started, exited, removed. What has a `count` tells how
/// many times it happened since the event of that kind before. More events may be added; match with a wildcard arm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A container was made. A creation that fails half way may be told as one that was made, ended and was removed.
    Created {
        /// The container.
        container: String,
    },
    /// Its program runs.
    Started {
        /// The container.
        container: String,
    },
    /// Its first process has ended. Nobody's status is taken by that: [`Container::wait`](crate::Container::wait)
    /// still has it.
    Exited {
        /// The container.
        container: String,
        /// How; `None` when that is lost: somebody else took it, and this kernel does not keep it (before Linux 6.15).
        status: Option<ExitStatus>,
        /// Whether it was the OOM killer: the process was killed by `SIGKILL`, and in the container's cgroup the OOM
        /// killer has killed. `None` where there is no memory controller to tell.
        oom_killed: Option<bool>,
    },
    /// The container was removed; its name is free again.
    Removed {
        /// The container.
        container: String,
    },
    /// The OOM killer has killed processes (`oom_kill` of `memory.events`).
    OomKill {
        /// Where; `None` for containers that were removed before anybody watched the pod.
        container: Option<String>,
        /// How many.
        count: u64,
    },
    /// `memory.high` was passed, and processes were slowed down (`high` of `memory.events`).
    MemoryHigh {
        /// Whose limit; `None` for the pod's own.
        container: Option<String>,
        /// How many times.
        count: u64,
    },
    /// Memory was about to pass `memory.max` (`max` of `memory.events`).
    MemoryMax {
        /// Whose limit; `None` for the pod's own.
        container: Option<String>,
        /// How many times.
        count: u64,
    },
    /// Processes of the pod have stalled as long as a trigger says, within its window.
    Pressure {
        /// Which, as it was asked for.
        trigger: PressureTrigger,
    },
    /// All processes stand still (`cgroup.freeze`). A container is told of when its pod is frozen, too. This is a state:
    /// what was frozen and thawed again between two looks is not told.
    Frozen {
        /// The container; `None` for the pod.
        container: Option<String>,
    },
    /// They run again.
    Thawed {
        /// The container; `None` for the pod.
        container: Option<String>,
    },
    /// No process is left in the pod, but for process 1 of a shared PID namespace. Containers that were made and not
    /// started have one.
    Empty,
    /// So many containers came and went that the ends of some are no longer written down: nobody has read events for
    /// thousands of them.
    Skipped {
        /// How many containers nothing is told of.
        containers: u64,
    },
    /// The pod was removed. Nothing comes after that.
    PodRemoved,
}

impl Event {
    /// The container that it is about, if it is about one.
    pub fn container(&self) -> Option<&str> {
        match self {
            Event::Created { container }
            | Event::Started { container }
            | Event::Exited { container, .. }
            | Event::Removed { container } => Some(container),
            Event::OomKill { container, .. }
            | Event::MemoryHigh { container, .. }
            | Event::MemoryMax { container, .. }
            | Event::Frozen { container }
            | Event::Thawed { container } => container.as_deref(),
            Event::Pressure { .. } | Event::Empty | Event::Skipped { .. } | Event::PodRemoved => None,
        }
    }
}

/// As one flat object: `{"event": "exited", "container": "web", "exitCode": 0, "oomKilled": false}`.
impl Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize, Default)]
        #[serde(rename_all = "camelCase")]
        struct Flat<'a> {
            event: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            container: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            exit_code: Option<i32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            signal: Option<i32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            core_dumped: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            oom_killed: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            count: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            trigger: Option<&'a PressureTrigger>,
        }
        let mut flat = Flat { container: self.container(), ..Flat::default() };
        match self {
            Event::Created { .. } => flat.event = "created",
            Event::Started { .. } => flat.event = "started",
            Event::Exited { status, oom_killed, .. } => {
                flat.event = "exited";
                flat.oom_killed = *oom_killed;
                match status {
                    Some(ExitStatus::Exited(code)) => flat.exit_code = Some(*code),
                    Some(ExitStatus::Signaled { signal, core_dumped }) => {
                        (flat.signal, flat.core_dumped) = (Some(*signal), Some(*core_dumped));
                    }
                    None => {}
                }
            }
            Event::Removed { .. } => flat.event = "removed",
            Event::OomKill { count, .. } => (flat.event, flat.count) = ("oomKill", Some(*count)),
            Event::MemoryHigh { count, .. } => (flat.event, flat.count) = ("memoryHigh", Some(*count)),
            Event::MemoryMax { count, .. } => (flat.event, flat.count) = ("memoryMax", Some(*count)),
            Event::Pressure { trigger } => (flat.event, flat.trigger) = ("pressure", Some(trigger)),
            Event::Frozen { .. } => flat.event = "frozen",
            Event::Thawed { .. } => flat.event = "thawed",
            Event::Empty => flat.event = "empty",
            Event::Skipped { containers } => (flat.event, flat.count) = ("skipped", Some(*containers)),
            Event::PodRemoved => flat.event = "podRemoved",
        }
        flat.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_objects() {
        let json = |event: &Event| serde_json::to_string(event).unwrap();
        let container = || "web".to_string();
        let status = Some(ExitStatus::Signaled { signal: 9, core_dumped: false });
        assert_eq!(
            json(&Event::Exited { container: container(), status, oom_killed: Some(true) }),
            r#"{"event":"exited","container":"web","signal":9,"coreDumped":false,"oomKilled":true}"#
        );
        assert_eq!(
            json(&Event::Exited { container: container(), status: None, oom_killed: None }),
            r#"{"event":"exited","container":"web"}"#
        );
        assert_eq!(json(&Event::OomKill { container: None, count: 3 }), r#"{"event":"oomKill","count":3}"#);
        assert_eq!(
            json(&Event::Frozen { container: Some(container()) }),
            r#"{"event":"frozen","container":"web"}"#
        );
        assert_eq!(json(&Event::PodRemoved), r#"{"event":"podRemoved"}"#);
    }
}
