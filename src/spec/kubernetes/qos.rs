//! The QoS class of a pod, and how soon the OOM killer takes its containers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KubernetesPod, Quantity, Requirements, ResourceName};

/// The QoS class of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum QosClass {
    /// Nothing is requested or limited.
    BestEffort,
    /// Anything in between.
    Burstable,
    /// Every container limits cpu and memory, and requests just that.
    Guaranteed,
}

impl fmt::Display for QosClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What decides about the class.
const DECIDING: [ResourceName; 2] = [ResourceName::Cpu, ResourceName::Memory];

/// oom_score_adj of containers that are taken last: of Guaranteed pods, and of such as are critical for the node.
const LAST: i64 = -997;
/// That of containers which are taken first.
const FIRST: i64 = 1000;

impl KubernetesPod {
    /// The QoS class. Only cpu and memory decide, zero counts as nothing, and init containers count like others. Where
    /// the pod has requests or limits as a whole, these alone decide.
    pub fn qos_class(&self) -> QosClass {
        let whole = self.has_whole().then(|| self.whole());
        let deciding: Vec<&Requirements> = match &whole {
            Some(whole) => vec![whole],
            None => self.all().map(|container| &container.resources).collect(),
        };
        let sum = |of: &dyn Fn(&Requirements) -> Quantity| {
            deciding.iter().fold(Quantity::ZERO, |sum, requirements| sum.plus(of(requirements)))
        };
        let sums =
            DECIDING.map(|name| (sum(&|r| r.requested(name)), sum(&|r| r.limited(name).unwrap_or_default())));
        if sums.iter().all(|(request, limit)| request.is_zero() && limit.is_zero()) {
            return QosClass::BestEffort;
        }
        let all_limited = deciding.iter().all(|r| DECIDING.iter().all(|name| r.limited(*name).is_some()));
        match all_limited && sums.iter().all(|(request, limit)| request == limit) {
            true => QosClass::Guaranteed,
            false => QosClass::Burstable,
        }
    }

    fn is_node_critical(&self) -> bool {
        self.priority_class_name.as_deref() == Some("system-node-critical")
    }

    /// Whether the pod is one that the node or the cluster needs.
    pub(super) fn is_critical(&self) -> bool {
        self.is_node_critical() || self.priority_class_name.as_deref() == Some("system-cluster-critical")
    }

    /// oom_score_adj of a container of the pod on a machine with so much memory, in bytes. Of Burstable pods the more
    /// a container requests, the later it is taken; a sidecar is taken no sooner than any other container. One that
    /// the pod does not name requests nothing.
    pub fn oom_score_adj(&self, container: &str, machine_memory: u64) -> i32 {
        if self.is_node_critical() {
            return LAST as i32;
        }
        match self.qos_class() {
            QosClass::Guaranteed => return LAST as i32,
            QosClass::BestEffort => return FIRST as i32,
            QosClass::Burstable => {}
        }
        let memory = |requirements: &Requirements| requirements.requested(ResourceName::Memory).value();
        let extra = self.unassigned_memory();
        let score = |request: i64| {
            let share = i128::from(1000) * (i128::from(request) + i128::from(extra))
                / i128::from(machine_memory.max(1));
            FIRST - i64::try_from(share).unwrap_or(FIRST)
        };
        let (own, is_sidecar) =
            self.find(container).map_or((0, false), |(own, sidecar)| (memory(own), sidecar));
        let mut adjustment = score(own);
        if is_sidecar {
            let least = self.containers.iter().map(|container| memory(&container.resources)).min();
            adjustment = adjustment.min(score(least.unwrap_or_default()));
        }
        // Between Guaranteed and BestEffort, whatever the share is.
        adjustment.clamp(FIRST + LAST, FIRST - 1) as i32
    }

    /// Memory that the pod requests as a whole and no container does: what each has of it.
    fn unassigned_memory(&self) -> i64 {
        let requests = self.whole().requests;
        let Some(whole) = requests.get(&ResourceName::Memory).filter(|whole| !whole.is_zero()) else {
            return 0;
        };
        let sum = self.sum_of_requests().get(&ResourceName::Memory).copied().unwrap_or_default();
        (whole.value() - sum.value()) / (self.all().count().max(1) as i64)
    }
}
