//! The system call filter: what it refuses, what it allows, and that it is the filter which answers.

use std::collections::BTreeMap;

use pericarp::Pod;
use pericarp::spec::{Capabilities, Capability, SeccompProfile, Security};

use crate::support::fixture::{facts, output, payload as payload_spec, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    the_default_filter_is_loaded_and_can_be_left_out,
    the_filter_refuses_what_escapes_are_made_of,
    without_the_filter_the_kernel_itself_answers,
    the_filter_allows_what_a_capability_is_for,
    the_filter_refuses_namespaces_by_every_call,
    the_filter_allows_usual_families_of_sockets_only,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    let ["seccomp-calls"] = words else { return false };
    let errors: BTreeMap<&str, i32> = calls().into_iter().map(|(name, call)| (name, call())).collect();
    println!("{}", serde_json::to_string(&errors).expect("JSON"));
    true
}

fn the_default_filter_is_loaded_and_can_be_left_out() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let seen = facts(&pod, |spec| spec);
    assert_eq!((&*seen.status["Seccomp"], &*seen.status["Seccomp_filters"]), ("2", "1"));
    let seen = facts(&pod, |spec| spec.user(1000, 1000));
    assert_eq!((&*seen.status["Seccomp"], &*seen.status["Seccomp_filters"]), ("2", "1"));
    let seen = facts(&pod, |spec| spec.security(Security::default().seccomp(SeccompProfile::Unconfined)));
    assert_eq!((&*seen.status["Seccomp"], &*seen.status["Seccomp_filters"]), ("0", "0"));
    PASS
}

/// A system call and its error number, or 0. All arguments are of no effect where the call is allowed.
fn call(number: i64, args: [i64; 5]) -> i32 {
    // SAFETY: the callers below give no pointer but null, and no descriptor that is open.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
}

