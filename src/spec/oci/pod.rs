//! What of a configuration concerns the pod.

use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::{Listed, check_whole, id_mappings, namespace, wrong};
use crate::error::Result;
use crate::spec::{NamespaceMode, NetDevice, PodSpec, UserMode};

pub(super) fn import(name: String, spec: &Spec) -> Result<PodSpec> {
    check_whole(spec)?;
    let linux = spec.linux().as_ref();
    let mut pod = PodSpec::new(name);
    let mode = |typ| match namespace(linux, typ) {
        Listed::No => NamespaceMode::Host,
        Listed::New => NamespaceMode::Pod,
        Listed::At(path) => NamespaceMode::Path(path.to_path_buf()),
    };
    pod.namespaces.network = mode(LinuxNamespaceType::Network);
    pod.namespaces.ipc = mode(LinuxNamespaceType::Ipc);
    pod.namespaces.uts = mode(LinuxNamespaceType::Uts);
    pod.namespaces.user = user_namespace(linux)?;
    // Who wants other ids for files says so at the mount; the rest was prepared for these.
    pod.unmapped_mounts = !pod.namespaces.user.is_host();
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    pod.hostname = text(spec.hostname());
    pod.domainname = text(spec.domainname());
    if pod.namespaces.uts == NamespaceMode::Host && (pod.hostname.is_some() || pod.domainname.is_some()) {
        return Err(wrong(
            "hostname",
            "needs a UTS namespace in linux.namespaces: it would change the host's",
        ));
    }
    let Some(linux) = linux else { return Ok(pod) };
    pod.mount_label = text(linux.mount_label());
    pod.sysctls = linux.sysctl().clone().unwrap_or_default().into_iter().collect();
    pod.cgroup = match linux.cgroups_path().as_ref().map(|path| path.to_str()) {
        None => None,
        Some(None) => return Err(wrong("linux.cgroupsPath", "is not UTF-8")),
        Some(Some("")) => None,
        Some(Some(path)) if path.contains(':') => {
            return Err(wrong(
                "linux.cgroupsPath",
                format!(
                    "{path:?} is for a runtime that asks systemd for cgroups; this one makes them itself: give a path"
                ),
            ));
        }
        Some(Some(path)) => Some(path.to_string()),
    };
    for (device, settings) in linux.net_devices().iter().flatten() {
        let name = settings.name().clone().filter(|name| !name.is_empty());
        pod.net_devices.insert(device.clone(), NetDevice { name });
    }
    Ok(pod)
}

fn user_namespace(linux: Option<&Linux>) -> Result<UserMode> {
    let ids = id_mappings(linux);
    let mapped = !ids.uid_mappings.is_empty() || !ids.gid_mappings.is_empty();
    match namespace(linux, LinuxNamespaceType::User) {
        Listed::No if mapped => Err(wrong("linux.uidMappings", "need a user namespace in linux.namespaces")),
        Listed::No => Ok(UserMode::Host),
        Listed::New if ids.uid_mappings.is_empty() || ids.gid_mappings.is_empty() => {
            Err(wrong("linux.uidMappings", "and linux.gidMappings must say the ids of a new user namespace"))
        }
        Listed::New => Ok(UserMode::Mapped(ids)),
        Listed::At(_) if mapped => Err(wrong(
            "linux.uidMappings",
            "cannot be changed in a user namespace that is there already; leave them out",
        )),
        Listed::At(path) => Ok(UserMode::Path(path.to_path_buf())),
    }
}
