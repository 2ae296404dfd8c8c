//! What a pod and a container should be: plain data and its validation, no I/O.
//!
//! A specification is made with `new` and chained setters, or read from JSON with serde: keys are camelCase,
//! unknown keys are errors that name the key. Everything is validated before anything is made; see
//! [`PodSpec::validate`] and [`ContainerSpec::validate`].

mod container;
mod exec;
mod ipc;
mod mount;
mod name;
mod pod;
mod resources;
mod security;
mod stdio;
mod sysctl;
mod terminal;
mod validate;

#[cfg(test)]
mod tests;

pub use container::{ContainerSpec, Rlimit, RlimitResource, Rootfs, Upper, User};
pub use exec::ExecSpec;
pub use ipc::{
    IpcObjects, MessageQueueSpec, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec, SysvMessageQueueSpec,
};
pub use mount::{Mount, MountKind, Propagation};
pub use pod::{NamespaceMode, PidMode, PodNamespaces, PodSpec, Volume, VolumeSource};
pub use resources::{
    CpuMax, CpuResources, CpusetResources, IoMax, IoResources, Limit, MemoryResources, Resources,
};
pub use security::{Capabilities, Capability, CapabilitySet, SeccompProfile, Security};
pub use stdio::{Stdio, StdioSet};
pub use terminal::ConsoleSize;

pub(crate) use name::{hostname_from_name, is_dns_label, is_dns_subdomain, is_hostname};
pub(crate) use sysctl::{SysctlNamespace, sysctl_namespace, sysctl_path};
