//! What a mount does with what is on it: its attributes, and whose its files are.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::idmap::{IdMapping, validate_mappings};
use crate::error::{Error, Result};
use crate::sys::mount::attr;

/// What a mount does with what is on it, see mount_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountAttribute {
    /// Nothing can be written.
    Readonly,
    /// Set-user-id bits and file capabilities are ignored.
    Nosuid,
    /// Device nodes are ignored.
    Nodev,
    /// Programs cannot be executed.
    Noexec,
    /// Access times are not kept.
    Noatime,
    /// Access times are always kept.
    Strictatime,
    /// Access times are kept where they matter; the kernel's default.
    Relatime,
    /// Access times of directories are not kept.
    Nodiratime,
    /// Symbolic links are not followed.
    Nosymfollow,
}

impl MountAttribute {
    fn bit(self) -> u64 {
        match self {
            MountAttribute::Readonly => attr::RDONLY,
            MountAttribute::Nosuid => attr::NOSUID,
            MountAttribute::Nodev => attr::NODEV,
            MountAttribute::Noexec => attr::NOEXEC,
            MountAttribute::Noatime => attr::NOATIME,
            MountAttribute::Strictatime => attr::STRICTATIME,
            MountAttribute::Relatime => 0,
            MountAttribute::Nodiratime => attr::NODIRATIME,
            MountAttribute::Nosymfollow => attr::NOSYMFOLLOW,
        }
    }

    /// The three ways to keep access times are one attribute with three values.
    fn is_atime(self) -> bool {
        matches!(self, MountAttribute::Noatime | MountAttribute::Strictatime | MountAttribute::Relatime)
    }

    /// The word that sets it and the word that clears it.
    pub(super) const WORDS: [(&'static str, &'static str, MountAttribute); 9] = [
        ("ro", "rw", MountAttribute::Readonly),
        ("nosuid", "suid", MountAttribute::Nosuid),
        ("nodev", "dev", MountAttribute::Nodev),
        ("noexec", "exec", MountAttribute::Noexec),
        ("noatime", "atime", MountAttribute::Noatime),
        ("strictatime", "nostrictatime", MountAttribute::Strictatime),
        ("relatime", "norelatime", MountAttribute::Relatime),
        ("nodiratime", "diratime", MountAttribute::Nodiratime),
        ("nosymfollow", "symfollow", MountAttribute::Nosymfollow),
    ];
}

/// Attributes to set and to clear, in addition to the flags of a [`Mount`](super::Mount).
///
/// A bind mount and a volume have attributes already, which stay as they are unless they are named here. What is said
/// for all is done first; what is said for the mount itself counts for that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MountAttributes {
    /// To set on the mount itself.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub set: BTreeSet<MountAttribute>,
    /// To clear on the mount itself.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub clear: BTreeSet<MountAttribute>,
    /// To set on it and on everything mounted below.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub set_recursive: BTreeSet<MountAttribute>,
    /// To clear on it and on everything mounted below.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub clear_recursive: BTreeSet<MountAttribute>,
}

impl MountAttributes {
    pub(crate) fn is_empty(&self) -> bool {
        *self == MountAttributes::default()
    }

    /// The latest word counts: it takes back what earlier ones said of the same.
    pub(super) fn say(&mut self, attribute: MountAttribute, on: bool, recursive: bool) {
        let same =
            |other: &MountAttribute| *other == attribute || on && attribute.is_atime() && other.is_atime();
        // A recursive word is about the mount itself, too.
        if recursive {
            self.set_recursive.retain(|other| !same(other));
            self.clear_recursive.retain(|other| !same(other));
        }
        self.set.retain(|other| !same(other));
        self.clear.retain(|other| !same(other));
        let list = match (on, recursive) {
            (true, false) => &mut self.set,
            (false, false) => &mut self.clear,
            (true, true) => &mut self.set_recursive,
            (false, true) => &mut self.clear_recursive,
        };
        list.insert(attribute);
    }

    /// As mount_setattr(2) takes it: bits to set, and bits to clear.
    pub(super) fn bits(set: &BTreeSet<MountAttribute>, clear: &BTreeSet<MountAttribute>) -> (u64, u64) {
        let bits = |list: &BTreeSet<MountAttribute>| list.iter().fold(0, |bits, a| bits | a.bit());
        let cleared: BTreeSet<_> = clear.iter().copied().filter(|a| !a.is_atime()).collect();
        let set_bits = bits(set);
        let mut clear_bits = bits(&cleared);
        // A value is set by clearing the others; without one the default is meant, which relatime cannot be rid of.
        let unset = |a: &MountAttribute| a.is_atime() && *a != MountAttribute::Relatime;
        if set.iter().any(|a| a.is_atime()) || clear.iter().any(unset) {
            clear_bits |= attr::ATIME;
        }
        (set_bits, clear_bits)
    }

    pub(super) fn validate(&self, field: &str) -> Result<()> {
        for (set, clear) in [(&self.set, &self.clear), (&self.set_recursive, &self.clear_recursive)] {
            if let Some(both) = set.intersection(clear).next() {
                return Err(Error::invalid(
                    field,
                    format!("{both:?} is to be set and cleared").to_lowercase(),
                ));
            }
            if set.iter().filter(|a| a.is_atime()).count() > 1 {
                return Err(Error::invalid(field, "has more than one of noatime, strictatime and relatime"));
            }
        }
        Ok(())
    }
}

/// Ids of the files on a mount that mean other ids, see mount_setattr(2), "ID-mapped mounts".
///
/// `container_id` of a mapping is the owner as it is stored, `host_id` the one that the machine sees on this mount. The
/// mapping of a user namespace makes files of its user 0 those of the mapped user 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdMap {
    /// Ranges of user ids.
    pub uid_mappings: Vec<IdMapping>,
    /// Ranges of group ids.
    pub gid_mappings: Vec<IdMapping>,
    /// Whether what is mounted below is mapped, too.
    #[serde(default)]
    pub recursive: bool,
}

impl IdMap {
    /// One range for users and groups alike, for the mount itself.
    pub fn new(container_id: u32, host_id: u32, size: u32) -> Self {
        let range = vec![IdMapping::new(container_id, host_id, size)];
        IdMap { uid_mappings: range.clone(), gid_mappings: range, recursive: false }
    }

    /// Sets [`recursive`](Self::recursive).
    pub fn recursive(mut self, on: bool) -> Self {
        self.recursive = on;
        self
    }

    pub(crate) fn validate(&self, field: &str) -> Result<()> {
        validate_mappings(&format!("{field}.uidMappings"), &self.uid_mappings)?;
        validate_mappings(&format!("{field}.gidMappings"), &self.gid_mappings)
    }
}
