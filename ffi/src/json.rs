//! Specifications from JSON, and answers as JSON.

use pericarp::{ContainerStatus, ExitStatus, PodStatus, Recovery};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::error::Problem;

/// Reads a specification. An error names the place in it ("namespaces.network") as well as line and column.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    parse(no_array(text)?)
}

/// Reads a list of specifications.
pub(crate) fn read_list<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, Problem> {
    // Each of them an object, for the same reason.
    parse::<Vec<Map<String, Value>>>(text)?;
    parse(text)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().iter().next().map(|_| error.path().to_string()).unwrap_or_default();
        Problem::json(&place, error.inner().to_string())
    })?;
    json.end().map_err(|error| Problem::json("", error.to_string()))?;
    Ok(value)
}

/// Refuses an array: serde takes one for the fields of an object in their order, which nobody means.
pub(crate) fn no_array(text: &str) -> Result<&str, Problem> {
    if text.trim_start().starts_with('[') {
        return Err(Problem::json("", "it is an array, and must be an object".to_owned()));
    }
    Ok(text)
}

/// Writes what can always be written: keys are strings and numbers are finite. Paths that are not UTF-8 are the
/// exception.
pub(crate) fn write(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value)
        .map_err(|error| Problem::none("write", "the specification as JSON", error.to_string()))
}

pub(crate) fn recovery(recovery: &Recovery) -> String {
    let unsettled = recovery.resizes_unsettled.iter().map(|(id, why)| json!({ "pod": id, "error": why }));
    let unsettled: Vec<Value> = unsettled.collect();
    json!({
        "adopted": recovery.adopted,
        "removed": recovery.removed,
        "removedContainers": recovery.removed_containers,
        "foreign": recovery.foreign,
        "busy": recovery.busy,
        "resizesTakenBack": recovery.resizes_taken_back,
        "resizesFinished": recovery.resizes_finished,
        "resizesUnsettled": unsettled,
    })
    .to_string()
}

pub(crate) fn pod_status(status: &PodStatus) -> String {
    let of = |(name, status): (&String, &ContainerStatus)| (name.clone(), container_status(status));
    let containers: Map<String, Value> = status.containers.iter().map(of).collect();
    json!({ "containers": containers }).to_string()
}

fn container_status(status: &ContainerStatus) -> Value {
    match status {
        ContainerStatus::Created => json!({ "state": "created" }),
        ContainerStatus::Running => json!({ "state": "running" }),
        ContainerStatus::Exited(None) => json!({ "state": "exited" }),
        ContainerStatus::Exited(Some(ExitStatus::Exited(code))) => {
            json!({ "state": "exited", "exitCode": code })
        }
        ContainerStatus::Exited(Some(ExitStatus::Signaled { signal, core_dumped })) => {
            json!({ "state": "exited", "signal": signal, "coreDumped": core_dumped })
        }
    }
}
