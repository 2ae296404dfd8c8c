//! What a container's process may do. The defaults are strict; every loosening stands in the specification.

use std::path::PathBuf;

pub use caps::Capability;
use serde::{Deserialize, Serialize};

use super::seccomp::Seccomp;
use crate::error::{Error, Result};

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
    /// The AppArmor profile that the program runs under; it must have been loaded. `unconfined` needs no AppArmor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// The SELinux label (security context) that the program runs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// The SELinux label of all files in filesystems that are made for the container: an overlay root, every tmpfs with
    /// `/dev`, devpts, and [`MountKind::Filesystem`](crate::spec::MountKind::Filesystem). Files of bind mounts and of
    /// a root directory keep their own labels, what is the pod's has
    /// [`PodSpec::mount_label`](crate::PodSpec::mount_label), and a mount with the option `context` or `defcontext`
    /// the label in that. At most 255 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Whether the container has the session keyring of the calling thread, and with it every key in there, see
    /// session-keyring(7). Off unless said otherwise: the container has a new one without a name, and each program that is
    /// executed in it one of its own. What is created counts for the quota of keys of the calling program's user.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inherit_session_keyring: bool,
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
            apparmor_profile: None,
            selinux_label: None,
            mount_label: None,
            inherit_session_keyring: false,
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

    /// Sets [`apparmor_profile`](Self::apparmor_profile).
    pub fn apparmor_profile(mut self, name: impl Into<String>) -> Self {
        self.apparmor_profile = Some(name.into());
        self
    }

    /// Sets [`selinux_label`](Self::selinux_label).
    pub fn selinux_label(mut self, label: impl Into<String>) -> Self {
        self.selinux_label = Some(label.into());
        self
    }

    /// Sets [`inherit_session_keyring`](Self::inherit_session_keyring).
    pub fn inherit_session_keyring(mut self, on: bool) -> Self {
        self.inherit_session_keyring = on;
        self
    }

    /// Sets [`mount_label`](Self::mount_label).
    pub fn mount_label(mut self, label: impl Into<String>) -> Self {
        self.mount_label = Some(label.into());
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
    /// A filter of one's own, see [`Seccomp`].
    Custom(Box<Seccomp>),
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
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for CapabilitySet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(Vec::<Capability>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// The capability sets of a process, see capabilities(7).
///
/// The program gets what execve(2) makes of these sets: user id 0 gets the whole bounding set as permitted and
/// effective, whatever those say here, and another user the ambient set. `bounding` and `ambient` are therefore all
/// that most containers need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Capabilities {
    /// The bounding set, and for user id 0 also the permitted and effective sets.
    pub bounding: CapabilitySet,
    /// Capabilities that an ordinary user keeps through execve(2); each must be in `bounding`.
    #[serde(default)]
    pub ambient: CapabilitySet,
    /// The permitted set while the program is executed; a part of `bounding` that holds `ambient`. The bounding set
    /// for user id 0, and the ambient one for others, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted: Option<CapabilitySet>,
    /// The effective set while the program is executed, a part of the permitted one; all of it unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<CapabilitySet>,
    /// The inheritable set, a part of `bounding` that holds `ambient`; the ambient set, and so usually empty, unless
    /// given. With anything else in it a program file with inheritable file capabilities gives these to every user of
    /// the container who executes it (CVE-2022-29162): ask for it only where that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inheritable: Option<CapabilitySet>,
}

/// All five sets as init applies them, bit N for capability N.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapabilityBits {
    pub(crate) bounding: u64,
    pub(crate) permitted: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
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
        Self::bounded_by(MINIMAL.into_iter().chain(USUAL).collect())
    }
}

impl Capabilities {
    /// This bounding set, and the others as they follow from it.
    pub fn bounded_by(bounding: CapabilitySet) -> Self {
        Capabilities {
            bounding,
            ambient: CapabilitySet::EMPTY,
            permitted: None,
            effective: None,
            inheritable: None,
        }
    }

    /// No capability at all.
    pub fn none() -> Self {
        Self::bounded_by(CapabilitySet::EMPTY)
    }

    /// The 9 capabilities that CRI-O gives.
    pub fn minimal() -> Self {
        Self::bounded_by(MINIMAL.into_iter().collect())
    }

    /// Adds a capability to the bounding set.
    pub fn with(mut self, capability: Capability) -> Self {
        self.bounding.insert(capability);
        self
    }

    /// Removes a capability from all sets.
    pub fn without(mut self, capability: Capability) -> Self {
        let given = [&mut self.permitted, &mut self.effective, &mut self.inheritable];
        for set in [&mut self.bounding, &mut self.ambient].into_iter().chain(given.into_iter().flatten()) {
            set.remove(capability);
        }
        self
    }

    /// Adds a capability to the bounding and the ambient set.
    pub fn with_ambient(mut self, capability: Capability) -> Self {
        self.bounding.insert(capability);
        self.ambient.insert(capability);
        self
    }

    /// Sets [`permitted`](Self::permitted).
    pub fn permitted(mut self, set: CapabilitySet) -> Self {
        self.permitted = Some(set);
        self
    }

    /// Sets [`effective`](Self::effective).
    pub fn effective(mut self, set: CapabilitySet) -> Self {
        self.effective = Some(set);
        self
    }

    /// Sets [`inheritable`](Self::inheritable), see the warning there.
    pub fn inheritable(mut self, set: CapabilitySet) -> Self {
        self.inheritable = Some(set);
        self
    }

