//! Validation: everything that can be known to be wrong without asking the machine is refused here, before
//! anything is made.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::security::mount_label;
use super::*;
use crate::error::{Error, Result};

/// Bytes of all arguments and environment variables together, and of a specification's other strings: a bound on
/// what init has to hold (CVE-2021-43784). The kernel's own limit is a quarter of the stack limit, usually 2 MiB.
const MAX_STRINGS: usize = 512 << 10;
/// Arguments and environment variables.
const MAX_ENTRIES: usize = 32768;
/// Mounts of one container.
const MAX_MOUNTS: usize = 1024;
/// Hooks of one point, and arguments and variables of one hook, with their bytes.
const MAX_HOOKS: usize = 64;
const MAX_HOOK_WORDS: usize = 2048;
const MAX_HOOK_BYTES: usize = 64 << 10;
/// Open files that a container gets besides its streams.
const MAX_PRESERVED: usize = 256;
/// Bytes of all labels and annotations, as in Kubernetes: they are kept in the state of the pod.
const MAX_LABELS: usize = 256 << 10;
/// Layers of one overlay.
const MAX_LAYERS: usize = crate::pod::pins::MAX_LAYERS;
/// Files of a proc that something may be bound over: what they tell of the machine can be told of the container, and no
/// security module is controlled by them. The list is that of runc.
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];
/// Bytes of a path, see path_resolution(7).
const MAX_PATH: usize = 4096;

impl PodSpec {
    /// Checks everything that can be checked without asking the machine.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec), naming the first field that is wrong.
    pub fn validate(&self) -> Result<()> {
        if !is_dns_subdomain(&self.name) {
            return Err(Error::invalid("name", format!("{:?} is not a DNS subdomain (RFC 1123)", self.name)));
        }
        if !is_dns_label(&self.namespace) {
            return Err(Error::invalid(
                "namespace",
                format!("{:?} is not a DNS label (RFC 1123)", self.namespace),
            ));
        }
        if let Some(hostname) = &self.hostname
            && !is_hostname(hostname)
        {
            return Err(Error::invalid(
                "hostname",
                format!("{hostname:?} is not 1 to 64 letters, digits, '-' and '.'"),
            ));
        }
        if let Some(domainname) = &self.domainname
            && (domainname.is_empty() || domainname.len() > 64 || domainname.contains(['\0', '\n']))
        {
            return Err(Error::invalid("domainname", "must be 1 to 64 bytes without NUL and newline"));
        }
        if self.namespaces.uts == NamespaceMode::Host
            && (self.hostname.is_some() || self.domainname.is_some())
        {
            return Err(Error::invalid(
                "hostname",
                "a host or domain name needs a UTS namespace that is not the host's; it would change that of others",
            ));
        }
        if let PidMode::Target(_) = self.namespaces.pid {
            return Err(Error::invalid(
                "namespaces.pid",
                "the PID namespace of another container can be asked for by a container, not by a pod",
            ));
        }
        if let PidMode::Path(path) = &self.namespaces.pid {
            absolute("namespaces.pid.path", path)?;
        }
        for (field, mode) in [
            ("namespaces.network", &self.namespaces.network),
            ("namespaces.ipc", &self.namespaces.ipc),
            ("namespaces.uts", &self.namespaces.uts),
        ] {
            if let NamespaceMode::Path(path) = mode {
                absolute(field, path)?;
            }
        }
        self.namespaces.user.validate()?;
        if self.unmapped_mounts && self.namespaces.user.is_host() {
            return Err(Error::invalid(
                "unmappedMounts",
                "means nothing without a user namespace of the pod",
            ));
        }
        self.mount_label.as_deref().map_or(Ok(()), |label| mount_label("mountLabel", label))?;
        self.validate_sysctls()?;
        if self.shm_size == 0 {
            return Err(Error::invalid("shmSize", "is zero; a tmpfs of size 0 would have no limit"));
        }
        let mut names = BTreeSet::new();
        for (i, volume) in self.volumes.iter().enumerate() {
            let field = format!("volumes[{i}]");
            if !is_dns_label(&volume.name) {
                return Err(Error::invalid(field, format!("name {:?} is not a DNS label", volume.name)));
            }
            if !names.insert(&volume.name) {
                return Err(Error::invalid(field, format!("a second volume is named {:?}", volume.name)));
            }
            match &volume.source {
                VolumeSource::Tmpfs { size: 0, .. } => {
                    return Err(Error::invalid(field, "size is zero"));
                }
                VolumeSource::Tmpfs { mode, .. } => permission_bits(&format!("{field}.mode"), *mode)?,
                VolumeSource::Directory { path } => absolute(&field, path)?,
            }
        }
        netdevice::validate(&self.net_devices)?;
        if !self.net_devices.is_empty() && self.namespaces.network == NamespaceMode::Host {
            return Err(Error::invalid(
                "netDevices",
                "there is no network namespace of the pod's to move them into",
            ));
        }
        if !self.ipc.is_empty() && self.namespaces.ipc == NamespaceMode::Host {
            return Err(Error::invalid("ipc", "IPC objects would be made in the host's IPC namespace"));
        }
        crate::pod::ipc::validate(&self.ipc)?;
        crate::cgroup::validate(&self.resources)?;
        self.kubernetes.as_ref().map_or(Ok(()), |pod| pod.validate())?;
        if let Some(path) = &self.cgroup {
            crate::cgroup::check_path(path)?;
        }
        labels(self.labels.iter().chain(&self.annotations))?;
        Ok(())
    }
}

