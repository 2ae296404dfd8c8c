//! Mounts of one container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A mount in a container, see mount(8) for what the flags do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Flat")]
#[non_exhaustive]
pub struct Mount {
    /// Where: an absolute path in the container, made when it is missing. Symbolic links on the way are resolved
    /// inside the container's root. `/` and everything below `/proc` are refused, except `/proc` itself for a proc.
    pub destination: PathBuf,
    /// What.
    #[serde(flatten)]
    pub kind: MountKind,
    /// Whether it is read-only.
    pub readonly: bool,
    /// Whether `readonly` also goes for everything mounted below a bind mount's source or in a volume.
    pub readonly_recursive: bool,
    /// Whether set-user-id bits and file capabilities are ignored.
    pub nosuid: bool,
    /// Whether device nodes are ignored.
    pub nodev: bool,
    /// Whether programs cannot be executed from it.
    pub noexec: bool,
    /// How mounts made later below a bind mount's source travel.
    pub propagation: Propagation,
}

/// A mount as it is read from JSON: the keys of all kinds side by side. With serde's `flatten`, which writes it, nobody
/// could say which keys are unknown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Flat {
    destination: PathBuf,
    #[serde(rename = "type")]
    kind: KindName,
    source: Option<PathBuf>,
    recursive: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
    name: Option<String>,
    sub_path: Option<PathBuf>,
    #[serde(default)]
    readonly: bool,
    #[serde(default)]
    readonly_recursive: bool,
    #[serde(default)]
    nosuid: bool,
    #[serde(default)]
    nodev: bool,
    #[serde(default)]
    noexec: bool,
    #[serde(default)]
    propagation: Propagation,
}

/// The values of the key `type`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum KindName {
    Bind,
    Tmpfs,
    Volume,
    Proc,
    Sysfs,
    Cgroup,
    Devpts,
    Shm,
    Mqueue,
}

impl TryFrom<Flat> for Mount {
    type Error = String;

