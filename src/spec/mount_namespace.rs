//! Whose mount namespace a container's process is in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::container::ContainerSpec;

/// Where a container's mount namespace comes from; see mount_namespaces(7).
///
/// A container has its root filesystem and its mounts in any of them, and nobody else sees these. In a namespace of
/// others they are in no list of mounts: `/proc/self/mountinfo` is empty there, and nothing can be mounted in them. The
/// root is then one of chroot(2): with `CAP_SYS_CHROOT` a process gets out of it, to all files of that namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountNamespace {
    /// A new one, with nothing in it but the container's root filesystem and what is mounted there.
    #[default]
    Container,
    /// That of the program that makes the container.
    Host,
    /// The one at that path: a file of `/proc/PID/ns`, or a bind mount of one.
    Path(PathBuf),
}

impl MountNamespace {
    pub(crate) fn is_container(&self) -> bool {
        *self == MountNamespace::Container
    }
}

impl ContainerSpec {
    /// Sets [`mount_namespace`](Self::mount_namespace).
    pub fn mount_namespace(mut self, mode: MountNamespace) -> Self {
        self.mount_namespace = mode;
        self
    }
}
