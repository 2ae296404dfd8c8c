//! What was told of one container, and what is to be told next.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, WatchDescriptor};

use super::event::Event;
use super::status;
use super::watcher::{Target, Watcher};
use crate::cgroup::{Cgroup, MemoryCounts};
use crate::container::{ExitStatus, exit};
use crate::error::Result;
use crate::pod::Pod;
use crate::pod::journal::Ended;
use crate::pod::state::{self, ContainerState, ProcessRef};
use crate::sys::fd::wait_readable;

/// How long to wait for what is written down a moment after a process has ended: its status, by whoever waits for it, and
/// that it was started, by whoever started it.
const WRITTEN_DOWN: Duration = Duration::from_secs(1);

/// A container that is there.
pub(super) struct Tracked {
    name: String,
    watches: Vec<WatchDescriptor>,
    /// `None` until the container's state is written.
    life: Option<Life>,
}

/// What is known of a container whose creation was told.
struct Life {
    process: ProcessRef,
    cgroup_id: u64,
    at_once: bool,
    /// `None` when the process was gone before, and when its end was told.
    pidfd: Option<OwnedFd>,
    /// Of the pidfd among those that wake.
    number: Option<u64>,
    /// What this program's handles learn of its end, also when the container is gone.
    slot: exit::Slot,
    started: bool,
    exited: bool,
    frozen: bool,
    memory: Option<MemoryCounts>,
}

impl Tracked {
    /// A container whose directory is there. It is watched from here on, so that nothing is missed that is written after
    /// it was looked at.
    pub(super) fn new(watcher: &mut Watcher, dir: &OwnedFd, name: &str) -> Result<Self> {
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let target = Target::Container(name.to_string());
        let watches = watcher.watch(dir.as_fd(), &[(".", flags)], &target)?;
        Ok(Tracked { name: name.to_string(), watches, life: None })
    }

    /// The process, as soon as the container was told of.
    pub(super) fn process(&self) -> Option<ProcessRef> {
        self.life.as_ref().map(|life| life.process)
    }

