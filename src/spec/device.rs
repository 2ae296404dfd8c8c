//! Device nodes of a container, and which devices its processes may use.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Device nodes, and rules for devices, of one container.
const MAX_DEVICES: usize = 512;
/// The kernel has 12 bits for the major and 20 for the minor number, see makedev(3).
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// A device node, or a named pipe, that a container finds at its start.
///
/// To be there is not to be usable: see [`DeviceRule`]. [`Device::rule`] makes the rule that goes with a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Device {
    /// Where: an absolute path in the container. Directories on the way are made when they are missing. A node that is
    /// there already is replaced when it is the very same device; anything else there is an error.
    pub path: PathBuf,
    /// What.
    pub kind: DeviceKind,
    /// The major number, 0 to 4095; 0 for a named pipe.
    #[serde(default)]
    pub major: u32,
    /// The minor number, 0 to 1048575; 0 for a named pipe.
    #[serde(default)]
    pub minor: u32,
    /// Permission bits; `0o666` unless said otherwise.
    #[serde(default = "Device::default_mode")]
    pub mode: u32,
    /// The user id that owns it.
    #[serde(default)]
    pub uid: u32,
    /// The group id that owns it.
    #[serde(default)]
    pub gid: u32,
    /// A node of the host to mount there, instead of making one: for where the kernel lets nobody make nodes, as in a
    /// user namespace. It is opened once and must be that very device. Its mode and owner stay the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
}

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe, see fifo(7).
    Fifo,
}

impl DeviceKind {
    /// The file type in a mode, see inode(7).
    pub(crate) fn file_type(self) -> u32 {
        match self {
            DeviceKind::Char => libc::S_IFCHR,
            DeviceKind::Block => libc::S_IFBLK,
            DeviceKind::Fifo => libc::S_IFIFO,
        }
    }

    /// The word for messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            DeviceKind::Char => "character device",
            DeviceKind::Block => "block device",
            DeviceKind::Fifo => "named pipe",
        }
    }
}

impl Device {
    fn default_mode() -> u32 {
        0o666
    }

    fn new(path: impl Into<PathBuf>, kind: DeviceKind, major: u32, minor: u32) -> Self {
        let mode = Self::default_mode();
        Device { path: path.into(), kind, major, minor, mode, uid: 0, gid: 0, source: None }
    }

    /// A character device, mode `0o666`, of root.
    pub fn char(path: impl Into<PathBuf>, major: u32, minor: u32) -> Self {
        Self::new(path, DeviceKind::Char, major, minor)
    }

    /// A block device, mode `0o666`, of root.
    pub fn block(path: impl Into<PathBuf>, major: u32, minor: u32) -> Self {
        Self::new(path, DeviceKind::Block, major, minor)
    }

    /// A named pipe, mode `0o666`, of root.
    pub fn fifo(path: impl Into<PathBuf>) -> Self {
        Self::new(path, DeviceKind::Fifo, 0, 0)
    }

    /// Sets the permission bits.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets who owns it.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.uid = uid;
        self.gid = gid;
        self
    }

    /// Sets [`source`](Self::source).
    pub fn source(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Some(path.into());
        self
    }

    /// The rule that allows this access to the device. `None` for a named pipe, which needs none.
    pub fn rule(&self, access: DeviceAccess) -> Option<DeviceRule> {
        let kind = match self.kind {
            DeviceKind::Char => DeviceRuleKind::Char,
            DeviceKind::Block => DeviceRuleKind::Block,
            DeviceKind::Fifo => return None,
        };
        Some(DeviceRule::allow(kind, Some(self.major), Some(self.minor), access))
    }

    pub(crate) fn validate(&self, field: &str) -> Result<()> {
        super::validate::absolute(&format!("{field}.path"), &self.path)?;
        let path: PathBuf = self.path.components().collect();
        let last = path.components().next_back();
        if !matches!(last, Some(Component::Normal(_)))
            || self.path.as_os_str().as_encoded_bytes().ends_with(b"/")
        {
            return Err(Error::invalid(field, format!("{} is no path of a file", self.path.display())));
        }
        for kernels in ["/proc", "/sys"] {
            if path.starts_with(kernels) {
                return Err(Error::invalid(
                    field,
                    format!("no device can be made in {kernels}, which is the kernel's"),
                ));
            }
        }
        let fifo = self.kind == DeviceKind::Fifo;
        if fifo && (self.major, self.minor) != (0, 0) {
            return Err(Error::invalid(field, "a named pipe has no device number"));
        }
        if fifo && self.source.is_some() {
            return Err(Error::invalid(field, "a named pipe of the host is mounted by a bind mount"));
        }
        if self.major > MAX_MAJOR || self.minor > MAX_MINOR {
            return Err(Error::invalid(field, format!("{}:{} is no device number", self.major, self.minor)));
        }
        if self.mode > 0o777 {
            return Err(Error::invalid(field, format!("{:#o} has more than permission bits", self.mode)));
        }
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Err(Error::invalid(field, "4294967295 (-1) is no id"));
        }
        if let Some(source) = &self.source {
            super::validate::absolute(&format!("{field}.source"), source)?;
        }
        Ok(())
    }
}