type Call = (&'static str, fn() -> i32);

/// Calls by name, in a form that changes nothing.
fn calls() -> Vec<Call> {
    macro_rules! calls {
        ($($name:literal: $number:expr, $args:expr;)*) => { vec![$(($name, (|| call($number, $args)) as fn() -> i32)),*] };
    }
    calls! {
        "unshare": libc::SYS_unshare, [0; 5];
        "setns": libc::SYS_setns, [-1, 0, 0, 0, 0];
        "mount": libc::SYS_mount, [0; 5];
        "umount2": libc::SYS_umount2, [0; 5];
        "pivot_root": libc::SYS_pivot_root, [0; 5];
        "open_tree": libc::SYS_open_tree, [-1, 0, 0, 0, 0];
        "move_mount": libc::SYS_move_mount, [-1, 0, -1, 0, 0];
        "fsopen": libc::SYS_fsopen, [0; 5];
        "fsmount": libc::SYS_fsmount, [-1, 0, 0, 0, 0];
        "fsconfig": libc::SYS_fsconfig, [-1, 0, 0, 0, 0];
        "fspick": libc::SYS_fspick, [-1, 0, 0, 0, 0];
        "mount_setattr": libc::SYS_mount_setattr, [-1, 0, 0, 0, 0];
        "keyctl": libc::SYS_keyctl, [-1, 0, 0, 0, 0];
        "add_key": libc::SYS_add_key, [0; 5];
        "request_key": libc::SYS_request_key, [0; 5];
        "bpf": libc::SYS_bpf, [-1, 0, 0, 0, 0];
        "io_uring_setup": libc::SYS_io_uring_setup, [0; 5];
        "io_uring_enter": libc::SYS_io_uring_enter, [-1, 0, 0, 0, 0];
        "io_uring_register": libc::SYS_io_uring_register, [-1, 0, 0, 0, 0];
        "userfaultfd": libc::SYS_userfaultfd, [-1, 0, 0, 0, 0];
        "perf_event_open": libc::SYS_perf_event_open, [0; 5];
        "kexec_load": libc::SYS_kexec_load, [0, 99, 0, -1, 0];
        "init_module": libc::SYS_init_module, [0; 5];
        "delete_module": libc::SYS_delete_module, [0; 5];
        "open_by_handle_at": libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0];
        "swapon": libc::SYS_swapon, [0; 5];
        "reboot": libc::SYS_reboot, [0; 5];
        "acct": libc::SYS_acct, [1, 0, 0, 0, 0];
        "syslog": libc::SYS_syslog, [10, 0, 0, 0, 0];
        "sethostname": libc::SYS_sethostname, [0, -1, 0, 0, 0];
        "clock_settime": libc::SYS_clock_settime, [0; 5];
        "kcmp": libc::SYS_kcmp, [-1, -1, 99, 0, 0];
        "process_madvise": libc::SYS_process_madvise, [-1, 0, 0, 0, 0];
        "pidfd_getfd": libc::SYS_pidfd_getfd, [-1, -1, 0, 0, 0];
        "mbind": libc::SYS_mbind, [1, 0, -1, 0, 0];
        "move_pages": libc::SYS_move_pages, [-1, 0, 0, 0, 0];
        "quotactl": libc::SYS_quotactl, [-1, 0, 0, 0, 0];
        "fanotify_init": libc::SYS_fanotify_init, [-1, 0, 0, 0, 0];
        "vhangup": libc::SYS_vhangup, [0; 5];
        "chroot": libc::SYS_chroot, [0; 5];
        "personality ADDR_NO_RANDOMIZE": libc::SYS_personality, [0x4_0000, 0, 0, 0, 0];
        "personality PER_SVR4": libc::SYS_personality, [1, 0, 0, 0, 0];
        "personality, asking": libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0];
        "clone NEWUSER": libc::SYS_clone, [libc::CLONE_NEWUSER as i64 | libc::CLONE_FS as i64 | libc::CLONE_THREAD as i64, 0, 0, 0, 0];
        "clone NEWNS": libc::SYS_clone, [libc::CLONE_NEWNS as i64 | libc::CLONE_FS as i64, 0, 0, 0, 0];
        "clone NEWTIME": libc::SYS_clone, [0x80 | libc::CLONE_THREAD as i64, 0, 0, 0, 0];
        "clone3": libc::SYS_clone3, [0; 5];
        "socket INET": libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_DGRAM as i64, 0, 0, 0];
        "socket UNIX": libc::SYS_socket, [libc::AF_UNIX as i64, libc::SOCK_STREAM as i64, 0, 0, 0];
        "socket NETLINK": libc::SYS_socket, [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 0, 0, 0];
        "socket ALG": libc::SYS_socket, [libc::AF_ALG as i64, libc::SOCK_SEQPACKET as i64, 0, 0, 0];
        "socket ALG, upper half": libc::SYS_socket, [libc::AF_ALG as i64 | 1 << 40, libc::SOCK_SEQPACKET as i64, 0, 0, 0];
        "socket VSOCK": libc::SYS_socket, [libc::AF_VSOCK as i64, libc::SOCK_STREAM as i64, 0, 0, 0];
        "socketpair ALG": libc::SYS_socketpair, [libc::AF_ALG as i64, libc::SOCK_SEQPACKET as i64, 0, 0, 0];
        "socket 46": libc::SYS_socket, [46, 1, 0, 0, 0];
        "a call of the future": 5000, [0; 5];
        "getpid of x32": libc::SYS_getpid | 0x4000_0000, [0; 5];
    }
}

fn errors(pod: &Pod, security: Security) -> BTreeMap<String, i32> {
    let text = say(pod, payload_spec("calls", &["seccomp-calls"]).security(security));
    serde_json::from_str(&text).expect("JSON")
}

/// What the documentation says is refused to the default capabilities.
pub const REFUSED: [&str; 48] = [
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsmount",
    "fsconfig",
    "fspick",
    "mount_setattr",
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "userfaultfd",
    "perf_event_open",
    "kexec_load",
    "init_module",
    "delete_module",
    "open_by_handle_at",
    "swapon",
    "reboot",
    "acct",
    "syslog",
    "sethostname",
    "clock_settime",
    "kcmp",
    "process_madvise",
    "pidfd_getfd",
    "mbind",
    "move_pages",
    "quotactl",
    "fanotify_init",
    "vhangup",
    "personality ADDR_NO_RANDOMIZE",
    "personality PER_SVR4",
    "clone NEWUSER",
    "clone NEWNS",
    "socket ALG",
    "socket ALG, upper half",
    "socket VSOCK",
    "socketpair ALG",
    "socket 46",
];

