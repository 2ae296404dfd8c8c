//! Specifications from an OCI `config.json` (runtime-spec 1.0 to 1.3).
//!
//! One configuration describes a container with its namespaces. Here these belong to the pod:
//! [`PodSpec::from_oci`] takes what concerns the pod, [`ContainerSpec::from_oci`] the rest. Every field is honoured or
//! refused by its name. What the specification wants to be ignored is told by [`Bundle::warnings`].
//!
//! | in the configuration | becomes |
//! | --- | --- |
//! | `hostname`, `domainname`, `linux.sysctl`, `linux.cgroupsPath`, `linux.netDevices`, `linux.namespaces` of type network, ipc, uts and user, `linux.uidMappings`, `linux.gidMappings` | [`PodSpec`] |
//! | `linux.mountLabel` | both |
//! | everything else | [`ContainerSpec`] |
//! | `linux.intelRdt`, fields of other systems | an error that names it |
//!
//! Nothing of the library's defaults is added: a configuration without seccomp, masked paths or capabilities is a
//! container without them.

mod bundle;
mod container;
mod features;
mod hooks;
mod pod;
mod process;
mod process_file;
mod resources;
mod unknown;

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, LinuxResources, Spec};

use super::{ContainerSpec, DeviceRule, IdMapping, IdMappings, PodSpec, Resources};
use crate::error::{Error, ErrorKind, Result};

pub use crate::spec::kubernetes::cpu_weight;
pub use bundle::Bundle;
pub use features::features;
pub use process_file::ProcessFile;

impl ContainerSpec {
    /// The container of an OCI configuration, without what is the pod's. Its name is `main` until it is given another.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] for what the configuration has wrong or this library cannot do, by name. A relative
    /// path is one: it is relative to a bundle, see [`from_bundle`](Self::from_bundle).
    ///
    /// Ambient capabilities that are not permitted and inheritable as well are left out, as the kernel does it.
    pub fn from_oci(spec: &Spec) -> Result<ContainerSpec> {
        container::import(spec, None)
    }

    /// The container of the configuration in a bundle's directory, with paths that are relative to it.
    ///
    /// # Errors
    /// As [`from_oci`](Self::from_oci), and whatever reading the file gives.
    pub fn from_bundle(bundle: impl AsRef<Path>) -> Result<ContainerSpec> {
        Bundle::without_warnings(bundle.as_ref())?.container()
    }
}

impl Resources {
    /// The limits of an OCI configuration (`linux.resources`) in terms of cgroup v2, without its rules for devices.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] for what cgroup v2 does not have, by name.
    pub fn from_oci(resources: &LinuxResources) -> Result<Resources> {
        resources::import(resources)
    }
}

impl DeviceRule {
    /// The rules for devices of an OCI configuration (`linux.resources.devices`), in their order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] for what is no rule, by its place.
    pub fn all_from_oci(resources: &LinuxResources) -> Result<Vec<DeviceRule>> {
        container::device_rules(resources)
    }
}

impl PodSpec {
    /// What an OCI configuration says of the pod. A namespace that it does not list is the host's, one with a path is
    /// that one, and one without a path is new.
    ///
    /// # Errors
    /// As [`ContainerSpec::from_oci`].
    pub fn from_oci(name: impl Into<String>, spec: &Spec) -> Result<PodSpec> {
        pod::import(name.into(), spec)
    }

    /// What the configuration in a bundle's directory says of the pod.
    ///
    /// # Errors
    /// As [`ContainerSpec::from_bundle`].
    pub fn from_bundle(name: impl Into<String>, bundle: impl AsRef<Path>) -> Result<PodSpec> {
        Bundle::without_warnings(bundle.as_ref())?.pod(name)
    }
}

/// A configuration as text.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse(text: &str) -> Result<Spec> {
    model(serde_json::from_str(text).map_err(|error| wrong("config.json", error.to_string()))?)
}

/// The configuration in the model of it. What that does not know is lost: see `unknown.rs`.
fn model(mut json: serde_json::Value) -> Result<Spec> {
    prepare(&mut json)?;
    serde_json::from_value(json).map_err(|error| wrong("config.json", error.to_string()))
}

/// Changes a configuration to what the model of it understands.
fn prepare(json: &mut serde_json::Value) -> Result<()> {
    // The model spells two words differently from the specification.
    const MISSPELT: [(&str, &str); 2] = [
        ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
        ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
    ];
    let flags = json.pointer_mut("/process/scheduler/flags").and_then(|flags| flags.as_array_mut());
    for flag in flags.into_iter().flatten() {
        if let Some((_, model)) = MISSPELT.iter().find(|(word, _)| *flag == **word) {
            *flag = (*model).into();
        }
    }
    Ok(())
}

fn wrong(field: impl Into<String>, why: impl Into<String>) -> Error {
    Error::invalid(field.into(), why.into())
}

fn unsupported(field: impl Into<String>, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidSpec, "import").on(field.into()).because(why.into())
}

/// Refuses a field that is there.
fn refuse<T>(field: &str, value: &Option<T>, why: &str) -> Result<()> {
    match value {
        Some(_) => Err(unsupported(field, why.to_string())),
        None => Ok(()),
    }
}

/// What the configuration says of a namespace: not listed, new, or the one at that path.
enum Listed<'a> {
    No,
    New,
    At(&'a Path),
}

fn namespace(linux: Option<&Linux>, typ: LinuxNamespaceType) -> Listed<'_> {
    let list = linux.and_then(|linux| linux.namespaces().as_ref());
    match list.into_iter().flatten().find(|namespace| namespace.typ() == typ) {
        None => Listed::No,
        Some(namespace) => match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => Listed::At(path),
            _ => Listed::New,
        },
    }
}

/// The ids of the user namespace, or of a mount that is to have the same.
fn id_mappings(linux: Option<&Linux>) -> IdMappings {
    IdMappings {
        uid_mappings: ranges(linux.and_then(|linux| linux.uid_mappings().as_ref())),
        gid_mappings: ranges(linux.and_then(|linux| linux.gid_mappings().as_ref())),
    }
}

fn ranges(ranges: Option<&Vec<LinuxIdMapping>>) -> Vec<IdMapping> {
    let range = |range: &LinuxIdMapping| IdMapping::new(range.container_id(), range.host_id(), range.size());
    ranges.into_iter().flatten().map(range).collect()
}

/// What both halves check.
fn check_whole(spec: &Spec) -> Result<()> {
    if !spec.version().starts_with("1.") {
        return Err(wrong("ociVersion", format!("is {:?}; this library knows 1.0 to 1.3", spec.version())));
    }
    refuse("solaris", spec.solaris(), "is for another system")?;
    refuse("windows", spec.windows(), "is for another system")?;
    refuse("vm", spec.vm(), "is for virtual machines")?;
    refuse("zos", spec.zos(), "is for another system")?;
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let mut seen = Vec::new();
    for namespace in namespaces.into_iter().flatten() {
        if seen.contains(&namespace.typ()) {
            return Err(wrong("linux.namespaces", format!("has {} twice", namespace.typ())));
        }
        seen.push(namespace.typ());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
