//! What a machine has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Quantity, ResourceList, ResourceName};

/// What there is for the pods of a node: the machine's, or what a cgroup above the pods leaves of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Capacity {
    /// Thousandths of processors: those that are online and may be used, or a smaller quota.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of that which are for pods, where some are [reserved](super::Admission::reserved) for others; `None` when all
    /// are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable_memory: Option<u64>,
    /// Bytes of swap; `None` where the kernel does not account for it by cgroup.
    pub swap: Option<u64>,
    /// Bytes of huge pages by the size of a page in bytes, also where there are none at present. Sizes that the `hugetlb`
    /// controller cannot limit here are left out.
    pub huge_pages: BTreeMap<u64, u64>,
    /// Tasks: processes and threads.
    pub pids: u64,
    /// Bytes of a page of memory.
    pub page_size: u64,
}

impl Capacity {
    /// Bytes of memory that pods may have: what stands for a limit where a container has none.
    pub(super) fn memory_for_pods(&self) -> u64 {
        self.allocatable_memory.map_or(self.memory, |bytes| bytes.min(self.memory))
    }

    /// It as amounts of what can be requested.
    pub fn resources(&self) -> ResourceList {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let huge = self
            .huge_pages
            .iter()
            .map(|(size, bytes)| (ResourceName::HugePages(*size), Quantity::from_bytes(*bytes)));
        [
            (ResourceName::Cpu, Quantity::from_milli(signed(self.cpu_millis))),
            (ResourceName::Memory, Quantity::from_bytes(self.memory)),
        ]
        .into_iter()
        .chain(huge)
        .collect()
    }
}
