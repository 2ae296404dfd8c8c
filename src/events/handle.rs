//! The handle of a subscription.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::epoll::Epoll;
use nix::sys::inotify::AddWatchFlags;

use super::event::Event;
use super::options::{EventOptions, PressureTrigger, Since};
use super::pressure::Triggers;
use super::tracked::{self, Tracked};
use super::watcher::{Target, Wakes, Watcher};
use crate::cgroup::MemoryCounts;
use crate::error::{Context, Result};
use crate::node;
use crate::pod::Pod;
use crate::pod::journal::{self, Ended, Reader};
use crate::pod::state::{self, ContainerState, ProcessRef};

/// The pod's own counters: of its own limits, without those of containers.
const POD_MEMORY: &str = "memory.events.local";
/// The removed containers that are remembered, so that a record which two programs have written is told once.
const REMEMBERED: usize = 256;

/// The events of one pod, see [`Pod::events`].
///
/// There is one descriptor to wait for ([`AsFd`]): it is readable when [`next_event`](Self::next_event) has something, and
/// now and then when that finds nothing new.
/// Any thread may use it. Any number of subscriptions of any programs do not disturb each other. Dropping it ends the
/// subscription, and nothing else.
pub struct Events {
    epoll: Arc<Epoll>,
    state: Mutex<State>,
    sources: Vec<EventSource>,
}

/// What a subscription hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSource {
    /// Containers: created, started, exited, removed; and whether the pod is empty or removed.
    Containers,
    /// Freezing and thawing of the pod and of containers.
    Freezer,
    /// OOM kills, `memory.high` and `memory.max` of the pod and of containers.
    Memory,
    /// A threshold of pressure.
    Pressure(PressureTrigger),
}

struct State {
    pod: Pod,
    dir: OwnedFd,
    containers: OwnedFd,
    watcher: Watcher,
    journal: Reader,
    triggers: Option<Triggers>,
    memory: bool,
    /// Containers made before that are told of only from their ends on; nanoseconds since 1970.
    begin: u64,
    tracked: BTreeMap<String, Tracked>,
    /// The last ones that were told to be gone.
    ended: VecDeque<ProcessRef>,
    queue: VecDeque<Event>,
    pod_frozen: bool,
    pod_memory: Option<MemoryCounts>,
    /// There were processes when the pod was looked at last, or have been since.
    occupied: bool,
    /// OOM kills of containers that were gone before.
    journal_kills: u64,
    over: bool,
}

impl Pod {
    /// Subscribes to what happens in the pod, from its beginning: what there is already is told first.
    ///
    /// # Errors
    /// As [`events_with`](Self::events_with).
    pub fn events(&self) -> Result<Events> {
        self.events_with(&EventOptions::new())
    }

    /// Subscribes to what happens in the pod, whichever program does it.
    ///
    /// It takes an epoll set, an inotify instance and a few more descriptors, and one for each container that runs.
    /// Linux gives each user 128 inotify instances (`fs.inotify.max_user_instances`) unless told otherwise.
    ///
    /// # Errors
    /// `InvalidSpec`; `NotFound` when the pod is gone; `Unsupported` when memory or pressure is asked for and this machine
    /// does not tell of it; `PermissionDenied` for a trigger that the kernel does not allow; `Exhausted`.
    pub fn events_with(&self, options: &EventOptions) -> Result<Events> {
        Events::subscribe(self, options).map_err(|error| self.error("watch", error))
    }
}

impl Events {
    fn subscribe(pod: &Pod, options: &EventOptions) -> Result<Events> {
        options.validate()?;
        let begin = match options.since {
            Since::Beginning => 0,
            Since::Now => state::now(),
        };
        let dir = pod.dir()?;
        let containers =
            node::open_directory(&dir, state::CONTAINERS).step("open", "the directory of containers")?;
        let cgroup = pod.cgroup()?;
        let pod_memory = match options.memory {
            Some(false) => None,
            _ => cgroup.memory_counts(POD_MEMORY)?,
        };
        if options.memory == Some(true) && pod_memory.is_none() {
            return Err(cgroup.no_memory_counts(POD_MEMORY));
        }
        let memory = pod_memory.is_some();
        let triggers = Triggers::set(cgroup, &options.pressure)?;
        let mut watcher = Watcher::new()?;
        if let Some(triggers) = &triggers {
            watcher.add_triggers(triggers.bell())?;
        }
        // All that is looked at is watched before.
        use AddWatchFlags as Flags;
        let flags = Flags::IN_MODIFY | Flags::IN_DELETE | Flags::IN_MOVE_SELF;
        watcher.watch(dir.as_fd(), &[(".", flags)], &Target::Pod)?;
        let flags = Flags::IN_CREATE | Flags::IN_DELETE;
        watcher.watch(containers.as_fd(), &[(".", flags)], &Target::Containers)?;
        let files = [("cgroup.events", Flags::IN_MODIFY), (POD_MEMORY, Flags::IN_MODIFY)];
        let files = if memory { &files[..] } else { &files[..1] };
        watcher.watch(cgroup.as_fd(), files, &Target::Pod)?;
        let journal = Reader::open(dir.as_fd())?;
        journal::watch(&dir).step("mark", "the pod's directory")?;
        let epoll = watcher.epoll();
        let mut sources = vec![EventSource::Containers, EventSource::Freezer];
        if memory {
            sources.push(EventSource::Memory);
        }
        sources.extend(options.pressure.iter().copied().map(EventSource::Pressure));
        let mut state = State {
            pod: pod.clone(),
            dir,
            containers,
            watcher,
            journal,
            triggers,
            memory,
            begin,
            tracked: BTreeMap::new(),
            ended: VecDeque::new(),
            queue: VecDeque::new(),
            pod_frozen: false,
            pod_memory: None,
            occupied: false,
            journal_kills: 0,
            over: false,
        };
        state.begin(options.since)?;
        Ok(Events { epoll, state: Mutex::new(state), sources })
    }

