//! What happens in a pod, told through one descriptor; and killing a pod as a whole.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;

use pericarp::{Event, EventOptions, EventSource, Events, Pressure, PressureShare};

use crate::caller::{Caller, Structure, first_size, give, text_for_caller};
use crate::error::pericarp_error_t;
use crate::handle::{Handle, Head, handle};
use crate::json;
use crate::pod::pericarp_pod_t;
use crate::structs::pericarp_exit_status_t;

/// A subscription to the events of one pod. Any number of them, of any programs, do not disturb each other.
pub struct pericarp_events_t {
    head: Head,
    events: Events,
}

handle!(pericarp_events_t, 0x7065_7269_4556_4e54);

/// There is no event now.
pub const PERICARP_EVENT_NONE: u32 = 0;
/// A container was made.
pub const PERICARP_EVENT_CREATED: u32 = 1;
/// A container's program runs.
pub const PERICARP_EVENT_STARTED: u32 = 2;
/// A container's first process has ended; `how`, `code`, `signal`, `core_dumped` and `oom_killed` tell how.
pub const PERICARP_EVENT_EXITED: u32 = 3;
/// A container was removed.
pub const PERICARP_EVENT_REMOVED: u32 = 4;
/// The OOM killer has killed `count` processes.
pub const PERICARP_EVENT_OOM_KILL: u32 = 5;
/// `memory.high` of the container, or of the pod, was passed `count` times.
pub const PERICARP_EVENT_MEMORY_HIGH: u32 = 6;
/// `memory.max` of the container, or of the pod, was met `count` times.
pub const PERICARP_EVENT_MEMORY_MAX: u32 = 7;
/// A threshold of pressure was met: that of `resource`, `share`, `stall_us` and `window_us`.
pub const PERICARP_EVENT_PRESSURE: u32 = 8;
/// All processes of the container, or of the pod, stand still.
pub const PERICARP_EVENT_FROZEN: u32 = 9;
/// They run again.
pub const PERICARP_EVENT_THAWED: u32 = 10;
/// No process is left in the pod.
pub const PERICARP_EVENT_EMPTY: u32 = 11;
/// `count` containers came and went of which nothing is told any more: nobody has read events for thousands of them.
pub const PERICARP_EVENT_SKIPPED: u32 = 12;
/// The pod was removed. Nothing comes after that.
pub const PERICARP_EVENT_POD_REMOVED: u32 = 13;
/// One that this header has no constant for.
pub const PERICARP_EVENT_OTHER: u32 = 14;

/// Processor time.
pub const PERICARP_PRESSURE_CPU: u32 = 1;
/// Memory.
pub const PERICARP_PRESSURE_MEMORY: u32 = 2;
/// Block devices.
pub const PERICARP_PRESSURE_IO: u32 = 3;
/// At least one process stalls.
pub const PERICARP_PRESSURE_SOME: u32 = 1;
/// All processes stall at once.
pub const PERICARP_PRESSURE_FULL: u32 = 2;

/// Something that happened in a pod. The caller sets `size`, the library the rest; what an event does not tell is zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_event_t {
    /// `sizeof (pericarp_event_t)`.
    pub size: usize,
    /// One of the `PERICARP_EVENT_` constants.
    pub kind: u32,
    /// Of `EXITED`: one of the `PERICARP_EXIT_` constants. `PERICARP_EXIT_NONE`: the status is lost, because somebody else took
    /// it from the kernel, and that does not keep it (before 6.15).
    pub how: u32,
    /// The exit code, 0 to 255.
    pub code: i32,
    /// The signal.
    pub signal: i32,
    /// 1 if the kernel wrote a core dump.
    pub core_dumped: u32,
    /// 1 if it was the OOM killer, 0 if not, and -1 if there is no memory controller to tell.
    pub oom_killed: i32,
    /// How many times, since the event of that kind before.
    pub count: u64,
    /// Of `PRESSURE`: the stall of the trigger, in microseconds.
    pub stall_us: u64,
    /// Of `PRESSURE`: the window of the trigger, in microseconds.
    pub window_us: u64,
    /// Of `PRESSURE`: `PERICARP_PRESSURE_CPU`, `_MEMORY` or `_IO`.
    pub resource: u32,
    /// Of `PRESSURE`: `PERICARP_PRESSURE_SOME` or `_FULL`.
    pub share: u32,
    /// The container that it is about; empty if it is about the pod. It ends with NUL: names have at most 63 bytes.
    pub container: [c_char; 64],
}

