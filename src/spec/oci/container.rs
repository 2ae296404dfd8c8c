//! What of a configuration concerns the container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    self as oci, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespaceType, LinuxResources,
    Spec,
};

use super::{
    Listed, check_whole, hooks, id_mappings, namespace, process, ranges, refuse, resources, unsupported,
    wrong,
};
use crate::error::Result;
use crate::spec::{
    CgroupNamespace, ContainerSpec, Device, DeviceAccess, DeviceKind, DeviceRule, DeviceRuleKind, IdMap,
    Mount, MountKind, MountNamespace, PidMode, Propagation, Rootfs, SeccompProfile, TimeNamespace,
    TimeOffsets,
};

pub(super) fn import(spec: &Spec, bundle: Option<&Path>) -> Result<ContainerSpec> {
    check_whole(spec)?;
    let root = spec.root().as_ref().ok_or_else(|| wrong("root", "is missing"))?;
    let rootfs = Rootfs::Directory {
        path: place("root.path", root.path(), bundle)?,
        readonly: root.readonly().unwrap_or_default(),
    };
    let mut container = ContainerSpec::new("main", rootfs);
    container.default_mounts = false;
    let process =
        spec.process().as_ref().ok_or_else(|| wrong("process", "is missing: there is nothing to run"))?;
    process::import(process, &mut container)?;
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        container.mounts.push(import_mount(
            &format!("mounts[{index}]"),
            mount,
            bundle,
            spec.linux().as_ref(),
        )?);
    }
    container.hooks = hooks::import(spec, bundle)?;
    container.annotations = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let linux = spec.linux().as_ref();
    namespaces(linux, &mut container)?;
    container.security.masked_paths = paths(linux.and_then(|linux| linux.masked_paths().as_ref()));
    container.security.readonly_paths = paths(linux.and_then(|linux| linux.readonly_paths().as_ref()));
    container.security.seccomp = match linux.and_then(|linux| linux.seccomp().as_ref()) {
        None => SeccompProfile::Unconfined,
        Some(profile) => SeccompProfile::Custom(Box::new(process::same("linux.seccomp", profile)?)),
    };
    if let Some(linux) = linux {
        import_linux(linux, &mut container)?;
    }
    container.validate()?;
    Ok(container)
}

fn import_linux(linux: &Linux, container: &mut ContainerSpec) -> Result<()> {
    container.security.mount_label = linux.mount_label().clone().filter(|label| !label.is_empty());
    refuse("linux.intelRdt", linux.intel_rdt(), "resource director classes are not supported")?;
    if let Some(policy) = linux.memory_policy() {
        container.memory_policy = Some(process::same("linux.memoryPolicy", policy)?);
    }
    if let Some(personality) = linux.personality() {
        if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(unsupported(
                "linux.personality.flags",
                "no flag is supported, as in the specification",
            ));
        }
        container.personality = Some(process::same("linux.personality.domain", &personality.domain())?);
    }
    if let Some(word) = linux.rootfs_propagation().as_ref().filter(|word| !word.is_empty()) {
        let (recursive, kind) = match word.strip_prefix('r') {
            Some(kind) => (true, kind),
            None => (false, word.as_str()),
        };
        container.rootfs_propagation = match kind {
            "private" => Propagation::Private,
            "slave" => Propagation::Slave,
            "shared" => Propagation::Shared,
            "unbindable" => Propagation::Unbindable,
            _ => return Err(wrong("linux.rootfsPropagation", format!("{word:?} is no propagation"))),
        };
        container.rootfs_propagation_recursive = recursive;
    }
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        let field = format!("linux.devices[{index}]");
        let device = import_device(&field, device)?;
        // The fresh /dev has it, as a link to that of the container's own terminals.
        if device.path == Path::new("/dev/ptmx") {
            if (device.kind, device.major, device.minor) != (DeviceKind::Char, 5, 2) {
                return Err(unsupported(
                    field,
                    "/dev/ptmx is that of the container's own terminals (a character device, 5:2)",
                ));
            }
            continue;
        }
        container.devices.push(device);
    }
    if let Some(given) = linux.resources() {
        container.resources = resources::import(given)?;
        container.device_rules = device_rules(given)?;
    }
    Ok(())
}

fn namespaces(linux: Option<&Linux>, container: &mut ContainerSpec) -> Result<()> {
    container.mount_namespace = match namespace(linux, LinuxNamespaceType::Mount) {
        Listed::New => MountNamespace::Container,
        Listed::No => MountNamespace::Host,
        Listed::At(path) => MountNamespace::Path(path.to_path_buf()),
    };
    container.pid = Some(match namespace(linux, LinuxNamespaceType::Pid) {
        Listed::New => PidMode::Container,
        Listed::No => PidMode::Host,
        Listed::At(path) => PidMode::Path(path.to_path_buf()),
    });
    container.cgroup_namespace = match namespace(linux, LinuxNamespaceType::Cgroup) {
        Listed::New => CgroupNamespace::Container,
        Listed::No => CgroupNamespace::Host,
        Listed::At(path) => CgroupNamespace::Path(path.to_path_buf()),
    };
    let offsets = linux.and_then(|linux| linux.time_offsets().as_ref()).filter(|offsets| !offsets.is_empty());
    container.time = match (namespace(linux, LinuxNamespaceType::Time), offsets) {
        (Listed::No, None) => TimeNamespace::Host,
        (Listed::No, Some(_)) => {
            return Err(wrong("linux.timeOffsets", "need a time namespace in linux.namespaces"));
        }
        (Listed::New, offsets) => TimeNamespace::New(match offsets {
            None => TimeOffsets::default(),
            Some(offsets) => process::same("linux.timeOffsets", offsets)?,
        }),
        (Listed::At(path), None) => TimeNamespace::Path(path.to_path_buf()),
        (Listed::At(_), Some(_)) => {
            return Err(wrong("linux.timeOffsets", "cannot be changed in a namespace that is there already"));
        }
    };
    Ok(())
}