    /// The next event, if there is one. Never waits: when it returns `None`, wait until the descriptor is readable.
    ///
    /// # Errors
    /// What the kernel says, and `CorruptState`. Nothing is lost by that: the next call looks again.
    pub fn next_event(&self) -> Result<Option<Event>> {
        let mut state = self.lock();
        state.next().map_err(|error| {
            // What was notified is no longer known: the next call, which the descriptor asks for, looks everywhere.
            state.watcher.look_everywhere();
            let _ = state.watcher.ring(true);
            state.pod.error("watch", error)
        })
    }

    /// What it hears of. What this machine has no source for, and what was not asked for, is not in it.
    pub fn sources(&self) -> &[EventSource] {
        &self.sources
    }

    /// Whether [`Event::PodRemoved`] was told: nothing comes any more.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.over && state.queue.is_empty()
    }

    /// The pod.
    pub fn pod(&self) -> Pod {
        self.lock().pod.clone()
    }

    #[cfg(feature = "tokio")]
    pub(super) fn epoll(&self) -> Arc<Epoll> {
        self.epoll.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Events {
    /// Readable when there is an event, until [`next_event`](Events::next_event) returns `None`. It stays the subscription's.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl State {
    /// The first look.
    fn begin(&mut self, since: Since) -> Result<()> {
        // Those in the pod's sum and in no container's were in containers that are gone. Read first: what is killed
        // meanwhile is not counted twice.
        let cgroup = self.pod.cgroup().ok().filter(|_| self.memory);
        let all = journal::memory_of(cgroup).map_or(0, |memory| memory.oom_kill);
        self.look(Wakes { all: true, ..Wakes::default() })?;
        if since == Since::Now {
            self.tracked.values_mut().for_each(|tracked| tracked.take_as_told(&mut self.watcher));
            self.look_at_pod()?;
            self.queue.clear();
            return Ok(());
        }
        let known = self.journal_kills + self.tracked.values().map(Tracked::oom_kills).sum::<u64>();
        let count = all.saturating_sub(known);
        if count > 0 {
            self.queue.push_front(Event::OomKill { container: None, count });
        }
        self.watcher.ring(!self.queue.is_empty())
    }

    fn next(&mut self) -> Result<Option<Event>> {
        while self.queue.is_empty() && !self.over {
            let wakes = self.watcher.wakes()?;
            if wakes.is_empty() {
                break;
            }
            self.look(wakes)?;
        }
        let event = self.queue.pop_front();
        self.watcher.ring(!self.queue.is_empty())?;
        Ok(event)
    }

    /// Looks where something may have changed, and queues what has.
    fn look(&mut self, wakes: Wakes) -> Result<()> {
        let mut names = wakes.containers;
        if wakes.all {
            names.extend(self.all_names()?);
        }
        self.look_at(&names, wakes.all || wakes.pod)?;
        if wakes.triggers
            && let Some(triggers) = &self.triggers
        {
            let fired = triggers.fired()?;
            self.queue.extend(fired.into_iter().map(|trigger| Event::Pressure { trigger }));
        }
        Ok(())
    }

    /// The containers that are known or there.
    fn all_names(&self) -> Result<BTreeSet<String>> {
        let there = node::open_directory(&self.containers, ".").and_then(node::names);
        let there = match there {
            Err(Errno::ENOENT) => Vec::new(),
            there => there.step("read", "the directory of containers")?,
        };
        let there = there.into_iter().filter(|name| crate::spec::is_dns_label(name));
        Ok(there.chain(self.tracked.keys().cloned()).collect())
    }

    fn look_at_containers(&mut self, names: &BTreeSet<String>) -> Result<()> {
        self.read_journal()?;
        names.iter().try_for_each(|name| self.look_at_container(name))
    }

    fn look_at(&mut self, names: &BTreeSet<String>, pod: bool) -> Result<()> {
        self.look_at_containers(names)?;
        if pod && !state::exists(&self.dir, state::STATE) {
            return self.end();
        }
        self.look_at_pod()
    }

    fn look_at_container(&mut self, name: &str) -> Result<()> {
        let dir = match node::open_directory(&self.containers, name) {
            Err(Errno::ENOENT) => return self.gone(name),
            dir => dir.step("open", format!("the state directory of container {name:?}"))?,
        };
        if !self.tracked.contains_key(name) {
            let tracked = Tracked::new(&mut self.watcher, &dir, name)?;
            self.tracked.insert(name.to_string(), tracked);
        }
        // Read after the directory is watched: a state that comes later is notified.
        let Some(found) = state::read::<ContainerState>(&dir, state::STATE)? else { return Ok(()) };
        // It was told to be gone, and its directory goes this moment.
        if self.ended.contains(&found.process) {
            return Ok(());
        }
        let known = self.tracked.get(name).and_then(Tracked::process);
        if known.is_some_and(|process| process != found.process) {
            self.gone(name)?;
            let tracked = Tracked::new(&mut self.watcher, &dir, name)?;
            self.tracked.insert(name.to_string(), tracked);
        }
        let Some(tracked) = self.tracked.get_mut(name) else { return Ok(()) };
        self.occupied |= tracked.process().is_none();
        tracked.look(&self.pod, &mut self.watcher, &dir, &found, self.memory, &mut self.queue)
    }

    /// A container's directory is gone. Whoever removed it has written before how it ended, unless its creation failed.
    fn gone(&mut self, name: &str) -> Result<()> {
        self.read_journal()?;
        match self.tracked.remove(name) {
            Some(tracked) => tracked.finish(&self.pod, &mut self.watcher, None, &mut self.queue),
            None => Ok(()),
        }
    }

    fn read_journal(&mut self) -> Result<()> {
        let news = self.journal.read()?;
        if news.skipped > 0 {
            self.queue.push_back(Event::Skipped { containers: news.skipped });
        }
        news.ended.iter().try_for_each(|ended| self.record(ended))
    }

    fn record(&mut self, ended: &Ended) -> Result<()> {
        if self.ended.contains(&ended.process) {
            return Ok(());
        }
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(ended.process);
        self.journal_kills += ended.memory.map_or(0, |memory| memory.oom_kill);
        let process = self.tracked.get(&ended.name).map(Tracked::process);
        match process {
            Some(Some(process)) if process == ended.process => {
                let Some(tracked) = self.tracked.remove(&ended.name) else { return Ok(()) };
                tracked.finish(&self.pod, &mut self.watcher, Some(ended), &mut self.queue)
            }
            _ => {
                self.occupied = true;
                tracked::tell_unseen(ended, ended.created_at >= self.begin, &mut self.queue);
                Ok(())
            }
        }
    }

    fn look_at_pod(&mut self) -> Result<()> {
        let cgroup = self.pod.cgroup()?;
        let Some(flags) = cgroup.flags()? else { return Ok(()) };
        if flags.frozen != self.pod_frozen {
            self.pod_frozen = flags.frozen;
            self.queue.push_back(match flags.frozen {
                true => Event::Frozen { container: None },
                false => Event::Thawed { container: None },
            });
        }
        if self.memory
            && let Some(now) = cgroup.memory_counts(POD_MEMORY)?
        {
            tracked::tell_memory(None, &mut self.pod_memory, now, &mut self.queue);
        }
        let mut populated = flags.populated;
        // Process 1 of a shared PID namespace lives as long as the pod.
        if populated && self.pod.0.state.reaper.is_some() {
            populated = false;
            for tracked in self.tracked.values() {
                let flags = tracked.cgroup(&self.pod)?.map(|cgroup| cgroup.flags()).transpose()?;
                populated |= flags.flatten().is_some_and(|flags| flags.populated);
            }
        }
        if populated {
            self.occupied = true;
        } else if self.occupied {
            // What was in it may have come after the containers were looked at: that is told before.
            let names = self.all_names()?;
            self.look_at_containers(&names)?;
            if self.tracked.values().all(Tracked::is_over) {
                self.occupied = false;
                self.queue.push_back(Event::Empty);
            }
        }
        Ok(())
    }

    /// The pod was removed, with all that was in it.
    fn end(&mut self) -> Result<()> {
        self.read_journal()?;
        for (_, tracked) in std::mem::take(&mut self.tracked) {
            tracked.finish(&self.pod, &mut self.watcher, None, &mut self.queue)?;
        }
        if std::mem::take(&mut self.occupied) {
            self.queue.push_back(Event::Empty);
        }
        self.queue.push_back(Event::PodRemoved);
        self.over = true;
        Ok(())
    }
}
