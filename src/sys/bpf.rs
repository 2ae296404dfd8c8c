//! The two bpf(2) calls that device access of cgroups needs.
#![allow(unsafe_code, reason = "nix has no bpf(2)")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::thread::with_all_signals_blocked;
use super::{Result, check};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of the cgroups below run too, and all must agree.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

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
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<libc::c_long> {
    let call = || {
        // SAFETY: the attributes have the kernel's layout, their size is given, and they outlive the call.
        check(unsafe {
            libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
        })
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
    let attributes = Attach {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attributes).map(drop)
}