/// Allows or denies the use of devices to all processes of a container, whatever nodes they have.
///
/// For each of reading, writing and making nodes the last rule decides that is about the device and that access. Without
/// a rule it is denied. After the rules of a specification come the default ones: nodes of all devices may be made, and
/// the default devices ([`ContainerSpec::device_rules`](super::ContainerSpec::device_rules)) read and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceRule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// Which kind of devices.
    #[serde(default)]
    pub kind: DeviceRuleKind,
    /// The major number; any when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// The minor number; any when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// What is allowed or denied.
    #[serde(default)]
    pub access: DeviceAccess,
}

/// The kind of devices that a rule is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceRuleKind {
    /// Both.
    #[default]
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

impl DeviceRule {
    /// A rule that allows; `None` stands for any number.
    pub fn allow(kind: DeviceRuleKind, major: Option<u32>, minor: Option<u32>, access: DeviceAccess) -> Self {
        DeviceRule { allow: true, kind, major, minor, access }
    }

    /// A rule that denies; `None` stands for any number.
    pub fn deny(kind: DeviceRuleKind, major: Option<u32>, minor: Option<u32>, access: DeviceAccess) -> Self {
        DeviceRule { allow: false, kind, major, minor, access }
    }

    /// Whether it is about that device.
    pub(crate) fn concerns(&self, device: &Device) -> bool {
        let kind = match self.kind {
            DeviceRuleKind::All => device.kind != DeviceKind::Fifo,
            DeviceRuleKind::Char => device.kind == DeviceKind::Char,
            DeviceRuleKind::Block => device.kind == DeviceKind::Block,
        };
        let number = |rule: Option<u32>, number| rule.is_none_or(|rule| rule == number);
        kind && number(self.major, device.major) && number(self.minor, device.minor)
    }

    fn validate(&self, field: &str) -> Result<()> {
        if self.access == DeviceAccess::NONE {
            return Err(Error::invalid(field, "has no access to allow or deny"));
        }
        if self.major.is_some_and(|major| major > MAX_MAJOR)
            || self.minor.is_some_and(|minor| minor > MAX_MINOR)
        {
            return Err(Error::invalid(field, "has a number that no device has"));
        }
        Ok(())
    }
}

/// Reading, writing, and making nodes. In text `r`, `w` and `m`, each at most once: `"rwm"`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceAccess(u8);

impl DeviceAccess {
    const NONE: DeviceAccess = DeviceAccess(0);
    /// Making nodes of it by mknod(2). The numbers are those of linux/bpf.h.
    pub const MKNOD: DeviceAccess = DeviceAccess(1);
    /// Opening it for reading.
    pub const READ: DeviceAccess = DeviceAccess(2);
    /// Opening it for writing.
    pub const WRITE: DeviceAccess = DeviceAccess(4);
    /// All of it.
    pub const ALL: DeviceAccess = DeviceAccess(7);

    const LETTERS: [(char, DeviceAccess); 3] = [('r', Self::READ), ('w', Self::WRITE), ('m', Self::MKNOD)];

    /// Both of the two.
    pub const fn and(self, other: DeviceAccess) -> DeviceAccess {
        DeviceAccess(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: DeviceAccess) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn bits(self) -> i32 {
        self.0.into()
    }
}

impl Default for DeviceAccess {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for DeviceAccess {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut access = Self::NONE;
        for letter in text.chars() {
            match Self::LETTERS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) if !access.contains(*bit) => access = access.and(*bit),
                _ => return Err(Error::invalid("access", format!("{text:?} is not of r, w and m"))),
            }
        }
        if access == Self::NONE { Err(Error::invalid("access", "is empty")) } else { Ok(access) }
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = Self::LETTERS.iter().filter(|(_, bit)| self.contains(*bit));
        letters.into_iter().try_for_each(|(letter, _)| write!(f, "{letter}"))
    }
}

