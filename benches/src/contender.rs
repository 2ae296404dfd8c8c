//! What is compared: the works, and the trait of whoever does them.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use crate::cpu;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// What the single process of a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `/bin/tiny`: a static program of a few instructions that exits with 0.
    Tiny,
    /// `/bin/busybox true`.
    Busybox,
    /// The tiny one, in a container without a system call filter.
    Unfiltered,
    /// `/bin/busybox true`, in a container with all that `crate::full` has.
    Full,
}

/// Whether a pod outlives the program that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Durable,
    Ephemeral,
}

/// One operation whose time is taken, from nothing to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Create a pod, run `members` containers in it one after the other, remove it.
    Pod { life: Life, members: u32, program: Program },
    /// Create, run, await and remove a container in a pod that stands already.
    Container { program: Program },
}

pub trait Contender {
    fn name(&self) -> &str;

    /// Whether it can do this work at all.
    fn does(&self, _work: Work) -> bool {
        true
    }

    fn pod(&mut self, life: Life, members: u32, program: Program) -> Result<()>;

    /// The pod in which it runs was made before and stays.
    fn container(&mut self, program: Program) -> Result<()>;

    /// Does the work once and says what it cost. For those that do not work on the calling thread.
    fn measure(&mut self, work: Work) -> Result<Sample> {
        stopwatch(|| match work {
            Work::Pod { life, members, program } => self.pod(life, members, program),
            Work::Container { program } => self.container(program),
        })
    }

    /// Runs `/bin/busybox sh -c script` in a container of the standing pod, which is as for `program`, and returns what it
    /// wrote to stdout, so that the isolation can be looked at; `None` when the contender cannot.
    fn shell(&mut self, _program: Program, _script: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub wall_ns: u64,
    /// User and system time of the process and of the children it has awaited.
    pub cpu_ns: u64,
}

pub fn stopwatch(work: impl FnOnce() -> Result<()>) -> Result<Sample> {
    let cpu = cpu::own_ns();
    let start = Instant::now();
    work()?;
    let wall_ns = start.elapsed().as_nanos() as u64;
    Ok(Sample { wall_ns, cpu_ns: cpu::own_ns().saturating_sub(cpu) })
}

/// One word, as it is sent to another process of this program.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let letter = |program: &Program| match program {
            Program::Tiny => 't',
            Program::Busybox => 'b',
            Program::Unfiltered => 'u',
            Program::Full => 'f',
        };
        match self {
            Work::Container { program } => write!(f, "c{}", letter(program)),
            Work::Pod { life, members, program } => {
                let life = if *life == Life::Durable { 'p' } else { 'e' };
                write!(f, "{life}{}{members}", letter(program))
            }
        }
    }
}

impl FromStr for Work {
    type Err = Error;

    fn from_str(word: &str) -> Result<Work> {
        let unknown = || format!("unknown work {word:?}");
        let (kind, program) = (word.get(..1).ok_or_else(unknown)?, word.get(1..2).ok_or_else(unknown)?);
        let program = match program {
            "t" => Program::Tiny,
            "b" => Program::Busybox,
            "u" => Program::Unfiltered,
            "f" => Program::Full,
            _ => return Err(unknown().into()),
        };
        let life = match kind {
            "c" => return Ok(Work::Container { program }),
            "p" => Life::Durable,
            "e" => Life::Ephemeral,
            _ => return Err(unknown().into()),
        };
        Ok(Work::Pod { life, members: word[2..].parse()?, program })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_survive_the_pipe() {
        let pod = |life, members, program| Work::Pod { life, members, program };
        for work in [
            Work::Container { program: Program::Tiny },
            Work::Container { program: Program::Busybox },
            Work::Container { program: Program::Unfiltered },
            Work::Container { program: Program::Full },
            pod(Life::Durable, 0, Program::Tiny),
            pod(Life::Ephemeral, 12, Program::Busybox),
        ] {
            assert_eq!(work.to_string().parse::<Work>().unwrap(), work);
        }
        assert!("x".parse::<Work>().is_err());
        assert!("zt1".parse::<Work>().is_err());
        assert!("cx".parse::<Work>().is_err());
    }
}
