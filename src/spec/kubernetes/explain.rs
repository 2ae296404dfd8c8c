//! All that follows from a pod's requests and limits, at a glance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Capacity, KubernetesPod, QosClass, ResourceList};
use crate::error::Result;
use crate::spec::Resources;

/// All that follows from a pod's requests and limits on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Outcome {
    /// The QoS class.
    pub qos_class: QosClass,
    /// What has to be free for the pod to be admitted.
    pub requests: ResourceList,
    /// The limits of the pod's cgroup.
    pub resources: Resources,
    /// What its containers get, by name.
    pub containers: BTreeMap<String, ContainerOutcome>,
}

/// What a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ContainerOutcome {
    /// The limits of its cgroup.
    pub resources: Resources,
    /// Its oom_score_adj.
    pub oom_score_adj: i32,
}

impl KubernetesPod {
    /// All that follows on a machine. Nothing is made and nothing asked.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn explain(&self, machine: &Capacity) -> Result<Outcome> {
        self.validate()?;
        let of = |name: &String| ContainerOutcome {
            resources: self.container_resources(name, machine),
            oom_score_adj: self.oom_score_adj(name, machine.memory),
        };
        Ok(Outcome {
            qos_class: self.qos_class(),
            requests: self.requests(),
            resources: self.pod_resources(machine),
            containers: self.all().map(|container| (container.name.clone(), of(&container.name))).collect(),
        })
    }
}
