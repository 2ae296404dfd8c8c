//! Waiting for events of a pod as a program with a loop of its own does.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pericarp::{Event, EventOptions, Events, ExitStatus, Pod};

/// A guard against hanging, no measure of time.
const PATIENCE: u32 = 300_000;

/// A subscription, and all that it has told.
pub struct Watch {
    pub events: Events,
    pub seen: Vec<Event>,
}

impl Watch {
    pub fn new(pod: &Pod) -> Watch {
        Watch::with(pod, &EventOptions::new())
    }

    pub fn with(pod: &Pod, options: &EventOptions) -> Watch {
        Watch { events: pod.events_with(options).expect("subscribe"), seen: Vec::new() }
    }

    /// Whether the descriptor becomes readable in so many milliseconds.
    pub fn readable(&self, milliseconds: u32) -> bool {
        let mut files = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(milliseconds as i32).expect("a time");
        poll(&mut files, timeout).expect("poll") == 1
    }

    /// Waits until the descriptor is no longer readable, with nothing told meanwhile. The kernel may hold notifications of
    /// cgroups back, and then they come when what they are of was told already.
    pub fn falls_silent(&mut self) {
        let told = self.seen.len();
        for _ in 0..100 {
            assert_eq!(self.drain().len(), told, "{:?}", self.seen);
            if !self.readable(20) {
                return;
            }
        }
        panic!("the descriptor is readable all the time, and nothing is told");
    }

    /// Takes what there is, without waiting.
    pub fn drain(&mut self) -> &[Event] {
        while let Some(event) = self.events.next_event().expect("the next event") {
            self.seen.push(event);
        }
        &self.seen
    }

    /// Waits by the descriptor until all that was told is as it should be.
    pub fn until(&mut self, done: impl Fn(&[Event]) -> bool) {
        while !done(self.drain()) {
            assert!(self.readable(PATIENCE), "nothing comes after {:#?}", self.seen);
        }
    }

    /// Waits until that was told, and forgets it with all before it.
    pub fn until_told(&mut self, event: &Event) {
        self.until(|seen| seen.contains(event));
        self.seen.clear();
    }

    /// What was told of one container.
    pub fn of(&self, container: &str) -> Vec<Event> {
        self.seen.iter().filter(|event| event.container() == Some(container)).cloned().collect()
    }
}

pub fn created(container: &str) -> Event {
    Event::Created { container: container.to_string() }
}

pub fn begun(container: &str) -> Event {
    Event::Started { container: container.to_string() }
}

pub fn removed(container: &str) -> Event {
    Event::Removed { container: container.to_string() }
}

/// That it exited with a code, where memory is watched or not.
pub fn exited(events: &Events, container: &str, code: i32) -> Event {
    ended(events, container, ExitStatus::Exited(code))
}

/// That it ended so, not by the OOM killer.
pub fn ended(events: &Events, container: &str, status: ExitStatus) -> Event {
    let oom_killed = events.sources().contains(&pericarp::EventSource::Memory).then_some(false);
    Event::Exited { container: container.to_string(), status: Some(status), oom_killed }
}
