//! What of a configuration concerns the pod.

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, Spec};

use super::{Listed, check_whole, namespace, wrong};
use crate::error::Result;
use crate::spec::{NamespaceMode, NetDevice, PodSpec};

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
    user_namespace(linux)?;
    let own_uts = pod.namespaces.uts == NamespaceMode::Pod;
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    pod.hostname = text(spec.hostname());
    pod.domainname = text(spec.domainname());
    if !own_uts {
        // A namespace that is given has its names, or gets them from whoever made it.
        if matches!(pod.namespaces.uts, NamespaceMode::Host)
            && (pod.hostname.is_some() || pod.domainname.is_some())
        {
            return Err(wrong(
                "hostname",
                "needs a UTS namespace in linux.namespaces: it would change the host's",
            ));
        }
        (pod.hostname, pod.domainname) = (None, None);
    }
    let Some(linux) = linux else { return Ok(pod) };
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

fn user_namespace(linux: Option<&Linux>) -> Result<()> {
    let given = |mappings: Option<&Option<Vec<LinuxIdMapping>>>| {
        mappings.and_then(Option::as_ref).is_some_and(|mappings| !mappings.is_empty())
    };
    let mapped = given(linux.map(Linux::uid_mappings)) || given(linux.map(Linux::gid_mappings));
    match namespace(linux, LinuxNamespaceType::User) {
        Listed::No if mapped => Err(wrong("linux.uidMappings", "need a user namespace in linux.namespaces")),
        Listed::No => Ok(()),
        Listed::New | Listed::At(_) => Err(wrong(
            "linux.namespaces",
            "a user namespace cannot be imported by this version of the library",
        )),
    }
}
