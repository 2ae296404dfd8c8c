//! The one descriptor: an epoll(7) set with an inotify(7) instance, pidfds, a timer, and a bell.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::fchdir;

use crate::error::{Context, Error, Result};
use crate::sys::thread;

/// What is told apart in the set; pidfds have numbers from [`FIRST_PROCESS`] on.
const INOTIFY: u64 = 0;
const BELL: u64 = 1;
const TIMER: u64 = 2;
const TRIGGERS: u64 = 3;
const FIRST_PROCESS: u64 = 16;

/// What a watch is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The pod's directory, or a file of its cgroup.
    Pod,
    /// The directory of containers: the names in its events are theirs.
    Containers,
    /// A container's directory, or a file of its cgroup.
    Container(String),
}

/// Where to look.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// Notifications were lost: everywhere.
    pub(super) all: bool,
    pub(super) pod: bool,
    /// Containers by their names.
    pub(super) containers: BTreeSet<String>,
    pub(super) triggers: bool,
}

impl Wakes {
    pub(super) fn is_empty(&self) -> bool {
        !self.all && !self.pod && self.containers.is_empty() && !self.triggers
    }
}

pub(super) struct Watcher {
    epoll: Arc<Epoll>,
    inotify: Inotify,
    /// Rung while events wait that nothing else tells of.
    bell: EventFd,
    rung: bool,
    /// What was notified was taken, and then an error came.
    everywhere: bool,
    timer: Option<TimerFd>,
    targets: HashMap<WatchDescriptor, Target>,
    processes: HashMap<u64, String>,
    next_process: u64,
    /// When to look at a container again.
    deadlines: HashMap<String, Instant>,
}