    /// Whether all that its process will ever do was told. One that is being made has more to come, even if its process,
    /// which runs at once, has ended.
    pub(super) fn is_over(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.exited)
    }

    /// What the OOM killer has killed in it so far.
    pub(super) fn oom_kills(&self) -> u64 {
        self.life.as_ref().and_then(|life| life.memory).map_or(0, |memory| memory.oom_kill)
    }

    /// Takes what happened until now as told, also what is not known of it yet.
    pub(super) fn take_as_told(&mut self, watcher: &mut Watcher) {
        watcher.forget_deadline(&self.name);
        if let Some(life) = &mut self.life {
            life.exited |= life.number.is_none();
        }
    }

    /// The container's cgroup, if it is there.
    pub(super) fn cgroup(&self, pod: &Pod) -> Result<Option<Cgroup>> {
        let Some(life) = &self.life else { return Ok(None) };
        let found = pod.cgroup()?.open_child(&self.name)?;
        Ok(match found {
            Some(cgroup) if cgroup.id()? == life.cgroup_id => Some(cgroup),
            _ => None,
        })
    }

    /// Looks at a container whose state is written.
    pub(super) fn look(
        &mut self,
        pod: &Pod,
        watcher: &mut Watcher,
        dir: &OwnedFd,
        state: &ContainerState,
        memory: bool,
        queue: &mut VecDeque<Event>,
    ) -> Result<()> {
        if self.life.is_none() {
            self.begin(pod, watcher, state, memory)?;
            queue.push_back(Event::Created { container: self.name.clone() });
        }
        let cgroup = self.cgroup(pod)?;
        let Some(life) = &mut self.life else { return Ok(()) };
        // First: what is read after the end of the process holds all that led to it.
        let ended = !life.exited
            && life.pidfd.as_ref().is_none_or(|pidfd| wait_readable(pidfd, Some(Duration::ZERO)));
        if let (true, Some(number), Some(pidfd)) = (ended, life.number.take_if(|_| ended), &life.pidfd) {
            watcher.forget_process(number, pidfd);
        }
        if !life.started && !life.exited && (life.at_once || state::exists(dir, state::STARTED)) {
            life.started = true;
            queue.push_back(Event::Started { container: self.name.clone() });
        }
        if let Some(cgroup) = &cgroup {
            if let Some(flags) = cgroup.flags()?
                && flags.frozen != life.frozen
            {
                life.frozen = flags.frozen;
                let container = Some(self.name.clone());
                queue.push_back(match flags.frozen {
                    true => Event::Frozen { container },
                    false => Event::Thawed { container },
                });
            }
            if memory && let Some(now) = cgroup.memory_counts("memory.events")? {
                tell_memory(Some(&self.name), &mut life.memory, now, queue);
            }
        }
        if ended {
            let found = status::find(&pod.0.node, &life.process, &life.slot, life.pidfd.as_ref(), Some(dir))?;
            // Whoever started it, or waits for it, may be about to write that down. What was killed before it was
            // started never will be.
            let killed =
                |status| matches!(status, ExitStatus::Signaled { signal, .. } if signal == libc::SIGKILL);
            let all_is_known = found.is_some_and(|status| life.started || killed(status));
            if all_is_known || watcher.is_late(&self.name) {
                watcher.forget_deadline(&self.name);
                life.tell_exit(&self.name, found, queue);
            } else {
                watcher.look_again(&self.name, WRITTEN_DOWN)?;
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        pod: &Pod,
        watcher: &mut Watcher,
        state: &ContainerState,
        memory: bool,
    ) -> Result<()> {
        let pidfd = pod.0.node.0.proc.open_process(&state.process)?;
        let number = pidfd.as_ref().map(|pidfd| watcher.add_process(pidfd, &self.name)).transpose()?;
        self.life = Some(Life {
            process: state.process,
            cgroup_id: state.cgroup_id,
            at_once: state.at_once,
            pidfd,
            number,
            slot: exit::slot(&state.process),
            started: false,
            exited: false,
            frozen: false,
            memory: None,
        });
        if let Some(cgroup) = self.cgroup(pod)? {
            let files =
                [("cgroup.events", AddWatchFlags::IN_MODIFY), ("memory.events", AddWatchFlags::IN_MODIFY)];
            let files = if memory { &files[..] } else { &files[..1] };
            let target = Target::Container(self.name.clone());
            self.watches.extend(watcher.watch(cgroup.as_fd(), files, &target)?);
        }
        Ok(())
    }

    /// The container is gone. What the journal says of its end, if it says anything, completes what was told.
    pub(super) fn finish(
        mut self,
        pod: &Pod,
        watcher: &mut Watcher,
        ended: Option<&Ended>,
        queue: &mut VecDeque<Event>,
    ) -> Result<()> {
        watcher.unwatch(&self.watches);
        watcher.forget_deadline(&self.name);
        let Some(mut life) = self.life.take() else { return Ok(()) };
        if let (Some(number), Some(pidfd)) = (life.number.take(), &life.pidfd) {
            watcher.forget_process(number, pidfd);
        }
        if let Some(ended) = ended {
            if ended.started && !life.started && !life.exited {
                life.started = true;
                queue.push_back(Event::Started { container: self.name.clone() });
            }
            if let Some(memory) = ended.memory {
                tell_memory(Some(&self.name), &mut life.memory, memory, queue);
            }
        }
        if !life.exited {
            let written = ended.and_then(|ended| ended.status).map(ExitStatus::from_wait);
            let status = match written {
                None => status::find(&pod.0.node, &life.process, &life.slot, life.pidfd.as_ref(), None)?,
                known => known,
            };
            life.tell_exit(&self.name, status, queue);
        }
        queue.push_back(Event::Removed { container: self.name });
        Ok(())
    }
}

impl Life {
    fn tell_exit(&mut self, name: &str, status: Option<ExitStatus>, queue: &mut VecDeque<Event>) {
        self.exited = true;
        self.pidfd = None;
        queue.push_back(exited(name, status, self.memory));
    }
}

/// The event of an end, where the counters of the container's memory say so.
fn exited(name: &str, status: Option<ExitStatus>, memory: Option<MemoryCounts>) -> Event {
    let killed = matches!(status, Some(ExitStatus::Signaled { signal: libc::SIGKILL, .. }));
    let oom_killed = memory.map(|memory| killed && memory.oom_kill > 0);
    Event::Exited { container: name.to_string(), status, oom_killed }
}

/// All events of a container that came and went unseen. `made` is whether its creation is to be told.
pub(super) fn tell_unseen(ended: &Ended, made: bool, queue: &mut VecDeque<Event>) {
    let container = || ended.name.clone();
    if made {
        queue.push_back(Event::Created { container: container() });
        if ended.started {
            queue.push_back(Event::Started { container: container() });
        }
    }
    if let Some(memory) = ended.memory {
        tell_memory(Some(&ended.name), &mut None, memory, queue);
    }
    queue.push_back(exited(&ended.name, ended.status.map(ExitStatus::from_wait), ended.memory));
    queue.push_back(Event::Removed { container: container() });
}

/// Tells by how much counters have grown.
pub(super) fn tell_memory(
    container: Option<&str>,
    before: &mut Option<MemoryCounts>,
    now: MemoryCounts,
    queue: &mut VecDeque<Event>,
) {
    let was = before.replace(now).unwrap_or_default();
    let container = || container.map(str::to_string);
    let grown = |was: u64, now: u64| Some(now.saturating_sub(was)).filter(|count| *count > 0);
    if let Some(count) = grown(was.high, now.high) {
        queue.push_back(Event::MemoryHigh { container: container(), count });
    }
    if let Some(count) = grown(was.max, now.max) {
        queue.push_back(Event::MemoryMax { container: container(), count });
    }
    if let Some(count) = grown(was.oom_kill, now.oom_kill) {
        queue.push_back(Event::OomKill { container: container(), count });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::state::ProcessIdentity;

    fn counts(high: u64, max: u64, oom_kill: u64) -> MemoryCounts {
        MemoryCounts { high, max, oom_kill }
    }

    #[test]
    fn counters_are_told_by_what_they_have_grown() {
        let (mut queue, mut before) = (VecDeque::new(), None);
        tell_memory(None, &mut before, counts(0, 2, 1), &mut queue);
        tell_memory(None, &mut before, counts(0, 2, 1), &mut queue);
        tell_memory(None, &mut before, counts(5, 3, 1), &mut queue);
        let container = None;
        assert_eq!(
            Vec::from(queue),
            [
                Event::MemoryMax { container: container.clone(), count: 2 },
                Event::OomKill { container: container.clone(), count: 1 },
                Event::MemoryHigh { container: container.clone(), count: 5 },
                Event::MemoryMax { container, count: 1 },
            ]
        );
    }

    #[test]
    fn what_nobody_saw_is_told_in_order() {
        let process = ProcessRef { pid: 7, identity: ProcessIdentity::StartTime(7) };
        let memory = Some(counts(0, 0, 2));
        let mut ended =
            Ended { name: "a".to_string(), process, created_at: 0, started: true, status: Some(9), memory };
        let told = |ended: &Ended, made| {
            let mut queue = VecDeque::new();
            tell_unseen(ended, made, &mut queue);
            Vec::from(queue)
        };
        let container = || "a".to_string();
        let status = Some(ExitStatus::Signaled { signal: 9, core_dumped: false });
        let end = [
            Event::OomKill { container: Some(container()), count: 2 },
            Event::Exited { container: container(), status, oom_killed: Some(true) },
            Event::Removed { container: container() },
        ];
        let begin = [Event::Created { container: container() }, Event::Started { container: container() }];
        assert_eq!(told(&ended, true), [&begin[..], &end].concat());
        assert_eq!(told(&ended, false), end);
        (ended.started, ended.status, ended.memory) = (false, Some(256), None);
        let exited =
            Event::Exited { container: container(), status: Some(ExitStatus::Exited(1)), oom_killed: None };
        assert_eq!(told(&ended, true), [begin[0].clone(), exited, end[2].clone()]);
    }
}