const _: () = assert!(size_of::<pericarp_event_t>() == size_of::<usize>() + 8 * 4 + 3 * 8 + 64);
// SAFETY: it is made of integers, begins with a `usize`, and was just checked for padding.
unsafe impl Structure for pericarp_event_t {
    const FIRST: usize = first_size!(pericarp_event_t, container: [c_char; 64]);
}

fn resource(resource: Pressure) -> u32 {
    match resource {
        Pressure::Cpu => PERICARP_PRESSURE_CPU,
        Pressure::Memory => PERICARP_PRESSURE_MEMORY,
        Pressure::Io => PERICARP_PRESSURE_IO,
    }
}

fn share(share: PressureShare) -> u32 {
    match share {
        PressureShare::Some => PERICARP_PRESSURE_SOME,
        PressureShare::Full => PERICARP_PRESSURE_FULL,
    }
}

impl From<Option<Event>> for pericarp_event_t {
    fn from(event: Option<Event>) -> Self {
        let mut out = pericarp_event_t {
            size: size_of::<pericarp_event_t>(),
            kind: PERICARP_EVENT_NONE,
            how: 0,
            code: 0,
            signal: 0,
            core_dumped: 0,
            oom_killed: 0,
            count: 0,
            stall_us: 0,
            window_us: 0,
            resource: 0,
            share: 0,
            container: [0; 64],
        };
        let Some(event) = event else { return out };
        let name = event.container().unwrap_or_default().bytes();
        // One place stays 0.
        out.container[..63].iter_mut().zip(name).for_each(|(to, byte)| *to = byte as c_char);
        (out.kind, out.count) = match event {
            Event::Created { .. } => (PERICARP_EVENT_CREATED, 0),
            Event::Started { .. } => (PERICARP_EVENT_STARTED, 0),
            Event::Exited { status, oom_killed, .. } => {
                let status = pericarp_exit_status_t::from(status);
                (out.how, out.code) = (status.how, status.code);
                (out.signal, out.core_dumped) = (status.signal, status.core_dumped);
                out.oom_killed = oom_killed.map_or(-1, i32::from);
                (PERICARP_EVENT_EXITED, 0)
            }
            Event::Removed { .. } => (PERICARP_EVENT_REMOVED, 0),
            Event::OomKill { count, .. } => (PERICARP_EVENT_OOM_KILL, count),
            Event::MemoryHigh { count, .. } => (PERICARP_EVENT_MEMORY_HIGH, count),
            Event::MemoryMax { count, .. } => (PERICARP_EVENT_MEMORY_MAX, count),
            Event::Pressure { trigger } => {
                (out.resource, out.share) = (resource(trigger.resource), share(trigger.share));
                (out.stall_us, out.window_us) = (trigger.stall_micros, trigger.window_micros);
                (PERICARP_EVENT_PRESSURE, 0)
            }
            Event::Frozen { .. } => (PERICARP_EVENT_FROZEN, 0),
            Event::Thawed { .. } => (PERICARP_EVENT_THAWED, 0),
            Event::Empty => (PERICARP_EVENT_EMPTY, 0),
            Event::Skipped { containers } => (PERICARP_EVENT_SKIPPED, containers),
            Event::PodRemoved => (PERICARP_EVENT_POD_REMOVED, 0),
            _ => (PERICARP_EVENT_OTHER, 0),
        };
        out
    }
}

/// Subscribes to what happens in a pod, whichever program does it. `json` may be NULL: then all is told from the pod's beginning
/// that this machine can tell without being asked for thresholds. Otherwise it is an object with the keys of `EventOptions`:
/// `{"since": "now", "memory": true, "pressure": [{"resource": "memory", "share": "some", "stallMicros": 150000,
/// "windowMicros": 2000000}]}`. Memory that is asked for, and pressure, are errors where they cannot be had.
///
/// Ownership: `*out_events` is the caller's to give back with `pericarp_events_unref`.
/// Errors: `INVALID_SPEC`; `NOT_FOUND` when the pod is gone; `UNSUPPORTED` when this machine does not tell what is asked for;
/// `PERMISSION_DENIED` for a threshold that the kernel does not allow; `EXHAUSTED`, for instance of inotify instances
/// (fs.inotify.max_user_instances), of which a subscription takes one.
/// Threads: any.
/// Rust: `Pod::events`, `Pod::events_with`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_events(
    pod: *const pericarp_pod_t,
    json: *const c_char,
    out_events: *mut *mut pericarp_events_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_events, "out_events")?;
        let pod = caller.handle(pod, "pod")?;
        let options = match caller.optional_text(json, "json")? {
            Some(text) => json::read(text)?,
            None => EventOptions::new(),
        };
        let events = pod.pod.events_with(&options)?;
        out.set(give(pericarp_events_t { head: Head::new(pericarp_events_t::MARK), events }));
        Ok(())
    })
}