/// A path of the host, which may be relative to the bundle.
fn place(field: &str, path: &Path, bundle: Option<&Path>) -> Result<PathBuf> {
    let whole = match (path.is_absolute(), bundle) {
        (true, _) => path.to_path_buf(),
        (false, Some(bundle)) => bundle.join(path),
        (false, None) => {
            return Err(wrong(
                field,
                format!("{} is relative to a bundle, which is not known here", path.display()),
            ));
        }
    };
    // Who wrote the configuration is trusted: "..", which the specifications of this library do not have, is resolved.
    Ok(normalized(&whole))
}

fn normalized(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

fn paths(list: Option<&Vec<String>>) -> Vec<PathBuf> {
    list.into_iter().flatten().map(PathBuf::from).collect()
}

fn import_mount(
    field: &str,
    mount: &oci::Mount,
    bundle: Option<&Path>,
    linux: Option<&Linux>,
) -> Result<Mount> {
    // Relative destinations are of the first versions of the specification.
    let destination = normalized(&Path::new("/").join(mount.destination()));
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let source = mount.source().as_ref().map(|source| source.display().to_string()).unwrap_or_default();
    let options = mount.options().clone().unwrap_or_default();
    let mut imported = Mount::from_options(destination, fstype, &source, &options)?;
    if let MountKind::Bind { source, .. } = &mut imported.kind {
        *source = place(&format!("{field}.source"), source, bundle)?;
    }
    let (mut uids, mut gids) = (ranges(mount.uid_mappings().as_ref()), ranges(mount.gid_mappings().as_ref()));
    if imported.idmap.is_some() && uids.is_empty() && gids.is_empty() {
        // Those of the user namespace, then.
        let ids = id_mappings(linux);
        (uids, gids) = (ids.uid_mappings, ids.gid_mappings);
    }
    match (&mut imported.idmap, uids.is_empty() && gids.is_empty()) {
        (None, true) => {}
        (Some(_), true) => {
            return Err(unsupported(
                field,
                "idmap without uidMappings and gidMappings: say them at the mount, or for a user namespace",
            ));
        }
        (idmap, false) => {
            let map = idmap.get_or_insert_with(IdMap::default);
            (map.uid_mappings, map.gid_mappings) = (uids, gids);
        }
    }
    Ok(imported)
}

fn import_device(field: &str, device: &LinuxDevice) -> Result<Device> {
    let number = |value: i64, name: &str| {
        u32::try_from(value)
            .map_err(|_| wrong(format!("{field}.{name}"), format!("{value} is no device number")))
    };
    let path = device.path();
    let mut imported = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => {
            Device::char(path, number(device.major(), "major")?, number(device.minor(), "minor")?)
        }
        LinuxDeviceType::B => {
            Device::block(path, number(device.major(), "major")?, number(device.minor(), "minor")?)
        }
        LinuxDeviceType::P => Device::fifo(path),
        LinuxDeviceType::A => {
            return Err(wrong(format!("{field}.type"), "\"a\" is for rules, not for devices"));
        }
    };
    if let Some(mode) = device.file_mode() {
        let kind = imported.kind;
        imported = imported.mode(permissions(mode, kind).ok_or_else(|| {
            let why = format!("{mode:#o} has more than permissions and the type of the device");
            unsupported(format!("{field}.fileMode"), why)
        })?);
    }
    debug_assert!(imported.kind != DeviceKind::Fifo || imported.major == 0);
    Ok(imported.owner(device.uid().unwrap_or_default(), device.gid().unwrap_or_default()))
}

/// Some write the type of the file, too: as stat(2) has it, or as Go does.
fn permissions(mode: u32, kind: DeviceKind) -> Option<u32> {
    const DEVICE: u32 = 1 << 26;
    let of_go = match kind {
        DeviceKind::Char => DEVICE | 1 << 21,
        DeviceKind::Block => DEVICE,
        DeviceKind::Fifo => 1 << 25,
    };
    [0, kind.file_type(), of_go].contains(&(mode & !0o777)).then_some(mode & 0o777)
}

pub(super) fn device_rules(resources: &LinuxResources) -> Result<Vec<DeviceRule>> {
    let rule = |(index, rule)| import_rule(&format!("linux.resources.devices[{index}]"), rule);
    resources.devices().iter().flatten().enumerate().map(rule).collect()
}

fn import_rule(field: &str, rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => DeviceRuleKind::All,
        Some(LinuxDeviceType::B) => DeviceRuleKind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceRuleKind::Char,
        Some(LinuxDeviceType::P) => {
            return Err(wrong(format!("{field}.type"), "pipes are not under device rules"));
        }
    };
    // Less than zero is any, as in runc.
    let number = |value: Option<i64>, name: &str| match value {
        None | Some(..0) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| wrong(format!("{field}.{name}"), format!("{value} is no device number"))),
    };
    let (major, minor) = (number(rule.major(), "major")?, number(rule.minor(), "minor")?);
    let access = match rule.access().as_deref().filter(|access| !access.is_empty()) {
        None => DeviceAccess::ALL,
        Some(access) => access
            .parse()
            .map_err(|_| wrong(format!("{field}.access"), format!("{access:?} is not of r, w and m")))?,
    };
    Ok(DeviceRule { allow: rule.allow(), kind, major, minor, access })
}
