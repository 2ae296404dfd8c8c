//! Steps that concern the process itself: standard streams, the barrier, execve(2), and staying as process 1.

use crate::sys::{
    AT_FDCWD, EACCES, ECHILD, EINTR, ENOENT, ENOTDIR, Errno, O_CLOEXEC, close, exit, nr, pipe, syscall,
};
use crate::wire::{self, Reader};
use crate::{Done, Failure, In, State};

const PR_SET_DUMPABLE: usize = 4;
const PR_SET_NAME: usize = 15;
const SIG_SETMASK: usize = 2;
pub const SIGCHLD: u32 = 17;
pub const CLONE_PIDFD: usize = 0x1000;
const CLONE_PARENT: usize = 0x8000;
const MSG_NOSIGNAL: usize = 0x4000;
pub const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
const F_DUPFD_CLOEXEC: usize = 1030;

/// The first descriptor after the standard streams.
const FIRST_PRESERVED: u32 = 3;

/// The exit status when a step failed or nobody wanted the start; the host learns more from the control socket.
pub const EXIT_FAILURE: i32 = 127;

fn send(control: i32, message: [u32; 3]) -> Result<usize, Errno> {
    syscall!(nr::SENDTO, control, message.as_ptr(), size_of_val(&message), MSG_NOSIGNAL)
}

/// Tells the host which step failed, and how. Whether it is still there does not matter any more.
pub fn report(state: &State, failure: &Failure) {
    if let Ok(control) = state.slot(wire::CONTROL) {
        let detail = u32::from(failure.call) << 16 | failure.errno.0 as u32 & 0xffff;
        let _ = send(control, [wire::MSG_FAILED, state.step, detail]);
    }
}

/// Nobody without the privilege to look into any process may look into this one.
pub fn hide() {
    let _ = syscall!(nr::PRCTL, PR_SET_DUMPABLE, 0);
}

/// Files of a process in proc belong to root of the machine as long as nobody may look into it: then only root could
/// give a new user namespace its ids. There is nothing to see in the process that waits for that, and nobody but the
/// owner to see it.
pub fn show() {
    let _ = syscall!(nr::PRCTL, PR_SET_DUMPABLE, 1);
}

/// Gives every signal its default action: ignored ones would stay ignored through execve(2).
pub fn reset_signals() {
    const SIGKILL: usize = 9;
    const SIGSTOP: usize = 19;
    let default = [0u64; 4];
    for signal in (1..=64).filter(|&signal| signal != SIGKILL && signal != SIGSTOP) {
        let _ = syscall!(nr::RT_SIGACTION, signal, default.as_ptr(), 0, 8);
    }
}

/// Fills 0, 1 and 2 where the host program had closed them: what init opens must not get numbers that the standard
/// streams are put on later.
pub fn occupy_standard_streams(fd: i32) {
    while let Ok(copy) = syscall!(nr::FCNTL, fd, F_DUPFD_CLOEXEC, 0) {
        if copy > 2 {
            close(copy as i32);
            return;
        }
    }
}

pub fn set_signal_mask(mask: u64) -> Done {
    syscall!(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const mask, 0, 8).within(wire::CALL_SIGNALS).map(drop)
}

pub fn stdio(state: &State, mut fields: Reader) -> Done {
    for target in 0..3 {
        let source = state.slot(fields.u32()?)?;
        syscall!(nr::DUP3, source, target, 0).within(wire::CALL_DUP)?;
    }
    Ok(())
}

pub fn set_name(mut fields: Reader) -> Done {
    let name = fields.string()?;
    let _ = syscall!(nr::PRCTL, PR_SET_NAME, name.as_ptr());
    Ok(())
}

/// Tells that all steps up to the barrier are done.
pub fn ready(control: i32) -> Result<(), Errno> {
    send(control, [wire::MSG_READY, 0, 0]).map(drop)
}

/// Tells something that needs no more words.
pub fn tell(state: &State, what: u32) -> Done {
    send(state.slot(wire::CONTROL)?, [what, 0, 0]).within(wire::CALL_SENDMSG).map(drop)
}

pub fn barrier(state: &State) -> Done {
    wait_for_host(state, wire::MSG_READY)
}

/// The library runs hooks meanwhile.
pub fn pause(state: &State) -> Done {
    wait_for_host(state, wire::MSG_PAUSED)
}

/// Says where init is, and waits until it may go on.
fn wait_for_host(state: &State, place: u32) -> Done {
    let control = state.slot(wire::CONTROL)?;
    send(control, [place, 0, 0]).within(wire::CALL_SENDMSG)?;
    let mut message = [0u32; 3];
    loop {
        match syscall!(nr::RECVFROM, control, message.as_mut_ptr(), size_of_val(&message)) {
            Err(EINTR) => {}
            Ok(length) if length == size_of_val(&message) && message[0] == wire::MSG_START => return Ok(()),
            // The host program is gone, or has let go of a container that it never started.
            Ok(_) => exit(EXIT_FAILURE),
            Err(errno) => return Err(errno).within(wire::CALL_RECV),
        }
    }
}

