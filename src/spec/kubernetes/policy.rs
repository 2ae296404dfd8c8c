//! What a kubelet's configuration says of the cgroups of pods.

use serde::{Deserialize, Serialize};

use super::Quantity;
use crate::error::{Error, Result};

/// What a kubelet's configuration says of the cgroups of its pods, with the defaults and, where there is one, the name
/// that `KubeletConfiguration` has in Kubernetes 1.36.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Policy {
    /// Memory QoS: where between request and limit `memory.high` is, from 0 to 1 (`"0.9"`, Kubernetes' own value). Off
    /// unless given, as the feature gate of Kubernetes 1.36.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_throttling_factor: Option<Quantity>,
    /// Memory QoS: whether requests of memory protect it from reclaim.
    pub memory_reservation_policy: MemoryReservation,
    /// Whether containers may swap.
    pub swap_behavior: SwapBehavior,
    /// Tasks of one pod together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_pids_limit: Option<u64>,
    /// Whether limits of cpu become quotas; on unless said otherwise.
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    /// The period of these quotas in microseconds, 1000 to 1000000; 100000 unless said otherwise.
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: u64,
    /// Whether the OOM killer takes single processes, instead of a whole container.
    #[serde(rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            memory_throttling_factor: None,
            memory_reservation_policy: MemoryReservation::None,
            swap_behavior: SwapBehavior::NoSwap,
            pod_pids_limit: None,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: 100_000,
            single_process_oom_kill: false,
        }
    }
}

/// Whether requests of memory protect it from reclaim (`memoryReservationPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemoryReservation {
    /// They do not.
    #[default]
    None,
    /// That of a Guaranteed pod becomes `memory.min`, that of a Burstable one `memory.low`.
    TieredReservation,
}

/// Whether containers may swap (`memorySwap.swapBehavior`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SwapBehavior {
    /// No container may.
    #[default]
    NoSwap,
    /// Those of Burstable pods may use as much of the machine's swap as they request of its memory, unless they request
    /// none or all that they may have, or the pod is critical.
    LimitedSwap,
}

/// `PID_MAX_LIMIT` of a 64-bit kernel.
const MAX_TASKS: u64 = 4_194_304;

impl Policy {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`memory_throttling_factor`](Self::memory_throttling_factor).
    ///
    /// # Errors
    /// `InvalidSpec` for what is no number.
    pub fn memory_throttling_factor(mut self, factor: &str) -> Result<Self> {
        self.memory_throttling_factor = Some(factor.parse()?);
        Ok(self)
    }

    /// Sets [`memory_reservation_policy`](Self::memory_reservation_policy).
    pub fn memory_reservation_policy(mut self, policy: MemoryReservation) -> Self {
        self.memory_reservation_policy = policy;
        self
    }

    /// Sets [`swap_behavior`](Self::swap_behavior).
    pub fn swap_behavior(mut self, behavior: SwapBehavior) -> Self {
        self.swap_behavior = behavior;
        self
    }

    /// Sets [`pod_pids_limit`](Self::pod_pids_limit).
    pub fn pod_pids_limit(mut self, tasks: u64) -> Self {
        self.pod_pids_limit = Some(tasks);
        self
    }

    /// Sets [`cpu_cfs_quota`](Self::cpu_cfs_quota).
    pub fn cpu_cfs_quota(mut self, on: bool) -> Self {
        self.cpu_cfs_quota = on;
        self
    }

    /// Sets [`cpu_cfs_quota_period`](Self::cpu_cfs_quota_period).
    pub fn cpu_cfs_quota_period(mut self, microseconds: u64) -> Self {
        self.cpu_cfs_quota_period = microseconds;
        self
    }

    /// Sets [`single_process_oom_kill`](Self::single_process_oom_kill).
    pub fn single_process_oom_kill(mut self, on: bool) -> Self {
        self.single_process_oom_kill = on;
        self
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Policy::default()
    }

    pub(super) fn validate(&self, field: &str) -> Result<()> {
        let wrong = |name: &str, why: String| Err(Error::invalid(format_args!("{field}.{name}"), why));
        if let Some(factor) = self.memory_throttling_factor
            && (factor <= Quantity::ZERO || factor > Quantity::new(1))
        {
            return wrong("memoryThrottlingFactor", format!("{factor} is not above 0 and at most 1"));
        }
        if !(1000..=1_000_000).contains(&self.cpu_cfs_quota_period) {
            let why = format!("{} is not 1000 to 1000000 microseconds", self.cpu_cfs_quota_period);
            return wrong("cpuCFSQuotaPeriod", why);
        }
        match self.pod_pids_limit {
            Some(0) => wrong("podPidsLimit", "is zero; nothing could start".to_string()),
            Some(limit) if limit > MAX_TASKS => {
                wrong("podPidsLimit", format!("is {limit}, more than the {MAX_TASKS} that a kernel can have"))
            }
            _ => Ok(()),
        }
    }
}
