//! What the default profile promises.

use std::collections::HashSet;

use super::Call;
use super::interpret::run;
use crate::container::seccomp::arch::{Arch, X32_BIT};
use crate::container::seccomp::cache::default_program;
use crate::container::seccomp::compile::{Program, compile};
use crate::container::seccomp::defaults::{ABSENT, ALWAYS, WITH_CAPABILITY, relevant_capabilities};
use crate::container::seccomp::profile::{Action, Profile};
use crate::container::seccomp::syscalls;

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);
const SYS_ADMIN: u64 = 1 << 21;

fn program(capabilities: u64, native: Arch) -> Program {
    compile(&Profile::default_profile(capabilities), native).unwrap()
}

/// Asserts what happens to a call of an ABI; a call that the ABI does not have passes.
fn expect(program: &Program, abi: Arch, name: &str, first: u64, expected: Action) {
    if let Some(number) = syscalls::number(abi, name) {
        let call = Call { number, arch_word: abi.audit_word(), args: [first, 0, 0, 0, 0, 0] };
        assert_eq!(run(&program.instructions, &call).0, expected.word(), "{name}({first:#x}) {abi:?}");
    }
}

const ABIS: [(Arch, Arch); 4] = [
    (Arch::X86_64, Arch::X86_64),
    (Arch::X86_64, Arch::X86),
    (Arch::Aarch64, Arch::Aarch64),
    (Arch::Aarch64, Arch::Arm),
];

#[test]
fn the_tables_name_each_call_once_and_only_calls_that_exist() {
    let mut seen = HashSet::new();
    for name in ALWAYS.iter().flat_map(|group| group.names).chain(ABSENT.names) {
        assert!(seen.insert(*name), "{name} twice");
    }
    let checked = ["personality", "socket", "socketpair", "clone"];
    for name in checked.iter().chain(&seen).chain(WITH_CAPABILITY.iter().flat_map(|c| c.group.names)) {
        let on = ABIS.iter().filter(|(_, abi)| syscalls::number(*abi, name).is_some()).count();
        assert!(on > 0, "no supported architecture has {name}");
    }
}

#[test]
fn only_names_of_32_bit_or_other_machines_are_missing_on_x86_64() {
    let missing: Vec<&str> = ALWAYS
        .iter()
        .flat_map(|group| group.names)
        .copied()
        .filter(|name| syscalls::number(Arch::X86_64, name).is_none())
        .filter(|name| !name.ends_with("32") && !name.ends_with("64") && !name.starts_with("arm_"))
        .collect();
    let expected = [
        "waitpid",
        "ugetrlimit",
        "sigprocmask",
        "sigreturn",
        "mmap2",
        "_llseek",
        "_newselect",
        "send",
        "recv",
        "ipc",
        "sync_file_range2",
        "breakpoint",
        "cacheflush",
        "set_tls",
    ];
    assert_eq!(missing, expected);
}

#[test]
fn what_every_container_needs_is_allowed() {
    for (native, abi) in ABIS {
        let program = program(0, native);
        for name in ALWAYS.iter().flat_map(|group| group.names) {
            expect(&program, abi, name, u64::MAX, Action::Allow);
        }
    }
}

#[test]
fn what_opens_the_kernel_is_refused() {
    let refused = [
        "unshare",
        "setns",
        "mount",
        "umount",
        "umount2",
        "pivot_root",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "move_mount",
        "open_tree",
        "open_tree_attr",
        "mount_setattr",
        "chroot",
        "bpf",
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "perf_event_open",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "create_module",
        "open_by_handle_at",
        "reboot",
        "swapon",
        "swapoff",
        "settimeofday",
        "clock_settime",
        "syslog",
        "quotactl",
        "quotactl_fd",
        "acct",
        "iopl",
        "ioperm",
        "kcmp",
        "pidfd_getfd",
        "process_madvise",
        "move_pages",
        "migrate_pages",
        "mbind",
        "set_mempolicy",
        "vhangup",
        "sethostname",
        "setdomainname",
        "lookup_dcookie",
        "fanotify_init",
        "nfsservctl",
        "uselib",
        "vm86",
        "vm86old",
        "_sysctl",
        "lsm_set_self_attr",
        "listns",
    ];
    for (native, abi) in ABIS {
        let program = program(0, native);
        for name in refused {
            assert!(syscalls::is_known(name), "{name}");
            expect(&program, abi, name, 0, EPERM);
        }
        for name in ABSENT.names {
            expect(&program, abi, name, 0, ENOSYS);
        }
    }
}