impl fmt::Debug for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for DeviceAccess {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceAccess {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Checks the nodes and the rules of a container.
pub(crate) fn validate(devices: &[Device], rules: &[DeviceRule]) -> Result<()> {
    if devices.len() > MAX_DEVICES || rules.len() > MAX_DEVICES {
        return Err(Error::invalid("devices and deviceRules", format!("are more than {MAX_DEVICES}")));
    }
    let mut paths = std::collections::BTreeSet::new();
    for (i, device) in devices.iter().enumerate() {
        let field = format!("devices[{i}]");
        device.validate(&field)?;
        let normal: PathBuf = Path::new(&device.path).components().collect();
        if !paths.insert(normal) {
            return Err(Error::invalid(field, format!("a second one at {}", device.path.display())));
        }
    }
    rules.iter().enumerate().try_for_each(|(i, rule)| rule.validate(&format!("deviceRules[{i}]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_letters() {
        for (text, access) in [
            ("rwm", DeviceAccess::ALL),
            ("r", DeviceAccess::READ),
            ("rw", DeviceAccess::READ.and(DeviceAccess::WRITE)),
            ("m", DeviceAccess::MKNOD),
        ] {
            assert_eq!(text.parse::<DeviceAccess>().unwrap(), access);
            assert_eq!(access.to_string(), text);
        }
        assert_eq!("mwr".parse::<DeviceAccess>().unwrap(), DeviceAccess::ALL);
        for wrong in ["", "x", "rr", "RW", "rwmx", "r w"] {
            assert!(wrong.parse::<DeviceAccess>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wrong_devices_and_rules_are_refused() {
        let check = |device: Device| validate(&[device], &[]).map_err(|error| error.to_string());
        assert_eq!(check(Device::char("/dev/fuse", 10, 229)), Ok(()));
        assert_eq!(check(Device::fifo("/run/pipe").mode(0o600).owner(5, 6)), Ok(()));
        let mut pipe = Device::fifo("/p");
        pipe.minor = 1;
        for wrong in [
            Device::char("dev/fuse", 1, 1),
            Device::char("/", 1, 1),
            Device::char("/dev/x/", 1, 1),
            Device::char("/dev/../x", 1, 1),
            Device::char("/proc/x", 1, 1),
            Device::char("//sys/x", 1, 1),
            Device::char("/x", 4096, 1),
            Device::char("/x", 1, 1 << 20),
            Device::char("/x", 1, 1).mode(0o4666),
            Device::char("/x", 1, 1).owner(u32::MAX, 0),
            Device::char("/x", 1, 1).source("y"),
            Device::fifo("/x").source("/y"),
            pipe,
        ] {
            assert!(check(wrong.clone()).is_err(), "{wrong:?}");
        }
        let same = [Device::char("/dev/x", 1, 1), Device::char("/dev/./x", 1, 2)];
        assert!(validate(&same, &[]).is_err());
        let rule = |major, access| DeviceRule::allow(DeviceRuleKind::Char, Some(major), None, access);
        assert!(validate(&[], &[rule(1, DeviceAccess::ALL)]).is_ok());
        assert!(validate(&[], &[rule(4096, DeviceAccess::ALL)]).is_err());
        assert!(validate(&[], &[rule(1, DeviceAccess::NONE)]).is_err());
        assert!(validate(&[], &vec![rule(1, DeviceAccess::ALL); 513]).is_err());
    }

    #[test]
    fn rules_are_short_in_json() {
        let rule: DeviceRule = serde_json::from_str(r#"{"allow": true}"#).unwrap();
        assert_eq!(rule, DeviceRule::allow(DeviceRuleKind::All, None, None, DeviceAccess::ALL));
        let json = r#"{"allow":false,"kind":"block","major":8,"access":"rw"}"#;
        let rule: DeviceRule = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&rule).unwrap(), json);
        assert_eq!(Device::fifo("/x").rule(DeviceAccess::ALL), None);
    }
}