/// One more reference to a subscription, the same pointer. NULL for NULL.
///
/// Ownership: the caller gets a reference to give back with `pericarp_events_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Arc` of `Events`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_events_ref(events: *const pericarp_events_t) -> *mut pericarp_events_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.refer(events)
}

/// Gives a reference to a subscription back. The last one ends it, and nothing else.
///
/// Ownership: takes the caller's reference to `events`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Events`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_events_unref(events: *mut pericarp_events_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(events);
}

/// The descriptor of a subscription: readable (poll(2)) when there is an event, and now and then when `pericarp_events_next`
/// finds nothing new. There is nothing to read from it.
///
/// Ownership: `*out_fd` stays the library's: do not close it. It is valid as long as the caller's reference to `events`.
/// Errors: none but wrong arguments.
/// Threads: any.
/// Rust: `AsFd` of `Events`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_events_borrow_fd(
    events: *const pericarp_events_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        out.set(caller.handle(events, "events")?.events.as_fd().as_raw_fd());
        Ok(())
    })
}

/// The next event. Never waits: if there is none, `out_event->kind` is `PERICARP_EVENT_NONE`, and the descriptor tells when
/// there is one. No exit status is taken by that from whoever waits for the container.
///
/// Ownership: the caller sets `out_event->size`.
/// Errors: what the kernel says. Nothing is lost by that: the next call looks again.
/// Threads: any; each event is told once.
/// Rust: `Events::next_event`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_events_next(
    events: *const pericarp_events_t,
    out_event: *mut pericarp_event_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_event, "out_event")?;
        out.set(caller.handle(events, "events")?.events.next_event()?.into());
        Ok(())
    })
}

/// Whether the pod was removed and all was told: `*out_over` is 1 or 0. Nothing comes after that.
///
/// Ownership: the caller keeps `events`.
/// Errors: none but wrong arguments.
/// Threads: any.
/// Rust: `Events::is_over`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_events_is_over(
    events: *const pericarp_events_t,
    out_over: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_over, "out_over")?;
        out.set(caller.handle(events, "events")?.events.is_over().into());
        Ok(())
    })
}

/// What a subscription hears of, as a JSON array of "containers", "freezer", "memory" and "pressure": what this machine
/// cannot tell, and what was not asked for, is not in it.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: none but wrong arguments.
/// Threads: any.
/// Rust: `Events::sources`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_events_sources(
    events: *const pericarp_events_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let events = caller.handle(events, "events")?;
        let mut words: Vec<&str> = events
            .events
            .sources()
            .iter()
            .map(|source| match source {
                EventSource::Containers => "containers",
                EventSource::Freezer => "freezer",
                EventSource::Memory => "memory",
                EventSource::Pressure(_) => "pressure",
                _ => "other",
            })
            .collect();
        words.dedup();
        out.set(text_for_caller(&json::write(&words)?));
        Ok(())
    })
}

/// The pod, as a new handle.
///
/// Ownership: the result is the caller's to give back with `pericarp_pod_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Events::pod`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_events_pod(events: *const pericarp_events_t) -> *mut pericarp_pod_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(events, null_mut(), |events| give(pericarp_pod_t::new(events.events.pod())))
}

/// Kills every process of every container of the pod at once, by one write to `cgroup.kill`. Nothing to kill is no error. The
/// pod stays, and containers can be made in it again: process 1 of a PID namespace that containers share is spared, and each
/// container is then killed by a write of its own.
///
/// Ownership: the caller keeps `pod`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Pod::kill`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_kill(
    pod: *const pericarp_pod_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(pod, "pod")?.pod.kill()?;
        Ok(())
    })
}

/// Whether the processes of a pod stand still, because it was frozen: `*out_frozen` is 1 or 0.
///
/// Ownership: the caller keeps `pod`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Pod::is_frozen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_pod_is_frozen(
    pod: *const pericarp_pod_t,
    out_frozen: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_frozen, "out_frozen")?;
        out.set(caller.handle(pod, "pod")?.pod.is_frozen()?.into());
        Ok(())
    })
}
