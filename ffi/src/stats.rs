//! What nodes, pods and containers use.

use std::ffi::{c_char, c_int};

use pericarp::ContainerStats;
use pericarp::stats::{IoCounters, StatsOptions};

use crate::caller::{Caller, Structure, first_size, text_for_caller};
use crate::container::pericarp_container_t;
use crate::error::{Problem, pericarp_error_t};
use crate::json;
use crate::node::pericarp_node_t;
use crate::pod::pericarp_pod_t;

/// What stands in a `pericarp_container_stats_t` for a number that this machine cannot tell.
pub const PERICARP_STAT_UNKNOWN: u64 = 0xffff_ffff_ffff_ffff;

/// What a container uses: the numbers that are looked at most often. The caller sets `size`, the library the rest; what
/// this machine cannot tell is `PERICARP_STAT_UNKNOWN`. Counters start with the container.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_container_stats_t {
    /// `sizeof (pericarp_container_stats_t)`.
    pub size: usize,
    /// When it was read, in microseconds since 1970.
    pub timestamp_usec: u64,
    /// Processor time, in microseconds.
    pub cpu_usage_usec: u64,
    /// Of it in user space, in microseconds.
    pub cpu_user_usec: u64,
    /// Of it in the kernel, in microseconds.
    pub cpu_system_usec: u64,
    /// Periods in which the quota of processor time held it back.
    pub cpu_throttled_periods: u64,
    /// How long it was held back, in microseconds.
    pub cpu_throttled_usec: u64,
    /// Time in which at least one of its tasks waited for a processor, in microseconds.
    pub cpu_waiting_usec: u64,
    /// Memory that is charged to it, in bytes.
    pub memory_bytes: u64,
    /// The most that this has been, in bytes.
    pub memory_peak_bytes: u64,
    /// What the kubelet evicts by, in bytes: without pages of files that were not used lately.
    pub memory_working_set_bytes: u64,
    /// Swap in use, in bytes.
    pub memory_swap_bytes: u64,
    /// Processes that the OOM killer ended.
    pub memory_oom_kills: u64,
    /// Time in which at least one of its tasks waited for memory, in microseconds.
    pub memory_waiting_usec: u64,
    /// Bytes read from block devices.
    pub io_read_bytes: u64,
    /// Bytes written to block devices.
    pub io_written_bytes: u64,
    /// Time in which at least one of its tasks waited for a block device, in microseconds.
    pub io_waiting_usec: u64,
    /// Processes, zombies included.
    pub processes: u64,
    /// Tasks: processes and threads.
    pub tasks: u64,
}

const _: () = assert!(size_of::<pericarp_container_stats_t>() == size_of::<usize>() + 18 * size_of::<u64>());

// SAFETY: it is made of integers, begins with a `usize`, and was just checked for padding.
unsafe impl Structure for pericarp_container_stats_t {
    const FIRST: usize = first_size!(pericarp_container_stats_t, tasks: u64);
}

impl From<&ContainerStats> for pericarp_container_stats_t {
    fn from(stats: &ContainerStats) -> Self {
        let known = |value: Option<u64>| value.unwrap_or(PERICARP_STAT_UNKNOWN);
        let (cpu, pressure) = (&stats.cgroup.cpu, &stats.cgroup.pressure);
        let memory = stats.cgroup.memory.clone().unwrap_or_default();
        let waiting = |one: Option<pericarp::stats::Pressure>| known(one.map(|one| one.some.total_usec));
        // Over all devices: a device that says nothing has done nothing.
        let io = |of: fn(&IoCounters) -> Option<u64>| {
            let all = stats.cgroup.io.as_ref();
            known(all.map(|all| all.iter().filter_map(|device| of(&device.counters)).sum()))
        };
        pericarp_container_stats_t {
            size: size_of::<pericarp_container_stats_t>(),
            timestamp_usec: stats.timestamp_usec,
            cpu_usage_usec: known(cpu.usage_usec),
            cpu_user_usec: known(cpu.user_usec),
            cpu_system_usec: known(cpu.system_usec),
            cpu_throttled_periods: known(cpu.throttled_periods),
            cpu_throttled_usec: known(cpu.throttled_usec),
            cpu_waiting_usec: waiting(pressure.cpu),
            memory_bytes: known(memory.usage_bytes),
            memory_peak_bytes: known(memory.peak_bytes),
            memory_working_set_bytes: known(memory.working_set_bytes),
            memory_swap_bytes: known(memory.swap_bytes),
            memory_oom_kills: known(memory.events.oom_kill),
            memory_waiting_usec: waiting(pressure.memory),
            io_read_bytes: io(|counters| counters.read_bytes),
            io_written_bytes: io(|counters| counters.written_bytes),
            io_waiting_usec: waiting(pressure.io),
            processes: known(stats.cgroup.processes),
            tasks: known(stats.cgroup.pids.as_ref().and_then(|pids| pids.current)),
        }
    }
}

