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

pub(crate) use build::{LAYERS, PodContext, ROOT, UPPER, compile, reaper};
pub(crate) use source::Source;
pub(crate) use step::{Create, Step};

use std::fmt;

use nix::errno::Errno;

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
}

/// A place in init's table of file descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

impl Plan {
    fn new() -> Self {
        Plan { sources: vec![Source::Control], steps: Vec::new(), made: 0 }
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

    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether init forks once more, into a PID namespace.
    pub(crate) fn enters_pid(&self) -> bool {
        self.steps.contains(&Step::EnterPid)
    }

    /// Decides what to make where a mount goes, once the sources are open: a directory or a file, as the source is.
    pub(crate) fn resolve_targets(&mut self, is_directory: impl Fn(Slot) -> Result<bool>) -> Result<()> {
        for step in &mut self.steps {
            if let Step::MountAt { slot, create, .. } = step
                && *create == Create::LikeSource
            {
                *create = if is_directory(*slot)? { Create::Directory } else { Create::File };
            }
        }
        Ok(())
    }

    /// The failure of the step of that index, in words.
    pub(crate) fn failure(&self, index: usize, call: u16, errno: Errno) -> Error {
        let Some(step) = self.steps.get(index) else {
            return Error::system(errno, "prepare").on("init").because(wire::call_name(call));
        };
        let error = Error::system(errno, step.to_string()).because(format!("in {}", wire::call_name(call)));
        match step {
            Step::Exec { .. } => error.of_kind(ErrorKind::Exec),
            _ => error,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "opened on the host:")?;
        for (slot, source) in self.sources.iter().enumerate() {
            writeln!(f, "  {slot:>3}  {source}")?;
        }
        writeln!(f, "done by init:")?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {index:>3}  {step}")?;
        }
        Ok(())
    }
}