fn the_filter_refuses_what_escapes_are_made_of() -> Outcome {
    let fixture = Fixture::new();
    let errors = errors(&fixture.pod("web"), Security::default());
    for name in REFUSED {
        assert_eq!(errors[name], libc::EPERM, "{name}");
    }
    // As by a kernel without them, so that programs take the older way.
    for name in ["clone3", "a call of the future", "getpid of x32"] {
        assert_eq!(errors[name], libc::ENOSYS, "{name}");
    }
    assert_eq!(errors["chroot"], libc::EFAULT, "goes with CAP_SYS_CHROOT, which is a default");
    assert_eq!(errors["personality, asking"], 0);
    PASS
}

/// The kernel answers these calls otherwise than the filter: so the test above proves that it was the filter.
fn without_the_filter_the_kernel_itself_answers() -> Outcome {
    let fixture = Fixture::new();
    let errors = errors(&fixture.pod("web"), Security::default().seccomp(SeccompProfile::Unconfined));
    for (name, errno) in [
        ("unshare", 0),
        ("setns", libc::EBADF),
        ("open_tree", libc::EFAULT),
        ("keyctl", libc::EOPNOTSUPP),
        ("request_key", libc::EFAULT),
        ("clock_settime", libc::EFAULT),
        ("kcmp", libc::ESRCH),
        ("process_madvise", libc::EBADF),
        ("pidfd_getfd", libc::EBADF),
        ("mbind", libc::EINVAL),
        ("personality ADDR_NO_RANDOMIZE", 0),
        ("personality PER_SVR4", 0),
        ("clone NEWUSER", libc::EINVAL),
        ("clone NEWNS", libc::EINVAL),
        ("clone3", libc::EINVAL),
        ("socket 46", libc::EAFNOSUPPORT),
    ] {
        let found = errors[name];
        // A kernel may be built without a call.
        assert!(found == errno || found == libc::ENOSYS, "{name}: {found}, not {errno}");
    }
    PASS
}

fn the_filter_allows_what_a_capability_is_for() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let with =
        |capability| errors(&pod, Security::default().capabilities(Capabilities::default().with(capability)));
    let admin = with(Capability::CAP_SYS_ADMIN);
    assert_eq!(admin["unshare"], 0);
    for (name, errno) in [
        ("setns", libc::EBADF),
        ("mount", libc::EFAULT),
        ("umount2", libc::EFAULT),
        ("open_tree", libc::EFAULT),
        ("fsopen", libc::EFAULT),
        ("sethostname", libc::EINVAL),
        ("clone3", libc::EINVAL),
        ("clone NEWNS", libc::EINVAL),
        // Still refused: nothing that a capability of namespaces is for.
        ("keyctl", libc::EPERM),
        ("io_uring_setup", libc::EPERM),
        ("kexec_load", libc::EPERM),
        ("init_module", libc::EPERM),
    ] {
        assert_eq!(admin[name], errno, "CAP_SYS_ADMIN: {name}");
    }
    assert_eq!(with(Capability::CAP_SYS_TIME)["clock_settime"], libc::EFAULT);
    assert_eq!(with(Capability::CAP_SYS_PTRACE)["kcmp"], libc::ESRCH);
    assert_eq!(with(Capability::CAP_SYSLOG)["syslog"], 0);
    assert_eq!(with(Capability::CAP_DAC_READ_SEARCH)["open_by_handle_at"], libc::EFAULT);
    let minimal = errors(&pod, Security::default().capabilities(Capabilities::minimal()));
    assert_eq!(minimal["chroot"], libc::EPERM);
    PASS
}

fn the_filter_refuses_namespaces_by_every_call() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // As root and as an ordinary user, by the tools that everybody has.
    for (name, uid) in [("a", 0), ("b", 1000)] {
        for flag in ["-U", "-m", "-n", "-p", "-u", "-i"] {
            let (status, text) = output(&pod, script(name, &format!("unshare {flag} true")).user(uid, uid))?;
            assert!(!status.success() && text.contains("not permitted"), "{uid} {flag}: {text}");
        }
    }
    PASS
}

fn the_filter_allows_usual_families_of_sockets_only() -> Outcome {
    let fixture = Fixture::new();
    let errors = errors(&fixture.pod("web"), Security::default());
    for name in ["socket INET", "socket UNIX", "socket NETLINK"] {
        assert_eq!(errors[name], 0, "{name}");
    }
    PASS
}
