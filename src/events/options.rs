//! What is to be watched.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where events begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Since {
    /// With the pod: what has been is told first, and counters begin with 0. In a pod without
    /// [`journal`](crate::PodSpec::journal), containers that were removed before anybody watched it for the first
    /// time are not told of, except for what the OOM killer killed in them.
    #[default]
    Beginning,
    /// Now: only what changes from here on is told.
    Now,
}

/// A resource whose lack makes processes stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pressure {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Block devices.
    Io,
}

/// Whose stalls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PressureShare {
    /// At least one process stalls.
    Some,
    /// All processes that are not idle stall at once.
    Full,
}

/// A threshold of pressure stall information of the pod, see `Documentation/accounting/psi.rst` of the kernel: an event comes,
/// at most one a window, when processes have stalled for so long within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PressureTrigger {
    /// What they wait for.
    pub resource: Pressure,
    /// Whose stalls count.
    pub share: PressureShare,
    /// How long, in microseconds.
    pub stall_micros: u64,
    /// The window, in microseconds: 500 000 to 10 000 000. Without `CAP_SYS_RESOURCE` it must be a multiple of 2 s.
    pub window_micros: u64,
}

/// The triggers of one pod at most.
pub(super) const MOST_TRIGGERS: usize = 16;
const SHORTEST_WINDOW: u64 = 500_000;
const LONGEST_WINDOW: u64 = 10_000_000;

impl PressureTrigger {
    /// A trigger.
    pub fn new(resource: Pressure, share: PressureShare, stall: Duration, window: Duration) -> Self {
        let micros = |time: Duration| time.as_micros().try_into().unwrap_or(u64::MAX);
        PressureTrigger { resource, share, stall_micros: micros(stall), window_micros: micros(window) }
    }

    pub(super) fn file(&self) -> &'static str {
        match self.resource {
            Pressure::Cpu => "cpu.pressure",
            Pressure::Memory => "memory.pressure",
            Pressure::Io => "io.pressure",
        }
    }

    /// As the kernel wants it.
    pub(super) fn text(&self) -> String {
        let share = match self.share {
            PressureShare::Some => "some",
            PressureShare::Full => "full",
        };
        format!("{share} {} {}", self.stall_micros, self.window_micros)
    }

    fn validate(&self, field: &str) -> Result<()> {
        if !(SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&self.window_micros) {
            let detail = format!("is {} us; the kernel takes 0.5 to 10 s", self.window_micros);
            return Err(Error::invalid(format!("{field}.windowMicros"), detail));
        }
        if self.stall_micros == 0 || self.stall_micros > self.window_micros {
            let detail = format!("is {} us, which must be more than 0 and fit the window", self.stall_micros);
            return Err(Error::invalid(format!("{field}.stallMicros"), detail));
        }
        Ok(())
    }
}

/// What [`Pod::events_with`](crate::Pod::events_with) watches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct EventOptions {
    /// Where events begin.
    pub since: Since,
    /// Whether to watch memory (OOM kills, `memory.high` and `memory.max`). `None` is: if the machine has the memory
    /// controller; `true` is an error if it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
    /// Thresholds of pressure, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pressure: Vec<PressureTrigger>,
}

impl EventOptions {
    /// From the pod's beginning, all that this machine can tell without being asked for thresholds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where events begin.
    pub fn since(mut self, since: Since) -> Self {
        self.since = since;
        self
    }

    /// Whether to watch memory.
    pub fn memory(mut self, watch: bool) -> Self {
        self.memory = Some(watch);
        self
    }

    /// One more threshold of pressure.
    pub fn pressure(mut self, trigger: PressureTrigger) -> Self {
        self.pressure.push(trigger);
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.pressure.len() > MOST_TRIGGERS {
            let detail = format!("has {} triggers; {MOST_TRIGGERS} is the most", self.pressure.len());
            return Err(Error::invalid("pressure", detail));
        }
        let mut each = self.pressure.iter().enumerate();
        each.try_for_each(|(at, trigger)| trigger.validate(&format!("pressure[{at}]")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(stall: u64, window: u64) -> EventOptions {
        let millis = Duration::from_millis;
        let share = PressureShare::Some;
        EventOptions::new().pressure(PressureTrigger::new(
            Pressure::Memory,
            share,
            millis(stall),
            millis(window),
        ))
    }

    #[test]
    fn triggers_are_written_as_the_kernel_reads_them() {
        let options = trigger(150, 1000);
        options.validate().unwrap();
        assert_eq!(options.pressure[0].file(), "memory.pressure");
        assert_eq!(options.pressure[0].text(), "some 150000 1000000");
    }

    #[test]
    fn wrong_triggers_are_named() {
        for (stall, window, field) in [
            (0, 1000, "pressure[0].stallMicros"),
            (1001, 1000, "pressure[0].stallMicros"),
            (100, 499, "pressure[0].windowMicros"),
            (100, 10_001, "pressure[0].windowMicros"),
        ] {
            assert_eq!(trigger(stall, window).validate().unwrap_err().subject(), Some(field));
        }
        let mut many = trigger(150, 1000);
        many.pressure = vec![many.pressure[0]; 17];
        assert_eq!(many.validate().unwrap_err().subject(), Some("pressure"));
    }

    #[test]
    fn options_travel_as_json() {
        let options = trigger(150, 2000).since(Since::Now).memory(true);
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(
            json,
            "{\"since\":\"now\",\"memory\":true,\"pressure\":[{\"resource\":\"memory\",\"share\":\"some\",\
             \"stallMicros\":150000,\"windowMicros\":2000000}]}"
        );
        assert_eq!(serde_json::from_str::<EventOptions>(&json).unwrap(), options);
        assert_eq!(serde_json::from_str::<EventOptions>("{}").unwrap(), EventOptions::new());
        assert!(serde_json::from_str::<EventOptions>("{\"sinse\":\"now\"}").is_err());
    }
}
