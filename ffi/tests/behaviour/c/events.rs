//! Events through C.

use std::ffi::{CStr, c_char};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::null_mut;

use pericarp::{Event, EventOptions, Pressure, PressureShare, PressureTrigger};
use pericarp_ffi::*;
use serde_json::Value;

use super::*;

type EventsHandle = Handle<pericarp_events_t>;

pub(super) fn subscribe(
    pod: *const pericarp_pod_t,
    options: Option<&EventOptions>,
) -> Res<Box<dyn EventsApi>> {
    let json = options.map(c_json);
    // SAFETY: all pointers are to what the header asks for.
    let pointer =
        get(null_mut(), |place, err| unsafe { pericarp_pod_events(pod, super::pointer(&json), place, err) })?;
    assert!(!pointer.is_null());
    let handle: EventsHandle = Handle { pointer, refer: pericarp_events_ref, unref: pericarp_events_unref };
    // One more reference is the same subscription.
    Ok(Box::new(handle.another()))
}

/// An event for a function to fill. What it is before must not come out.
fn no_event() -> pericarp_event_t {
    pericarp_event_t {
        size: size_of::<pericarp_event_t>(),
        kind: 77,
        how: 77,
        code: 77,
        signal: 77,
        core_dumped: 77,
        oom_killed: 77,
        count: 77,
        stall_us: 77,
        window_us: 77,
        resource: 77,
        share: 77,
        container: [77 as c_char; 64],
    }
}

/// What the structure tells, all of which must be zero that it does not.
fn event(told: &pericarp_event_t) -> Option<Event> {
    // SAFETY: the header says that it ends with NUL.
    let name = unsafe { CStr::from_ptr(told.container.as_ptr()) }.to_str().expect("UTF-8").to_string();
    let container = name.clone();
    let of = (!name.is_empty()).then(|| name.clone());
    let count = told.count;
    if told.kind != PERICARP_EVENT_EXITED {
        let rest = (told.how, told.code, told.signal, told.core_dumped, told.oom_killed);
        assert_eq!(rest, (0, 0, 0, 0, 0));
    }
    if told.kind != PERICARP_EVENT_PRESSURE {
        assert_eq!((told.stall_us, told.window_us, told.resource, told.share), (0, 0, 0, 0));
    }
    Some(match told.kind {
        PERICARP_EVENT_NONE => {
            assert_eq!((count, of), (0, None));
            return None;
        }
        PERICARP_EVENT_CREATED => Event::Created { container },
        PERICARP_EVENT_STARTED => Event::Started { container },
        PERICARP_EVENT_EXITED => {
            let status = pericarp_exit_status_t {
                size: size_of::<pericarp_exit_status_t>(),
                how: told.how,
                code: told.code,
                signal: told.signal,
                core_dumped: told.core_dumped,
            };
            let oom_killed = (told.oom_killed >= 0).then_some(told.oom_killed == 1);
            Event::Exited { container, status: exit_status(&status), oom_killed }
        }
        PERICARP_EVENT_REMOVED => Event::Removed { container },
        PERICARP_EVENT_OOM_KILL => Event::OomKill { container: of, count },
        PERICARP_EVENT_MEMORY_HIGH => Event::MemoryHigh { container: of, count },
        PERICARP_EVENT_MEMORY_MAX => Event::MemoryMax { container: of, count },
        PERICARP_EVENT_PRESSURE => {
            let resource = match told.resource {
                PERICARP_PRESSURE_CPU => Pressure::Cpu,
                PERICARP_PRESSURE_MEMORY => Pressure::Memory,
                PERICARP_PRESSURE_IO => Pressure::Io,
                other => panic!("the resource {other}"),
            };
            let share = match told.share {
                PERICARP_PRESSURE_SOME => PressureShare::Some,
                PERICARP_PRESSURE_FULL => PressureShare::Full,
                other => panic!("the share {other}"),
            };
            let (stall_micros, window_micros) = (told.stall_us, told.window_us);
            Event::Pressure { trigger: PressureTrigger { resource, share, stall_micros, window_micros } }
        }
        PERICARP_EVENT_FROZEN => Event::Frozen { container: of },
        PERICARP_EVENT_THAWED => Event::Thawed { container: of },
        PERICARP_EVENT_EMPTY => Event::Empty,
        PERICARP_EVENT_SKIPPED => Event::Skipped { containers: count },
        PERICARP_EVENT_POD_REMOVED => Event::PodRemoved,
        other => panic!("an event of kind {other}"),
    })
}

impl EventsApi for EventsHandle {
    fn next(&self) -> Res<Option<Event>> {
        let mut told = no_event();
        let place = &raw mut told;
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_events_next(self.pointer, place, err) })?;
        Ok(event(&told))
    }

    fn fd(&self) -> OwnedFd {
        // SAFETY: all pointers are to what the header asks for.
        let fd = get(-77, |place, err| unsafe { pericarp_events_borrow_fd(self.pointer, place, err) })
            .expect("a descriptor");
        // SAFETY: it is open as long as this handle.
        unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().expect("duplicate a descriptor")
    }

    fn is_over(&self) -> bool {
        // SAFETY: all pointers are to what the header asks for.
        let over = get(77, |place, err| unsafe { pericarp_events_is_over(self.pointer, place, err) });
        over.expect("only wrong arguments are errors") == 1
    }

    fn sources(&self) -> Value {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_events_sources(self.pointer, place, err) })
            .expect("only wrong arguments are errors")
    }

    fn pod(&self) -> Box<dyn PodApi> {
        // SAFETY: it is a live handle.
        boxed_pod(unsafe { pericarp_events_pod(self.pointer) })
    }
}
