//! A container as a list of steps.
//!
//! `build` compiles a specification into a [`Plan`]: what the library opens on the host, and what init then does with
//! it. A plan is data: making one touches nothing, it can be printed, and `encode` turns it into the bytes of
//! `init/wire.rs`.

mod build;
mod encode;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod source;
mod step;
#[cfg(any(test, fuzzing))]
mod tests;

pub(crate) use build::{
    HOST, LAYERS, Ordinary, PodContext, ROOT, UPPER, compile, compile_exec, holder, hook, proc_of_namespace,
    queue, reaper, sysctls,
};
pub(crate) use source::{Source, Spread};
pub(crate) use step::{Create, PROC as PROC_OF_HOST, Step};

use std::fmt;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::init::wire;

/// What is done to make one container, in order. Printing it shows the steps in words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What is opened on the host; the index is the slot, slot 0 is the control socket.
    pub(crate) sources: Vec<Source>,
    /// What init does.
    pub(crate) steps: Vec<Step>,
    /// The number of slots that init fills. They are counted from the end of its table, those of the sources from
    /// the beginning.
    made: u32,
    /// Sources that get the ids of the pod's user namespace: trees of mounts of the host.
    mapped: Vec<Slot>,
}

/// A place in init's table of file descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

impl Plan {
    fn new() -> Self {
        Plan { sources: vec![Source::Control], steps: Vec::new(), made: 0, mapped: Vec::new() }
    }

    /// A slot for something that the library opens.
    fn source(&mut self, source: Source) -> Slot {
        self.sources.push(source);
        Slot(self.sources.len() as u32 - 1)
    }

    /// A slot for something that init makes.
    fn slot(&mut self) -> Slot {
        self.made += 1;
        Slot(wire::MAX_SLOTS as u32 - self.made)
    }

    /// Whether the source in that slot gets the ids of the pod's user namespace.
    pub(crate) fn is_mapped(&self, slot: usize) -> bool {
        self.mapped.iter().any(|mapped| mapped.0 as usize == slot)
    }

    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether init forks once more, into a PID namespace.
    pub(crate) fn enters_pid(&self) -> bool {
        self.steps.contains(&Step::EnterPid)
    }

    /// Whether the pod has a user namespace of its own.
    pub(crate) fn is_in_user_namespace(&self) -> bool {
        self.sources.contains(&Source::Namespace(crate::sys::namespace::Kind::User))
    }

    /// Whether a process that init forks stays in its place.
    pub(crate) fn forks(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::EnterPid | Step::Twin { .. }))
    }

    /// The index of the barrier: steps before it are done when the container is made, those after it at its start.
    pub(crate) fn barrier(&self) -> Option<usize> {
        let barrier = |step: &Step| matches!(step, Step::Barrier | Step::BarrierForAll { .. });
        self.steps.iter().position(barrier)
    }

    /// Whether the filter has a listener, which init hands over when it has loaded the filter.
    pub(crate) fn listens(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Seccomp(program) if program.listens()))
    }

    /// Says which namespaces of another process are joined.
    pub(crate) fn resolve_joins(&mut self, all: CloneFlags) {
        for step in &mut self.steps {
            if let Step::JoinProcess { namespaces, .. } = step {
                *namespaces = all.bits() as u32;
            }
        }
    }

    /// Decides what to make where a mount goes, once the sources are open: a directory or a file, as the source is, or
    /// a link in its place.
    pub(crate) fn resolve_targets(&mut self, like: impl Fn(Slot) -> Result<Create>) -> Result<()> {
        for step in &mut self.steps {
            if let Step::MountAt { slot, create, .. } = step
                && *create == Create::LikeSource
            {
                *create = like(*slot)?;
            }
        }
        Ok(())
    }

    /// The failure of the step of that index, in words.
    pub(crate) fn failure(&self, index: usize, call: u16, errno: Errno) -> Error {
        let Some(step) = self.steps.get(index) else {
            return Error::system(errno, "prepare").on("init").because(wire::call_name(call));
        };
        if let Some(error) = hook_failure(step, call, errno) {
            return error;
        }
        let mut detail = format!("in {}", wire::call_name(call));
        if let Some(hint) = step.hint(errno) {
            detail = format!("{detail}: {hint}");
        }
        let error = Error::system(errno, step.to_string()).because(detail);
        match step {
            Step::Exec { .. } | Step::FindProgram { .. } => error.of_kind(ErrorKind::Exec),
            _ => error,
        }
    }
}

/// How a hook in the container failed, unless it was a call of init.
fn hook_failure(step: &Step, call: u16, errno: Errno) -> Option<Error> {
    let Step::RunHook { timeout, .. } = step else { return None };
    let error = Error::new(ErrorKind::Exec, step.to_string());
    match call {
        wire::HOOK_SIGNALED.. => {
            Some(error.because(format!("it was killed by signal {}", call - wire::HOOK_SIGNALED)))
        }
        wire::HOOK_EXITED.. => Some(error.because(format!("it exited with {}", call - wire::HOOK_EXITED))),
        wire::CALL_HOOK_TIMEOUT => {
            Some(error.because(format!("it has not ended after {} s", timeout.unwrap_or_default())))
        }
        wire::CALL_HOOK_EXEC => Some(Error::system(errno, step.to_string()).of_kind(ErrorKind::Exec)),
        _ => None,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "opened on the host:")?;
        for (slot, source) in self.sources.iter().enumerate() {
            let mapped = if self.is_mapped(slot) { ", with the pod's ids" } else { "" };
            writeln!(f, "  {slot:>3}  {source}{mapped}")?;
        }
        writeln!(f, "done by init:")?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {index:>3}  {step}")?;
        }
        Ok(())
    }
}
