//! The process: identity, privileges, streams, and the program.

use std::sync::Arc;

use super::Build;
use crate::container::plan::step::Step;
use crate::container::plan::{Slot, Source};
use crate::container::seccomp::{self, Program};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{ContainerSpec, PidMode, SeccompProfile, Stdio, User};
use crate::sys::namespace::Kind;

/// Where programs are looked for when the environment has no `PATH`, as in Docker and containerd.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories in `PATH`. Init has room for these next to the most arguments and variables that there may be.
const MAX_CANDIDATES: usize = 1024;
/// Bytes of the program's name or path, with the NUL (`PATH_MAX`).
const MAX_PROGRAM: usize = 4096;

impl Build<'_> {
    pub(super) fn process(&mut self) -> Result<()> {
        let container = self.container;
        let security = &container.security;
        let streams = [&container.stdio.stdin, &container.stdio.stdout, &container.stdio.stderr];
        let hooks = &container.hooks.start_container;
        let state = (!hooks.is_empty()).then(|| self.plan.source(Source::HookState));
        let mut null = None;
        let mut stdio = [Slot(0); 3];
        for (index, stream) in streams.into_iter().enumerate() {
            if container.terminal {
                break;
            }
            stdio[index] = if *stream == Stdio::Null {
                *null.get_or_insert_with(|| {
                    let slot = self.plan.slot();
                    self.plan.step(Step::OpenNull { slot });
                    slot
                })
            } else {
                self.plan.source(Source::Stdio(index))
            };
        }
        // In a pod with a user namespace that was done before init entered it, or is done before it enters the container.
        let done = if self.inside.is_some() { self.with_host_privileges()? } else { self.pod.ids.is_some() };
        self.arrive();
        if container.terminal {
            stdio = [self.terminal()?; 3];
        }
        self.plan.step(Step::Stdio(stdio));
        let enters_pid = self.enters_pid();
        if !done {
            self.join_pid();
        }
        for limit in &container.rlimits {
            self.plan.step(Step::Rlimit { resource: limit.resource, soft: limit.soft, hard: limit.hard });
        }
        if !done {
            self.privileged_attributes()?;
        }
        self.last_attributes(enters_pid)?;
        let filter = filter(container)?.map(Step::Seccomp);
        let early = filter.is_some() && !security.no_new_privileges;
        if early {
            self.look_as_user()?;
        }
        // Loading a filter takes CAP_SYS_ADMIN or no_new_privs: with the latter it comes last.
        let late = if security.no_new_privileges {
            filter
        } else {
            self.plan.steps.extend(filter);
            None
        };
        self.plan.step(Step::Identity {
            uid: container.user.uid,
            gid: container.user.gid,
            groups: container.user.additional_gids.clone(),
            capabilities: security.capabilities.bits(container.user.uid),
        });
        if security.no_new_privileges {
            self.plan.step(Step::NoNewPrivileges);
        }
        self.plan.step(Step::Umask(container.umask));
        if !early {
            self.plan.step(Step::Chdir { path: container.cwd.display().to_string() });
        }
        if enters_pid {
            self.plan.step(Step::EnterPid);
        }
        if container.terminal {
            self.plan.step(Step::ControllingTerminal);
        }
        if container.detached {
            if !early {
                self.find_program()?;
            }
            let slot = self.plan.source(Source::StartSocket);
            self.plan.step(Step::BarrierForAll { slot });
        } else {
            self.plan.step(Step::Barrier);
        }
        self.plan.steps.extend(late);
        self.start_hooks(state);
        self.exec()
    }

    /// A filter that is loaded before the change of identity need not let anything through but that, so that files are
    /// looked at before it, as the user.
    fn look_as_user(&mut self) -> Result<()> {
        let User { uid, gid, additional_gids: groups } = self.container.user.clone();
        self.plan.step(Step::LookAs { uid, gid, groups });
        self.plan.step(Step::Chdir { path: self.container.cwd.display().to_string() });
        self.find_program()
    }

    /// Who makes a detached container learns that there is no such program: who starts it may be another one.
    fn find_program(&mut self) -> Result<()> {
        if self.container.detached {
            let (candidates, _) = self.program()?;
            self.plan.step(Step::FindProgram { candidates });
        }
        Ok(())
    }

    /// Whether the process enters a PID namespace of others.
    fn enters_pid(&self) -> bool {
        match self.pod.pid_mode(self.container) {
            PidMode::Host => false,
            PidMode::Container => self.inside.is_some(),
            PidMode::Pod | PidMode::Target(_) | PidMode::Path(_) => true,
        }
    }

    /// Whether init forks on the way into its PID namespace.
    pub(super) fn forks(&self) -> bool {
        self.enters_pid()
            || self.pod.ids.is_some() && *self.pod.pid_mode(self.container) == PidMode::Container
    }

    /// Says which PID namespace is entered later, if one of others is.
    pub(super) fn join_pid(&mut self) {
        let slot = match (self.pod.pid_mode(self.container), self.inside) {
            (PidMode::Host, _) | (PidMode::Container, None) => return,
            (_, Some(process)) => process,
            (PidMode::Pod, None) => self.plan.source(Source::Namespace(Kind::Pid)),
            (PidMode::Target(name), None) => self.plan.source(Source::TargetPid(name.clone())),
            (PidMode::Path(path), None) => {
                self.plan.source(Source::NamespaceAt { kind: Kind::Pid, path: path.clone() })
            }
        };
        self.plan.step(Step::Join { slot, kind: Kind::Pid });
    }

    fn start_hooks(&mut self, state: Option<Slot>) {
        let Some(stdin) = state else { return };
        for hook in &self.container.hooks.start_container {
            self.plan.step(Step::RunHook {
                stdin,
                path: hook.path.display().to_string(),
                args: hook.argv(),
                env: hook.env.clone(),
                timeout: hook.timeout,
            });
        }
    }

    /// Before init opens anything: the numbers are free then.
    pub(super) fn preserve(&mut self) {
        let count = self.container.preserved_fds.len();
        if count > 0 {
            let slots = (0..count).map(|index| self.plan.source(Source::Preserved(index))).collect();
            self.plan.step(Step::Preserve(slots));
        }
    }

    fn exec(&mut self) -> Result<()> {
        let preserved = self.container.preserved_fds.len() as u32;
        if preserved > 0 {
            self.plan.step(Step::KeepOpen(preserved));
        }
        let (candidates, env) = self.program()?;
        self.plan.step(Step::Exec { candidates, args: self.container.args.clone(), env });
        Ok(())
    }

    /// Where the program may be, and its environment.
    fn program(&self) -> Result<(Vec<String>, Vec<String>)> {
        let container = self.container;
        let path = container.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let mut env: Vec<String> =
            container.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if !container.env.contains_key("PATH") {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let program = &container.args[0];
        // A candidate is made of both: without bounds a specification of 512 KiB would make gigabytes of them.
        if program.len() >= MAX_PROGRAM {
            return Err(Error::invalid("args[0]", "is longer than 4095 bytes, more than a path can be"));
        }
        let candidates: Vec<String> = if program.contains('/') {
            vec![program.clone()]
        } else {
            // An empty part of PATH means the working directory (environ(7)).
            let in_directory = |directory: &str| match directory {
                "" => program.clone(),
                directory => format!("{}/{program}", directory.trim_end_matches('/')),
            };
            path.split(':').take(MAX_CANDIDATES + 1).map(in_directory).collect()
        };
        if candidates.len() > MAX_CANDIDATES {
            return Err(Error::invalid(
                "env[\"PATH\"]",
                format!("has more than {MAX_CANDIDATES} directories"),
            ));
        }
        Ok((candidates, env))
    }
}

/// The filter of a container, compiled once per profile and kept.
fn filter(container: &ContainerSpec) -> Result<Option<Arc<Program>>> {
    match &container.security.seccomp {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => {
            seccomp::default_program(container.security.capabilities.bounding.bits()).map(Some).map_err(
                |error| {
                    Error::new(ErrorKind::Unsupported, "compile")
                        .on("the default seccomp profile")
                        .because(error.to_string())
                },
            )
        }
        SeccompProfile::Custom(profile) => seccomp::custom_program(profile)
            .map(Some)
            .map_err(|error| Error::invalid("security.seccomp", error.to_string())),
    }
}
