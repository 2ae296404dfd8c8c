//! Init: the program that becomes a container's first process.
//!
//! It is freestanding: no standard library, no allocator, no thread, no lock. It gets a plan (`wire.rs`) and files from its
//! control socket, does its steps one by one, and executes the container's program; or it stays as process 1 of a PID
//! namespace that several containers share. Its one argument is the descriptor of that socket.
//! On failure it sends the index of the step and the error number over the control socket and ends.
//!
//! `build.rs` compiles this file with the compiler of the library and embeds the result.
#![no_std]
#![no_main]
#![no_builtins]
#![allow(
    clippy::deref_addrof,
    reason = "a reference to a static that can change is made through a raw pointer"
)]

mod attributes;
mod copy;
mod device;
mod enter;
mod fs;
mod hook;
mod identity;
mod process;
mod receive;
mod starters;
mod sys;
mod terminal;
mod twin;
mod user;
mod wire;

use sys::{EINVAL, Errno, nr, syscall};
use wire::{Plan, Step};

/// A step failed: in that call, with that error number.
pub struct Failure {
    call: u16,
    errno: Errno,
}

/// The result of a step.
pub type Done<T = ()> = Result<T, Failure>;

/// Names the call that an error number comes from.
pub trait In<T> {
    fn within(self, call: u16) -> Done<T>;
}

impl<T> In<T> for Result<T, Errno> {
    fn within(self, call: u16) -> Done<T> {
        self.map_err(|errno| Failure { call, errno })
    }
}

impl From<wire::Malformed> for Failure {
    fn from(_: wire::Malformed) -> Self {
        Failure { call: wire::CALL_DECODE, errno: EINVAL }
    }
}

/// What steps leave for later steps.
pub struct State {
    /// Descriptors plus one, so that an empty slot is 0 and the table costs no space in the file.
    slots: [i32; wire::MAX_SLOTS],
    /// Files of the template that masks are copies of, once one was needed.
    null: i32,
    empty: i32,
    /// The root of the container, before and after it becomes that of this process.
    root: i32,
    /// Groups cannot be changed, see `KEEP_GROUPS`.
    keeps_groups: bool,
    /// The index of the current step.
    step: u32,
    /// The socket to the twin, or the twin's, while there are two; 0 otherwise.
    twin: i32,
    /// Steps to come that are those of the other one.
    skip: u32,
}

impl State {
    fn slot(&self, slot: u32) -> Done<i32> {
        match self.slots.get(slot as usize) {
            Some(&entry) if entry > 0 => Ok(entry - 1),
            _ => Err(wire::Malformed.into()),
        }
    }

    /// What is in a slot, which is empty then.
    fn take(&mut self, slot: u32) -> Done<i32> {
        let fd = self.slot(slot)?;
        self.slots[slot as usize] = 0;
        Ok(fd)
    }

    /// How a path is resolved, by the flags of a step.
    fn resolve(&self, flags: u32) -> u64 {
        if flags & wire::MOUNT_NO_SYMLINKS != 0 { fs::RESOLVE_NO_SYMLINKS } else { 0 }
    }

    fn store(&mut self, slot: u32, fd: usize) -> Done {
        *self.slots.get_mut(slot as usize).ok_or(wire::Malformed)? = fd as i32 + 1;
        Ok(())
    }
}

static mut PLAN: [u8; wire::MAX_PLAN] = [0; wire::MAX_PLAN];
static mut STATE: State = State {
    slots: [0; wire::MAX_SLOTS],
    null: 0,
    empty: 0,
    root: 0,
    keeps_groups: false,
    step: 0,
    twin: 0,
    skip: 0,
};

/// Where the program starts: `stack` is what the kernel put there, the argument count first.
///
/// # Safety
/// Called once, by `_start`, with the initial stack pointer.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // Before anything else: nobody may look into this process, whatever PID namespace it is seen from (CVE-2016-9962).
    process::hide();
    // SAFETY: the kernel puts the count and as many pointers to strings there.
    let control = unsafe { if *stack == 2 { parse(*stack.add(2) as *const u8) } else { -1 } };
    // SAFETY: there is one thread, and this is the only place where the two are borrowed.
    let (state, buffer) = unsafe { (&mut *(&raw mut STATE), &mut *(&raw mut PLAN)) };
    if let Err(failure) = prepare_process() {
        process::report(state, &failure);
        sys::exit(process::EXIT_FAILURE);
    }
    process::occupy_standard_streams(control);
    let outcome = state
        .store(wire::CONTROL, control as usize)
        .and_then(|()| receive::plan(state, control, buffer))
        .and_then(|plan| run(state, plan));
    if let Err(failure) = outcome {
        process::report(state, &failure);
    }
    sys::exit(process::EXIT_FAILURE)
}

/// A number of decimal digits, NUL-terminated.
unsafe fn parse(mut digits: *const u8) -> i32 {
    let mut value: i32 = 0;
    loop {
        // SAFETY: the string ends with a NUL, where this ends too.
        match unsafe { *digits } {
            digit @ b'0'..=b'9' => value = value.wrapping_mul(10).wrapping_add(i32::from(digit - b'0')),
            _ => return value,
        }
        // SAFETY: the last byte was not the NUL.
        digits = unsafe { digits.add(1) };
    }
}

/// Takes back what the host program's process handed down: open files are closed at the next execve(2), signals have
/// their default action. (The mask is opened last, just before execve.)
fn prepare_process() -> Done {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    syscall!(nr::CLOSE_RANGE, 3, u32::MAX, CLOSE_RANGE_CLOEXEC).within(wire::CALL_CLOSE_RANGE)?;
    process::reset_signals();
    Ok(())
}

