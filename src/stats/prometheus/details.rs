//! Limits of processor time, and what is told of memory besides cAdvisor's metrics.

use super::super::types::CpuStats;
use super::{Kind, Row, Text, labels, limit};
use crate::spec::Limit;

use Kind::{Counter, Gauge};

/// The limits of processor time. cAdvisor has no quota where there is none.
pub(super) fn cpu_limits(text: &mut Text, rows: &[Row<'_>]) {
    let mut put = |name, help, value: fn(&CpuStats) -> Option<u64>| {
        let mut family = text.family(name, Gauge, help);
        for row in rows {
            family.plain(&row.labels, "", row.cgroup.and_then(|cgroup| value(&cgroup.cpu)));
        }
    };
    put("container_spec_cpu_period", "CPU period of the container.", |cpu| Some(cpu.max?.period));
    put("container_spec_cpu_quota", "CPU quota of the container.", |cpu| match cpu.max?.quota {
        Limit::At(quota) => Some(quota),
        Limit::Max(_) => None,
    });
    put("container_spec_cpu_shares", "CPU share of the container.", |cpu| Some(shares(cpu.weight?)));
}

/// The shares that `cpu.weight` is made from, by the formula turned round that the library, runc and crun make it with.
fn shares(weight: u64) -> u64 {
    let exponent = (weight.clamp(1, 10_000) as f64).log10() + 7.0 / 34.0;
    let logarithm = ((125.0_f64.powi(2) + 4.0 * 612.0 * exponent).sqrt() - 125.0) / 2.0;
    // Weights are rounded up. What comes out whole may be a little less in floating point.
    (logarithm.exp2() + 1e-6) as u64
}

/// What the kernel tells and cAdvisor has no names for.
pub(super) fn memory(text: &mut Text, rows: &[Row<'_>]) {
    let memory = || rows.iter().filter_map(|row| Some((row, row.memory()?)));
    let mut family =
        text.family("container_memory_events_total", Counter, "How often limits of memory were met.");
    for (row, memory) in memory() {
        let events = &memory.events;
        for (event, value) in [
            ("low", events.low),
            ("high", events.high),
            ("max", events.max),
            ("oom", events.oom),
            ("oom_kill", events.oom_kill),
            ("oom_group_kill", events.oom_group_kill),
        ] {
            family.plain(&row.labels, &labels(&[("event", event)]), value);
        }
    }
    let mut family =
        text.family("container_memory_stat_bytes", Gauge, "What memory is used for, as memory.stat has it.");
    for (row, memory) in memory() {
        let stat = &memory.stat;
        for (kind, value) in [
            ("kernel_stack", stat.kernel_stack_bytes),
            ("slab", stat.slab_bytes),
            ("sock", stat.sock_bytes),
            ("shmem", stat.shmem_bytes),
            ("file_dirty", stat.dirty_file_bytes),
            ("file_writeback", stat.writeback_bytes),
            ("active_anon", stat.active_anon_bytes),
            ("inactive_anon", stat.inactive_anon_bytes),
            ("unevictable", stat.unevictable_bytes),
        ] {
            family.plain(&row.labels, &labels(&[("kind", kind)]), value);
        }
    }
    let mut family =
        text.family("container_spec_memory_protection_bytes", Gauge, "What is not taken of its memory.");
    for (row, memory) in memory() {
        for (kind, value) in [("low", memory.low), ("min", memory.min)] {
            // All of it may be protected: that is no number.
            let bytes = value.and_then(|value| if let Limit::At(bytes) = value { Some(bytes) } else { None });
            family.plain(&row.labels, &labels(&[("kind", kind)]), bytes);
        }
    }
    let mut family = text.family(
        "container_spec_memory_high_bytes",
        Gauge,
        "What memory is slowed down above; 0 is no bound.",
    );
    memory().for_each(|(row, memory)| family.plain(&row.labels, "", limit(memory.high)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::kubernetes::cpu_weight;

    #[test]
    fn shares_are_those_that_weights_are_made_from() {
        for (weight, shares_then) in [(1, 2), (100, 1024), (10_000, 262_144)] {
            assert_eq!(shares(weight), shares_then);
        }
        for weight in 2..=10_000 {
            // Many shares have one weight: what comes out is one of them.
            assert_eq!(cpu_weight(shares(weight)), Some(weight), "{}", shares(weight));
        }
    }
}