impl ContainerSpec {
    /// Checks everything that can be checked without asking the machine.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec), naming the first field that is wrong.
    pub fn validate(&self) -> Result<()> {
        if !is_dns_label(&self.name) {
            return Err(Error::invalid("name", format!("{:?} is not a DNS label (RFC 1123)", self.name)));
        }
        self.validate_process()?;
        self.validate_rootfs()?;
        self.validate_mounts()?;
        self.validate_hooks()?;
        device::validate(&self.devices, &self.device_rules)?;
        for path in self.security.masked_paths.iter().chain(&self.security.readonly_paths) {
            absolute("security.maskedPaths and readonlyPaths", path)?;
            if normal(path).as_os_str() == "/" {
                return Err(Error::invalid("security", "the root cannot be a masked or read-only path"));
            }
        }
        if self.security.masked_paths.len() + self.security.readonly_paths.len() > MAX_MOUNTS {
            return Err(Error::invalid("security", "more than 1024 masked and read-only paths"));
        }
        self.security.capabilities.validate(self.user.uid)?;
        self.security.validate_labels()?;
        if let SeccompProfile::Custom(profile) = &self.security.seccomp {
            profile.validate()?;
        }
        self.validate_attributes()?;
        crate::cgroup::validate(&self.resources)?;
        self.requirements.as_ref().map_or(Ok(()), |requirements| requirements.validate("requirements"))?;
        labels(self.labels.iter().chain(&self.annotations))?;
        Ok(())
    }

    fn validate_process(&self) -> Result<()> {
        match self.args.first() {
            None => return Err(Error::invalid("args", "is empty: no program to run")),
            Some(program) if program.is_empty() => {
                return Err(Error::invalid("args[0]", "is empty: no program to run"));
            }
            Some(_) => {}
        }
        let mut bytes = 0;
        for (i, arg) in self.args.iter().enumerate() {
            no_nul(&format!("args[{i}]"), arg)?;
            bytes += arg.len() + 1;
        }
        for (key, value) in &self.env {
            if key.is_empty() || key.contains('=') {
                return Err(Error::invalid("env", format!("{key:?} cannot be a variable's name")));
            }
            no_nul("env", key)?;
            no_nul(&format!("env[{key:?}]"), value)?;
            bytes += key.len() + value.len() + 2;
        }
        if bytes > MAX_STRINGS {
            return Err(Error::invalid(
                "args and env",
                format!("hold {bytes} bytes, more than {MAX_STRINGS}"),
            ));
        }
        // Init's table of pointers, with room for the candidates of a search in PATH.
        if self.args.len() + self.env.len() > MAX_ENTRIES {
            return Err(Error::invalid("args and env", format!("are more than {MAX_ENTRIES}")));
        }
        absolute("cwd", &self.cwd)?;
        let ids = [self.user.uid, self.user.gid];
        if ids.iter().chain(&self.user.additional_gids).any(|&id| id == u32::MAX) {
            return Err(Error::invalid("user", "4294967295 (-1) means \"leave as it is\" and is no id"));
        }
        if self.user.additional_gids.len() > 65536 {
            return Err(Error::invalid("user.additionalGids", "more than 65536 (NGROUPS_MAX)"));
        }
        permission_bits("umask", self.umask)?;
        let mut seen = BTreeSet::new();
        for limit in &self.rlimits {
            let field = format!("rlimits[{:?}]", limit.resource.name());
            if limit.soft > limit.hard {
                return Err(Error::invalid(field, "the soft limit is above the hard limit"));
            }
            if !seen.insert(limit.resource as u32) {
                return Err(Error::invalid(field, "is given twice"));
            }
        }
        if !(1..=64).contains(&self.stop_signal) {
            return Err(Error::invalid("stopSignal", format!("{} is not a signal", self.stop_signal)));
        }
        if let Some(PidMode::Path(path)) = &self.pid {
            absolute("pid.path", path)?;
        }
        if let CgroupNamespace::Path(path) = &self.cgroup_namespace {
            absolute("cgroupNamespace.path", path)?;
        }
        if let MountNamespace::Path(path) = &self.mount_namespace {
            absolute("mountNamespace.path", path)?;
        }
        if let Some(PidMode::Target(name)) = &self.pid
            && (!is_dns_label(name) || *name == self.name)
        {
            return Err(Error::invalid("pid.target", format!("{name:?} is not another container's name")));
        }
        if self.terminal && self.stdio != StdioSet::default() {
            return Err(Error::invalid(
                "stdio",
                "is a terminal, as `terminal` says: nothing else can be asked for",
            ));
        }
        if self.console_size.is_some() && !self.terminal {
            return Err(Error::invalid("consoleSize", "needs `terminal`"));
        }
        if self.preserved_fds.len() > MAX_PRESERVED {
            return Err(Error::invalid("preservedFds", format!("more than {MAX_PRESERVED}")));
        }
        for (field, stdio) in
            [("stdin", &self.stdio.stdin), ("stdout", &self.stdio.stdout), ("stderr", &self.stdio.stderr)]
        {
            if let Stdio::File(path) = stdio {
                absolute(&format!("stdio.{field}"), path)?;
            }
        }
        Ok(())
    }

