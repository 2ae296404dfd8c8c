//! The barrier of a container that outlives the program that made it: whoever may reach its socket can start it.
//!
//! The program that made the container is at the other end of the control socket, as ever, for as long as it lives.
//! Others connect to a socket in the container's directory of state, which only the owner of the node can reach.

use crate::sys::{EAGAIN, ECONNABORTED, EINTR, PollFd, close, nr, syscall};
use crate::wire::{self, Reader};
use crate::{Done, In, State, process};

const MSG_DONTWAIT: usize = 0x40;
/// The length of the whole message, also where it does not fit.
const MSG_TRUNC: usize = 0x20;
const SOCK_CLOEXEC: usize = 0o2000000;
/// A file that poll(2) leaves out.
const NOBODY: i32 = -1;

/// What a connection turned out to say.
enum Heard {
    Start,
    /// Nothing that ends the barrier, and nothing more will come.
    Other,
}

pub fn barrier(state: &mut State, mut fields: Reader) -> Done {
    let listener = state.slot(fields.u32()?)?;
    let mut maker = state.slot(wire::CONTROL)?;
    // Who made the container may be gone by now; others are told when they come.
    if process::ready(maker).is_err() {
        maker = NOBODY;
    }
    // One at a time: those who start a container take turns, see the library's `container/starting.rs`.
    let mut starter = NOBODY;
    loop {
        let other = if starter == NOBODY { listener } else { starter };
        let mut watched = [maker, other].map(PollFd::of);
        match syscall!(nr::PPOLL, watched.as_mut_ptr(), watched.len(), 0, 0, 8) {
            Err(EINTR) => continue,
            result => result.within(wire::CALL_POLL)?,
        };
        let [from_maker, from_other] = watched.map(|file| file.happened != 0);
        if from_maker {
            match hear(maker) {
                Heard::Start => {
                    close(listener);
                    close(starter);
                    return Ok(());
                }
                Heard::Other => maker = NOBODY,
            }
        }
        if !from_other {
            continue;
        }
        if starter == NOBODY {
            starter = accept(listener)?;
            continue;
        }
        // From the answer on, it is this program that hears how it went, and no other that can start.
        if matches!(hear(starter), Heard::Start) && process::ready(starter).is_ok() {
            close(listener);
            close(maker);
            return state.store(wire::CONTROL, starter as usize);
        }
        close(starter);
        starter = NOBODY;
    }
}

fn hear(from: i32) -> Heard {
    let mut message = [0u32; 3];
    let flags = MSG_DONTWAIT | MSG_TRUNC;
    match syscall!(nr::RECVFROM, from, message.as_mut_ptr(), size_of_val(&message), flags) {
        Ok(length) if length == size_of_val(&message) && message[0] == wire::MSG_START => Heard::Start,
        _ => Heard::Other,
    }
}

/// The next connection, or nobody when it is not one of the owner of the socket.
/// In a user namespace all users of the machine without an id in it look the same here: then it is the directory alone
/// that keeps others away.
fn accept(listener: i32) -> Done<i32> {
    let connection = match syscall!(nr::ACCEPT4, listener, 0, 0, SOCK_CLOEXEC) {
        Ok(connection) => connection as i32,
        // It was gone before it was looked at.
        Err(EINTR | EAGAIN | ECONNABORTED) => return Ok(NOBODY),
        Err(errno) => return Err(errno).within(wire::CALL_ACCEPT),
    };
    match (user(listener), user(connection)) {
        (Some(owner), Some(peer)) if owner == peer => Ok(connection),
        _ => {
            close(connection);
            Ok(NOBODY)
        }
    }
}

/// The user id of who listens or connected (`SO_PEERCRED`).
fn user(socket: i32) -> Option<u32> {
    const SOL_SOCKET: usize = 1;
    const SO_PEERCRED: usize = 17;
    let mut credentials = [0u32; 3];
    let mut length = size_of_val(&credentials) as u32;
    let (room, length) = (credentials.as_mut_ptr(), &raw mut length);
    syscall!(nr::GETSOCKOPT, socket, SOL_SOCKET, SO_PEERCRED, room, length).ok()?;
    Some(credentials[1])
}
