//! Mounts of one container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mount_attributes::{IdMap, MountAttribute, MountAttributes};

/// A mount in a container, see mount(8) for what the flags do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Flat")]
#[non_exhaustive]
pub struct Mount {
    /// Where: an absolute path in the container, made when it is missing. Symbolic links on the way are resolved
    /// inside the container's root. `/` and everything below `/proc` are refused, except `/proc` itself for a proc, and
    /// bind mounts on the files that lxcfs and the like replace (`/proc/cpuinfo`, `/proc/meminfo`, …).
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
    /// How mounts made later below a bind mount's source travel; and whether those below a tmpfs travel to copies of it
    /// in the container.
    pub propagation: Propagation,
    /// Whether that also goes for what is mounted below it already; on unless said otherwise. Otherwise what is below an
    /// unbindable mount is private, and a shared one must have nothing below: nothing is shared with the host that was
    /// not asked for.
    #[serde(skip_serializing_if = "is_true")]
    pub propagation_recursive: bool,
    /// Attributes that the flags above have no word for.
    #[serde(skip_serializing_if = "MountAttributes::is_empty")]
    pub attributes: MountAttributes,
    /// Other owners for the files on it. The filesystem has to support that: most do, a tmpfs since Linux 6.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idmap: Option<IdMap>,
    /// Whether a tmpfs begins with a copy of what the root filesystem has at its place (`tmpcopyup`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub copy_up: bool,
    /// Whether a bind mount's source that is a symbolic link is mounted itself, and not what it leads to
    /// (`src-nofollow`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub source_nofollow: bool,
    /// Whether a bind mount's source that is a symbolic link is made anew at the destination, with nothing mounted
    /// (`copy-symlink`). What is there already must be a link with the same content. It goes before `source_nofollow`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub copy_symlink: bool,
    /// Options of the filesystem itself, as `mount -o` takes them: `uid=5`, `sync`. For `Tmpfs`, `Proc`, `Sysfs`,
    /// `Cgroup`, `Devpts` and `Filesystem`; the kernel refuses what the filesystem does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// What mount(8) and df(1) show as the device of a tmpfs; `tmpfs` when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
}

fn is_true(on: &bool) -> bool {
    *on
}

fn yes() -> bool {
    true
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
    fstype: Option<String>,
    #[serde(default = "yes")]
    propagation_recursive: bool,
    #[serde(default)]
    attributes: MountAttributes,
    idmap: Option<IdMap>,
    #[serde(default)]
    copy_up: bool,
    #[serde(default)]
    source_nofollow: bool,
    #[serde(default)]
    copy_symlink: bool,
    #[serde(default)]
    data: Vec<String>,
    source_name: Option<String>,
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
    Filesystem,
}

impl TryFrom<Flat> for Mount {
    type Error = String;

    fn try_from(flat: Flat) -> Result<Self, String> {
        let Flat { source, recursive, size, mode, name, sub_path, fstype, .. } = flat;
        let is_other = matches!(flat.kind, KindName::Filesystem);
        let (is_bind, is_tmpfs, is_volume) = (
            matches!(flat.kind, KindName::Bind),
            matches!(flat.kind, KindName::Tmpfs),
            matches!(flat.kind, KindName::Volume),
        );
        let at = flat.destination.display();
        for (key, given, fits) in [
            ("source", source.is_some(), is_bind || is_other),
            ("recursive", recursive.is_some(), is_bind),
            ("size", size.is_some(), is_tmpfs),
            ("mode", mode.is_some(), is_tmpfs),
            ("name", name.is_some(), is_volume),
            ("subPath", sub_path.is_some(), is_volume),
            ("fstype", fstype.is_some(), is_other),
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
            KindName::Filesystem => {
                MountKind::Filesystem { fstype: fstype.ok_or_else(|| missing("fstype"))?, source }
            }
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
            propagation_recursive: flat.propagation_recursive,
            attributes: flat.attributes,
            idmap: flat.idmap,
            copy_up: flat.copy_up,
            source_nofollow: flat.source_nofollow,
            copy_symlink: flat.copy_symlink,
            data: flat.data,
            source_name: flat.source_name,
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
    /// Any other filesystem, mounted as on the host: in the host's mount and network namespace.
    #[serde(rename_all = "camelCase")]
    Filesystem {
        /// Its type, as in `/proc/filesystems`: `ext4`, `overlay`.
        fstype: String,
        /// What it is on: a block device of the host, or whatever the filesystem takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<PathBuf>,
    },
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
    /// Not at all, and nobody can bind it elsewhere.
    Unbindable,
}

impl Propagation {
    /// As mount(2) has it.
    pub(crate) fn flag(self) -> u64 {
        match self {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }
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
            propagation_recursive: true,
            attributes: MountAttributes::default(),
            idmap: None,
            copy_up: false,
            source_nofollow: false,
            copy_symlink: false,
            data: Vec::new(),
            source_name: None,
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

    /// A filesystem of another type, on a device of the host where it needs one.
    pub fn filesystem(
        fstype: impl Into<String>,
        source: Option<PathBuf>,
        destination: impl Into<PathBuf>,
    ) -> Self {
        Self::new(destination, MountKind::Filesystem { fstype: fstype.into(), source })
    }

    /// Sets an attribute of the mount itself.
    pub fn attribute(mut self, attribute: MountAttribute) -> Self {
        self.attributes.set.insert(attribute);
        self
    }

    /// Sets [`idmap`](Self::idmap).
    pub fn idmap(mut self, idmap: IdMap) -> Self {
        self.idmap = Some(idmap);
        self
    }

    /// Sets [`copy_up`](Self::copy_up).
    pub fn copy_up(mut self, on: bool) -> Self {
        self.copy_up = on;
        self
    }

    /// Sets [`source_nofollow`](Self::source_nofollow).
    pub fn source_nofollow(mut self, on: bool) -> Self {
        self.source_nofollow = on;
        self
    }

    /// Sets [`copy_symlink`](Self::copy_symlink).
    pub fn copy_symlink(mut self, on: bool) -> Self {
        self.copy_symlink = on;
        self
    }

    /// Adds an option of the filesystem itself.
    pub fn data(mut self, option: impl Into<String>) -> Self {
        self.data.push(option.into());
        self
    }

    /// Sets [`source_name`](Self::source_name).
    pub fn source_name(mut self, name: impl Into<String>) -> Self {
        self.source_name = Some(name.into());
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
            Mount::bind("/a", "/b").source_nofollow(true),
            Mount::bind("/a", "/b").copy_symlink(true),
            tmpfs(None, None),
            tmpfs(Some(4096), Some(0o700)).source_name("shm").propagation(Propagation::Shared),
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
