//! Steps that give the process what only some containers ask for: scheduling, clocks, labels, a filter with a listener.

use crate::fs::{PROC_SUPER_MAGIC, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV};
use crate::sys::{
    EINTR, EINVAL, ENOSYS, EPERM, O_CLOEXEC, O_DIRECTORY, O_PATH, O_WRONLY, close, exit, filesystem, nr,
    syscall,
};
use crate::wire::{self, Reader};
use crate::{Done, In, State, identity, process};

const CLONE_NEWTIME: usize = 0x80;
const IOPRIO_WHO_PROCESS: usize = 1;

/// Opens a file of a proc that is the library's own, and nothing that anybody could have put in its place
/// (CVE-2019-16884, CVE-2025-52881).
fn open_proc(proc: i32, path: *const u8, flags: usize) -> Done<i32> {
    let rules = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
    let how: [u64; 3] = [(flags | O_CLOEXEC) as u64, 0, rules];
    let file =
        syscall!(nr::OPENAT2, proc, path, how.as_ptr(), size_of_val(&how)).within(wire::CALL_OPENAT2)? as i32;
    if filesystem(file).within(wire::CALL_FSTATFS)? != PROC_SUPER_MAGIC {
        return Err(EPERM).within(wire::CALL_FSTATFS);
    }
    Ok(file)
}

pub fn write_proc(state: &State, mut fields: Reader) -> Done {
    let (proc, path, text) = (state.slot(fields.u32()?)?, fields.string()?, fields.string()?);
    let file = open_proc(proc, path.as_ptr(), O_WRONLY)?;
    let written = syscall!(nr::WRITE, file, text.as_ptr(), text.len()).within(wire::CALL_WRITE)?;
    close(file);
    // The kernel takes these texts as a whole.
    if written == text.len() { Ok(()) } else { Err(EINVAL).within(wire::CALL_WRITE) }
}

/// unshare(2) makes a time namespace for children only. This process has one thread, so that it can join it itself.
pub fn enter_time(state: &State, mut fields: Reader) -> Done {
    let proc = state.slot(fields.u32()?)?;
    let directory = open_proc(proc, c"self/ns".as_ptr().cast(), O_PATH | O_DIRECTORY)?;
    // A magic link, in a directory that is known to be proc's.
    let namespace = syscall!(nr::OPENAT, directory, c"time_for_children".as_ptr(), O_CLOEXEC)
        .within(wire::CALL_OPEN)? as i32;
    syscall!(nr::SETNS, namespace, CLONE_NEWTIME).within(wire::CALL_SETNS)?;
    close(namespace);
    close(directory);
    Ok(())
}

/// `struct sched_attr`, its first published size.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

pub fn scheduler(mut fields: Reader) -> Done {
    let (policy, nice, priority) = (fields.u32()?, fields.u32()? as i32, fields.u32()?);
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy,
        flags: fields.u64()?,
        nice,
        priority,
        runtime: fields.u64()?,
        deadline: fields.u64()?,
        period: fields.u64()?,
    };
    syscall!(nr::SCHED_SETATTR, 0, &raw const attributes, 0).within(wire::CALL_SCHED_SETATTR).map(drop)
}

pub fn io_priority(mut fields: Reader) -> Done {
    syscall!(nr::IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, fields.u32()?).within(wire::CALL_IOPRIO_SET).map(drop)
}

pub fn affinity(mut fields: Reader) -> Done {
    let mask = fields.bytes()?;
    syscall!(nr::SCHED_SETAFFINITY, 0, mask.len(), mask.as_ptr())
        .within(wire::CALL_SCHED_SETAFFINITY)
        .map(drop)
}

pub fn personality(mut fields: Reader) -> Done {
    syscall!(nr::PERSONALITY, fields.u32()?).within(wire::CALL_PERSONALITY).map(drop)
}

pub fn memory_policy(mut fields: Reader) -> Done {
    let (mode, nodes) = (fields.u32()?, fields.bytes()?);
    // The kernel takes one bit less than it is told of.
    let bits = nodes.len() * 8 + 1;
    syscall!(nr::SET_MEMPOLICY, mode, nodes.as_ptr(), bits).within(wire::CALL_SET_MEMPOLICY).map(drop)
}

/// Keys of the host program are found by whoever has its session keyring, also from inside. The new one has no name, by
/// which others could join it.
pub fn session_keyring() -> Done {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    match syscall!(nr::KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, 0) {
        // Without CONFIG_KEYS there are no keys.
        Ok(_) | Err(ENOSYS) => Ok(()),
        Err(errno) => Err(errno).within(wire::CALL_KEYCTL),
    }
}

/// From the load on every call is up to the filter. Profiles with a listener let read(2) and write(2) through, which is
/// all that is needed here: the library takes the listener out of this process by its number, while this waits. The
/// next execve(2) closes what is left of it here.
pub fn seccomp_listener(state: &State, fields: Reader) -> Done {
    let control = state.slot(wire::CONTROL)?;
    let listener = identity::load_filter(fields)?;
    let mut message = [wire::MSG_LISTENER, listener as u32, 0];
    syscall!(nr::WRITE, control, message.as_ptr(), size_of_val(&message)).within(wire::CALL_WRITE)?;
    loop {
        match syscall!(nr::READ, control, message.as_mut_ptr(), size_of_val(&message)) {
            Err(EINTR) => {}
            Ok(length) if length == size_of_val(&message) && message[0] == wire::MSG_LISTENER_TAKEN => {
                return Ok(());
            }
            // The library could not pass it on, or is gone: nobody would answer what the program asks.
            Ok(_) => exit(process::EXIT_FAILURE),
            Err(errno) => return Err(errno).within(wire::CALL_READ),
        }
    }
}
