//! One output of a container for several readers.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};

use pericarp::{Fanout, SlowReader};

use crate::caller::{Caller, duplicate, give};
use crate::error::{Problem, pericarp_error_t};
use crate::handle::{Handle, Head, handle};

/// One output of a container for several readers: each byte goes to all who are attached, and the last ones are kept for
/// those who come later.
pub struct pericarp_fanout_t {
    head: Head,
    fanout: Fanout,
}

handle!(pericarp_fanout_t, 0x7065_7269_4641_4e4f);

/// Lets several readers have what comes from a pipe (`pericarp_container_take_stdout`), a terminal or a socket, and keeps its
/// last `backlog` bytes (4096 to 1048576) for those who come later. Nobody else may read it. Something must let it work:
/// a thread in `pericarp_fanout_run`, or a loop of events that calls `pericarp_fanout_pump`.
///
/// `waits_for_slow` says what becomes of a reader that has not read more than the backlog: 0: it gets the end of the stream
/// early; 1: everybody waits for it, and in the end the container.
///
/// Ownership: `*out_fanout` is the caller's to give back with `pericarp_fanout_unref`. `source` stays the caller's, who
/// may close it after the call.
/// Errors: `INVALID_SPEC` for another backlog; `INVALID_ARGUMENT` when `source` is no descriptor; `SYSTEM` for a file that
/// cannot be waited for, such as a regular one.
/// Threads: any.
/// Rust: `Fanout::new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_create(
    source: c_int,
    backlog: usize,
    waits_for_slow: c_int,
    out_fanout: *mut *mut pericarp_fanout_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fanout, "out_fanout")?;
        let slow = match waits_for_slow {
            0 => SlowReader::Detach,
            1 => SlowReader::Wait,
            other => return Err(Problem::argument("waits_for_slow", format!("is {other}, neither 0 nor 1"))),
        };
        let fanout = Fanout::new(duplicate(source, "source")?, backlog, slow)?;
        out.set(give(pericarp_fanout_t { head: Head::new(pericarp_fanout_t::MARK), fanout }));
        Ok(())
    })
}

/// One more reference, the same pointer. NULL for NULL.
///
/// Ownership: the caller gets a reference to give back with `pericarp_fanout_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Clone` of `Fanout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_ref(fanout: *const pericarp_fanout_t) -> *mut pericarp_fanout_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.refer(fanout)
}

/// Gives a reference back. With the last one the readers get the end of the stream.
///
/// Ownership: takes the caller's reference to `fanout`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Fanout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_unref(fanout: *mut pericarp_fanout_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(fanout);
}

/// A new reader: the read end of a pipe, which has all that is kept, and gets what comes. It may come after the end of the
/// stream. Closing it detaches the reader.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `EXHAUSTED` when there are 256 readers, or no pipe of the backlog's size can be made.
/// Threads: any.
/// Rust: `Fanout::attach`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_open_reader(
    fanout: *const pericarp_fanout_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        out.set(caller.handle(fanout, "fanout")?.fanout.attach()?.into_raw_fd());
        Ok(())
    })
}

/// The same without what is kept.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: as `pericarp_fanout_open_reader`.
/// Threads: any.
/// Rust: `Fanout::attach_from_now`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_open_reader_from_now(
    fanout: *const pericarp_fanout_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        out.set(caller.handle(fanout, "fanout")?.fanout.attach_from_now()?.into_raw_fd());
        Ok(())
    })
}

/// A descriptor that is readable whenever `pericarp_fanout_pump` has something to do.
///
/// Ownership: `*out_fd` stays the library's: do not close it. It is valid as long as the caller's reference to `fanout`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `AsFd` of `Fanout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_borrow_fd(
    fanout: *const pericarp_fanout_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        out.set(caller.handle(fanout, "fanout")?.fanout.as_fd().as_raw_fd());
        Ok(())
    })
}

