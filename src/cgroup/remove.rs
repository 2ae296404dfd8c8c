//! Killing what is in a cgroup and removing it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dir::Dir;
use super::events;
use super::walk::{Visitor, walk};
use crate::error::{Context, Error, ErrorKind, Result};

/// How long [`remove_tree`] waits for killed processes. They can be long in dying: in uninterruptible sleep, or while
/// the kernel gives back gigabytes.
const KILLED: Duration = Duration::from_secs(10);
/// The pause before another rmdir when the kernel says busy of what it also says to be empty.
const AGAIN: Duration = Duration::from_micros(500);

/// `SIGKILL` for everything in the cgroup and below it, in one step that no fork escapes (Linux 5.14). Nothing happens
/// when the cgroup is gone.
pub(super) fn kill(dir: &Dir) -> Result<()> {
    let Err(errno) = dir.write("cgroup.kill", "1") else { return Ok(()) };
    let error = Error::system(errno, "write 1 to cgroup.kill of").on(dir.path().display());
    match errno {
        Errno::ENOENT | Errno::ENODEV if dir.is_gone() => Ok(()),
        Errno::ENOENT => Err(error.of_kind(ErrorKind::Unsupported).because("cgroup.kill needs Linux 5.14")),
        Errno::EOPNOTSUPP => Err(error.because("the cgroup is threaded; kill the domain above it")),
        _ => Err(error),
    }
}

/// Kills everything in the cgroup, waits until it is gone, and removes the cgroup with all that is below it, also
/// what a container made there itself.
pub(super) fn remove_tree(dir: &Dir) -> Result<()> {
    let deadline = Instant::now() + KILLED;
    loop {
        // When there is nothing inside, as after an orderly stop, this is all.
        match dir.unlink() {
            Ok(()) => return Ok(()),
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(Error::system(errno, "remove cgroup").on(dir.path().display())),
        }
        kill(dir)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !events::wait(dir, is_empty, Some(left))? {
            let patience = format!("{} s after SIGKILL {}", KILLED.as_secs(), remaining(dir));
            return Err(busy(dir).because(patience));
        }
        match walk(dir.as_fd(), &mut Remover) {
            Ok(()) => {}
            // Somebody outside put a process in, or the kernel is not quite done: another round.
            Err(Errno::EBUSY) => std::thread::sleep(AGAIN),
            Err(errno) => return Err(Error::system(errno, "remove the cgroups in").on(dir.path().display())),
        }
    }
}

/// Nothing lives in it, or it is gone.
pub(super) fn is_empty(state: Option<events::State>) -> bool {
    state.is_none_or(|state| !state.populated)
}

/// All processes in the cgroup and below it, in ascending order. Zero stands for those of a PID namespace that the
/// caller cannot see into. Dying processes are not listed.
pub(super) fn processes(dir: &Dir) -> Result<Vec<i32>> {
    let mut reader = Reader { pids: Vec::new() };
    reader
        .read(dir.as_fd())
        .and_then(|()| walk(dir.as_fd(), &mut reader))
        .step("list the processes of", dir.path().display())?;
    reader.pids.sort_unstable();
    reader.pids.dedup();
    Ok(reader.pids)
}

fn busy(dir: &Dir) -> Error {
    Error::system(Errno::EBUSY, "remove cgroup").on(dir.path().display())
}

/// Names what is still in it, for an error.
fn remaining(dir: &Dir) -> String {
    const SHOWN: usize = 16;
    match processes(dir) {
        Ok(pids) if pids.is_empty() => {
            "there is still something in it that is not listed: a process that has ended and \
             waits, like process 1 of a PID namespace for the program that must reap the others there"
                .to_string()
        }
        Ok(pids) => {
            let shown: Vec<String> = pids.iter().take(SHOWN).map(i32::to_string).collect();
            let more =
                if pids.len() > SHOWN { format!(" and {} more", pids.len() - SHOWN) } else { String::new() };
            format!("there are still processes in it: {}{more}", shown.join(", "))
        }
        Err(error) => format!("there are still processes in it ({error})"),
    }
}

/// Removes directories from the leaves up.
struct Remover;

impl Remover {
    fn rmdir(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            result => result,
        }
    }
}

impl Visitor for Remover {
    /// Leaves go at once; what has children is entered.
    fn before(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
        match Self::rmdir(parent, name) {
            Ok(()) => Ok(false),
            Err(Errno::EBUSY) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    fn after(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        Self::rmdir(parent, name)
    }
}

/// Collects `cgroup.procs`.
struct Reader {
    pids: Vec<i32>,
}

impl Reader {
    fn read(&mut self, dir: BorrowedFd<'_>) -> nix::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(dir, "cgroup.procs", flags, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
            file => std::fs::File::from(file?),
        };
        match std::io::read_to_string(file) {
            Ok(text) => self.pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                // Gone; or threaded: then the domain above lists its processes.
                Some(Errno::ENODEV | Errno::EOPNOTSUPP) => {}
                Some(errno) => return Err(errno),
                None => return Err(Errno::EIO),
            },
        }
        Ok(())
    }
}

impl Visitor for Reader {
    fn before(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
        match openat(parent, name, super::dir::DIRECTORY, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            dir => self.read(dir?.as_fd()).map(|()| true),
        }
    }

    fn after(&mut self, _parent: BorrowedFd<'_>, _name: &CStr) -> nix::Result<()> {
        Ok(())
    }
}
