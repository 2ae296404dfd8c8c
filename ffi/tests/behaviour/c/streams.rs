//! Other programs in containers, their terminals, and outputs with several readers, through C.

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use pericarp::{ErrorKind, ExitStatus};
use pericarp_ffi::*;

use super::pod::get_fd;
use super::*;

type ProcessHandle = Handle<pericarp_process_t>;
type FanoutHandle = Handle<pericarp_fanout_t>;

pub(super) fn process(pointer: *mut pericarp_process_t) -> Box<dyn ProcessApi> {
    assert!(!pointer.is_null());
    let handle: ProcessHandle =
        Handle { pointer, refer: pericarp_process_ref, unref: pericarp_process_unref };
    Box::new(handle)
}

pub(super) fn fanout(pointer: *mut pericarp_fanout_t) -> Box<dyn FanoutApi> {
    assert!(!pointer.is_null());
    let handle: FanoutHandle = Handle { pointer, refer: pericarp_fanout_ref, unref: pericarp_fanout_unref };
    Box::new(handle)
}

/// The descriptor of a terminal, which is all that C has of it.
struct Master(OwnedFd);

pub(super) fn terminal(master: OwnedFd) -> Box<dyn TerminalApi> {
    Box::new(Master(master))
}

/// What can be taken once, or none.
pub(super) fn taken(function: impl Fn(*mut c_int, *mut *mut pericarp_error_t) -> c_int) -> Option<OwnedFd> {
    get_fd(function).inspect_err(|failure| assert_eq!(failure.kind, ErrorKind::NotFound)).ok()
}

/// A copy of a descriptor that stays the library's.
fn borrowed(function: impl Fn(*mut c_int, *mut *mut pericarp_error_t) -> c_int) -> OwnedFd {
    let fd = get(-77, function).expect("a descriptor");
    // SAFETY: it is open as long as the handle, which the caller has.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().expect("duplicate a descriptor")
}

impl ProcessApi for ProcessHandle {
    fn again(&self) -> Box<dyn ProcessApi> {
        Box::new(self.another())
    }

    fn container(&self) -> Box<dyn ContainerApi> {
        // SAFETY: it is a live handle.
        boxed_container(unsafe { pericarp_process_container(self.pointer) })
    }

    fn pid(&self) -> i32 {
        // SAFETY: it is a live handle.
        unsafe { pericarp_process_pid(self.pointer) }
    }

    fn pidfd(&self) -> OwnedFd {
        // SAFETY: all pointers are to what the header asks for.
        let own = borrowed(|place, err| unsafe { pericarp_process_borrow_pidfd(self.pointer, place, err) });
        // SAFETY: all pointers are to what the header asks for.
        let copy = get_fd(|place, err| unsafe { pericarp_process_dup_pidfd(self.pointer, place, err) });
        drop(own);
        copy.expect("a descriptor")
    }

    fn take_stdin(&self) -> Option<File> {
        // SAFETY: all pointers are to what the header asks for.
        taken(|place, err| unsafe { pericarp_process_take_stdin(self.pointer, place, err) }).map(File::from)
    }

    fn take_stdout(&self) -> Option<File> {
        // SAFETY: all pointers are to what the header asks for.
        taken(|place, err| unsafe { pericarp_process_take_stdout(self.pointer, place, err) }).map(File::from)
    }

    fn take_stderr(&self) -> Option<File> {
        // SAFETY: all pointers are to what the header asks for.
        taken(|place, err| unsafe { pericarp_process_take_stderr(self.pointer, place, err) }).map(File::from)
    }

    fn take_terminal(&self) -> Option<Box<dyn TerminalApi>> {
        // SAFETY: all pointers are to what the header asks for.
        taken(|place, err| unsafe { pericarp_process_take_terminal(self.pointer, place, err) }).map(terminal)
    }

    fn signal(&self, signal: i32) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_process_signal(self.pointer, signal, err) })
    }

    fn kill(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_process_kill(self.pointer, err) })
    }

    fn wait(&self) -> Res<ExitStatus> {
        // SAFETY: all pointers are to what the header asks for.
        let status = get_status(|place, err| unsafe { pericarp_process_wait(self.pointer, place, err) })?;
        Ok(status.expect("it has ended"))
    }

    fn wait_timeout(&self, timeout: Option<Duration>) -> Res<Option<ExitStatus>> {
        let timeout = timeout.map_or(-1, |time| time.as_millis().try_into().expect("a short time"));
        // SAFETY: all pointers are to what the header asks for.
        get_status(|place, err| unsafe { pericarp_process_wait_timeout(self.pointer, timeout, place, err) })
    }

    fn try_wait(&self) -> Res<Option<ExitStatus>> {
        // SAFETY: all pointers are to what the header asks for.
        get_status(|place, err| unsafe { pericarp_process_try_wait(self.pointer, place, err) })
    }
}

impl TerminalApi for Master {
    fn file(&self) -> File {
        self.0.try_clone().expect("duplicate a descriptor").into()
    }

    fn resize(&self, width: u16, height: u16) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_terminal_resize(self.0.as_raw_fd(), width, height, err) })
    }

    fn size(&self) -> Res<(u16, u16)> {
        let mut height = 77;
        let height_of = &raw mut height;
        // SAFETY: all pointers are to what the header asks for.
        let width = get(77, |place, err| unsafe {
            pericarp_terminal_size(self.0.as_raw_fd(), place, height_of, err)
        })?;
        Ok((width, height))
    }

    fn name(&self) -> Res<String> {
        // SAFETY: all pointers are to what the header asks for.
        get_text(|place, err| unsafe { pericarp_terminal_name(self.0.as_raw_fd(), place, err) })
    }

    fn send_to(&self, path: &Path) -> Res<()> {
        let path = c_path(path);
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_terminal_send_to(self.0.as_raw_fd(), path.as_ptr(), err) })
    }
}

impl FanoutApi for FanoutHandle {
    fn again(&self) -> Box<dyn FanoutApi> {
        Box::new(self.another())
    }

    fn attach(&self) -> Res<File> {
        // SAFETY: all pointers are to what the header asks for.
        get_fd(|place, err| unsafe { pericarp_fanout_open_reader(self.pointer, place, err) }).map(File::from)
    }

    fn attach_from_now(&self) -> Res<File> {
        // SAFETY: all pointers are to what the header asks for.
        get_fd(|place, err| unsafe { pericarp_fanout_open_reader_from_now(self.pointer, place, err) })
            .map(File::from)
    }

    fn fd(&self) -> OwnedFd {
        // SAFETY: all pointers are to what the header asks for.
        borrowed(|place, err| unsafe { pericarp_fanout_borrow_fd(self.pointer, place, err) })
    }

    fn pump(&self) -> Res<bool> {
        // SAFETY: all pointers are to what the header asks for.
        get(77, |place, err| unsafe { pericarp_fanout_pump(self.pointer, place, err) })
            .map(|goes_on| goes_on == 1)
    }

    fn run(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_fanout_run(self.pointer, err) })
    }

    fn readers(&self) -> usize {
        // SAFETY: it is a live handle.
        unsafe { pericarp_fanout_readers(self.pointer) }
    }
}
