//! Limits that change, and figures.

use std::collections::BTreeMap;
use std::time::Duration;

use pericarp::oci_spec::runtime::LinuxResources;
use pericarp::spec::{Limit, Resources};
use pericarp::stats::{CgroupStats, Pressure, Stall, StatsOptions};
use serde_json::{Map, Value, json};

use crate::options::{Options, Update};
use crate::{Outcome, store};

pub fn update(options: &Options, update: &Update) -> Outcome {
    let json = match update.resources.as_deref() {
        Some("-") => serde_json::from_reader(std::io::stdin())?,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| format!("read {file}: {error}"))?;
            serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?
        }
        None => from_command_line(update),
    };
    let given: LinuxResources = serde_json::from_value(json)?;
    if given.devices().as_ref().is_some_and(|rules| !rules.is_empty()) {
        return Err("rules for devices cannot be changed while a container runs".into());
    }
    let resources = Resources::from_oci(&given)?;
    let found = store::find(options, &update.id)?;
    let container = found.container()?;
    // Both have them, see `store::specs`.
    let of_container = BTreeMap::from([(container.name().to_string(), resources.clone())]);
    found.pod.update_all(&resources, &of_container)?;
    Ok(0)
}

fn from_command_line(update: &Update) -> Value {
    let object = |entries: Vec<(&str, Option<Value>)>| -> Value {
        let entries = entries.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
        Value::Object(entries.collect::<Map<_, _>>())
    };
    let number = |value: Option<i64>| value.map(Value::from);
    let positive = |value: Option<u64>| value.map(Value::from);
    let mut all = json!({
        "memory": object(vec![
            ("limit", number(update.memory)),
            ("reservation", number(update.memory_reservation)),
            ("swap", number(update.memory_swap)),
        ]),
        "cpu": object(vec![
            ("shares", positive(update.cpu_shares)),
            ("quota", number(update.cpu_quota)),
            ("period", positive(update.cpu_period)),
            ("burst", positive(update.cpu_burst)),
            ("idle", number(update.cpu_idle)),
            ("cpus", update.cpuset_cpus.clone().map(Value::from)),
            ("mems", update.cpuset_mems.clone().map(Value::from)),
        ]),
    });
    if let Some(limit) = update.pids_limit {
        all["pids"] = json!({ "limit": limit });
    }
    if let Some(weight) = update.blkio_weight {
        all["blockIO"] = json!({ "weight": weight });
    }
    all
}

/// The figures of the container's cgroup in the shape that runc gives them, as far as cgroup v2 has them.
pub fn events(options: &Options, id: &str, once: bool, interval: u64) -> Outcome {
    loop {
        let found = store::find(options, id)?;
        found.container()?;
        let what = StatsOptions::new().limits(true).network(false);
        println!(
            "{}",
            json!({ "type": "stats", "id": id, "data": figures(&found.pod.stats_with(&what)?.cgroup) })
        );
        if once || found.status()? == "stopped" {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(interval));
    }
}

/// What is not known is `null`, and so is what has no limit.
fn figures(stats: &CgroupStats) -> Value {
    let nanoseconds = |microseconds: Option<u64>| microseconds.map(|time| time * 1000);
    let limit = |limit: Option<Limit>| match limit {
        Some(Limit::At(value)) => Some(value),
        _ => None,
    };
    let (cpu, memory) = (&stats.cpu, stats.memory.clone().unwrap_or_default());
    let pids = stats.pids.clone().unwrap_or_default();
    let stall = |one: Option<Pressure>| {
        let line = |stall: Stall| json!({ "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300, "total": stall.total_usec });
        one.map(|one| json!({ "some": line(one.some), "full": one.full.map(line) }))
    };
    json!({
        "cpu": {
            "usage": {
                "total": nanoseconds(cpu.usage_usec),
                "kernel": nanoseconds(cpu.system_usec),
                "user": nanoseconds(cpu.user_usec),
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": nanoseconds(cpu.throttled_usec),
            },
            "psi": stall(stats.pressure.cpu),
        },
        "memory": {
            "usage": { "usage": memory.usage_bytes, "max": memory.peak_bytes, "limit": limit(memory.limit) },
            "swap": { "usage": memory.swap_bytes, "limit": limit(memory.swap_limit) },
            "raw": {
                "anon": memory.stat.anon_bytes,
                "file": memory.stat.file_bytes,
                "kernel": memory.stat.kernel_bytes,
                "shmem": memory.stat.shmem_bytes,
                "inactive_file": memory.stat.inactive_file_bytes,
                "active_file": memory.stat.active_file_bytes,
                "pgfault": memory.stat.page_faults,
                "pgmajfault": memory.stat.major_page_faults,
            },
            "psi": stall(stats.pressure.memory),
        },
        "pids": { "current": pids.current.or(stats.processes), "limit": limit(pids.limit) },
    })
}