    fn validate_hooks(&self) -> Result<()> {
        for (point, list) in self.hooks.lists() {
            if list.len() > MAX_HOOKS {
                return Err(Error::invalid(format!("hooks.{point}"), format!("more than {MAX_HOOKS}")));
            }
            for (i, hook) in list.iter().enumerate() {
                let field = format!("hooks.{point}[{i}]");
                absolute(&format!("{field}.path"), &hook.path)?;
                let words = || hook.args.iter().chain(&hook.env);
                words().try_for_each(|word| no_nul(&field, word))?;
                if words().count() > MAX_HOOK_WORDS
                    || words().map(|word| word.len() + 1).sum::<usize>() > MAX_HOOK_BYTES
                {
                    return Err(Error::invalid(
                        field,
                        format!(
                            "has more than {MAX_HOOK_WORDS} arguments and variables, or {MAX_HOOK_BYTES} bytes"
                        ),
                    ));
                }
                if hook.timeout == Some(0) {
                    return Err(Error::invalid(field, "timeout is zero; leave it out for no bound"));
                }
            }
        }
        if !self.hooks.create_container.is_empty() && !matches!(self.rootfs, Rootfs::Directory { .. }) {
            return Err(Error::invalid(
                "hooks.createContainer",
                "needs a root filesystem that is a directory: an overlay has no path on the host",
            ));
        }
        if let Some(bundle) = &self.hooks.bundle {
            absolute("hooks.bundle", bundle)?;
        }
        self.hooks.id.iter().try_for_each(|id| no_nul("hooks.id", id))
    }

