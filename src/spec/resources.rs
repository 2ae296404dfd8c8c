//! Resource limits in cgroup v2 terms. Units are the kernel's: bytes, microseconds, tasks.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A limit that may also be `max`, the kernel's word for "none". In JSON a number or the string `"max"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number from 0, or the word \"max\"")]
pub enum Limit {
    /// At most so many (bytes, tasks, operations a second: the field says what).
    At(u64),
    /// No limit.
    Max(MaxWord),
}

/// The word `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MaxWord {
    /// `"max"`.
    #[serde(rename = "max")]
    Max,
}

impl Limit {
    /// No limit.
    pub const MAX: Limit = Limit::Max(MaxWord::Max);
}

impl From<u64> for Limit {
    fn from(value: u64) -> Self {
        Limit::At(value)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::At(value) => value.fmt(f),
            Limit::Max(_) => f.write_str("max"),
        }
    }
}

/// Limits of a pod or of a container. What is `None` is left to the kernel's default.
///
/// A limit that the machine cannot apply, because it lacks the controller, is an error that names the controller.
/// See cgroup-v2 in the kernel's administration guide for every file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// Processor time.
    pub cpu: CpuResources,
    /// Memory and swap.
    pub memory: MemoryResources,
    /// `pids.max`: the number of tasks (processes and threads).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<Limit>,
    /// Processors and memory nodes.
    pub cpuset: CpusetResources,
    /// Block devices.
    pub io: IoResources,
    /// `hugetlb.<size>.max` and `hugetlb.<size>.rsvd.max` in bytes, by the size of the pages as in the kernel's file
    /// names (`"2MB"`, `"1GB"`): what is used, and what is reserved by mmap(2).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hugetlb: BTreeMap<String, Limit>,
    /// `rdma.max`, by the name of the device (`"mlx5_0"`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, RdmaMax>,
    /// `misc.max`, by the name of the resource (`"sev"`, `"sev_es"`), in the units that the kernel counts it by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub misc: BTreeMap<String, Limit>,
    /// Files of the cgroup by their names, for what has no field here: `"memory.zswap.max": "0"` (OCI runtime-spec,
    /// `unified`). They are written after everything else, in the order of their names; a line of several is written
    /// by itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// An entry of `rdma.max`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RdmaMax {
    /// Handles of the adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<Limit>,
    /// Objects of the adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<Limit>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CpuResources {
    /// `cpu.weight`, 1 to 10000 (the kernel's default is 100).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
    /// `cpu.max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<CpuMax>,
    /// `cpu.max.burst`: microseconds of quota that may be saved up; at most the quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// `cpu.idle`: run only when nobody else wants to (`SCHED_IDLE`); the weight is then of no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<bool>,
}

/// `cpu.max`: a quota of processor time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CpuMax {
    /// Microseconds of processor time in a period; at least 1000.
    pub quota: Limit,
    /// The period in microseconds, 1000 to 1000000; 100000 unless said otherwise.
    #[serde(default = "CpuMax::default_period")]
    pub period: u64,
}

impl CpuMax {
    fn default_period() -> u64 {
        100_000
    }

    /// So many thousandths of a processor, in the usual period of 100 ms. Kubernetes' `500m` is `millis(500)`.
    pub fn millis(millicpu: u64) -> Self {
        CpuMax { quota: Limit::At(millicpu.saturating_mul(100).max(1000)), period: Self::default_period() }
    }
}

/// Memory and swap, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MemoryResources {
    /// `memory.max`: above it the OOM killer acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Limit>,
    /// Whether a change of a cgroup with processes refuses a [`max`](Self::max) that is not above what is in use, instead of
    /// letting the kernel reclaim and kill down to it (OCI runtime-spec, `checkBeforeUpdate`). Off unless said otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check_before_update: bool,
    /// `memory.high`: above it the kernel throttles and reclaims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<Limit>,
    /// `memory.low`: best-effort protection from reclaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<Limit>,
    /// `memory.min`: hard protection from reclaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Limit>,
    /// `memory.swap.max`: swap alone, without memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_max: Option<Limit>,
    /// `memory.oom.group`: an OOM kill ends every process of the container together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_group: Option<bool>,
}

/// Processors and memory nodes, in the kernel's list format ("0-3,8").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CpusetResources {
    /// `cpuset.cpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// `cpuset.mems`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IoResources {
    /// `io.weight`, 1 to 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
    /// `io.max`, a line a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub max: Vec<IoMax>,
    /// `io.weight` of single devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_weights: Vec<IoWeight>,
    /// `io.latency`, a line a device: others are held back while this one waits longer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<IoLatency>,
}

/// A line of `io.latency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoLatency {
    /// Major number of the block device.
    pub major: u32,
    /// Minor number of the block device.
    pub minor: u32,
    /// Microseconds that an operation may take; 0 is no target.
    pub target: u64,
}

/// A line of `io.weight` for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoWeight {
    /// Major number of the block device.
    pub major: u32,
    /// Minor number of the block device.
    pub minor: u32,
    /// 1 to 10000.
    pub weight: u64,
}

/// A line of `io.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoMax {
    /// Major number of the block device.
    pub major: u32,
    /// Minor number of the block device.
    pub minor: u32,
    /// Bytes read a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rbps: Option<Limit>,
    /// Bytes written a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wbps: Option<Limit>,
    /// Read operations a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub riops: Option<Limit>,
    /// Write operations a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wiops: Option<Limit>,
}
