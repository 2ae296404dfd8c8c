//! The plan and the files that it names, as they come over the control socket.

use crate::process::{Iovec, MSG_CMSG_CLOEXEC, Message, Rights};
use crate::sys::{EINTR, EMFILE, close, nr, syscall};
use crate::wire::{self, Plan};
use crate::{Done, Failure, In, State};

const MSG_CTRUNC: usize = 0x8;

/// Takes the descriptors into their slots, and the plan into the buffer. It is the last of these messages, or in a file that
/// the last one has.
pub fn plan<'a>(state: &mut State, control: i32, buffer: &'a mut [u8]) -> Done<Plan<'a>> {
    let mut next = wire::CONTROL + 1;
    let length = loop {
        let length = message(state, control, buffer, &mut next)?;
        match buffer.first_chunk().map(|word| u32::from_le_bytes(*word)) {
            Some(wire::MSG_DESCRIPTORS) if length == wire::MESSAGE => {}
            Some(wire::MSG_PLAN_IN_FILE) if length == wire::MESSAGE => {
                next -= 1;
                let file = state.take(next)?;
                let length = read_all(file, buffer);
                close(file);
                break length;
            }
            _ => break length,
        }
    };
    let plan = Plan::decode(buffer.get(..length).ok_or(wire::Malformed)?)?;
    if plan.descriptors == next as usize { Ok(plan) } else { Err(wire::Malformed.into()) }
}

/// Receives one message, and takes its descriptors into the next slots.
fn message(state: &mut State, control: i32, buffer: &mut [u8], next: &mut u32) -> Done<usize> {
    let mut rights = Rights::<{ wire::MAX_RIGHTS }>::room();
    let iov = Iovec::over(buffer);
    let mut message = Message::new(&iov, &mut rights);
    let length = loop {
        match syscall!(nr::RECVMSG, control, &raw mut message, MSG_CMSG_CLOEXEC) {
            Err(EINTR) => {}
            result => break result.within(wire::CALL_RECVMSG)?,
        }
    };
    // SAFETY: the kernel has written these, or has left them as they were.
    let (flags, rights) =
        unsafe { ((&raw const message.flags).read_volatile(), (&raw const rights).read_volatile()) };
    // It leaves out what there is no number for.
    if flags & MSG_CTRUNC != 0 {
        return Err(Failure { call: wire::CALL_RECVMSG, errno: EMFILE });
    }
    for &fd in rights.fds.iter().take(rights.count()) {
        state.store(*next, fd as usize)?;
        *next += 1;
    }
    Ok(length)
}

fn read_all(fd: i32, buffer: &mut [u8]) -> usize {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..) {
        match syscall!(nr::PREAD64, fd, rest.as_mut_ptr(), rest.len(), length) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(EINTR) => {}
            Err(_) => break,
        }
    }
    length
}