/// `struct msghdr` with one `struct iovec`, and descriptors in the control data, see unix(7).
#[repr(C)]
pub struct Message {
    name: usize,
    name_length: usize,
    iov: *const Iovec,
    iov_length: usize,
    control: *mut u8,
    control_length: usize,
    pub flags: usize,
}

impl Message {
    /// As long as it is used, both have to stay where they are.
    pub fn new<const N: usize>(iov: &Iovec, rights: &mut Rights<N>) -> Self {
        let (control, control_length) = ((&raw mut *rights).cast(), size_of::<Rights<N>>());
        Message { name: 0, name_length: 0, iov, iov_length: 1, control, control_length, flags: 0 }
    }
}

#[repr(C)]
pub struct Iovec {
    base: *mut u8,
    length: usize,
}

impl Iovec {
    /// As long as it is used, the buffer has to stay where it is.
    pub fn over(buffer: &mut [u8]) -> Self {
        Iovec { base: buffer.as_mut_ptr(), length: buffer.len() }
    }
}

/// Control data with as many descriptors, see cmsg(3).
#[repr(C)]
pub struct Rights<const N: usize> {
    length: usize,
    level: u32,
    kind: u32,
    pub fds: [i32; N],
}

impl<const N: usize> Rights<N> {
    const HEADER: usize = 16;

    /// Room for what the kernel puts there.
    pub fn room() -> Self {
        Rights { length: 0, level: 0, kind: 0, fds: [-1; N] }
    }

    /// How many it has put there.
    pub fn count(&self) -> usize {
        self.length.saturating_sub(Self::HEADER) / size_of::<i32>()
    }
}

/// Sends a descriptor, in a message that says what it is.
pub fn send_descriptor(control: i32, what: u32, fd: i32) -> Done {
    const SOL_SOCKET: u32 = 1;
    const SCM_RIGHTS: u32 = 1;
    let mut payload = [what, 0, 0];
    let iov = Iovec { base: payload.as_mut_ptr().cast(), length: size_of_val(&payload) };
    let length = Rights::<1>::HEADER + size_of::<i32>();
    let mut rights = Rights { length, level: SOL_SOCKET, kind: SCM_RIGHTS, fds: [fd] };
    let message = Message::new(&iov, &mut rights);
    syscall!(nr::SENDMSG, control, &raw const message, MSG_NOSIGNAL).within(wire::CALL_SENDMSG).map(drop)
}

pub fn send_fd(state: &State, mut fields: Reader) -> Done {
    let fd = state.slot(fields.u32()?)?;
    send_descriptor(state.slot(wire::CONTROL)?, wire::MSG_FD, fd)
}

/// Receives a descriptor; `None` at the end of file.
pub fn receive_descriptor(socket: i32) -> Result<Option<i32>, Errno> {
    let mut payload = [0u32; 3];
    let mut rights = Rights::<1>::room();
    let iov = Iovec { base: (&raw mut payload).cast(), length: size_of_val(&payload) };
    let mut message = Message::new(&iov, &mut rights);
    let length = syscall!(nr::RECVMSG, socket, &raw mut message, MSG_CMSG_CLOEXEC)?;
    // SAFETY: the kernel has written the control data, or has left it as it was.
    let fd = unsafe { (&raw const rights.fds[0]).read_volatile() };
    Ok((length != 0 && fd >= 0).then_some(fd))
}

/// Forks a process with the same parent; true in that. It goes on when the library knows of it: it would stay a zombie
/// that nobody waits for. Who is outside tells, since who is inside can be killed with its PID namespace at any time.
pub fn fork(state: &State, message: u32) -> Done<bool> {
    let [hears, tells] = pipe().within(wire::CALL_PIPE)?;
    let mut pidfd = -1i32;
    let flags = CLONE_PARENT | CLONE_PIDFD | SIGCHLD as usize;
    if syscall!(nr::CLONE, flags, 0, &raw mut pidfd).within(wire::CALL_CLONE)? != 0 {
        send_descriptor(state.slot(wire::CONTROL)?, message, pidfd)?;
        let _ = syscall!(nr::WRITE, tells, c"".as_ptr(), 1);
        for fd in [hears, tells, pidfd] {
            close(fd);
        }
        return Ok(false);
    }
    close(tells);
    // That the library knows of it comes first of all that it hears.
    let mut told = 0u8;
    loop {
        match syscall!(nr::READ, hears, &raw mut told, 1) {
            Err(EINTR) => {}
            Ok(1) => break,
            // It was not told: who would have is dead. This must not stay a zombie that nobody knows.
            _ => {
                let own = syscall!(nr::GETPID).and_then(|pid| syscall!(nr::PIDFD_OPEN, pid, 0));
                if let (Ok(control), Ok(own)) = (state.slot(wire::CONTROL), own) {
                    let _ = send_descriptor(control, message, own as i32);
                }
                exit(1)
            }
        }
    }
    close(hears);
    Ok(true)
}

