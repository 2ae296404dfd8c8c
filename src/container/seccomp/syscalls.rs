//! Names and numbers of system calls, an ABI at a time.
//!
//! The tables are those of the `syscalls` crate (made from the kernel's, up to Linux 6.18), with what they lack
//! added here: newer calls, names that the kernel's headers have beside the crate's, the private calls of
//! 32-bit ARM and the x32 ABI.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::arch::{Arch, X32_BIT};

/// The first private call of the 32-bit ARM kernel (`__ARM_NR_BASE` of asm/unistd.h).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

/// Calls that are newer than the crate's tables. Since 5.1 a new call has one number on all architectures.
const NEWER: &[(&str, u32)] = &[("listns", 470), ("rseq_slice_yield", 471)];

/// aarch64: the name of the kernel's headers for what the crate calls fstatat.
const AARCH64_EXTRA: &[(&str, u32)] = &[("newfstatat", 79)];

/// 32-bit ARM: the generic name of arm_sync_file_range, and the private calls.
const ARM_EXTRA: &[(&str, u32)] = &[
    ("sync_file_range2", 341),
    ("breakpoint", ARM_PRIVATE + 1),
    ("cacheflush", ARM_PRIVATE + 2),
    ("usr26", ARM_PRIVATE + 3),
    ("usr32", ARM_PRIVATE + 4),
    ("set_tls", ARM_PRIVATE + 5),
    ("get_tls", ARM_PRIVATE + 6),
];

/// Calls that x32 has under numbers of its own, from [`X32_OWN_FIRST`] on, as their data differ from x86_64's.
#[rustfmt::skip] // names by the line, not each on its own
const X32_OWN: &[&str] = &[
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// The number of the first of [`X32_OWN`], without the bit of the ABI.
const X32_OWN_FIRST: u32 = 512;

/// Calls of x86_64 that x32 does not have at all.
#[rustfmt::skip] // names by the line, not each on its own
const NOT_X32: &[&str] = &[
    "_sysctl",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "get_thread_area",
    "nfsservctl",
    "query_module",
    "set_thread_area",
    "uprobe",
    "uretprobe",
    "uselib",
    "vserver",
];

/// Names that exist on architectures which this library does not support only. Profiles made for many
/// machines have them.
#[rustfmt::skip] // names by the line, not each on its own
const ELSEWHERE: &[&str] = &[
    "cachectl",
    "execv",
    "getdomainname",
    "getpagesize",
    "kern_features",
    "llseek",
    "memory_ordering",
    "multiplexer",
    "perfctr",
    "riscv_flush_icache",
    "riscv_hwprobe",
    "rtas",
    "s390_guarded_storage",
    "s390_pci_mmio_read",
    "s390_pci_mmio_write",
    "s390_runtime_instr",
    "s390_sthyi",
    "sched_get_affinity",
    "sched_set_affinity",
    "spu_create",
    "spu_run",
    "subpage_prot",
    "swapcontext",
    "switch_endian",
    "sys_debug_setcontext",
    "syscall",
    "sysmips",
    "timerfd",
    "utrap_install",
];

/// Names to numbers, of one ABI.
pub(super) type Table = HashMap<&'static str, u32>;

/// The table of an ABI, made at its first use (some 20 us) and kept.
pub(super) fn table(arch: Arch) -> &'static Table {
    static TABLES: [OnceLock<Table>; 5] = [const { OnceLock::new() }; 5];
    TABLES[arch as usize].get_or_init(|| match arch {
        Arch::X86_64 => collect(x86_64(), &[]),
        Arch::X86 => collect(x86(), &[]),
        Arch::X32 => x32(),
        Arch::Aarch64 => collect(aarch64(), AARCH64_EXTRA),
        Arch::Arm => collect(arm(), ARM_EXTRA),
    })
}

/// The number of a call in an ABI, if it has the call.
pub(super) fn number(arch: Arch, name: &str) -> Option<u32> {
    table(arch).get(name).copied()
}

/// Whether any architecture of Linux has a call by this name, as far as this library knows.
pub(super) fn is_known(name: &str) -> bool {
    let ours = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm];
    ours.iter().any(|&arch| number(arch, name).is_some()) || ELSEWHERE.contains(&name)
}

/// The highest known number of an ABI, private calls aside.
pub(super) fn last(arch: Arch) -> u32 {
    let private = if arch == Arch::Arm { ARM_PRIVATE } else { u32::MAX };
    table(arch).values().copied().filter(|&number| number < private).max().unwrap_or(0)
}

/// Joins a table of the crate with what it lacks.
fn collect(table: impl Iterator<Item = (&'static str, u32)>, extra: &[(&'static str, u32)]) -> Table {
    table.chain(NEWER.iter().copied()).chain(extra.iter().copied()).collect()
}

/// The x32 table: x86_64's numbers with the bit of the ABI, but for the calls it has of its own or not at all.
fn x32() -> Table {
    let shared = table(Arch::X86_64).iter().map(|(&name, &number)| (name, number));
    let mut x32: Table = shared.filter(|(name, _)| !NOT_X32.contains(name)).collect();
    x32.extend(X32_OWN.iter().copied().zip(X32_OWN_FIRST..));
    x32.values_mut().for_each(|number| *number |= X32_BIT);
    x32
}

/// The entries of one table of the crate. (Its own iterator leaves out the last entry, and it has i386's break as
/// the raw identifier that it is in Rust.)
macro_rules! entries {
    ($arch:ident) => {
        fn $arch() -> impl Iterator<Item = (&'static str, u32)> {
            use ::syscalls::$arch::Sysno;
            let name = |number: u32| Some(Sysno::new(number as usize)?.name().trim_start_matches("r#"));
            (0..=Sysno::last() as u32).filter_map(move |number| Some((name(number)?, number)))
        }
    };
}
entries!(x86_64);
entries!(x86);
entries!(aarch64);
entries!(arm);
