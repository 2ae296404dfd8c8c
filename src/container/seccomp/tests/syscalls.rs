//! The tables of names and numbers.

use std::collections::HashSet;

use crate::container::seccomp::arch::{Arch, X32_BIT};
use crate::container::seccomp::syscalls::{is_known, last, number, table};

const ALL: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

#[test]
fn calls_since_5_1_have_one_number_everywhere() {
    let newest = [
        ("pidfd_send_signal", 424),
        ("clone3", 435),
        ("openat2", 437),
        ("mount_setattr", 442),
        ("futex_waitv", 449),
        ("cachestat", 451),
        ("fchmodat2", 452),
        ("map_shadow_stack", 453),
        ("futex_wake", 454),
        ("futex_wait", 455),
        ("futex_requeue", 456),
        ("statmount", 457),
        ("listmount", 458),
        ("lsm_get_self_attr", 459),
        ("lsm_set_self_attr", 460),
        ("lsm_list_modules", 461),
        ("mseal", 462),
        ("setxattrat", 463),
        ("getxattrat", 464),
        ("listxattrat", 465),
        ("removexattrat", 466),
        ("open_tree_attr", 467),
        ("file_getattr", 468),
        ("file_setattr", 469),
        ("listns", 470),
        ("rseq_slice_yield", 471),
    ];
    for (name, expected) in newest {
        for arch in ALL {
            let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
            assert_eq!(number(arch, name), Some(bit | expected), "{name} {arch:?}");
        }
    }
    for arch in ALL {
        assert_eq!(last(arch) & !X32_BIT, if arch == Arch::X32 { 547 } else { 471 }, "{arch:?}");
    }
}

#[test]
fn names_have_the_numbers_of_the_kernels_headers() {
    for (arch, name, expected) in [
        (Arch::X86_64, "read", Some(0)),
        (Arch::X86_64, "uretprobe", Some(335)),
        (Arch::X86_64, "newfstatat", Some(262)),
        (Arch::X86_64, "socketcall", None),
        (Arch::X86, "socketcall", Some(102)),
        (Arch::X86, "break", Some(17)),
        (Arch::X86, "socket", Some(359)),
        (Arch::X86, "clock_gettime64", Some(403)),
        (Arch::Aarch64, "newfstatat", Some(79)),
        (Arch::Aarch64, "clone", Some(220)),
        (Arch::Aarch64, "open", None),
        (Arch::Arm, "fstatat64", Some(327)),
        (Arch::Arm, "sync_file_range2", Some(341)),
        (Arch::Arm, "set_tls", Some(0xf_0005)),
        (Arch::X32, "getpid", Some(X32_BIT | 39)),
        (Arch::X32, "rt_sigaction", Some(X32_BIT | 512)),
        (Arch::X32, "pwritev2", Some(X32_BIT | 547)),
        (Arch::X32, "uselib", None),
    ] {
        assert_eq!(number(arch, name), expected, "{name} {arch:?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_native_table_is_that_of_libc() {
    for (name, expected) in [
        ("clone", libc::SYS_clone),
        ("execveat", libc::SYS_execveat),
        ("keyctl", libc::SYS_keyctl),
        ("move_mount", libc::SYS_move_mount),
        ("seccomp", libc::SYS_seccomp),
        ("socket", libc::SYS_socket),
        ("unshare", libc::SYS_unshare),
    ] {
        assert_eq!(number(Arch::NATIVE, name).map(i64::from), Some(expected), "{name}");
    }
}

#[test]
fn no_two_names_share_a_number_but_the_known_ones() {
    for arch in ALL {
        let distinct: HashSet<u32> = table(arch).values().copied().collect();
        let synonyms = match arch {
            Arch::Aarch64 => 1, // fstatat, newfstatat
            Arch::Arm => 1,     // arm_sync_file_range, sync_file_range2
            _ => 0,
        };
        assert_eq!(table(arch).len(), distinct.len() + synonyms, "{arch:?}");
    }
}

#[test]
fn names_of_elsewhere_are_known_and_typing_errors_are_not() {
    assert!(is_known("riscv_hwprobe") && is_known("spu_run") && is_known("read"));
    assert!(!is_known("raed") && !is_known("") && !is_known("READ"));
}
