//! Another program in a container that there is already.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::container::{ContainerSpec, Rlimit, RlimitResource, User};
use super::hooks::Hooks;
use super::process::{CpuAffinity, IoPriority, Scheduler};
use super::security::{Capabilities, SeccompProfile};
use super::stdio::{SharedFd, Stdio, StdioSet};
use super::terminal::ConsoleSize;
use crate::error::{Error, Result};

/// A program to run in a container with `Container::exec`. What is not said is as the container's own specification
/// has it, streams excepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ExecSpec {
    /// The program and its arguments, at least one. A program without a slash is looked for in `PATH`.
    pub args: Vec<String>,
    /// Environment variables, in addition to the container's or instead of its own of that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whether it has the container's environment; on unless said otherwise.
    #[serde(default = "yes")]
    pub inherit_env: bool,
    /// The working directory: an absolute path in the container, which must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// The identity of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The file mode creation mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Resource limits, in addition to the container's or instead of its limits of these resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Standard input, output and error.
    #[serde(default)]
    pub stdio: StdioSet,
    /// Whether standard input, output and error are a terminal, which the process' handle gives away the master of. The
    /// three streams must then be left as they are by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The size of the terminal at first; 0 by 0 unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Further open files, which the program finds as descriptors 3, 4 and so on.
    #[serde(skip)]
    pub preserved_fds: Vec<SharedFd>,
    /// Capabilities. They may be more than the container's own processes have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Whether execve(2) can never give more privileges (`PR_SET_NO_NEW_PRIVS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// The system call filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompProfile>,
    /// The AppArmor profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// The SELinux label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// How early the OOM killer chooses the process, -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The scheduling policy; the usual one, and not the container's, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The priority at disks; the usual one, and not the container's, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// The processors that the process may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<CpuAffinity>,
}

fn yes() -> bool {
    true
}

impl ExecSpec {
    /// This program with these arguments, otherwise as the container's own.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        ExecSpec {
            args: args.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            inherit_env: true,
            cwd: None,
            user: None,
            umask: None,
            rlimits: Vec::new(),
            stdio: StdioSet::default(),
            preserved_fds: Vec::new(),
            terminal: false,
            console_size: None,
            capabilities: None,
            no_new_privileges: None,
            seccomp: None,
            apparmor_profile: None,
            selinux_label: None,
            oom_score_adj: None,
            scheduler: None,
            io_priority: None,
            cpu_affinity: None,
        }
    }

    /// Adds an environment variable.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Sets [`inherit_env`](Self::inherit_env).
    pub fn inherit_env(mut self, on: bool) -> Self {
        self.inherit_env = on;
        self
    }

    /// Sets [`cwd`](Self::cwd).
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets user and group id. There are no supplementary groups, unless [`additional_gids`](Self::additional_gids)
    /// says so.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        let user = self.user.get_or_insert_default();
        (user.uid, user.gid) = (uid, gid);
        self
    }

    /// Sets the supplementary groups of the user given by [`user`](Self::user).
    pub fn additional_gids(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.user.get_or_insert_default().additional_gids = gids.into_iter().collect();
        self
    }

    /// Sets [`umask`](Self::umask).
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = Some(umask);
        self
    }

    /// Adds a resource limit.
    pub fn rlimit(mut self, resource: RlimitResource, soft: u64, hard: u64) -> Self {
        self.rlimits.push(Rlimit { resource, soft, hard });
        self
    }

    /// Sets standard input.
    pub fn stdin(mut self, stdio: Stdio) -> Self {
        self.stdio.stdin = stdio;
        self
    }

    /// Sets standard output.
    pub fn stdout(mut self, stdio: Stdio) -> Self {
        self.stdio.stdout = stdio;
        self
    }

    /// Sets standard error.
    pub fn stderr(mut self, stdio: Stdio) -> Self {
        self.stdio.stderr = stdio;
        self
    }

    /// Sets [`terminal`](Self::terminal).
    pub fn terminal(mut self, on: bool) -> Self {
        self.terminal = on;
        self
    }

    /// Sets [`console_size`](Self::console_size).
    pub fn console_size(mut self, width: u16, height: u16) -> Self {
        self.console_size = Some(ConsoleSize { width, height });
        self
    }

    /// Sets [`capabilities`](Self::capabilities).
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = Some(capabilities);
        self
    }

    /// Sets [`no_new_privileges`](Self::no_new_privileges).
    pub fn no_new_privileges(mut self, on: bool) -> Self {
        self.no_new_privileges = Some(on);
        self
    }

    /// Sets [`seccomp`](Self::seccomp).
    pub fn seccomp(mut self, profile: SeccompProfile) -> Self {
        self.seccomp = Some(profile);
        self
    }

    /// The container as it would be with this program, checked.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec), naming the first field that is wrong.
    pub fn over(&self, container: &ContainerSpec) -> Result<ContainerSpec> {
        let mut spec = container.clone();
        spec.args = self.args.clone();
        if !self.inherit_env {
            spec.env.clear();
        }
        spec.env.extend(self.env.clone());
        if let Some(cwd) = &self.cwd {
            spec.cwd = cwd.clone();
        }
        if let Some(user) = &self.user {
            spec.user = user.clone();
        }
        spec.umask = self.umask.unwrap_or(spec.umask);
        spec.rlimits.retain(|limit| self.rlimits.iter().all(|own| own.resource != limit.resource));
        spec.rlimits.extend(&self.rlimits);
        spec.stdio = self.stdio.clone();
        spec.preserved_fds = self.preserved_fds.clone();
        (spec.terminal, spec.console_size) = (self.terminal, self.console_size);
        spec.detached = false;
        spec.hooks = Hooks::default();
        spec.scheduler = self.scheduler.clone();
        spec.io_priority = self.io_priority;
        spec.oom_score_adj = self.oom_score_adj.or(spec.oom_score_adj);
        let affinity = spec.exec_cpu_affinity.take().or(spec.cpu_affinity);
        spec.cpu_affinity = self.cpu_affinity.clone().or(affinity);
        let security = &mut spec.security;
        if let Some(capabilities) = &self.capabilities {
            security.capabilities = capabilities.clone();
        }
        security.no_new_privileges = self.no_new_privileges.unwrap_or(security.no_new_privileges);
        if let Some(profile) = &self.seccomp {
            security.seccomp = profile.clone();
        }
        security.apparmor_profile = self.apparmor_profile.clone().or(security.apparmor_profile.take());
        security.selinux_label = self.selinux_label.clone().or(security.selinux_label.take());
        if let SeccompProfile::Custom(profile) = &security.seccomp
            && profile.notifies()
            && profile.listener_path.is_none()
        {
            return Err(Error::invalid(
                "seccomp",
                "the filter notifies: name the socket of who answers in listenerPath, since nobody else could",
            ));
        }
        spec.validate()?;
        Ok(spec)
    }
}
