//! On which NUMA nodes a container's memory is: set_mempolicy(2).

use serde::{Deserialize, Serialize};

use super::ContainerSpec;
use super::process::number_mask;
use crate::error::{Error, Result};

/// The kernel's limit of nodes (`MAX_NUMNODES` where it is largest).
const MAX_NODES: u32 = 1024;

/// From which NUMA nodes the memory of a container's processes comes, see set_mempolicy(2) and `linux.memoryPolicy` of
/// the OCI runtime-spec 1.3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryPolicy {
    /// How nodes are chosen.
    pub mode: MemoryPolicyMode,
    /// The nodes, a list such as `0-1,3`. All modes want some but `Default` and `Local`, which take none, and
    /// `Preferred`, where none is the node of the processor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nodes: String,
    /// What the numbers mean when the allowed nodes change, and more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<MemoryPolicyFlag>,
}

/// How a [`MemoryPolicy`] chooses nodes. In JSON `"MPOL_BIND"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemoryPolicyMode {
    /// The system's way, whatever the calling program has.
    #[serde(rename = "MPOL_DEFAULT")]
    Default,
    /// From one node as long as it has some.
    #[serde(rename = "MPOL_PREFERRED")]
    Preferred,
    /// From these nodes only.
    #[serde(rename = "MPOL_BIND")]
    Bind,
    /// From these nodes in turn.
    #[serde(rename = "MPOL_INTERLEAVE")]
    Interleave,
    /// From the node of the processor.
    #[serde(rename = "MPOL_LOCAL")]
    Local,
    /// From these nodes as long as they have some (Linux 5.15).
    #[serde(rename = "MPOL_PREFERRED_MANY")]
    PreferredMany,
    /// From these nodes in turn, by the weights that the machine gives them (Linux 6.9).
    #[serde(rename = "MPOL_WEIGHTED_INTERLEAVE")]
    WeightedInterleave,
}

impl MemoryPolicyMode {
    /// The number of set_mempolicy(2).
    fn number(self) -> u32 {
        match self {
            MemoryPolicyMode::Default => 0,
            MemoryPolicyMode::Preferred => 1,
            MemoryPolicyMode::Bind => 2,
            MemoryPolicyMode::Interleave => 3,
            MemoryPolicyMode::Local => 4,
            MemoryPolicyMode::PreferredMany => 5,
            MemoryPolicyMode::WeightedInterleave => 6,
        }
    }
}

/// A flag of a [`MemoryPolicy`]. In JSON `"MPOL_F_STATIC_NODES"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemoryPolicyFlag {
    /// Move pages to where they are used, with [`MemoryPolicyMode::Bind`] (and on some kernels others).
    #[serde(rename = "MPOL_F_NUMA_BALANCING")]
    NumaBalancing,
    /// The nodes are counted within those that are allowed.
    #[serde(rename = "MPOL_F_RELATIVE_NODES")]
    RelativeNodes,
    /// The nodes stay what they are when others become allowed.
    #[serde(rename = "MPOL_F_STATIC_NODES")]
    StaticNodes,
}

impl MemoryPolicyFlag {
    fn bit(self) -> u32 {
        match self {
            MemoryPolicyFlag::NumaBalancing => 1 << 13,
            MemoryPolicyFlag::RelativeNodes => 1 << 14,
            MemoryPolicyFlag::StaticNodes => 1 << 15,
        }
    }
}

impl MemoryPolicy {
    /// A policy of that mode for nodes such as `0-1,3`, which may be empty.
    pub fn new(mode: MemoryPolicyMode, nodes: impl Into<String>) -> Self {
        MemoryPolicy { mode, nodes: nodes.into(), flags: Vec::new() }
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: MemoryPolicyFlag) -> Self {
        self.flags.push(flag);
        self
    }

    /// Mode and flags, in one number.
    pub(crate) fn mode_and_flags(&self) -> u32 {
        self.flags.iter().fold(self.mode.number(), |number, flag| number | flag.bit())
    }

    /// The nodes, a bit each, in whole words.
    ///
    /// # Errors
    /// What is wrong with the list, in words.
    pub(crate) fn mask(&self) -> std::result::Result<Vec<u8>, String> {
        if self.nodes.is_empty() { Ok(Vec::new()) } else { number_mask(&self.nodes, MAX_NODES) }
    }