/// Joining a PID namespace goes for children only (setns(2)): fork a last time. The child becomes a child of the host
/// program, and all that it has is what the container's program will have: it enters the namespace last, where others
/// may already be waiting for it (CVE-2016-9962). Only the twin enters before, where nobody else is yet.
pub fn enter_pid(state: &State) -> Done {
    // The identity that was taken may have made the process dumpable (fs.suid_dumpable).
    hide();
    let message = if state.twin == 0 { wire::MSG_FD } else { wire::MSG_TWIN };
    if !fork(state, message)? {
        exit(0);
    }
    // The session of before is that of a process that is gone in a moment.
    syscall!(nr::SETSID).within(wire::CALL_SETSID).map(drop)
}

/// What has one of these numbers already gets another one.
pub fn preserve(state: &mut State, mut fields: Reader) -> Done {
    let count = fields.u32()?;
    let end = FIRST_PRESERVED.saturating_add(count);
    for entry in &mut state.slots {
        let fd = *entry - 1;
        if (FIRST_PRESERVED as i32..end as i32).contains(&fd) {
            *entry = syscall!(nr::FCNTL, fd, F_DUPFD_CLOEXEC, end).within(wire::CALL_FCNTL)? as i32 + 1;
        }
    }
    for number in 0..count {
        let file = state.slot(fields.u32()?)?;
        syscall!(nr::DUP3, file, FIRST_PRESERVED + number, O_CLOEXEC).within(wire::CALL_DUP)?;
    }
    Ok(())
}

pub fn keep_open(mut fields: Reader) -> Done {
    const F_SETFD: usize = 2;
    for number in 0..fields.u32()? {
        syscall!(nr::FCNTL, FIRST_PRESERVED + number, F_SETFD, 0).within(wire::CALL_FCNTL)?;
    }
    Ok(())
}

/// Whether [`exec`] will find a program, as far as that can be said without executing it.
pub fn find_program(mut fields: Reader) -> Done {
    const X_OK: usize = 1;
    const AT_EACCESS: usize = 0x200;
    let mut worst = ENOENT;
    for _ in 0..fields.u32()? {
        let program = fields.string()?.as_ptr();
        match syscall!(nr::FACCESSAT2, AT_FDCWD, program, X_OK, AT_EACCESS) {
            Ok(_) => return Ok(()),
            Err(ENOENT | ENOTDIR) => {}
            Err(EACCES) => worst = EACCES,
            Err(errno) => return Err(errno).within(wire::CALL_FACCESS),
        }
    }
    Err(worst).within(wire::CALL_FACCESS)
}

static mut POINTERS: [*const u8; wire::MAX_POINTERS] = [core::ptr::null(); wire::MAX_POINTERS];

pub fn exec(mut fields: Reader) -> Done {
    let (candidates, args, env) = (fields.u32()? as usize, fields.u32()? as usize, fields.u32()? as usize);
    // SAFETY: there is one thread, and this is the only place where the pointers are borrowed.
    let pointers = unsafe { &mut *(&raw mut POINTERS) };
    let total = candidates.saturating_add(args).saturating_add(env).saturating_add(2);
    let pointers = pointers.get_mut(..total).ok_or(wire::Malformed)?;
    let (programs, rest) = pointers.split_at_mut(candidates);
    let (argv, envp) = rest.split_at_mut(args + 1);
    for list in [&mut programs[..], &mut argv[..args], &mut envp[..env]] {
        for pointer in list {
            *pointer = fields.string()?.as_ptr();
        }
    }
    set_signal_mask(0)?;
    // As execvp(3): the first candidate that exists is the one, but one that may not be executed is remembered.
    let mut worst = ENOENT;
    for &program in programs.iter() {
        match syscall!(nr::EXECVE, program, argv.as_ptr(), envp.as_ptr()) {
            Err(ENOENT | ENOTDIR) => {}
            Err(EACCES) => worst = EACCES,
            Err(errno) => return Err(errno).within(wire::CALL_EXECVE),
            Ok(_) => {}
        }
    }
    Err(worst).within(wire::CALL_EXECVE)
}

/// Process 1 of a PID namespace that several containers share: it waits for whatever is left to it. The kernel ends
/// every other process of the namespace when this one is killed.
pub fn reap() -> ! {
    let child_signal = 1u64 << (SIGCHLD - 1);
    // All of them: no execve(2) comes that would close the descriptors of the plan.
    let _ = syscall!(nr::CLOSE_RANGE, 0, u32::MAX, 0);
    loop {
        if syscall!(nr::WAIT4, -1isize, 0, 0, 0) == Err(ECHILD) {
            // All signals are blocked, and a blocked signal is kept even when its default is to be ignored: a child
            // that ends between the two calls is not missed.
            let _ = syscall!(nr::RT_SIGTIMEDWAIT, &raw const child_signal, 0, 0, 8);
        }
    }
}
