//! How a container ended.

use std::fmt;

/// How a container's process ended, see wait(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// By exit(3) with this code, 0 to 255.
    Exited(i32),
    /// By this signal.
    Signaled {
        /// The signal.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
}

impl ExitStatus {
    /// From the status word of wait(2).
    pub(crate) fn from_wait(status: i32) -> Self {
        if status & 0x7f == 0 {
            ExitStatus::Exited(status >> 8 & 0xff)
        } else {
            ExitStatus::Signaled { signal: status & 0x7f, core_dumped: status & 0x80 != 0 }
        }
    }

    /// The status word of wait(2).
    pub(crate) fn to_wait(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code << 8,
            ExitStatus::Signaled { signal, core_dumped } => signal | if core_dumped { 0x80 } else { 0 },
        }
    }

    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self == ExitStatus::Exited(0)
    }

    /// One number as a shell has it: the exit code, or 128 plus the signal.
    pub fn code(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signaled { signal, .. } => 128 + signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(code) => write!(f, "exited with {code}"),
            ExitStatus::Signaled { signal, core_dumped } => {
                write!(f, "killed by signal {signal}")?;
                if *core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStatus {
    /// Made, waiting for its start.
    Created,
    /// Its program runs.
    Running,
    /// It has ended. `None` when its status is lost: nobody waited, and this kernel does not keep it.
    Exited(Option<ExitStatus>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_are_read_as_wait_does() {
        assert_eq!(ExitStatus::from_wait(3 << 8), ExitStatus::Exited(3));
        assert_eq!(ExitStatus::from_wait(9), ExitStatus::Signaled { signal: 9, core_dumped: false });
        assert_eq!(ExitStatus::from_wait(0x8b), ExitStatus::Signaled { signal: 11, core_dumped: true });
        for word in [0, 3 << 8, 255 << 8, 9, 0x8b] {
            assert_eq!(ExitStatus::from_wait(word).to_wait(), word);
        }
        assert_eq!(ExitStatus::Exited(3).code(), 3);
        assert_eq!(ExitStatus::Signaled { signal: 15, core_dumped: false }.code(), 143);
    }
}
