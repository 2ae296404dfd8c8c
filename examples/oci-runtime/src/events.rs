//! Figures of a container, and when the OOM killer met it, in the shape that runc has for them.

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pericarp::spec::Limit;
use pericarp::stats::{CgroupStats, InterfaceStats, MemoryDetail, Pressure, Stall, StatsOptions};
use pericarp::{Event, EventOptions, EventSource, Pod, Since};
use serde_json::{Map, Value, json};

use crate::options::Options;
use crate::{Outcome, store};

/// One reading, or one at each interval and what the OOM killer does, until the container ends.
pub fn events(options: &Options, id: &str, once: bool, interval: u64) -> Outcome {
    let found = store::find(options, id)?;
    found.container()?;
    if found.status()? == "stopped" {
        return Err(format!("container {id:?}: container not running").into());
    }
    if once {
        tell(id, "stats", Some(stats(&found.pod)?))?;
        return Ok(0);
    }
    let events = found.pod.events_with(&EventOptions::new().since(Since::Now))?;
    if !events.sources().contains(&EventSource::Memory) {
        return Err(
            "this machine has no memory controller, which tells of the OOM killer: see --stats".into()
        );
    }
    let interval = Duration::from_secs(interval);
    let mut next = Instant::now() + interval;
    loop {
        while let Some(event) = events.next_event()? {
            match event {
                Event::OomKill { .. } => tell(id, "oom", None)?,
                Event::Exited { .. } | Event::Removed { .. } | Event::PodRemoved => return Ok(0),
                _ => {}
            }
        }
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            next += interval;
            tell(id, "stats", Some(stats(&found.pod)?))?;
            continue;
        }
        // Not earlier than the time that is left.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn tell(id: &str, kind: &str, data: Option<Value>) -> Outcome<()> {
    let mut event = json!({ "type": kind, "id": id });
    if let Some(data) = data {
        event["data"] = data;
    }
    // Whoever reads may read no more than one.
    let mut stdout = std::io::stdout();
    Ok(writeln!(stdout, "{event}").and_then(|()| stdout.flush())?)
}

fn stats(pod: &Pod) -> Outcome<Value> {
    let read = pod.stats_with(&StatsOptions::new().limits(true))?;
    let mut all = figures(&read.cgroup);
    all["network_interfaces"] = read.network.iter().flatten().map(interface).collect();
    Ok(all)
}

/// What is not known is left out: runc's numbers have 0 for that, as whoever reads them. No limit of memory is the largest
/// number, no limit of processes 0.
fn figures(stats: &CgroupStats) -> Value {
    let nanoseconds = |microseconds: Option<u64>| microseconds.map(|time| time.saturating_mul(1000));
    let bytes = |limit: Option<Limit>| match limit {
        Some(Limit::At(value)) => value,
        _ => u64::MAX,
    };
    let (cpu, memory) = (&stats.cpu, stats.memory.clone().unwrap_or_default());
    let pids = stats.pids.clone().unwrap_or_default();
    let most = match pids.limit {
        Some(Limit::At(value)) => value,
        _ => 0,
    };
    let (usage, limit) = (memory.usage_bytes.unwrap_or_default(), bytes(memory.limit));
    let swap_limit = bytes(memory.swap_limit);
    let hugetlb: Map<String, Value> = stats
        .hugetlb
        .iter()
        .flatten()
        .map(|(size, huge)| {
            let failed = huge.limit_hits.unwrap_or_default();
            (size.clone(), object([("usage", huge.usage_bytes), ("failcnt", Some(failed))]))
        })
        .collect();
    let mut all = json!({
        "cpu": {
            "usage": object([
                ("total", nanoseconds(cpu.usage_usec)),
                ("kernel", Some(nanoseconds(cpu.system_usec).unwrap_or_default())),
                ("user", Some(nanoseconds(cpu.user_usec).unwrap_or_default())),
            ]),
            "throttling": object([
                ("periods", cpu.periods),
                ("throttledPeriods", cpu.throttled_periods),
                ("throttledTime", nanoseconds(cpu.throttled_usec)),
            ]),
        },
        "memory": {
            "cache": memory.stat.file_bytes.unwrap_or_default(),
            "usage": {
                "usage": usage, "max": memory.peak_bytes.unwrap_or_default(), "limit": limit,
                "failcnt": memory.events.max.unwrap_or_default(),
            },
            // Both together, as cgroup v1 counts.
            "swap": {
                "usage": usage.saturating_add(memory.swap_bytes.unwrap_or_default()),
                "limit": swap_limit.saturating_add(limit), "failcnt": 0,
            },
            "raw": raw(&memory.stat),
        },
        "pids": { "current": pids.current.or(stats.processes).unwrap_or_default(), "limit": most },
        "blkio": blkio(stats),
        "hugetlb": hugetlb,
    });
    for (place, one) in
        [("cpu", stats.pressure.cpu), ("memory", stats.pressure.memory), ("blkio", stats.pressure.io)]
    {
        if let Some(one) = one {
            all[place]["psi"] = stalls(one);
        }
    }
    all
}

fn object<const N: usize>(entries: [(&str, Option<u64>); N]) -> Value {
    let known = entries.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?.into())));
    Value::Object(known.collect())
}

/// In the kernel's words.
fn raw(stat: &MemoryDetail) -> Value {
    object([
        ("anon", stat.anon_bytes),
        ("file", stat.file_bytes),
        ("kernel", stat.kernel_bytes),
        ("kernel_stack", stat.kernel_stack_bytes),
        ("slab", stat.slab_bytes),
        ("sock", stat.sock_bytes),
        ("shmem", stat.shmem_bytes),
        ("file_mapped", stat.mapped_file_bytes),
        ("file_dirty", stat.dirty_file_bytes),
        ("file_writeback", stat.writeback_bytes),
        ("active_anon", stat.active_anon_bytes),
        ("inactive_anon", stat.inactive_anon_bytes),
        ("active_file", stat.active_file_bytes),
        ("inactive_file", stat.inactive_file_bytes),
        ("unevictable", stat.unevictable_bytes),
        ("pgfault", stat.page_faults),
        ("pgmajfault", stat.major_page_faults),
    ])
}

/// A line for each device and operation.
fn blkio(stats: &CgroupStats) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for device in stats.io.iter().flatten() {
        let line = |operation: &str, value: Option<u64>| {
            value.map(|value| {
                json!({ "major": device.major, "minor": device.minor, "op": operation, "value": value })
            })
        };
        let counters = &device.counters;
        bytes.extend(
            [line("Read", counters.read_bytes), line("Write", counters.written_bytes)].into_iter().flatten(),
        );
        operations
            .extend([line("Read", counters.reads), line("Write", counters.writes)].into_iter().flatten());
    }
    json!({ "ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations })
}

fn stalls(pressure: Pressure) -> Value {
    let line = |stall: Stall| {
        json!({
            "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300, "total": stall.total_usec,
        })
    };
    let mut stalls = json!({ "some": line(pressure.some) });
    if let Some(full) = pressure.full {
        stalls["full"] = line(full);
    }
    stalls
}

fn interface(one: &InterfaceStats) -> Value {
    json!({
        "Name": one.name,
        "RxBytes": one.received_bytes, "RxPackets": one.received_packets,
        "RxErrors": one.receive_errors, "RxDropped": one.receive_dropped,
        "TxBytes": one.sent_bytes, "TxPackets": one.sent_packets,
        "TxErrors": one.send_errors, "TxDropped": one.send_dropped,
    })
}
