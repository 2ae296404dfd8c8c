//! The machine as a whole, from proc(5).

use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use super::parse::{lines, number};
use super::read::{Reader, working_set};
use super::types::{CpuStats, PressureStats};
use crate::error::Result;
use crate::node::Proc;

/// What the whole machine uses, pods or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct MachineStats {
    /// Processor time of all processors since the boot; the kernel counts it in hundredths of a second.
    pub cpu: CpuStats,
    /// The processors that are in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processors: Option<u64>,
    /// All memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Memory that is not free, in bytes; pages of files are not free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_usage_bytes: Option<u64>,
    /// What the kubelet evicts by, in bytes: the usage without the files' pages that were not used lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<u64>,
    /// All swap, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// Swap in use, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_usage_bytes: Option<u64>,
    /// Time lost to waiting.
    pub pressure: PressureStats,
}

/// Microseconds of one tick of `/proc/stat`: `USER_HZ` is 100 wherever this library runs.
const TICK_USEC: u64 = 10_000;

pub(super) fn read(reader: &mut Reader<'_>, proc: &Proc) -> Result<MachineStats> {
    let dir = proc.as_fd();
    let (cpu, processors) =
        reader.file(dir, c"stat")?.map(|text| (cpu(text), processors(text))).unwrap_or_default();
    let mut stats = MachineStats {
        cpu,
        processors,
        pressure: PressureStats {
            cpu: reader.pressure(dir, c"pressure/cpu")?,
            memory: reader.pressure(dir, c"pressure/memory")?,
            io: reader.pressure(dir, c"pressure/io")?,
        },
        ..MachineStats::default()
    };
    if let Some(text) = reader.file(dir, c"meminfo")? {
        memory(text, &mut stats);
    }
    Ok(stats)
}

/// The line `cpu  USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL …`: the sum over all processors. The times of guests
/// that follow are part of those of users.
fn cpu(text: &[u8]) -> CpuStats {
    let line = lines(text).find_map(|line| line.strip_prefix(b"cpu ")).unwrap_or_default();
    let fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let ticks: Vec<u64> = fields.map_while(number).collect();
    let &[user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = &ticks[..] else {
        return CpuStats::default();
    };
    let time = |parts: &[u64]| {
        parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part)).saturating_mul(TICK_USEC)
    };
    CpuStats {
        usage_usec: Some(time(&[user, nice, system, irq, softirq, steal])),
        user_usec: Some(time(&[user, nice])),
        system_usec: Some(time(&[system, irq, softirq])),
        ..CpuStats::default()
    }
}

/// One line `cpuN …` each.
fn processors(text: &[u8]) -> Option<u64> {
    let one = |line: &&[u8]| {
        line.strip_prefix(b"cpu").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
    };
    Some(lines(text).filter(one).count() as u64).filter(|count| *count > 0)
}

/// `MemTotal:   16318324 kB`, a line each.
fn memory(text: &[u8], stats: &mut MachineStats) {
    let value = |key: &[u8]| {
        let rest = lines(text).find_map(|line| line.strip_prefix(key)?.strip_prefix(b":"))?;
        number(rest.trim_ascii().strip_suffix(b" kB")?)?.checked_mul(1024)
    };
    let used = |total: Option<u64>, free: Option<u64>| total?.checked_sub(free?);
    stats.memory_bytes = value(b"MemTotal");
    stats.memory_usage_bytes = used(stats.memory_bytes, value(b"MemFree"));
    stats.working_set_bytes = working_set(stats.memory_usage_bytes, value(b"Inactive(file)"));
    stats.swap_bytes = value(b"SwapTotal");
    stats.swap_usage_bytes = used(stats.swap_bytes, value(b"SwapFree"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_sums_of_the_machine() {
        let text = b"cpu  10 1 5 1000 7 2 3 4 6 0\ncpu0 10 1 5 1000 7 2 3 4 6 0\nintr 1\n";
        let stats = cpu(text);
        assert_eq!(stats.usage_usec, Some(25 * TICK_USEC));
        assert_eq!((stats.user_usec, stats.system_usec), (Some(11 * TICK_USEC), Some(10 * TICK_USEC)));
        assert_eq!((processors(text), processors(b"cpu  10 1\nintr 1\n")), (Some(1), None));
        assert_eq!(processors(b"cpu  1\ncpu0 1\ncpu11 1\n"), Some(2));
        assert_eq!(cpu(b"cpu  10 1\n"), CpuStats::default());
        assert_eq!(cpu(b""), CpuStats::default());
    }

    #[test]
    fn the_working_set_of_the_machine_is_what_is_neither_free_nor_an_unused_file() {
        let mut stats = MachineStats::default();
        let text = b"MemTotal:  100 kB\nMemFree:   40 kB\nInactive(file):  25 kB\nSwapTotal:  8 kB\nSwapFree: 2 kB\n";
        memory(text, &mut stats);
        assert_eq!(stats.working_set_bytes, Some(35 << 10));
        assert_eq!((stats.swap_bytes, stats.swap_usage_bytes), (Some(8 << 10), Some(6 << 10)));
        let mut none = MachineStats::default();
        memory(b"MemTotal: x kB\nMemFree: 1\n", &mut none);
        assert_eq!(none, MachineStats::default());
    }
}