    fn validate_rootfs(&self) -> Result<()> {
        if let Some(idmap) = &self.rootfs_idmap {
            idmap.validate("rootfsIdmap")?;
        }
        match &self.rootfs {
            Rootfs::Directory { path, .. } => absolute("rootfs.path", path),
            Rootfs::Overlay { lower, upper, .. } => {
                if lower.is_empty() || lower.len() > MAX_LAYERS {
                    return Err(Error::invalid("rootfs.lower", format!("must be 1 to {MAX_LAYERS} layers")));
                }
                lower.iter().try_for_each(|layer| absolute("rootfs.lower", layer))?;
                match upper {
                    Upper::Tmpfs { size: Some(0) } => Err(Error::invalid("rootfs.upper.size", "is zero")),
                    Upper::Tmpfs { .. } => Ok(()),
                    Upper::Directory { upper, work } => {
                        absolute("rootfs.upper.upper", upper)?;
                        absolute("rootfs.upper.work", work)?;
                        if normal(upper) == normal(work) {
                            return Err(Error::invalid("rootfs.upper.work", "is the upper directory itself"));
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    fn validate_mounts(&self) -> Result<()> {
        if self.mounts.len() > MAX_MOUNTS {
            return Err(Error::invalid("mounts", format!("more than {MAX_MOUNTS}")));
        }
        let mut destinations = BTreeSet::new();
        for (i, mount) in self.mounts.iter().enumerate() {
            let field = format!("mounts[{i}]");
            absolute(&format!("{field}.destination"), &mount.destination)?;
            let destination = normal(&mount.destination);
            if destination.as_os_str() == "/" {
                return Err(Error::invalid(field, "a mount over the root would hide the root filesystem"));
            }
            let on_proc_file = matches!(mount.kind, MountKind::Bind { .. })
                && PROC_FILES.iter().any(|file| destination.as_os_str() == *file);
            if destination.starts_with("/proc")
                && !(destination.as_os_str() == "/proc" && mount.kind == MountKind::Proc)
                && !on_proc_file
            {
                return Err(Error::invalid(
                    field,
                    format!(
                        "a mount over {} would fake what the kernel says; only a proc may be mounted on /proc",
                        destination.display()
                    ),
                ));
            }
            if !destinations.insert(destination) {
                return Err(Error::invalid(
                    field,
                    format!("a second mount on {}", mount.destination.display()),
                ));
            }
            if mount.readonly_recursive && !mount.readonly {
                return Err(Error::invalid(field, "readonlyRecursive needs readonly"));
            }
            match &mount.kind {
                MountKind::Bind { source, .. } => absolute(&format!("{field}.source"), source)?,
                MountKind::Tmpfs { size: Some(0), .. } => {
                    return Err(Error::invalid(field, "size is zero"));
                }
                MountKind::Tmpfs { mode: Some(mode), .. } => {
                    permission_bits(&format!("{field}.mode"), *mode)?;
                }
                MountKind::Volume { name, sub_path } => {
                    if !is_dns_label(name) {
                        return Err(Error::invalid(field, format!("{name:?} is not the name of a volume")));
                    }
                    if let Some(path) = sub_path {
                        no_nul_path(&format!("{field}.subPath"), path)?;
                        if path.as_os_str().is_empty()
                            || path.components().any(|c| !matches!(c, Component::Normal(_)))
                        {
                            return Err(Error::invalid(
                                format!("{field}.subPath"),
                                format!("{} must be relative and without \"..\"", path.display()),
                            ));
                        }
                    }
                }
                _ => {}
            }
            mount.validate_options(&field)?;
        }
        Ok(())
    }
}

/// The path without `.` and doubled slashes. `..` never comes here: [`absolute`] refuses it.
fn normal(path: &Path) -> std::path::PathBuf {
    path.components().collect()
}

fn labels<'a>(all: impl Iterator<Item = (&'a String, &'a String)>) -> Result<()> {
    const FIELD: &str = "labels and annotations";
    let mut bytes = 0;
    for (key, value) in all {
        no_nul(FIELD, key)?;
        no_nul(FIELD, value)?;
        bytes += key.len() + value.len();
    }
    if bytes > MAX_LABELS {
        return Err(Error::invalid(FIELD, format!("hold {bytes} bytes, more than {MAX_LABELS}")));
    }
    Ok(())
}

pub(super) fn absolute(field: &str, path: &Path) -> Result<()> {
    if !path.is_absolute() {
        return Err(Error::invalid(
            field,
            format!("{:?} is not an absolute path", path.display().to_string()),
        ));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(Error::invalid(field, format!("{} has a \"..\"", path.display())));
    }
    no_nul_path(field, path)
}

pub(super) fn no_nul_path(field: &str, path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Err(Error::invalid(field, "has a NUL byte"));
    }
    if path.to_str().is_none() {
        return Err(Error::invalid(field, format!("{} is not UTF-8", path.display())));
    }
    if bytes.len() >= MAX_PATH {
        return Err(Error::invalid(field, "is longer than 4095 bytes"));
    }
    Ok(())
}

fn no_nul(field: &str, text: &str) -> Result<()> {
    if text.contains('\0') { Err(Error::invalid(field, "has a NUL byte")) } else { Ok(()) }
}

fn permission_bits(field: &str, mode: u32) -> Result<()> {
    if mode > 0o7777 {
        Err(Error::invalid(field, format!("{mode:#o} has more than permission bits")))
    } else {
        Ok(())
    }
}
