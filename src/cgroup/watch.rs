//! What a cgroup tells of itself while it is watched: its flags, its counters of memory, its pressure.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::controller::Controller;
use super::events::{self, State};
use super::group::Cgroup;
use super::lack::whereabouts;
use crate::error::{Context, Error, ErrorKind, Result};

/// How often memory ran short, see `memory.events` in the kernel's cgroup-v2.rst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryCounts {
    /// Processes were slowed down because `memory.high` was passed.
    pub(crate) high: u64,
    /// `memory.max` was about to be passed.
    pub(crate) max: u64,
    /// Processes that were killed by the OOM killer.
    pub(crate) oom_kill: u64,
}

impl MemoryCounts {
    fn parse(text: &str) -> Self {
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        MemoryCounts { high: of("high"), max: of("max"), oom_kill: of("oom_kill") }
    }
}

impl Cgroup {
    /// Whether something lives in it, and whether that stands still; `None` when the cgroup is gone.
    pub(crate) fn flags(&self) -> Result<Option<State>> {
        match events::open(&self.dir)? {
            Some(file) => events::read(&file, &self.dir),
            None => Ok(None),
        }
    }

    /// The counters of a `memory.events` file; `None` when the cgroup, or its memory controller, is not there.
    pub(crate) fn memory_counts(&self, file: &'static str) -> Result<Option<MemoryCounts>> {
        match self.dir.open_file(file) {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(Error::system(errno, format!("open {file} of")).on(self.path().display())),
            Ok(open) => match std::io::read_to_string(open) {
                Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
                text => text
                    .step(format!("read {file} of"), self.path().display())
                    .map(|text| Some(MemoryCounts::parse(&text))),
            },
        }
    }

    /// The error of whoever asks for the counters of memory where they are not.
    pub(crate) fn no_memory_counts(&self, file: &'static str) -> Error {
        let why =
            format!("needs the controller memory, which it lacks ({})", whereabouts(Controller::Memory));
        Error::new(ErrorKind::Unsupported, format!("watch {file} of")).on(self.path().display()).because(why)
    }

    /// A trigger of pressure stall information, see `Documentation/accounting/psi.rst` of the kernel: it lives as long as
    /// the file is open.
    pub(crate) fn pressure_trigger(&self, file: &'static str, trigger: &str) -> Result<OwnedFd> {
        let step = || format!("write {trigger:?} to {file} of");
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let refused = |errno| {
            let error = Error::system(errno, step()).on(self.path().display());
            match errno {
                Errno::ENOENT | Errno::EOPNOTSUPP => error.of_kind(ErrorKind::Unsupported).because(
                    "this kernel has no pressure stall information: it is not built in, or switched off (psi=1 on the \
                     kernel's command line switches it on)",
                ),
                Errno::EINVAL | Errno::EPERM => error.of_kind(ErrorKind::PermissionDenied).because(
                    "without CAP_SYS_RESOURCE the window must be a multiple of 2 s, and Linux before 6.4 takes no trigger",
                ),
                _ => error,
            }
        };
        let fd = openat(&self.dir, file, flags, Mode::empty()).map_err(refused)?;
        // The kernel wants the NUL.
        nix::unistd::write(&fd, format!("{trigger}\0").as_bytes()).map_err(refused)?;
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_counters_by_their_whole_names() {
        let text = "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n";
        assert_eq!(MemoryCounts::parse(text), MemoryCounts { high: 2, max: 3, oom_kill: 5 });
        assert_eq!(MemoryCounts::parse("oom_group_kill 6\n"), MemoryCounts::default());
    }
}