    fn try_from(flat: Flat) -> Result<Self, String> {
        let Flat { source, recursive, size, mode, name, sub_path, .. } = flat;
        let (is_bind, is_tmpfs, is_volume) = (
            matches!(flat.kind, KindName::Bind),
            matches!(flat.kind, KindName::Tmpfs),
            matches!(flat.kind, KindName::Volume),
        );
        let at = flat.destination.display();
        for (key, given, fits) in [
            ("source", source.is_some(), is_bind),
            ("recursive", recursive.is_some(), is_bind),
            ("size", size.is_some(), is_tmpfs),
            ("mode", mode.is_some(), is_tmpfs),
            ("name", name.is_some(), is_volume),
            ("subPath", sub_path.is_some(), is_volume),
        ] {
            if given && !fits {
                return Err(format!("unknown field `{key}` for the type of the mount on {at}"));
            }
        }
        let missing = |key: &str| format!("missing field `{key}` of the mount on {at}");
        let kind = match flat.kind {
            KindName::Bind => MountKind::Bind {
                source: source.ok_or_else(|| missing("source"))?,
                recursive: recursive.unwrap_or_default(),
            },
            KindName::Tmpfs => MountKind::Tmpfs { size, mode },
            KindName::Volume => MountKind::Volume { name: name.ok_or_else(|| missing("name"))?, sub_path },
            KindName::Proc => MountKind::Proc,
            KindName::Sysfs => MountKind::Sysfs,
            KindName::Cgroup => MountKind::Cgroup,
            KindName::Devpts => MountKind::Devpts,
            KindName::Shm => MountKind::Shm,
            KindName::Mqueue => MountKind::Mqueue,
        };
        Ok(Mount {
            destination: flat.destination,
            kind,
            readonly: flat.readonly,
            readonly_recursive: flat.readonly_recursive,
            nosuid: flat.nosuid,
            nodev: flat.nodev,
            noexec: flat.noexec,
            propagation: flat.propagation,
        })
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum MountKind {
    /// A file or directory of the host.
    #[serde(rename_all = "camelCase")]
    Bind {
        /// Its absolute path on the host, resolved once.
        source: PathBuf,
        /// Whether what is mounted below it comes along.
        #[serde(default)]
        recursive: bool,
    },
    /// A tmpfs of the container's own.
    #[serde(rename_all = "camelCase")]
    Tmpfs {
        /// Bytes; half of the machine's memory when `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Permission bits of its root directory; `0o1777` when `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    /// A volume of the pod.
    #[serde(rename_all = "camelCase")]
    Volume {
        /// Its name in the pod.
        name: String,
        /// A path below the volume's root; it must exist, and no symbolic link leads out of the volume.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sub_path: Option<PathBuf>,
    },
    /// proc(5) of the container's PID namespace.
    Proc,
    /// sysfs(5) of the pod's network namespace.
    Sysfs,
    /// The container's own cgroup v2 subtree.
    Cgroup,
    /// A devpts instance of the container's own.
    Devpts,
    /// The pod's POSIX shared memory (`/dev/shm`).
    Shm,
    /// The pod's POSIX message queues (`/dev/mqueue`).
    Mqueue,
}

/// How mounts made later below a bind mount's source travel, see mount_namespaces(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    /// Not at all. Kubernetes' `None`.
    #[default]
    Private,
    /// From the host into the container. Kubernetes' `HostToContainer`.
    Slave,
    /// Both ways. Kubernetes' `Bidirectional`; the source must be a shared mount on the host.
    Shared,
}

impl Mount {
    fn new(destination: impl Into<PathBuf>, kind: MountKind) -> Self {
        Mount {
            destination: destination.into(),
            kind,
            readonly: false,
            readonly_recursive: false,
            nosuid: false,
            nodev: false,
            noexec: false,
            propagation: Propagation::default(),
        }
    }

    /// A bind mount of a file or directory of the host, without what is mounted below it.
    pub fn bind(source: impl Into<PathBuf>, destination: impl Into<PathBuf>) -> Self {
        Self::new(destination, MountKind::Bind { source: source.into(), recursive: false })
    }

    /// A bind mount with everything that is mounted below the source.
    pub fn rbind(source: impl Into<PathBuf>, destination: impl Into<PathBuf>) -> Self {
        Self::new(destination, MountKind::Bind { source: source.into(), recursive: true })
    }

    /// A tmpfs of at most so many bytes.
    pub fn tmpfs(destination: impl Into<PathBuf>, size: u64) -> Self {
        Self::new(destination, MountKind::Tmpfs { size: Some(size), mode: None })
    }

    /// A volume of the pod.
    pub fn volume(name: impl Into<String>, destination: impl Into<PathBuf>) -> Self {
        Self::new(destination, MountKind::Volume { name: name.into(), sub_path: None })
    }

    /// A file or directory below the root of a volume of the pod.
    pub fn volume_sub_path(
        name: impl Into<String>,
        sub_path: impl Into<PathBuf>,
        destination: impl Into<PathBuf>,
    ) -> Self {
        Self::new(destination, MountKind::Volume { name: name.into(), sub_path: Some(sub_path.into()) })
    }

    /// A mount of one of the kinds that need nothing but a place: `Proc`, `Sysfs`, `Cgroup`, `Devpts`, `Shm`,
    /// `Mqueue`.
    pub fn of(kind: MountKind, destination: impl Into<PathBuf>) -> Self {
        Self::new(destination, kind)
    }

    /// Sets [`readonly`](Self::readonly).
    pub fn readonly(mut self, on: bool) -> Self {
        self.readonly = on;
        self
    }

    /// Makes it read-only with everything below.
    pub fn readonly_recursive(mut self, on: bool) -> Self {
        self.readonly |= on;
        self.readonly_recursive = on;
        self
    }

    /// Sets [`nosuid`](Self::nosuid).
    pub fn nosuid(mut self, on: bool) -> Self {
        self.nosuid = on;
        self
    }

    /// Sets [`nodev`](Self::nodev).
    pub fn nodev(mut self, on: bool) -> Self {
        self.nodev = on;
        self
    }

    /// Sets [`noexec`](Self::noexec).
    pub fn noexec(mut self, on: bool) -> Self {
        self.noexec = on;
        self
    }

    /// Sets [`propagation`](Self::propagation).
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_json() {
        let tmpfs = |size, mode| Mount::of(MountKind::Tmpfs { size, mode }, "/t");
        for mount in [
            Mount::bind("/a", "/b").readonly_recursive(true).propagation(Propagation::Slave),
            Mount::rbind("/a", "/b").nosuid(true).nodev(true).noexec(true),
            tmpfs(None, None),
            tmpfs(Some(4096), Some(0o700)),
            Mount::volume("data", "/data"),
            Mount::volume_sub_path("data", "a/b", "/data").readonly(true),
            Mount::of(MountKind::Proc, "/proc"),
            Mount::of(MountKind::Sysfs, "/sys"),
            Mount::of(MountKind::Cgroup, "/sys/fs/cgroup"),
            Mount::of(MountKind::Devpts, "/dev/pts"),
            Mount::of(MountKind::Shm, "/dev/shm"),
            Mount::of(MountKind::Mqueue, "/dev/mqueue"),
        ] {
            let json = serde_json::to_string(&mount).unwrap();
            assert_eq!(serde_json::from_str::<Mount>(&json).unwrap(), mount, "{json}");
        }
    }

    #[test]
    fn keys_that_are_unknown_missing_or_of_another_kind_are_named() {
        for (json, text) in [
            (r#"{"destination":"/b","type":"bind","source":"/a","sauce":1}"#, "unknown field `sauce`"),
            (r#"{"destination":"/b","type":"bind","source":"/a","size":1}"#, "unknown field `size`"),
            (r#"{"destination":"/b","type":"proc","source":"/a"}"#, "unknown field `source`"),
            (r#"{"destination":"/b","type":"bind"}"#, "missing field `source`"),
            (r#"{"destination":"/b","type":"volume"}"#, "missing field `name`"),
            (r#"{"destination":"/b","type":"nfs"}"#, "unknown variant `nfs`"),
            (r#"{"destination":"/b"}"#, "missing field `type`"),
        ] {
            let error = serde_json::from_str::<Mount>(json).unwrap_err().to_string();
            assert!(error.contains(text), "{json}: {error}");
        }
    }
}