/// Does what can be done at once: reads, and writes to the readers. `*out_goes_on` becomes 0 when the stream has ended and
/// each reader has got all, otherwise 1.
///
/// Ownership: the caller keeps `fanout`.
/// Errors: `SYSTEM` when the source cannot be read.
/// Threads: any.
/// Rust: `Fanout::pump`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_pump(
    fanout: *const pericarp_fanout_t,
    out_goes_on: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_goes_on, "out_goes_on")?;
        out.set(caller.handle(fanout, "fanout")?.fanout.pump()?.into());
        Ok(())
    })
}

/// Works until the stream has ended and each reader has got all, or is gone. Who attaches later is served at once.
///
/// Ownership: the caller keeps `fanout`.
/// Errors: as `pericarp_fanout_pump`.
/// Threads: any; blocks.
/// Rust: `Fanout::run`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_run(
    fanout: *const pericarp_fanout_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || Ok(caller.handle(fanout, "fanout")?.fanout.run()?))
}

/// How many readers are attached.
///
/// Ownership: the caller keeps `fanout`.
/// Errors: none; 0 for NULL.
/// Threads: any.
/// Rust: `Fanout::readers`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_fanout_readers(fanout: *const pericarp_fanout_t) -> usize {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(fanout, 0, |fanout| fanout.fanout.readers())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;
    use std::ptr::null_mut;

    use super::*;
    use crate::error::*;

    /// A reader of a descriptor that is ours.
    fn all(fd: c_int) -> String {
        let mut text = String::new();
        // SAFETY: the library has just given it to this test, which closes it.
        unsafe { File::from_raw_fd(fd) }.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn one_stream_for_several_readers() {
        let (source, mut writer) = std::io::pipe().unwrap();
        let (mut fanout, mut err) = (null_mut(), null_mut());
        let mut fds = [-1; 4];
        // SAFETY: all pointers are to what this test has.
        unsafe {
            assert_eq!(pericarp_fanout_create(source.as_raw_fd(), 4096, 0, &mut fanout, &mut err), 0);
            drop(source);
            assert_eq!(pericarp_fanout_open_reader(fanout, &mut fds[0], &mut err), 0);
            writer.write_all(b"one ").unwrap();
            let (mut poll, mut goes_on) = (-1, -1);
            assert_eq!(pericarp_fanout_borrow_fd(fanout, &mut poll, &mut err), 0);
            assert!(poll >= 0);
            assert_eq!(pericarp_fanout_pump(fanout, &mut goes_on, &mut err), 0);
            assert_eq!(goes_on, 1);
            assert_eq!(pericarp_fanout_open_reader(fanout, &mut fds[1], &mut err), 0);
            assert_eq!(pericarp_fanout_open_reader_from_now(fanout, &mut fds[2], &mut err), 0);
            assert_eq!(pericarp_fanout_readers(fanout), 3);
            writer.write_all(b"two").unwrap();
            drop(writer);
            let another = pericarp_fanout_ref(fanout);
            assert_eq!(pericarp_fanout_run(another, &mut err), 0);
            pericarp_fanout_unref(another);
            assert_eq!(pericarp_fanout_pump(fanout, &mut goes_on, &mut err), 0);
            assert_eq!((goes_on, pericarp_fanout_readers(fanout)), (0, 0));
            assert_eq!(pericarp_fanout_open_reader(fanout, &mut fds[3], &mut err), 0);
            pericarp_fanout_unref(fanout);
        }
        assert_eq!(fds.map(all), ["one two", "one two", "two", "one two"]);
    }

    #[test]
    fn wrong_values_are_named() {
        let (source, _writer) = std::io::pipe().unwrap();
        for (source, backlog, waits, subject) in [
            (-1, 4096, 0, c"source"),
            (source.as_raw_fd(), 1, 0, c"backlog"),
            (source.as_raw_fd(), 4096, 2, c"waits_for_slow"),
        ] {
            let (mut fanout, mut err) = (null_mut(), null_mut());
            // SAFETY: all pointers are to what this test has.
            unsafe {
                assert!(pericarp_fanout_create(source, backlog, waits, &mut fanout, &mut err) < 0);
                assert!(fanout.is_null());
                assert_eq!(std::ffi::CStr::from_ptr(pericarp_error_subject(err)), subject);
                pericarp_error_unref(err);
            }
        }
    }
}