    /// The sets of a process with that user id.
    pub(crate) fn bits(&self, uid: u32) -> CapabilityBits {
        let usual = if uid == 0 { self.bounding } else { self.ambient };
        let permitted = self.permitted.unwrap_or(usual);
        CapabilityBits {
            bounding: self.bounding.bits(),
            permitted: permitted.bits(),
            effective: self.effective.unwrap_or(permitted).bits(),
            inheritable: self.inheritable.unwrap_or(self.ambient).bits(),
            ambient: self.ambient.bits(),
        }
    }

    /// Checks what capset(2) and prctl(2) would refuse.
    pub(super) fn validate(&self, uid: u32) -> Result<()> {
        let bits = self.bits(uid);
        for (name, set, holder, of) in [
            ("ambient", bits.ambient, "bounding", bits.bounding),
            ("permitted", bits.permitted, "bounding", bits.bounding),
            ("effective", bits.effective, "permitted", bits.permitted),
            ("inheritable", bits.inheritable, "bounding", bits.bounding),
            ("ambient", bits.ambient, "permitted", bits.permitted),
            ("ambient", bits.ambient, "inheritable", bits.inheritable),
        ] {
            if let Some(extra) = CapabilitySet(set & !of).iter().next() {
                return Err(Error::invalid(
                    format!("security.capabilities.{name}"),
                    format!("{extra} is not in the {holder} set"),
                ));
            }
        }
        Ok(())
    }
}

/// Names of profiles and labels end up in one write(2) to a file of proc.
const MAX_LABEL: usize = 4000;

impl Security {
    /// Checks the names of mandatory access control.
    pub(super) fn validate_labels(&self) -> Result<()> {
        for (field, label) in [
            ("security.apparmorProfile", &self.apparmor_profile),
            ("security.selinuxLabel", &self.selinux_label),
        ] {
            let Some(label) = label else { continue };
            if label.is_empty() || label.len() > MAX_LABEL || label.contains(char::is_control) {
                return Err(Error::invalid(
                    field,
                    format!("must be 1 to {MAX_LABEL} bytes without control characters"),
                ));
            }
        }
        self.mount_label.as_deref().map_or(Ok(()), |label| mount_label("security.mountLabel", label))
    }
}

/// Labels of filesystems are options of mounts: fsconfig(2) takes so much, and mount(2) what has no quotes in it.
const MAX_MOUNT_LABEL: usize = 255;

/// Checks the label of a filesystem.
pub(super) fn mount_label(field: &str, label: &str) -> Result<()> {
    let odd = |c: char| c.is_control() || c == '"';
    if label.is_empty() || label.len() > MAX_MOUNT_LABEL || label.contains(odd) {
        return Err(Error::invalid(
            field,
            format!("must be 1 to {MAX_MOUNT_LABEL} bytes without control characters and quotes"),
        ));
    }
    Ok(())
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

    fn set(capabilities: &[Capability]) -> CapabilitySet {
        capabilities.iter().copied().collect()
    }

    #[test]
    fn sets_that_are_not_given_follow_from_the_others() {
        let one = Capabilities::none().with(Capability::CAP_CHOWN).with_ambient(Capability::CAP_KILL);
        let bits = |permitted, inheritable| CapabilityBits {
            bounding: 0x21,
            permitted,
            effective: permitted,
            inheritable,
            ambient: 0x20,
        };
        assert_eq!(one.bits(0), bits(0x21, 0x20));
        assert_eq!(one.bits(1000), bits(0x20, 0x20));
        let both = set(&[Capability::CAP_CHOWN, Capability::CAP_KILL]);
        assert_eq!(one.clone().permitted(both).inheritable(both).bits(1000), bits(0x21, 0x21));
        let effective = one.permitted(both).effective(CapabilitySet::EMPTY).bits(1000);
        assert_eq!((effective.permitted, effective.effective), (0x21, 0));
    }

    #[test]
    fn sets_that_the_kernel_would_refuse_are_named() {
        let (chown, kill) = (set(&[Capability::CAP_CHOWN]), set(&[Capability::CAP_KILL]));
        let one = Capabilities::bounded_by(chown);
        for (wrong, field, holder) in [
            (one.clone().permitted(kill), "permitted", "bounding"),
            (one.clone().inheritable(kill), "inheritable", "bounding"),
            (one.clone().permitted(CapabilitySet::EMPTY).effective(chown), "effective", "permitted"),
            (Capabilities { ambient: kill, ..one.clone() }, "ambient", "bounding"),
            (
                Capabilities { ambient: chown, ..one.clone() }.inheritable(CapabilitySet::EMPTY),
                "ambient",
                "inheritable",
            ),
            (
                Capabilities { ambient: chown, ..one.clone() }.permitted(CapabilitySet::EMPTY),
                "ambient",
                "permitted",
            ),
        ] {
            let error = wrong.validate(0).unwrap_err().to_string();
            assert!(error.contains(&format!("capabilities.{field}")), "{error}");
            assert!(error.ends_with(&format!("is not in the {holder} set")), "{error}");
        }
        // An ordinary user has no effective capability that is not permitted, and none is permitted unless asked for.
        assert!(one.clone().effective(chown).validate(0).is_ok());
        assert!(one.clone().effective(chown).validate(1000).is_err());
        assert!(one.effective(chown).permitted(chown).validate(1000).is_ok());
    }
}
