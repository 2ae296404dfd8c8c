//! Limits that change, and figures.

use std::path::Path;
use std::time::Duration;

use pericarp::oci_spec::runtime::LinuxResources;
use pericarp::spec::Resources;
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
    // Both have them, see `store::specs`. More is given from the outside in, and both are as before if one cannot be had.
    found.pod.update(&resources)?;
    container.update(&resources)?;
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
        let container = found.container()?;
        println!(
            "{}",
            json!({ "type": "stats", "id": id, "data": figures(&found.pod.cgroup_path(), container.processes()?) })
        );
        if once || found.status()? == "stopped" {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(interval));
    }
}

fn figures(cgroup: &Path, pids: Vec<i32>) -> Value {
    let read = |file: &str| std::fs::read_to_string(cgroup.join(file)).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let table = |file: &str| -> Map<String, Value> {
        let text = read(file);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(key, value)| Some((key.to_string(), number(value)?.into()))).collect()
    };
    let cpu = table("cpu.stat");
    let microseconds = |key: &str| cpu.get(key).and_then(Value::as_u64).unwrap_or_default() * 1000;
    json!({
        "cpu": {
            "usage": {
                "total": microseconds("usage_usec"),
                "kernel": microseconds("system_usec"),
                "user": microseconds("user_usec"),
            },
            "throttling": {
                "periods": cpu.get("nr_periods"),
                "throttledPeriods": cpu.get("nr_throttled"),
                "throttledTime": microseconds("throttled_usec"),
            },
        },
        "memory": {
            "usage": { "usage": number(&read("memory.current")), "limit": number(&read("memory.max")) },
            "swap": { "usage": number(&read("memory.swap.current")), "limit": number(&read("memory.swap.max")) },
            "raw": table("memory.stat"),
        },
        "pids": { "current": number(&read("pids.current")).unwrap_or(pids.len() as u64), "limit": number(&read("pids.max")) },
    })
}
