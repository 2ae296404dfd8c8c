//! The end of a container: asking it to stop, and removing all that there is of it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;

use super::{Container, ExitStatus};
use crate::cgroup::{Cgroup, MemoryCounts};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::logs;
use crate::node;
use crate::pod::journal::{self, Ended};
use crate::pod::state;
use crate::sys::pidfd;

/// How long killed processes may take to be gone: in uninterruptible sleep, or giving back gigabytes.
const KILLED: Duration = Duration::from_secs(10);

impl Container {
    /// Asks the container to end by its stop signal, waits at most `grace`, and then kills all that is left of it.
    /// Returns how it ended. A container that was never started is killed at once, and so is one whose profile of a
    /// security module takes no signals.
    pub fn stop(&self, grace: Duration) -> Result<ExitStatus> {
        self.ask_to_stop()?;
        if self.wait_timeout(Some(grace))?.is_none() {
            self.kill()?;
        }
        let status = self.wait();
        if let Some(cgroup) = &self.0.cgroup {
            cgroup.kill()?;
            self.0.pod.0.node.0.guests.wait_for_programs(&self.0.state.process, KILLED);
            cgroup.wait_empty(Some(KILLED))?;
        }
        status
    }

    /// Sends the stop signal; a container at the barrier, which cannot hear it, is killed.
    pub(crate) fn ask_to_stop(&self) -> Result<()> {
        // The file tells of containers that another handle, or another program, has made and not started.
        if !self.was_started() {
            return self.kill();
        }
        match self.signal(self.0.state.spec.stop_signal) {
            Err(error) if error.kind() == ErrorKind::WrongState => Ok(()),
            // What ends a cgroup asks no security module.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => self.kill(),
            result => result,
        }
    }

    /// Ends the container if it has not ended, and removes all that there is of it. Its name is free again.
    ///
    /// # Errors
    /// `NotFound` when it is gone already.
    pub fn remove(&self) -> Result<()> {
        self.try_remove().map_err(|error| self.error("remove", error))
    }

    fn try_remove(&self) -> Result<()> {
        let pod = self.0.pod.dir()?;
        // The name may be a later container's.
        let own = nix::sys::stat::fstat(&self.0.dir).step("stat", "the state directory")?;
        if own.st_nlink == 0 {
            return Err(Error::new(ErrorKind::NotFound, "find")
                .on(format!("{:?}", self.name()))
                .because("it is gone"));
        }
        if let Some(cgroup) = &self.0.cgroup {
            // What has ended needs no kill: the removal finds the cgroup empty, or kills what is left in it.
            if !self.wait_end(Some(Duration::ZERO)) {
                cgroup.kill()?;
            }
            // Children of this program are not left as zombies, and a cgroup is not empty before process 1 of a PID
            // namespace has been waited for (Linux 6.19 and later). Who waits later gets its status.
            if self.wait_end(Some(KILLED)) {
                let _ = self.collect();
            }
            self.0.pod.0.node.0.guests.wait_for_programs(&self.0.state.process, KILLED);
        } else if self.has_no_cgroup() {
            self.kill_first()?;
            if self.wait_end(Some(KILLED)) {
                let _ = self.collect();
            }
        }
        let watched = journal::is_watched(&own);
        let noted = watched || self.0.pod.spec().journal;
        let memory = if noted { journal::memory_of(self.0.cgroup.as_ref()) } else { None };
        self.0.cgroup.as_ref().map_or(Ok(()), Cgroup::remove_tree)?;
        if noted {
            match self.note_the_end(&pod, memory) {
                // What nobody has asked for yet does not keep a container when the state directory is full.
                Err(error) if !watched && error.kind() == ErrorKind::Exhausted => {}
                result => result?,
            }
        }
        let path = format!("{}/{}", state::CONTAINERS, self.name());
        // Those that there may be.
        let files: Vec<&str> = [
            (state::STATE, true),
            (state::STARTED, !self.0.state.at_once),
            (state::EXIT, true),
            (state::POSTSTOP, !self.spec().hooks.poststop.is_empty()),
            (state::START_SOCKET, self.spec().detached),
        ]
        .into_iter()
        .filter_map(|(file, may_be)| may_be.then_some(file))
        .collect();
        node::remove_known(&pod, &path, &files)
            .step("remove", format!("the state of container {:?}", self.name()))?;
        log::info!(target: logs::CONTAINER, "{} was removed", self.words());
        self.hooks().poststop()
    }

    /// Process 1 of a PID namespace, with which all others in it end.
    pub(super) fn kill_first(&self) -> Result<()> {
        match self.0.pidfd.as_ref().map(|pidfd| pidfd::send_signal(pidfd, libc::SIGKILL)) {
            None | Some(Ok(()) | Err(Errno::ESRCH)) => Ok(()),
            Some(Err(errno)) => Err(self.error("kill", Error::system(errno, "send").on("signal 9"))),
        }
    }

    /// Writes down how it ended, for those who watch the pod.
    fn note_the_end(&self, pod: &OwnedFd, memory: Option<MemoryCounts>) -> Result<()> {
        let status = self.collect().ok().map(ExitStatus::to_wait);
        let ended = Ended {
            name: self.name().to_string(),
            process: self.0.state.process,
            created_at: self.0.state.created_at,
            started: self.0.state.at_once || state::exists(&self.0.dir, state::STARTED),
            status,
            memory,
        };
        journal::append(pod, &ended)
    }
}
