//! The bpf(2) calls that device access of cgroups needs.
#![allow(unsafe_code, reason = "nix has no bpf(2)")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::thread::with_all_signals_blocked;
use super::{Result, check};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of the cgroups below run too, and all must agree.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
/// In the place of another program, in one step (Linux 5.6).
const BPF_F_REPLACE: u32 = 1 << 2;

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// The destination in the lower four bits, the source in the upper ones.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what follows as zero.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    /// With `BPF_F_REPLACE`: the program that goes.
    replace_bpf_fd: u32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<libc::c_long> {
    call(command, std::ptr::from_ref(attributes))
}

/// The same for a command that writes into its attributes.
fn bpf_for_answer<T>(command: libc::c_int, attributes: &mut T) -> Result<libc::c_long> {
    call(command, std::ptr::from_mut(attributes))
}

/// `attributes` are the beginning of the kernel's union for that command, readable, and writable where it answers there.
fn call<T>(command: libc::c_int, attributes: *const T) -> Result<libc::c_long> {
    let call = || {
        // SAFETY: the attributes have the kernel's layout, their size is given, and they outlive the call; both callers
        // pass what they have borrowed for as long.
        check(unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) })
    };
    // The kernel's verifier gives up with EAGAIN when a signal is pending for the thread, which is handled before the next
    // attempt. A host program that gets them faster than programs are verified waits for the last one.
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        match call() {
            Err(nix::errno::Errno::EAGAIN) => {}
            result => return result,
        }
    }
    with_all_signals_blocked(call)
}

/// Loads a program that decides about device access.
pub(crate) fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let fd = bpf(
        BPF_PROG_LOAD,
        &Load {
            prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
            insn_cnt: program.len() as u32,
            insns: program.as_ptr().addr() as u64,
            license: c"MIT".as_ptr().addr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
        },
    )?;
    // SAFETY: the kernel just made this file descriptor for us, close-on-exec as all of bpf(2).
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches it to a cgroup: it then also decides for all cgroups below. It goes with the cgroup.
pub(crate) fn attach_device_program(program: impl AsFd, cgroup: impl AsFd) -> Result<()> {
    attach(program.as_fd(), cgroup.as_fd(), None)
}

/// The same in the place of `old`, which the cgroup has: there is no moment without either of them.
///
/// # Errors
/// `ENOENT` when the cgroup does not have it (any more).
pub(crate) fn replace_device_program(program: impl AsFd, cgroup: impl AsFd, old: impl AsFd) -> Result<()> {
    attach(program.as_fd(), cgroup.as_fd(), Some(old.as_fd()))
}

fn attach(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> Result<()> {
    let attributes = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | if old.is_some() { BPF_F_REPLACE } else { 0 },
        replace_bpf_fd: old.map_or(0, |old| old.as_raw_fd() as u32),
    };
    bpf(BPF_PROG_ATTACH, &attributes).map(drop)
}

/// The device programs that are attached to a cgroup itself, of more than `N` the first ones; and how many there are.
pub(crate) fn device_programs<const N: usize>(cgroup: impl AsFd) -> Result<(Vec<OwnedFd>, usize)> {
    let mut ids = [0u32; N];
    let mut query = Query {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: N as u32,
    };
    match bpf_for_answer(BPF_PROG_QUERY, &mut query) {
        // As many as there is room for.
        Ok(_) | Err(nix::errno::Errno::ENOSPC) => {}
        Err(errno) => return Err(errno),
    }
    let count = query.prog_cnt as usize;
    let open = |id: &u32| {
        let fd = bpf(BPF_PROG_GET_FD_BY_ID, &ById { prog_id: *id, next_id: 0, open_flags: 0 })?;
        // SAFETY: the kernel just made this file descriptor for us, close-on-exec as all of bpf(2).
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    Ok((ids.iter().take(count).map(open).collect::<Result<_>>()?, count))
}
