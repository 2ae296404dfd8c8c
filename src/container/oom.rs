//! Another oom_score_adj for a container that runs.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::Container;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::Proc;

const FILE: &str = "oom_score_adj";
/// How often the processes are looked through, some hundredths of a millisecond each: who forks so fast that this is not
/// enough is given up on.
const ROUNDS: u32 = 2000;

impl Container {
    /// Makes the OOM killer take the processes of the container sooner (up to 1000) or later (down to -1000 for never)
    /// than others: see proc_pid_oom_score_adj(5).
    ///
    /// It belongs to each process, and forks inherit it: all that run now have it when this returns, and all that they
    /// start. Only a process that is being forked at that very moment may escape: [freeze](Self::freeze) the container
    /// for that time where it forks all the time. What [`exec`](Self::exec) adds later has that of its own specification, or of the container's
    /// ([`spec`](Self::spec)), which stays; and a process of the container with `CAP_SYS_RESOURCE` can change its own.
    ///
    /// # Errors
    /// `InvalidSpec` for another number; `WrongState` when no process is left; `PermissionDenied` for a lower one than a
    /// process has had set for it, without `CAP_SYS_RESOURCE`; `Unsupported` in a node without cgroups; `Exhausted` when
    /// the processes fork faster than they can be followed. Then the processes have again what they had.
    pub fn set_oom_score_adj(&self, adjustment: i32) -> Result<()> {
        let mut changed = Vec::new();
        self.try_set_oom_score_adj(adjustment, &mut changed).map_err(|error| {
            for (process, before) in changed.iter().rev() {
                // Back to what it may have; what has ended needs nothing.
                let _ = write(process, *before);
            }
            self.error("change oom_score_adj of", error)
        })
    }

    fn try_set_oom_score_adj(&self, adjustment: i32, changed: &mut Vec<(OwnedFd, i32)>) -> Result<()> {
        if !(-1000..=1000).contains(&adjustment) {
            return Err(Error::invalid(FILE, format!("is {adjustment}, must be from -1000 to 1000")));
        }
        let cgroup = self.live_cgroup()?;
        let proc = &self.pod().node().0.proc;
        for _ in 0..ROUNDS {
            // What a process has forked, before it was reached, may not be in this list. It has the score of that one,
            // which nobody knows any more if that has ended.
            let (processes, mut others) = processes(cgroup, proc)?;
            for process in processes {
                match read(&process)? {
                    Some(before) if before == adjustment => {}
                    Some(before) => {
                        others = true;
                        if write(&process, adjustment)? {
                            changed.push((process, before));
                        }
                    }
                    None => others = true,
                }
            }
            if !others {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Exhausted, "follow the forks of")
            .on("the container's processes")
            .because(format!("there were new ones each of {ROUNDS} times; freeze the container first")))
    }
}

/// The processes of a container, each by its directory in proc, which means that very process; and whether some have ended
/// meanwhile.
fn processes(cgroup: &Cgroup, proc: &Proc) -> Result<(Vec<OwnedFd>, bool)> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let (opened, before) = cgroup.open_processes(|pid| match pid {
        0 => Err(Error::new(ErrorKind::Unsupported, "see")
            .on("a process of the container")
            .because("it is in a PID namespace that this program cannot look into")),
        _ => match openat(proc, pid.to_string().as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
            dir => dir.map(Some).step("open", format!("process {pid}")),
        },
    })?;
    if before == 0 {
        return Err(Error::new(ErrorKind::WrongState, "find")
            .on("a process of the container")
            .because("all have ended"));
    }
    let found: Vec<OwnedFd> = opened.into_iter().filter_map(|(_, dir)| dir).collect();
    let ended = found.len() < before;
    Ok((found, ended))
}

/// `None` when the process is gone.
fn read(process: &OwnedFd) -> Result<Option<i32>> {
    let odd = || Error::new(ErrorKind::System, "understand").on(FILE);
    let file = match openat(process, FILE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
        file => std::fs::File::from(file.step("open", FILE)?),
    };
    match std::io::read_to_string(file) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        text => text.step("read", FILE)?.trim().parse().map(Some).map_err(|_| odd()),
    }
}

/// Whether the process was still there.
fn write(process: &OwnedFd, adjustment: i32) -> Result<bool> {
    let written = openat(process, FILE, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|file| nix::unistd::write(&file, adjustment.to_string().as_bytes()));
    match written {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(false),
        Err(errno) => {
            let error = Error::system(errno, format!("write {adjustment} to")).on(FILE);
            Err(match errno {
                Errno::EACCES => {
                    error.because("less than what was set for the process last takes CAP_SYS_RESOURCE")
                }
                _ => error,
            })
        }
    }
}
