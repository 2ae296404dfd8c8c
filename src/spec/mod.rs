//! What a pod and a container should be: plain data and its validation, no I/O.
//!
//! A specification is made with `new` and chained setters, or read from JSON with serde: keys are camelCase,
//! unknown keys are errors that name the key. Everything is validated before anything is made; see
//! [`PodSpec::validate`] and [`ContainerSpec::validate`].

mod container;
mod device;
mod exec;
mod hooks;
mod idmap;
mod ipc;
pub mod kubernetes;
mod memory_policy;
mod mount;
mod mount_attributes;
mod mount_namespace;
mod mount_options;
mod name;
mod netdevice;
pub mod oci;
mod overlay;
mod pod;
mod process;
mod resources;
mod seccomp;
mod security;
mod stdio;
mod sysctl;
mod terminal;
pub(crate) mod user;
mod validate;

#[cfg(test)]
mod tests;

pub use container::{ContainerSpec, Rlimit, RlimitResource, Rootfs, Upper, User};
pub use device::{Device, DeviceAccess, DeviceKind, DeviceRule, DeviceRuleKind};
pub use exec::ExecSpec;
pub use hooks::{Hook, Hooks};
pub use idmap::IdMapping;
pub use ipc::{
    IpcObjects, MessageQueueSpec, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec, SysvMessageQueueSpec,
};
pub use memory_policy::{MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode};
pub use mount::{Mount, MountKind, Propagation};
pub use mount_attributes::{IdMap, MountAttribute, MountAttributes};
pub use mount_namespace::MountNamespace;
pub use netdevice::NetDevice;
pub use pod::{CgroupNamespace, NamespaceMode, PidMode, PodNamespaces, PodSpec, Volume, VolumeSource};
pub use process::{
    CpuAffinity, IoPriority, IoPriorityClass, Personality, Scheduler, SchedulerFlag, SchedulerPolicy,
    TimeNamespace, TimeOffset, TimeOffsets,
};
pub use resources::{
    CpuMax, CpuResources, CpusetResources, IoLatency, IoMax, IoResources, IoWeight, Limit, MemoryResources,
    RdmaMax, Resources,
};
pub use seccomp::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompFlag, SeccompOp, SeccompSyscall};
pub use security::{Capabilities, Capability, CapabilitySet, SeccompProfile, Security};
pub use stdio::{SharedFd, Stdio, StdioSet};
pub use terminal::ConsoleSize;
pub use user::{IdMappings, UserMode};

pub(crate) use device::validate as validate_devices;
pub(crate) use idmap::validate_mappings;

pub(crate) use process::cpu_mask;
pub(crate) use security::CapabilityBits;

pub(crate) use mount_options::{split_data, words as mount_option_words};
pub(crate) use name::{hostname_from_name, is_dns_label, is_dns_subdomain, is_hostname};
pub(crate) use sysctl::{SysctlNamespace, sysctl_namespace, sysctl_path};
