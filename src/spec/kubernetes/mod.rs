//! Requests and limits in Kubernetes' terms, turned into limits of cgroup v2 as **Kubernetes 1.36** does, with the
//! `cpu.weight` of runc 1.3.2 and later.
//!
//! Everything here is a pure function of a specification and of what the machine has ([`Capacity`]).
//!
//! ```
//! use pericarp::spec::kubernetes::{KubernetesPod, QosClass};
//! use pericarp::{PodSpec, Resources};
//!
//! let web = Resources::kubernetes().request("cpu", "250m")?.request("memory", "64Mi")?.limit("memory", "1Gi")?;
//! let pod = KubernetesPod::new().container("web", web);
//! assert_eq!(pod.qos_class(), QosClass::Burstable);
//! let spec = PodSpec::new("shop").kubernetes(pod);
//! # Ok::<(), pericarp::Error>(())
//! ```
//!
//! | of the specification | becomes |
//! | --- | --- |
//! | request of cpu | `cpu.weight`, by way of `cpu.shares` |
//! | limit of cpu | `cpu.max` |
//! | limit of memory | `memory.max`; with `memory.oom.group`, unless the policy says otherwise |
//! | request of memory | oom_score_adj; swap, `memory.high`, `memory.low` and `memory.min`, if the policy says so |
//! | limit of huge pages | `hugetlb.SIZE.max` and `hugetlb.SIZE.rsvd.max`; nothing of the sizes without one |
//! | `podPidsLimit` of the policy | `pids.max` of the pod |

mod admission;
mod capacity;
mod cgroups;
mod convert;
mod explain;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod layout;
mod pod;
mod policy;
mod qos;
mod quantity;
mod requirements;
mod resize;

pub use admission::Admission;
pub use capacity::Capacity;
pub use cgroups::qos_resources;
pub use convert::{cpu_max, cpu_shares, cpu_weight, huge_page_name, limited_swap, memory_high};
pub use explain::{ContainerOutcome, Outcome};
pub use layout::CgroupDriver;
pub use pod::{KubernetesContainer, KubernetesPod, RestartPolicy};
pub use policy::{MemoryReservation, Policy, SwapBehavior};
pub use qos::QosClass;
pub use quantity::Quantity;
pub use requirements::{Requirements, ResourceList, ResourceName};
pub use resize::{Reclaimed, Resize, Resized, Shrink};

pub(crate) use cgroups::{Share, class_resources};
pub(crate) use pod::{add, raise};

#[cfg(test)]
mod tests;