impl Watcher {
    pub(super) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).step("make", "an epoll set")?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|errno| {
            let error = Error::system(errno, "make").on("an inotify instance");
            match errno {
                Errno::EMFILE => error.because(
                    "this user has as many as fs.inotify.max_user_instances allows, or this program as many files as \
                     it may have (RLIMIT_NOFILE); each pod that is watched takes one",
                ),
                _ => error,
            }
        })?;
        let bell =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).step("make", "an eventfd")?;
        let watcher = Watcher {
            epoll: Arc::new(epoll),
            inotify,
            bell,
            rung: false,
            everywhere: false,
            timer: None,
            targets: HashMap::new(),
            processes: HashMap::new(),
            next_process: FIRST_PROCESS,
            deadlines: HashMap::new(),
        };
        watcher.add(watcher.inotify.as_fd(), INOTIFY)?;
        watcher.add(watcher.bell.as_fd(), BELL)?;
        Ok(watcher)
    }

    /// What is waited for.
    pub(super) fn epoll(&self) -> Arc<Epoll> {
        self.epoll.clone()
    }

    /// Makes the next look one at everything.
    pub(super) fn look_everywhere(&mut self) {
        self.everywhere = true;
    }

    fn add(&self, fd: BorrowedFd<'_>, number: u64) -> Result<()> {
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number)).step("wait for", "a descriptor")
    }

    /// Wakes when the eventfd of triggers is readable.
    pub(super) fn add_triggers(&self, bell: &EventFd) -> Result<()> {
        self.add(bell.as_fd(), TRIGGERS)
    }

    /// Watches files of an open directory; those that are not there are left out. On a library thread, whose working
    /// directory is its own: inotify takes nothing but paths, and paths may have become something else's.
    pub(super) fn watch(
        &mut self,
        dir: BorrowedFd<'_>,
        files: &[(&str, AddWatchFlags)],
        target: &Target,
    ) -> Result<Vec<WatchDescriptor>> {
        let inotify = &self.inotify;
        let watches = thread::run(|| {
            match fchdir(dir) {
                // It was removed meanwhile.
                Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
                result => result.step("enter", "a directory to watch")?,
            }
            let mut watches = Vec::new();
            for (file, flags) in files {
                match inotify.add_watch(*file, *flags) {
                    Ok(watch) => watches.push(watch),
                    Err(Errno::ENOENT | Errno::ENODEV) => {}
                    Err(errno) => {
                        let error = Error::system(errno, "watch").on(file);
                        return Err(match errno {
                            Errno::ENOSPC => error.because(
                                "this user has as many watches as fs.inotify.max_user_watches allows",
                            ),
                            _ => error,
                        });
                    }
                }
            }
            Ok(watches)
        })?;
        self.targets.extend(watches.iter().map(|watch| (*watch, target.clone())));
        Ok(watches)
    }

    /// Ends watches. Files that are gone had theirs ended by the kernel.
    pub(super) fn unwatch(&mut self, watches: &[WatchDescriptor]) {
        for watch in watches {
            self.targets.remove(watch);
            let _ = self.inotify.rm_watch(*watch);
        }
    }

    /// Wakes when the process ends; the number is for [`forget_process`](Self::forget_process).
    pub(super) fn add_process(&mut self, pidfd: &OwnedFd, container: &str) -> Result<u64> {
        let number = self.next_process;
        self.add(pidfd.as_fd(), number)?;
        self.next_process += 1;
        self.processes.insert(number, container.to_string());
        Ok(number)
    }

    pub(super) fn forget_process(&mut self, number: u64, pidfd: &OwnedFd) {
        if self.processes.remove(&number).is_some() {
            let _ = self.epoll.delete(pidfd);
        }
    }

    /// Wakes for the container after so long, if nothing else has until then. Called again, it stays what it was.
    pub(super) fn look_again(&mut self, container: &str, after: Duration) -> Result<()> {
        self.deadlines.entry(container.to_string()).or_insert_with(|| Instant::now() + after);
        self.set_timer()
    }

    /// Whether the time after which to look at the container is over.
    pub(super) fn is_late(&self, container: &str) -> bool {
        self.deadlines.get(container).is_some_and(|at| *at <= Instant::now())
    }

    pub(super) fn forget_deadline(&mut self, container: &str) {
        self.deadlines.remove(container);
    }

    fn set_timer(&mut self) -> Result<()> {
        let Some(first) = self.deadlines.values().min() else { return Ok(()) };
        // Zero would switch it off.
        let left = first.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        if self.timer.is_none() {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).step("make", "a timer")?;
            self.add(timer.as_fd(), TIMER)?;
            self.timer = Some(timer);
        }
        let Some(timer) = &self.timer else { return Ok(()) };
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        timer.set(once, TimerSetTimeFlags::empty()).step("set", "a timer")
    }

    /// Makes the descriptor readable, or not, as far as it is for the bell.
    pub(super) fn ring(&mut self, on: bool) -> Result<()> {
        if on != self.rung {
            let result = if on { self.bell.write(1).map(drop) } else { self.bell.read().map(drop) };
            result.step("write", "an eventfd")?;
            self.rung = on;
        }
        Ok(())
    }

    /// Takes all that has woken. Never waits.
    pub(super) fn wakes(&mut self) -> Result<Wakes> {
        let mut wakes = Wakes { all: std::mem::take(&mut self.everywhere), ..Wakes::default() };
        let mut ready = [EpollEvent::empty(); 64];
        let count = loop {
            match self.epoll.wait(&mut ready, EpollTimeout::ZERO) {
                Err(Errno::EINTR) => {}
                result => break result.step("wait for", "an epoll set")?,
            }
        };
        for event in &ready[..count] {
            match event.data() {
                INOTIFY => self.notifications(&mut wakes)?,
                BELL => {}
                TIMER => self.expired(&mut wakes)?,
                TRIGGERS => wakes.triggers = true,
                process => wakes.containers.extend(self.processes.get(&process).cloned()),
            }
        }
        Ok(wakes)
    }

    fn expired(&mut self, wakes: &mut Wakes) -> Result<()> {
        if let Some(timer) = &self.timer {
            // Switched off until it is set again; that takes what has expired, too.
            timer.unset().step("unset", "a timer")?;
        }
        let now = Instant::now();
        let late = self.deadlines.iter().filter(|(_, at)| **at <= now);
        wakes.containers.extend(late.map(|(container, _)| container.clone()));
        if self.deadlines.values().any(|at| *at > now) {
            self.set_timer()?;
        }
        Ok(())
    }

    fn notifications(&mut self, wakes: &mut Wakes) -> Result<()> {
        loop {
            match self.inotify.read_events() {
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                events => {
                    for event in events.step("read", "notifications")? {
                        self.notification(event, wakes);
                    }
                }
            }
        }
    }

    fn notification(&mut self, event: InotifyEvent, wakes: &mut Wakes) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            wakes.all = true;
            return;
        }
        match self.targets.get(&event.wd) {
            Some(Target::Pod) => wakes.pod = true,
            Some(Target::Containers) => {
                let name = event.name.and_then(|name| name.into_string().ok());
                wakes.containers.extend(name.filter(|name| crate::spec::is_dns_label(name)));
            }
            Some(Target::Container(name)) => {
                wakes.containers.insert(name.clone());
            }
            // Its end was notified after it was given up.
            None => {}
        }
    }
}