#[test]
fn capabilities_allow_their_calls_and_nothing_else() {
    for (native, abi) in ABIS {
        for conditional in WITH_CAPABILITY {
            let program = program(1 << conditional.capability, native);
            for other in WITH_CAPABILITY {
                for name in other.group.names.iter().filter(|name| !["clone", "clone3"].contains(name)) {
                    let granted = conditional.group.names.contains(name);
                    expect(&program, abi, name, 0, if granted { Action::Allow } else { EPERM });
                }
            }
        }
    }
}

#[test]
fn no_capability_allows_what_is_never_allowed() {
    for (native, abi) in ABIS {
        let program = program(u64::MAX, native);
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "keyctl",
            "add_key",
            "request_key",
            "userfaultfd",
            "kexec_load",
            "kexec_file_load",
            "pivot_root",
            "swapon",
            "nfsservctl",
        ] {
            expect(&program, abi, name, 0, EPERM);
        }
        for family in [38, 40] {
            expect(&program, abi, "socket", family, EPERM);
        }
        expect(&program, abi, "socketcall", 1, ENOSYS);
    }
}

#[test]
fn clone_makes_no_namespaces() {
    let namespaces =
        [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    for (native, abi) in ABIS {
        let (bare, admin) = (program(0, native), program(SYS_ADMIN, native));
        // fork and pthread_create of C libraries
        for flags in [0, 17, 0x0120_0011, 0x003d_0f00, 0x0000_4111] {
            expect(&bare, abi, "clone", flags, Action::Allow);
            for namespace in namespaces {
                expect(&bare, abi, "clone", flags | namespace, EPERM);
                expect(&bare, abi, "clone", flags | namespace | 1 << 40, EPERM);
                expect(&admin, abi, "clone", flags | namespace, Action::Allow);
            }
        }
        expect(&bare, abi, "clone3", 0, ENOSYS);
        expect(&admin, abi, "clone3", 0, Action::Allow);
    }
}

#[test]
fn families_are_checked_as_the_kernel_reads_them() {
    let refused = [12, 19, 20, 23, 25, 34, 37, 38, 40];
    for (native, abi) in ABIS {
        let program = program(0, native);
        for name in ["socket", "socketpair"] {
            for family in 0..46 {
                let expected = if refused.contains(&family) { EPERM } else { Action::Allow };
                expect(&program, abi, name, family, expected);
            }
            for family in refused {
                // The kernel takes the lower half only.
                expect(&program, abi, name, family | 1 << 32, EPERM);
                expect(&program, abi, name, family | 0xffff_ffff << 32, EPERM);
            }
            expect(&program, abi, name, 46, EPERM);
            expect(&program, abi, name, 0xffff_ffff, EPERM);
        }
    }
}

#[test]
fn personality_is_one_of_five() {
    for (native, abi) in ABIS {
        let program = program(0, native);
        for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            expect(&program, abi, "personality", persona, Action::Allow);
        }
        // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC
        for persona in [1, 9, 0x4_0000, 0x40_0000, 0x4_0008, 0xffff_fffe] {
            expect(&program, abi, "personality", persona, EPERM);
        }
    }
}

#[test]
fn x32_is_refused() {
    let program = program(u64::MAX, Arch::X86_64);
    for number in (0..=547).map(|number| number | X32_BIT) {
        let call = Call { number, arch_word: Arch::X86_64.audit_word(), args: [0; 6] };
        assert_eq!(run(&program.instructions, &call).0, ENOSYS.word());
    }
}

#[test]
fn programs_are_compiled_once_for_each_set_that_matters() {
    let bare = default_program(0).unwrap();
    // CAP_CHOWN and bits of no capability make no difference.
    assert!(std::sync::Arc::ptr_eq(&bare, &default_program(1 | 1 << 63).unwrap()));
    let admin = default_program(SYS_ADMIN).unwrap();
    assert_ne!(bare.instructions, admin.instructions);
    assert_eq!(*admin, program(SYS_ADMIN, Arch::NATIVE));
    // More sets than are kept.
    let bits: Vec<u32> = (0..64).filter(|bit| relevant_capabilities() & 1 << bit != 0).collect();
    for set in 0..200u64 {
        let mask = bits.iter().enumerate().fold(0, |mask, (at, bit)| mask | (set >> at & 1) << bit);
        assert_eq!(*default_program(mask).unwrap(), program(mask, Arch::NATIVE));
    }
}

#[test]
fn the_program_is_short_and_shallow() {
    let program = program(0, Arch::X86_64);
    assert!(program.instructions.len() <= 320, "{} instructions", program.instructions.len());
    let deepest = (0..472).map(|number| {
        run(&program.instructions, &Call { number, arch_word: Arch::X86_64.audit_word(), args: [0; 6] }).1
    });
    assert!(deepest.max().unwrap() <= 45);
}
