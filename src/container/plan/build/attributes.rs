//! Attributes of the process that few containers ask for. What is not asked for makes no step.

use super::Build;
use crate::container::plan::step::Step;
use crate::container::plan::{Slot, Source};
use crate::error::{Error, Result};
use crate::spec::{SeccompProfile, TimeNamespace, TimeOffset, cpu_mask};

impl Build<'_> {
    /// The private proc, opened when a first step needs it.
    pub(super) fn private_proc(&mut self) -> Slot {
        match self.proc {
            Some(slot) => slot,
            None => *self.proc.insert(self.plan.source(Source::PrivateProc)),
        }
    }

    fn write_proc(&mut self, what: &'static str, path: &'static str, text: String) {
        let proc = self.private_proc();
        self.plan.step(Step::WriteProc { proc, path, text, what });
    }

    fn affinity(&mut self, field: &str, list: &str) -> Result<()> {
        let mask = cpu_mask(list).map_err(|why| Error::invalid(field, why))?;
        self.plan.step(Step::Affinity { mask, list: list.into() });
        Ok(())
    }

    /// Where it runs while it is prepared.
    pub(super) fn first_affinity(&mut self) -> Result<()> {
        let affinity = self.container.cpu_affinity.as_ref();
        affinity
            .and_then(|affinity| affinity.initial.as_ref())
            .map_or(Ok(()), |list| self.affinity("cpuAffinity.initial", list))
    }

    /// Before anything else, as the user that the host program is: the quota of keys that it counts for is the host's.
    pub(super) fn session_keyring(&mut self) {
        let security = &self.container.security;
        if security.inherit_session_keyring {
            return;
        }
        // Whoever is confined could not use a keyring with the label of the host program.
        if let Some(label) = security.selinux_label.clone() {
            self.write_proc("the SELinux label of new keys", "self/attr/keycreate", label);
        }
        self.plan.step(Step::SessionKeyring);
    }

    /// What is to be so while the container is made.
    pub(super) fn first_attributes(&mut self) -> Result<()> {
        let container = self.container;
        self.first_affinity()?;
        match &container.time {
            TimeNamespace::Host => {}
            TimeNamespace::Path(path) => {
                let slot = self.plan.source(Source::TimeNamespace(path.clone()));
                self.plan.step(Step::JoinTime { slot });
            }
            TimeNamespace::New(offsets) => {
                let line =
                    |clock, offset: TimeOffset| format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
                self.plan.step(Step::UnshareTime);
                let text = line("monotonic", offsets.monotonic) + &line("boottime", offsets.boottime);
                // Before anybody is in it: later its offsets cannot be changed.
                self.write_proc("offsets of the time namespace", "self/timens_offsets", text);
                let proc = self.private_proc();
                self.plan.step(Step::EnterTime { proc });
            }
        }
        Ok(())
    }

    /// What takes privileges of the host where the specification asks for more than the calling program has.
    pub(super) fn privileged_attributes(&mut self) -> Result<()> {
        let container = self.container;
        if let Some(adjustment) = container.oom_score_adj {
            self.write_proc("oom_score_adj", "self/oom_score_adj", adjustment.to_string());
        }
        if let Some(scheduler) = &container.scheduler {
            if self.forks() && scheduler.ends_at_fork() {
                return Err(Error::invalid(
                    "scheduler",
                    "SCHED_DEADLINE and SCHED_FLAG_RESET_ON_FORK do not live through the fork by which a container \
                     enters the PID namespace of others, or one of a user namespace; give it one of its own, and the \
                     pod no user namespace",
                ));
            }
            self.plan.step(Step::Scheduler(scheduler.clone()));
        }
        if let Some(priority) = container.io_priority {
            self.plan.step(Step::IoPriority(priority.number()));
        }
        Ok(())
    }

    /// What is to be so when the program begins. While all privileges are there that it can have, and no filter yet.
    pub(super) fn last_attributes(&mut self, enters_pid: bool) -> Result<()> {
        let container = self.container;
        if let Some(list) = container.cpu_affinity.as_ref().and_then(|affinity| affinity.at_exec.as_ref()) {
            self.affinity("cpuAffinity.final", list)?;
        }
        if let Some(personality) = container.personality {
            self.plan.step(Step::Personality(personality.number()));
        }
        if let Some(policy) = &container.memory_policy {
            let mask = policy.mask().map_err(|why| Error::invalid("memoryPolicy.nodes", why))?;
            self.plan.step(Step::MemoryPolicy { mask, policy: policy.clone() });
        }
        let security = &container.security;
        // For the next execve(2): init itself stays as it is.
        if let Some(profile) = &security.apparmor_profile {
            self.write_proc("the AppArmor profile", "self/attr/apparmor/exec", format!("exec {profile}"));
        }
        if let Some(label) = &security.selinux_label {
            self.write_proc("the SELinux label", "self/attr/exec", label.clone());
        }
        if let SeccompProfile::Custom(profile) = &security.seccomp
            && profile.notifies()
            && enters_pid
            && !security.no_new_privileges
        {
            return Err(Error::invalid(
                "security.seccomp",
                "a listener needs noNewPrivileges in the PID namespace of others: without it the filter is loaded by a \
                 process that is gone when the container is there",
            ));
        }
        Ok(())
    }
}
