//! `cgroup.events`: whether anything lives in a cgroup, whether it is frozen, and waiting for either.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::dir::Dir;
use crate::error::{Context, Error, Result};

/// What the file says, of the cgroup and everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// There is a live process. A process that has exited and waits to be reaped is not live.
    pub(crate) populated: bool,
    /// All processes are frozen.
    pub(crate) frozen: bool,
}

impl State {
    /// Reads `populated 1` and `frozen 0`, a line each.
    fn parse(text: &str) -> Self {
        let is_on = |line: &str| text.lines().any(|other| other == line);
        State { populated: is_on("populated 1"), frozen: is_on("frozen 1") }
    }
}

/// Whether there is a live process in the cgroup at a path; one that is not there, or cannot be read, has none.
pub(crate) fn is_populated(path: &Path) -> bool {
    std::fs::read_to_string(path.join("cgroup.events")).is_ok_and(|text| State::parse(&text).populated)
}

/// The first wait lasts so long at most, and each one after it twice as long as the one before, until
/// [`LONGEST_GLANCE`].
const SHORTEST_GLANCE: Duration = Duration::from_micros(200);
/// The kernel may hold a notification back when there was one shortly before (`CGROUP_FILE_NOTIFY_MIN_INTV`, 10 ms):
/// killing a container that is younger than that took 16 ms until the waiter woke, and 0.35 ms this way (Linux 6.18).
/// So the file is looked at again a few times, at most 6, and only then is the notification waited for.
const LONGEST_GLANCE: Duration = Duration::from_millis(12);

/// Waits until `done` says so of the state (None: the cgroup is gone), by poll(2). False when that has not happened
/// after `timeout`; without one it waits forever.
pub(super) fn wait(dir: &Dir, done: fn(Option<State>) -> bool, timeout: Option<Duration>) -> Result<bool> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let file = open(dir)?;
    let mut glance = SHORTEST_GLANCE;
    loop {
        // The kernel wakes whoever polls when the file has changed since this very read.
        let state = file.as_ref().map(|file| read(file, dir)).transpose()?.flatten();
        if done(state) {
            return Ok(true);
        }
        let (Some(file), Some(_)) = (&file, state) else {
            // Gone for good: nothing will change any more.
            return Ok(false);
        };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        let pause = match left {
            _ if glance > LONGEST_GLANCE => left,
            Some(left) => Some(left.min(glance)),
            None => Some(glance),
        };
        glance = glance.saturating_mul(2);
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        match ppoll(&mut fds, pause.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::system(errno, "poll cgroup.events of").on(dir.path().display())),
        }
    }
}

pub(super) fn open(dir: &Dir) -> Result<Option<File>> {
    match dir.open_file("cgroup.events") {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ENOENT | Errno::ENODEV) if dir.is_gone() => Ok(None),
        Err(errno) => Err(Error::system(errno, "open cgroup.events of").on(dir.path().display())),
    }
}

pub(super) fn read(file: &File, dir: &Dir) -> Result<Option<State>> {
    let mut buffer = [0; 256];
    match file.read_at(&mut buffer, 0) {
        Ok(length) => Ok(Some(State::parse(&String::from_utf8_lossy(&buffer[..length])))),
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
        Err(error) => Err(error).step("read cgroup.events of", dir.path().display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_flags() {
        assert_eq!(State::parse("populated 1\nfrozen 0\n"), State { populated: true, frozen: false });
        assert_eq!(State::parse("populated 0\nfrozen 1\n"), State { populated: false, frozen: true });
        assert_eq!(State::parse("populated 0\n"), State { populated: false, frozen: false });
        assert_eq!(State::parse("populated 11\nxpopulated 1\n"), State { populated: false, frozen: false });
    }
}