fn run(state: &mut State, mut plan: Plan) -> Done {
    while let Some(step) = plan.next_step()? {
        match state.skip.checked_sub(1) {
            Some(rest) => state.skip = rest,
            None => interpret(state, step)?,
        }
        state.step += 1;
    }
    Err(wire::Malformed.into())
}

fn interpret(state: &mut State, step: Step) -> Done {
    let mut fields = step.fields;
    match step.operation {
        wire::JOIN => {
            let (slot, kind) = (fields.u32()?, fields.u32()?);
            syscall!(nr::SETNS, state.slot(slot)?, kind).within(wire::CALL_SETNS)?;
        }
        wire::UNSHARE => {
            syscall!(nr::UNSHARE, fields.u32()?).within(wire::CALL_UNSHARE)?;
        }
        wire::SETSID => {
            syscall!(nr::SETSID).within(wire::CALL_SETSID)?;
        }
        wire::NEW_FILESYSTEM => fs::new_filesystem(state, fields, false)?,
        wire::NEW_FILESYSTEM_WITH => fs::new_filesystem(state, fields, true)?,
        wire::ATTACH => fs::attach(state, fields)?,
        wire::MOUNT => fs::mount(fields)?,
        wire::MKDIR => fs::mkdir(fields)?,
        wire::SET_ROOT => fs::set_root(state, fields)?,
        wire::MOUNT_AT => fs::mount_at(state, fields)?,
        wire::MOUNT_BELOW => fs::mount_below(state, fields)?,
        wire::MKDIR_AT => fs::mkdir_at(state, fields)?,
        wire::MKNOD_AT => fs::mknod_at(state, fields)?,
        wire::SYMLINK_AT => fs::symlink_at(state, fields)?,
        wire::COPY_LINK => copy::copy_link(state, fields)?,
        wire::OPEN => fs::open(state, fields)?,
        wire::MASK => fs::mask(state, fields)?,
        wire::READONLY => fs::readonly(state, fields)?,
        wire::COPY_UP => copy::copy_up(state, fields)?,
        wire::DEVICE => device::make(state, fields)?,
        wire::SET_ATTRIBUTES => fs::set_attributes(state, fields)?,
        wire::ROOT_READONLY => fs::root_readonly(state)?,
        wire::MKDIR_IN_ROOT => fs::mkdir_in_root(state, fields)?,
        wire::ROOT_PROPAGATION => fs::root_propagation(state, fields)?,
        wire::PIVOT => fs::pivot(state)?,
        wire::CHDIR => fs::chdir(fields)?,
        wire::RLIMIT => identity::rlimit(fields)?,
        wire::UMASK => {
            let _ = syscall!(nr::UMASK, fields.u32()?);
        }
        wire::IDENTITY => identity::take(fields, state.keeps_groups)?,
        wire::NO_NEW_PRIVILEGES => identity::no_new_privileges()?,
        wire::SECCOMP => identity::seccomp(fields)?,
        wire::STDIO => process::stdio(state, fields)?,
        wire::SET_NAME => process::set_name(fields)?,
        wire::BARRIER => process::barrier(state)?,
        wire::ENTER_PID => process::enter_pid(state)?,
        wire::SEND_FD => process::send_fd(state, fields)?,
        wire::PAUSE => process::pause(state)?,
        wire::PRESERVE => process::preserve(state, fields)?,
        wire::KEEP_OPEN => process::keep_open(fields)?,
        wire::FIND_PROGRAM => process::find_program(fields)?,
        wire::RUN_HOOK => hook::run(state, fields)?,
        wire::EXEC => return process::exec(fields),
        wire::REAP => process::reap(),
        wire::OWN_FILES => user::own_files(fields)?,
        wire::ENTER_USER => user::enter(state, fields)?,
        wire::COPY_ROOT => user::copy_root(state, fields)?,
        wire::MAKE_QUEUE => user::make_queue(fields)?,
        wire::TAKE_ROOT_BACK => user::take_root_back(state, fields)?,
        wire::BARRIER_FOR_ALL => starters::barrier(state, fields)?,
        wire::WRITE_PROC => attributes::write_proc(state, fields)?,
        wire::SCHEDULER => attributes::scheduler(fields)?,
        wire::IO_PRIORITY => attributes::io_priority(fields)?,
        wire::AFFINITY => attributes::affinity(fields)?,
        wire::PERSONALITY => attributes::personality(fields)?,
        wire::MEMORY_POLICY => attributes::memory_policy(fields)?,
        wire::SESSION_KEYRING => attributes::session_keyring()?,
        wire::ENTER_TIME => attributes::enter_time(state, fields)?,
        wire::SECCOMP_LISTENER => attributes::seccomp_listener(state, fields)?,
        wire::TERMINAL => terminal::open(state, fields)?,
        wire::CONTROLLING_TERMINAL => terminal::control()?,
        wire::JOIN_PROCESS => enter::join(state, fields)?,
        wire::LOOK_AS => user::look_as(fields, state.keeps_groups)?,
        wire::ENTER_MOUNTS => enter::mounts(state, fields)?,
        wire::KEEP_GROUPS => state.keeps_groups = true,
        wire::SHOW => process::show(),
        wire::TWIN => twin::part(state, fields)?,
        wire::GIVE => twin::give(state, fields)?,
        wire::TAKE => twin::take(state, fields)?,
        wire::HAND_OVER => twin::hand_over(state, fields)?,
        _ => return Err(wire::Malformed.into()),
    }
    Ok(())
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::exit(process::EXIT_FAILURE)
}

/// The compiled core library names this function; with `panic=abort` nothing ever calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
