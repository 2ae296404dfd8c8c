//! Other requests and limits for a pod that runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{KubernetesPod, Requirements, ResourceList, ResourceName};
use crate::error::{Error, Result};

/// Other requests and limits for containers of a pod that runs, or for the pod as a whole: see
/// [`Pod::resize`](crate::Pod::resize).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Resize {
    /// All requests and limits that a container is to have then, by its name. Containers that are not here keep theirs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, Requirements>,
    /// Those of the pod as a whole; as they are if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Requirements>,
    /// What to do when a limit of memory is to be less than what is in use.
    pub shrink: Shrink,
}

/// What to do when a limit of memory is to be less than what is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Shrink {
    /// It is an error, and nothing is changed: what the kubelet does.
    #[default]
    Refuse,
    /// The kernel is asked to reclaim the difference (`memory.reclaim`, Linux 5.19), some times. It is an error when that
    /// is not enough.
    Reclaim,
}

/// What a [`Resize`] has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Resized {
    /// Where memory had to be reclaimed: by the name of the container, empty for the pod as a whole.
    pub reclaimed: BTreeMap<String, Reclaimed>,
}

/// The use of memory before and after reclaim, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reclaimed {
    /// `memory.current` before.
    pub before: u64,
    /// `memory.current` after.
    pub after: u64,
}

impl Reclaimed {
    pub(crate) fn new(before: u64, after: u64) -> Self {
        Reclaimed { before, after }
    }
}

impl Resized {
    pub(crate) fn new(reclaimed: impl IntoIterator<Item = (String, Reclaimed)>) -> Self {
        Resized { reclaimed: reclaimed.into_iter().collect() }
    }
}

impl Resize {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// All requests and limits that a container is to have.
    pub fn container(mut self, name: impl Into<String>, resources: Requirements) -> Self {
        self.containers.insert(name.into(), resources);
        self
    }

    /// All requests and limits that the pod as a whole is to have.
    pub fn resources(mut self, resources: Requirements) -> Self {
        self.resources = Some(resources);
        self
    }

    /// Sets [`shrink`](Self::shrink).
    pub fn shrink(mut self, shrink: Shrink) -> Self {
        self.shrink = shrink;
        self
    }
}

impl KubernetesPod {
    /// What the pod is after a resize.
    ///
    /// # Errors
    /// `InvalidSpec` for what Kubernetes does not let a resize do: change the QoS class, remove a request or a limit,
    /// change anything but cpu and memory, or an init container that is no sidecar.
    pub fn resized(&self, resize: &Resize) -> Result<KubernetesPod> {
        let mut pod = self.clone();
        for (name, new) in &resize.containers {
            let field = format!("containers[{name:?}]");
            let wrong = |why: &'static str| Error::invalid(&field, why);
            let mut all = pod.containers.iter_mut().chain(pod.init_containers.iter_mut());
            let container = all
                .find(|container| container.name == *name)
                .ok_or_else(|| wrong("is no container that the pod was made with requests for"))?;
            let ends =
                self.init_containers.iter().any(|init| init.name == *name && init.restart_policy.is_none());
            if ends {
                return Err(wrong("is an init container that is no sidecar: it cannot be resized"));
            }
            may_become(&field, &container.resources, new)?;
            container.resources = new.clone();
        }
        if let Some(new) = &resize.resources {
            may_become("resources", &pod.resources, new)?;
            pod.resources = new.clone();
        }
        pod.validate()?;
        let (before, after) = (self.qos_class(), pod.qos_class());
        if before != after {
            return Err(Error::invalid(
                "the QoS class",
                format!(
                    "is {before} and would become {after}: a resize may not change it, make the pod anew"
                ),
            ));
        }
        Ok(pod)
    }
}

fn may_become(field: &str, old: &Requirements, new: &Requirements) -> Result<()> {
    let lists: [(&str, &ResourceList, &ResourceList); 2] =
        [("requests", &old.requests, &new.requests), ("limits", &old.limits, &new.limits)];
    for (part, old, new) in lists {
        let wrong =
            |name: &ResourceName, why| Err(Error::invalid(format_args!("{field}.{part}.{name}"), why));
        if let Some(name) = old.keys().find(|name| !new.contains_key(name)) {
            return wrong(name, "is there and cannot be removed by a resize");
        }
        for (name, quantity) in new {
            if matches!(name, ResourceName::HugePages(_)) && old.get(name) != Some(quantity) {
                return wrong(name, "cannot be changed by a resize: only cpu and memory can");
            }
            let removed = quantity.is_zero() && old.get(name).is_some_and(|old| !old.is_zero());
            if part == "limits" && removed {
                return wrong(
                    name,
                    "would be zero, which is no limit, and that cannot be removed by a resize",
                );
            }
        }
    }
    Ok(())
}