/// The options of a reading; NULL stands for the default ones.
fn options(caller: Caller, json: *const c_char) -> Result<StatsOptions, Problem> {
    caller.optional_text(json, "options")?.map_or(Ok(StatsOptions::default()), json::read)
}

/// What all pods and containers of a node use, and the machine as a whole, as a JSON object: `NodeStats` of the Rust
/// library, with camelCase keys and units in them. What this machine cannot tell is not in it. `options` is a
/// `StatsOptions` object, such as `{"limits": true, "filesystems": {"maxFiles": 10000}}`; `options` may be NULL.
///
/// Ownership: the caller keeps `node` and `options`; `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_SPEC` for wrong options; what the kernel says.
/// Threads: any.
/// Rust: `Node::stats`, `Node::stats_with`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_stats_json(
    node: *const pericarp_node_t,
    options: *const c_char,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let node = caller.handle(node, "node")?;
        let stats = node.node.stats_with(&self::options(caller, options)?)?;
        out.set(text_for_caller(&json::write(&stats)?));
        Ok(())
    })
}

/// The same as the text that Prometheus reads (`text/plain; version=0.0.4`), with the metric names of cAdvisor and the
/// kubelet. `options` may be NULL.
///
/// Ownership: the caller keeps `node` and `options`; `*out_text` is the caller's to free with `pericarp_string_free`.
/// Errors: as `pericarp_node_stats_json`.
/// Threads: any.
/// Rust: `NodeStats::to_prometheus`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_node_stats_prometheus(
    node: *const pericarp_node_t,
    options: *const c_char,
    out_text: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_text, "out_text")?;
        let node = caller.handle(node, "node")?;
        let stats = node.node.stats_with(&self::options(caller, options)?)?;
        out.set(text_for_caller(&stats.to_prometheus()));
        Ok(())
    })
}

/// What a pod and its containers use, as a JSON object: `PodStats`. `options` may be NULL, and is as for
/// `pericarp_node_stats_json`.
///
/// Ownership: the caller keeps `pod` and `options`; `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_SPEC` for wrong options; `NOT_FOUND` when the pod is gone; what the kernel says.
/// Threads: any.
/// Rust: `Pod::stats`, `Pod::stats_with`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_stats_json(
    pod: *const pericarp_pod_t,
    options: *const c_char,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let pod = caller.handle(pod, "pod")?;
        let stats = pod.pod.stats_with(&self::options(caller, options)?)?;
        out.set(text_for_caller(&json::write(&stats)?));
        Ok(())
    })
}

/// What a container uses, or has used until it ended, as a JSON object: `ContainerStats`. `options` may
/// be NULL, and is as for `pericarp_node_stats_json`.
///
/// Ownership: the caller keeps `container` and `options`; `*out_json` is the caller's to free with
/// `pericarp_string_free`.
/// Errors: `INVALID_SPEC` for wrong options; `NOT_FOUND` when the container is gone; what the kernel says.
/// Threads: any.
/// Rust: `Container::stats_with`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_stats_json(
    container: *const pericarp_container_t,
    options: *const c_char,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let container = caller.handle(container, "container")?;
        let stats = container.container.stats_with(&self::options(caller, options)?)?;
        out.set(text_for_caller(&json::write(&stats)?));
        Ok(())
    })
}

/// The numbers of a container that are looked at most often, without a text in between.
///
/// Ownership: the caller keeps `container`, and sets `out_stats->size`.
/// Errors: `NOT_FOUND` when the container is gone; what the kernel says.
/// Threads: any.
/// Rust: `Container::stats`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_stats(
    container: *const pericarp_container_t,
    out_stats: *mut pericarp_container_stats_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_stats, "out_stats")?;
        let container = caller.handle(container, "container")?;
        out.set((&container.container.stats()?).into());
        Ok(())
    })
}
