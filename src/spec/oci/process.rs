//! `process`.

use std::collections::BTreeMap;

use oci_spec::runtime::{self as oci, Capabilities as OciCapabilities, LinuxCapabilities, Process};
use serde::de::DeserializeOwned;

use super::{refuse, unsupported, wrong};
use crate::error::Result;
use crate::spec::{
    Capabilities, Capability, CapabilitySet, ContainerSpec, CpuAffinity, ExecSpec, Rlimit, StdioSet, User,
};

/// Environment, identity and all other attributes of a process.
pub(super) fn import(process: &Process, into: &mut ContainerSpec) -> Result<()> {
    refuse("process.commandLine", process.command_line(), "is for another system")?;
    into.args = process.args().clone().unwrap_or_default();
    into.env = environment(process.env())?;
    into.cwd = process.cwd().clone();
    (into.user, into.umask) = user(process.user(), into.umask)?;
    into.terminal = process.terminal().unwrap_or_default();
    if let (true, Some(size)) = (into.terminal, process.console_size()) {
        let number = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        into.console_size =
            Some(crate::spec::ConsoleSize { width: number(size.width()), height: number(size.height()) });
    }
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let resource = same(&format!("process.rlimits[{index}].type"), &limit.typ())?;
        into.rlimits.push(Rlimit { resource, soft: limit.soft(), hard: limit.hard() });
    }
    let security = &mut into.security;
    security.no_new_privileges = process.no_new_privileges().unwrap_or_default();
    security.capabilities = capabilities(process.capabilities().as_ref())?;
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    security.apparmor_profile = text(process.apparmor_profile());
    security.selinux_label = text(process.selinux_label());
    into.oom_score_adj = process.oom_score_adj();
    into.io_priority = match process.io_priority() {
        None => None,
        Some(priority) => Some(same("process.ioPriority", &priority)?),
    };
    into.scheduler = match process.scheduler() {
        None => None,
        Some(scheduler) => Some(same("process.scheduler", scheduler)?),
    };
    into.exec_cpu_affinity = process.exec_cpu_affinity().as_ref().map(affinity);
    Ok(())
}

impl ExecSpec {
    /// A further program in a container, from the `process` of an OCI configuration. What is left out there has the meaning
    /// that the specification gives to that, with these exceptions, in which it is as for the container's own program,
    /// as other runtimes have it: capabilities, resource limits that are not named, the AppArmor profile, the SELinux
    /// label, `oomScoreAdj` and `execCPUAffinity`. The system call filter is always the container's.
    ///
    /// For a file see [`ProcessFile`](super::ProcessFile), which also understands what is younger than the type.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec) for what this library cannot do, by name.
    pub fn from_oci(process: &Process) -> Result<ExecSpec> {
        let rootfs = crate::spec::Rootfs::directory("/");
        let mut whole = ContainerSpec::new("exec", rootfs);
        import(process, &mut whole)?;
        let mut spec = ExecSpec::new(whole.args).inherit_env(false);
        spec.env = whole.env;
        spec.cwd = Some(whole.cwd);
        spec.user = Some(whole.user);
        spec.umask = Some(whole.umask);
        spec.rlimits = whole.rlimits;
        spec.stdio = StdioSet::default();
        spec.terminal = whole.terminal;
        spec.console_size = whole.console_size;
        spec.capabilities = process.capabilities().is_some().then_some(whole.security.capabilities);
        spec.no_new_privileges = Some(whole.security.no_new_privileges);
        spec.apparmor_profile = whole.security.apparmor_profile;
        spec.selinux_label = whole.security.selinux_label;
        spec.oom_score_adj = whole.oom_score_adj;
        spec.scheduler = whole.scheduler;
        spec.io_priority = whole.io_priority;
        spec.cpu_affinity = whole.exec_cpu_affinity;
        Ok(spec)
    }
}

/// The last entry of a name counts, as for getenv(3) of most programs.
fn environment(list: &Option<Vec<String>>) -> Result<BTreeMap<String, String>> {
    let entry = |(index, entry): (usize, &String)| match entry.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
        _ => Err(wrong(format!("process.env[{index}]"), format!("{entry:?} is not KEY=value"))),
    };
    list.iter().flatten().enumerate().map(entry).collect()
}

fn user(user: &oci::User, umask: u32) -> Result<(User, u32)> {
    refuse(
        "process.user.username",
        &user.username().as_ref().filter(|name| !name.is_empty()),
        "is for another system",
    )?;
    let additional_gids = user.additional_gids().clone().unwrap_or_default();
    let umask = user.umask().unwrap_or(umask);
    if umask > 0o777 {
        return Err(unsupported("process.user.umask", format!("{umask:#o} has more than permission bits")));
    }
    Ok((User { uid: user.uid(), gid: user.gid(), additional_gids }, umask))
}

/// All five sets as they are given; a set that is not is empty, and without any the process has no capability.
pub(super) fn capabilities(given: Option<&LinuxCapabilities>) -> Result<Capabilities> {
    let set = |of: fn(&LinuxCapabilities) -> &Option<OciCapabilities>| {
        given
            .and_then(|given| of(given).as_ref())
            .map_or(Ok(CapabilitySet::EMPTY), |list| same("process.capabilities", list))
    };
    let mut all = Capabilities::none();
    all.bounding = set(LinuxCapabilities::bounding)?;
    all.permitted = Some(set(LinuxCapabilities::permitted)?);
    all.effective = Some(set(LinuxCapabilities::effective)?);
    all.inheritable = Some(set(LinuxCapabilities::inheritable)?);
    // The kernel gives no ambient capability that is not permitted and inheritable, and callers rely on that: buildah
    // names them all, and gets none.
    let both = |capability: &Capability| {
        [&all.permitted, &all.inheritable].into_iter().flatten().all(|set| set.contains(*capability))
    };
    all.ambient = set(LinuxCapabilities::ambient)?.iter().filter(both).collect();
    Ok(all)
}

fn affinity(given: &oci::ExecCPUAffinity) -> CpuAffinity {
    let list = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    CpuAffinity { initial: list(given.initial()), at_exec: list(given.cpu_affinity_final()) }
}

/// The same in this library's model, where both have the JSON of the specification.
pub(super) fn same<T: DeserializeOwned>(field: &str, value: &impl serde::Serialize) -> Result<T> {
    serde_json::to_value(value)
        .and_then(serde_json::from_value)
        .map_err(|error| wrong(field, error.to_string()))
}
