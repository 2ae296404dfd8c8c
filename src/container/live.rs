//! What concerns all processes of a container that runs: signals for each of them, and other rules for devices.

use nix::errno::Errno;

use super::Container;
use crate::cgroup::{Cgroup, no_cgroups};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{DeviceRule, validate_devices};
use crate::sys::pidfd;

impl Container {
    /// Sends a signal (signal(7)) to every process of the container: those that there are in its cgroup at one moment, for which
    /// they are frozen, if they are not already. What they start on hearing it is not meant. Frozen processes hear it when
    /// they are thawed. `SIGKILL` is as [`kill`](Self::kill).
    ///
    /// The kernel drops signals that process 1 of a PID namespace has no handler for, except `SIGKILL` and `SIGSTOP`.
    ///
    /// # Errors
    /// `WrongState` when no process is left; `InvalidSpec` for what is no signal, 1 to 64; `Unsupported` in a node without
    /// cgroups, which alone tell what there is, for anything but `SIGKILL`; `PermissionDenied` for a process that a security
    /// module protects, or one of a PID namespace that this program does not see into. All others have the signal then.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        self.try_signal_all(signal).map_err(|error| {
            error.within(format!("signal all of container {:?} of pod {}", self.name(), self.0.pod.name()))
        })
    }

    fn try_signal_all(&self, signal: i32) -> Result<()> {
        if !(1..=libc::SIGRTMAX()).contains(&signal) {
            return Err(Error::invalid("signal", format!("is {signal}, must be 1 to {}", libc::SIGRTMAX())));
        }
        if signal == libc::SIGKILL {
            return self.kill();
        }
        if !self.0.pod.0.node.0.cgroups.exists() {
            return Err(no_cgroups("find the processes of"));
        }
        let sent = match &self.0.cgroup {
            None => 0,
            // Whoever froze it is the one to thaw it.
            Some(cgroup) if cgroup.is_frozen()? => send(cgroup, signal)?,
            Some(cgroup) => {
                match cgroup.freeze() {
                    Err(error) if error.kind() == ErrorKind::NotFound => return Err(ended(signal)),
                    frozen => frozen?,
                }
                let sent = send(cgroup, signal);
                let thawed = cgroup.thaw();
                let sent = sent?;
                match thawed {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    thawed => thawed?,
                }
                sent
            }
        };
        if sent == 0 { Err(ended(signal)) } else { Ok(()) }
    }

    /// Replaces the rules for devices of a container that runs, all at once: there is no moment without rules, nor one with
    /// some of both. They mean what they mean in [`device_rules`](crate::ContainerSpec::device_rules), and the default devices
    /// stay. What a process has open stays open. [`spec`](Self::spec) still says what the container was made of.
    ///
    /// # Errors
    /// `InvalidSpec`; `NotFound` when the container's cgroup is gone; `Unsupported` without the privileges of the machine's
    /// root, where no program for rules can be loaded, unless they are those of the specification, and where somebody else
    /// has put programs of their own at the container's cgroup. Then the rules are what they were.
    pub fn update_device_rules(&self, rules: &[DeviceRule]) -> Result<()> {
        self.try_update_device_rules(rules).map_err(|error| {
            error.within(format!("update container {:?} of pod {}", self.name(), self.0.pod.name()))
        })
    }

    fn try_update_device_rules(&self, rules: &[DeviceRule]) -> Result<()> {
        validate_devices(&[], rules)?;
        let node = &self.0.pod.0.node.0;
        if node.realm.is_ordinary() {
            return match rules == self.spec().device_rules {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::Unsupported, "change").on("the rules for devices").because(
                    "they hold here without a program, by what the container was given: take it away by making the \
                     container anew",
                )),
            };
        }
        let guard = node.cgroups.device_guard(rules)?;
        self.live_cgroup()?.guard_anew(&guard)
    }
}

fn ended(signal: i32) -> Error {
    Error::new(ErrorKind::WrongState, "send").on(format!("signal {signal}")).because("all have ended")
}

/// Sends it to what stands still in the cgroup; how many have it.
fn send(cgroup: &Cgroup, signal: i32) -> Result<usize> {
    let (opened, _) =
        cgroup.open_processes(|pid| Ok(if pid == 0 { Err(Errno::EPERM) } else { pidfd::open(pid) }))?;
    let (mut sent, mut first) = (0, None);
    for (pid, process) in opened {
        match process.and_then(|process| pidfd::send_signal(&process, signal)) {
            Ok(()) => sent += 1,
            Err(Errno::ESRCH) => {}
            Err(errno) => first = first.or(Some((pid, errno))),
        }
    }
    match first {
        None => Ok(sent),
        Some((0, errno)) => Err(Error::system(errno, "send")
            .on(format!("signal {signal}"))
            .because("some processes are in PID namespaces that this program does not see into")),
        Some((pid, errno)) => {
            Err(Error::system(errno, "send").on(format!("signal {signal} to process {pid}")))
        }
    }
}
