//! What a container's process may do. The defaults are strict; every loosening stands in the specification.

use std::path::PathBuf;

pub use caps::Capability;
use serde::{Deserialize, Serialize};

/// Capabilities, seccomp and hidden paths of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Security {
    /// Capabilities, see capabilities(7).
    pub capabilities: Capabilities,
    /// Whether execve(2) can never give more privileges (`PR_SET_NO_NEW_PRIVS`); on unless said otherwise.
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: SeccompProfile,
    /// Paths that the container finds empty: a file reads as `/dev/null`, a directory as an empty one. What does
    /// not exist is skipped.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that the container can only read. What does not exist is skipped.
    pub readonly_paths: Vec<PathBuf>,
}

/// The masked paths of containerd 2.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// The read-only paths of containerd 2.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Default for Security {
    fn default() -> Self {
        Security {
            capabilities: Capabilities::default(),
            no_new_privileges: true,
            seccomp: SeccompProfile::default(),
            masked_paths: MASKED_PATHS.iter().map(PathBuf::from).collect(),
            readonly_paths: READONLY_PATHS.iter().map(PathBuf::from).collect(),
        }
    }
}

impl Security {
    /// Sets the capabilities.
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Sets [`no_new_privileges`](Self::no_new_privileges).
    pub fn no_new_privileges(mut self, on: bool) -> Self {
        self.no_new_privileges = on;
        self
    }

    /// Sets the system call filter.
    pub fn seccomp(mut self, profile: SeccompProfile) -> Self {
        self.seccomp = profile;
        self
    }
}

/// The system call filter of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SeccompProfile {
    /// The built-in profile, see `docs/seccomp.md`. It follows the capabilities: what a capability is for is
    /// allowed to those that have it. Kubernetes' `RuntimeDefault`.
    #[default]
    RuntimeDefault,
    /// No filter.
    Unconfined,
}

/// A set of capabilities. In JSON a list of names (`["CAP_CHOWN"]`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// Whether the set holds `capability`.
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bitmask() != 0
    }

    /// Adds one.
    pub fn insert(&mut self, capability: Capability) {
        self.0 |= capability.bitmask();
    }

    /// Removes one.
    pub fn remove(&mut self, capability: Capability) {
        self.0 &= !capability.bitmask();
    }

    /// The capabilities in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        let mut all: Vec<Capability> = caps::all().into_iter().filter(|&c| self.contains(c)).collect();
        all.sort_by_key(|capability| capability.index());
        all.into_iter()
    }

    /// Bit N for capability N, as in `/proc/PID/status`.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(iter: I) -> Self {
        CapabilitySet(iter.into_iter().fold(0, |bits, capability| bits | capability.bitmask()))
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for CapabilitySet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Capability>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The capability sets of a process, see capabilities(7). The inheritable set is always empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Capabilities {
    /// The bounding set, and for user id 0 also the permitted and effective sets.
    pub bounding: CapabilitySet,
    /// Capabilities that an ordinary user keeps through execve(2); each must be in `bounding`.
    #[serde(default)]
    pub ambient: CapabilitySet,
}

/// The 9 capabilities of CRI-O.
const MINIMAL: [Capability; 9] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_KILL,
];

/// What containerd and Docker add to them.
const USUAL: [Capability; 5] = [
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_AUDIT_WRITE,
];

impl Default for Capabilities {
    /// The 14 capabilities that containerd and Docker give.
    fn default() -> Self {
        Capabilities { bounding: MINIMAL.into_iter().chain(USUAL).collect(), ambient: CapabilitySet::EMPTY }
    }
}

impl Capabilities {
    /// No capability at all.
    pub fn none() -> Self {
        Capabilities { bounding: CapabilitySet::EMPTY, ambient: CapabilitySet::EMPTY }
    }

    /// The 9 capabilities that CRI-O gives.
    pub fn minimal() -> Self {
        Capabilities { bounding: MINIMAL.into_iter().collect(), ambient: CapabilitySet::EMPTY }
    }

    /// Adds a capability to the bounding set.
    pub fn with(mut self, capability: Capability) -> Self {
        self.bounding.insert(capability);
        self
    }

    /// Removes a capability from all sets.
    pub fn without(mut self, capability: Capability) -> Self {
        self.bounding.remove(capability);
        self.ambient.remove(capability);
        self
    }

    /// Adds a capability to the bounding and the ambient set.
    pub fn with_ambient(mut self, capability: Capability) -> Self {
        self.bounding.insert(capability);
        self.ambient.insert(capability);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_capabilities_are_those_of_containerd() {
        // 0xa80425fb is what CapBnd reads in a container of containerd or Docker.
        assert_eq!(Capabilities::default().bounding.bits(), 0xa80425fb);
        assert_eq!(Capabilities::default().bounding.iter().count(), 14);
        assert_eq!(Capabilities::minimal().bounding.iter().count(), 9);
        assert_eq!(Capabilities::default().ambient, CapabilitySet::EMPTY);
    }

    #[test]
    fn capabilities_travel_by_name() {
        let json = serde_json::to_string(&Capabilities::none().with_ambient(Capability::CAP_SYSLOG)).unwrap();
        assert_eq!(json, r#"{"bounding":["CAP_SYSLOG"],"ambient":["CAP_SYSLOG"]}"#);
        assert!(serde_json::from_str::<Capabilities>(r#"{"bounding":["CAP_NONE"]}"#).is_err());
    }
}
