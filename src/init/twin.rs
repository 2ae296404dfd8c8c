//! The twin of init, for a container that belongs to a user namespace.
//!
//! A proc of its PID namespace and a devpts can only be made from within the user namespace, and that only by who has a
//! mount namespace there; all else is mounted, in the listed order, with privileges of the host, and locked when it
//! is copied into the user namespace. So there are two: the twin enters the user namespace at once, makes these
//! filesystems and gives them to init, which attaches them where they belong among the others. When all is mounted, init
//! takes it into the user namespace, and the twin goes on there in its place.

use crate::sys::{EINTR, O_CLOEXEC, close, exit, nr, syscall};
use crate::user::CLONE_NEWNS;
use crate::wire::{self, Reader};
use crate::{Done, In, State, process};

const AF_UNIX: usize = 1;
const SOCK_SEQPACKET: usize = 5;

/// Makes the twin. It does that many steps, which init leaves out.
pub fn part(state: &mut State, mut fields: Reader) -> Done {
    let steps = fields.u32()?;
    let mut ends = [-1i32; 2];
    syscall!(nr::SOCKETPAIR, AF_UNIX, SOCK_SEQPACKET | O_CLOEXEC, 0, ends.as_mut_ptr())
        .within(wire::CALL_SOCKETPAIR)?;
    let [inits, twins] = ends;
    // Each has its own end alone: it reads the end of file when the other one is gone.
    if process::fork(state, wire::MSG_TWIN)? {
        close(inits);
        state.twin = twins;
    } else {
        close(twins);
        state.twin = inits;
        state.skip = steps;
    }
    Ok(())
}

/// In the twin: gives what it has made, and waits for the mount namespace in which it goes on, that many steps later.
pub fn give(state: &mut State, mut fields: Reader) -> Done {
    let (steps, count) = (fields.u32()?, fields.u32()?);
    for _ in 0..count {
        process::send_descriptor(state.twin, wire::MSG_FD, state.slot(fields.u32()?)?)?;
    }
    let mounts = receive(state.twin)?;
    syscall!(nr::SETNS, mounts, CLONE_NEWNS).within(wire::CALL_SETNS)?;
    close(mounts);
    close(state.twin);
    state.twin = 0;
    state.skip = steps;
    Ok(())
}

/// Takes what the twin has made.
pub fn take(state: &mut State, mut fields: Reader) -> Done {
    for _ in 0..fields.u32()? {
        let (slot, fd) = (fields.u32()?, receive(state.twin)?);
        state.store(slot, fd as usize)?;
    }
    Ok(())
}

/// Lets the twin go on in the mount namespace of this process, which ends.
pub fn hand_over(state: &State, mut fields: Reader) -> Done {
    let proc = state.slot(fields.u32()?)?;
    let path = c"self/ns/mnt".as_ptr();
    let mounts = syscall!(nr::OPENAT, proc, path, O_CLOEXEC).within(wire::CALL_OPEN)?;
    // The library hears of it before it hears anything of how the twin goes on.
    process::tell(state, wire::MSG_TAKES_OVER)?;
    // A twin that is gone has told why, or was killed.
    let _ = process::send_descriptor(state.twin, wire::MSG_FD, mounts as i32);
    exit(0)
}

/// A descriptor from the other one.
fn receive(socket: i32) -> Done<i32> {
    loop {
        match process::receive_descriptor(socket) {
            Err(EINTR) => {}
            Ok(Some(fd)) => return Ok(fd),
            // It is gone: it has told why, or was killed.
            Ok(None) => exit(process::EXIT_FAILURE),
            Err(errno) => return Err(errno).within(wire::CALL_RECVMSG),
        }
    }
}
