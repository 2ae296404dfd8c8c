//! Limits and rules for devices that change.

use std::collections::BTreeMap;

use pericarp::oci_spec::runtime::LinuxResources;
use pericarp::spec::{DeviceRule, Resources};
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
    let (resources, rules) = (Resources::from_oci(&given)?, DeviceRule::all_from_oci(&given)?);
    let found = store::find(options, &update.id)?;
    let container = found.container()?;
    // Both have them, see `store::specs`.
    let of_container = BTreeMap::from([(container.name().to_string(), resources.clone())]);
    found.pod.update_all(&resources, &of_container)?;
    // The kubelet's resizes come with all resources of the configuration, and these with it.
    if !rules.is_empty() {
        container
            .update_device_rules(&rules)
            .map_err(|error| format!("{error} (the limits were changed)"))?;
    }
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