    pub(super) fn validate(&self) -> Result<()> {
        use MemoryPolicyFlag::{RelativeNodes, StaticNodes};
        use MemoryPolicyMode::{Default, Local, Preferred};
        let refused =
            |field: &str, why: &'static str| Err(Error::invalid(format!("memoryPolicy.{field}"), why));
        // Every number once, alone: no more bytes than that can mean anything.
        if self.nodes.len() > MAX_NODES as usize * 5 {
            return refused("nodes", "is too long");
        }
        self.mask().map_err(|why| Error::invalid("memoryPolicy.nodes", why))?;
        match (self.mode, self.nodes.is_empty()) {
            (Default | Local, false) => return refused("nodes", "this mode takes no nodes; leave them out"),
            (Default | Local | Preferred, true) => {
                if self.flags.iter().any(|flag| matches!(flag, RelativeNodes | StaticNodes)) {
                    return refused("flags", "say what nodes mean, and there are none");
                }
            }
            (_, true) => return refused("nodes", "this mode needs nodes"),
            (_, false) => {}
        }
        if self.flags.len() > 16 {
            return refused("flags", "are more than there are");
        }
        if self.flags.contains(&RelativeNodes) && self.flags.contains(&StaticNodes) {
            return refused("flags", "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other");
        }
        Ok(())
    }
}

impl ContainerSpec {
    /// Sets [`memory_policy`](Self::memory_policy).
    pub fn memory_policy(mut self, policy: MemoryPolicy) -> Self {
        self.memory_policy = Some(policy);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryPolicyFlag::*;
    use MemoryPolicyMode::*;

    #[test]
    fn what_the_kernel_would_refuse_for_certain_is_refused_by_name() {
        for (policy, field) in [
            (MemoryPolicy::new(Bind, ""), "nodes"),
            (MemoryPolicy::new(Interleave, ""), "nodes"),
            (MemoryPolicy::new(PreferredMany, ""), "nodes"),
            (MemoryPolicy::new(Default, "0"), "nodes"),
            (MemoryPolicy::new(Local, "0"), "nodes"),
            (MemoryPolicy::new(Bind, "1-0"), "nodes"),
            (MemoryPolicy::new(Bind, "0,"), "nodes"),
            (MemoryPolicy::new(Bind, "1024"), "nodes"),
            (MemoryPolicy::new(Bind, "0,".repeat(2561)), "nodes"),
            (MemoryPolicy::new(Preferred, "").flag(StaticNodes), "flags"),
            (MemoryPolicy::new(Bind, "0").flag(StaticNodes).flag(RelativeNodes), "flags"),
        ] {
            let error = policy.validate().unwrap_err();
            assert_eq!(
                error.subject(),
                Some(format!("memoryPolicy.{field}").as_str()),
                "{policy:?}: {error}"
            );
        }
        for policy in [
            MemoryPolicy::new(Default, ""),
            MemoryPolicy::new(Local, ""),
            MemoryPolicy::new(Preferred, ""),
            MemoryPolicy::new(Preferred, "3"),
            MemoryPolicy::new(WeightedInterleave, "0-1023"),
            MemoryPolicy::new(Bind, "0").flag(NumaBalancing).flag(RelativeNodes),
        ] {
            policy.validate().unwrap();
        }
    }

    #[test]
    fn numbers_are_those_of_the_manual_page() {
        let policy = MemoryPolicy::new(Bind, "0-1,64").flag(StaticNodes);
        assert_eq!(policy.mode_and_flags(), 2 | 1 << 15);
        assert_eq!(policy.mask().unwrap(), [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let modes = [Default, Preferred, Bind, Interleave, Local, PreferredMany, WeightedInterleave];
        assert_eq!(modes.map(MemoryPolicyMode::number), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(
            [NumaBalancing, RelativeNodes, StaticNodes].map(MemoryPolicyFlag::bit),
            [8192, 16384, 32768]
        );
    }

    #[test]
    fn json_is_that_of_the_runtime_spec() {
        let text = r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]}"#;
        let policy: MemoryPolicy = serde_json::from_str(text).unwrap();
        assert_eq!(policy, MemoryPolicy::new(Bind, "0-1").flag(StaticNodes));
        assert_eq!(serde_json::to_string(&policy).unwrap(), text);
        assert!(serde_json::from_str::<MemoryPolicy>(r#"{"mode": "MPOL_OTHER"}"#).is_err());
    }
}
