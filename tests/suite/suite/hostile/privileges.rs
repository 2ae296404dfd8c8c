//! What a program may do, and who it is.
//!
//! CVE-2020-15257, CVE-2022-0185, CVE-2022-27650, CVE-2022-29162, CVE-2026-30892, CVE-2026-46680.

use std::collections::BTreeMap;
use std::io::ErrorKind::ConnectionRefused;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use pericarp::spec::{Capabilities, Capability, NamespaceMode, PidMode, SeccompProfile, Security, Stdio};
use pericarp::{ContainerSpec, ErrorKind, ExecSpec, PodSpec};

use crate::seccomp::REFUSED;
use crate::support::fixture::{facts, payload as inside, say};
use crate::support::{Facts, Fixture, Outcome, PASS, skip};

crate::tests![
    nothing_is_inheritable_however_a_program_starts,
    what_escapes_are_made_of_is_refused_to_every_user_and_to_who_enters,
    the_other_system_call_table_is_refused,
    ids_that_mean_nobody_are_refused,
    the_hosts_abstract_sockets_are_out_of_reach,
    the_library_listens_on_no_abstract_socket,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["hostile-connect", name] => {
            let address = SocketAddr::from_abstract_name(name).expect("an address");
            match UnixStream::connect_addr(&address) {
                Ok(_) => println!("connected"),
                Err(error) if error.kind() == ConnectionRefused => println!("refused"),
                Err(error) => println!("{error}"),
            }
        }
        ["hostile-x32"] => println!("{}", x32::attempt()),
        _ => return false,
    }
    true
}

fn of_exec(container: &pericarp::Container, spec: ExecSpec) -> String {
    let process = container.exec(&spec.stdout(Stdio::Pipe)).expect("execute");
    let text = std::io::read_to_string(process.take_stdout().expect("a pipe")).expect("read");
    assert!(process.wait().expect("wait").success(), "{text}");
    text
}

/// With `capset(effective, permitted, permitted)` in `take` of `src/init/identity.rs`: CapInh is that of the bounding set.
fn nothing_is_inheritable_however_a_program_starts() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let all = Capabilities::default().with(Capability::CAP_SYS_ADMIN).with(Capability::CAP_NET_ADMIN);
    let none = |seen: &Facts| {
        assert_eq!(seen.status["CapInh"], "0000000000000000");
        assert_eq!(seen.status["CapAmb"], "0000000000000000");
        assert_ne!(seen.status["CapBnd"], "0000000000000000");
    };
    for (user, new_privileges) in [(0, false), (1000, false), (0, true), (1000, true)] {
        let change = |spec: ContainerSpec| {
            let security = Security::default().capabilities(all.clone()).no_new_privileges(!new_privileges);
            spec.user(user, user).security(security)
        };
        none(&facts(&pod, change));
        none(&facts(&shared, change));
        let container = pod.create_container(&change(inside("a", &["sleep"])))?;
        container.start()?;
        let enter = ExecSpec::new(["/payload", "payload", "facts"]);
        none(&serde_json::from_str(&of_exec(&container, enter.clone()))?);
        none(&serde_json::from_str(&of_exec(&container, enter.capabilities(all.clone()).user(5, 5)))?);
        container.remove()?;
    }
    PASS
}

/// With `SeccompProfile::RuntimeDefault` compiled to no step in `filter` of `src/container/plan/build/process.rs`, the
/// first of them (`unshare`) answers 0. That it is the filter which answers is in `seccomp`.
fn what_escapes_are_made_of_is_refused_to_every_user_and_to_who_enters() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let refused = |text: String| -> Outcome {
        let errors: BTreeMap<String, i32> = serde_json::from_str(&text)?;
        for name in REFUSED {
            assert_eq!(errors[name], libc::EPERM, "{name}");
        }
        PASS
    };
    for user in [0, 1000] {
        refused(say(&pod, inside("a", &["seccomp-calls"]).user(user, user)))?;
        let container = pod.create_container(&inside("b", &["sleep"]))?;
        container.start()?;
        let spec = ExecSpec::new(["/payload", "payload", "seccomp-calls"]);
        refused(of_exec(&container, spec.user(user, user)))?;
        container.remove()?;
    }
    PASS
}

/// What a 64-bit program can ask by the numbers of x32.
#[cfg(target_arch = "x86_64")]
mod x32 {
    use std::os::fd::{FromRawFd, OwnedFd};

    /// `struct seccomp_notif`, its first field, and all of its size.
    #[repr(C)]
    struct Notification {
        id: u64,
        rest: [u64; 9],
    }

    #[repr(C)]
    struct Answer {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }

    const BIT: u32 = 0x4000_0000;
    const NOTIFY: u32 = 0x7fc0_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const NEW_LISTENER: usize = 8;
    const RECEIVE: u64 = 0xc050_2100;
    const SEND: u64 = 0xc018_2101;

    /// A kernel without x32 refuses its numbers as the container's filter does. Which of them it was tells a second
    /// filter, of this program: it asks a thread here, and weighs less than a refusal. Says what answered.
    pub fn attempt() -> &'static str {
        let instruction = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
        let mut filter = [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, libc::SYS_getppid as u32 | BIT),
            instruction(0x06, 0, 0, NOTIFY),
            instruction(0x06, 0, 0, ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the program is a filter of that many instructions, which outlives the call.
        let listener = unsafe { libc::syscall(libc::SYS_seccomp, 1, NEW_LISTENER, &raw const program) };
        assert!(listener >= 0, "load a filter: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel has just made it.
        let _listener = unsafe { OwnedFd::from_raw_fd(listener as i32) };
        std::thread::spawn(move || {
            let mut notification = Notification { id: 0, rest: [0; 9] };
            // SAFETY: the structure has the size that is part of the command.
            if unsafe { libc::ioctl(listener as i32, RECEIVE, &raw mut notification) } == 0 {
                let answer = Answer { id: notification.id, value: 0, error: -libc::EXFULL, flags: 0 };
                // SAFETY: as above.
                unsafe { libc::ioctl(listener as i32, SEND, &raw const answer) };
            }
        });
        // SAFETY: getppid(2) has no arguments.
        let result = unsafe { libc::syscall(libc::SYS_getppid | i64::from(BIT)) };
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EXFULL) if result < 0 => "the program's own filter",
            Some(libc::ENOSYS) if result < 0 => "the container's filter",
            _ => "nobody",
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x32 {
    pub fn attempt() -> &'static str {
        "the container's filter"
    }
}

/// Without the filter the program's own one answers, as the second half shows.
fn the_other_system_call_table_is_refused() -> Outcome {
    if cfg!(not(target_arch = "x86_64")) {
        return skip("this processor has no x32");
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = || inside("a", &["hostile-x32"]);
    assert_eq!(say(&pod, spec()), "the container's filter\n");
    // That the test can tell: without the container's filter it is the other one.
    let unconfined = Security::default().seccomp(SeccompProfile::Unconfined);
    assert_eq!(say(&pod, spec().security(unconfined)), "the program's own filter\n");
    PASS
}

/// -1 means "as it is" to setresuid(2): a program that asks for it would be root (CVE-2026-46680).
///
/// With no look at u32::MAX in `src/spec/validate.rs` the first container here ran, with "Uid: 0 0 0 0".
fn ids_that_mean_nobody_are_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = || inside("a", &["facts"]);
    for (uid, gid, groups) in [
        (u32::MAX, 0, vec![]),
        (0, u32::MAX, vec![]),
        (u32::MAX, u32::MAX, vec![]),
        (1, 1, vec![7, u32::MAX]),
    ] {
        let error = pod.run(&spec().user(uid, gid).additional_gids(groups.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
        let container = pod.create_container(&inside("b", &["sleep"]))?;
        container.start()?;
        let enter = ExecSpec::new(["/payload", "payload", "facts"]).user(uid, gid).additional_gids(groups);
        assert_eq!(container.exec(&enter).unwrap_err().kind(), ErrorKind::InvalidSpec);
        container.remove()?;
    }
    // Names, and numbers that are not of 32 bits, are no ids at all.
    let good = serde_json::to_value(spec().user(1, 1))?;
    assert!(serde_json::from_value::<ContainerSpec>(good.clone()).is_ok());
    for uid in [
        serde_json::json!(-1),
        serde_json::json!(4294967296_u64),
        serde_json::json!(0.5),
        serde_json::json!("0"),
        serde_json::json!("root"),
        serde_json::json!("-1"),
        serde_json::json!(null),
    ] {
        for field in ["uid", "gid"] {
            let mut bad = good.clone();
            assert!(bad["user"][field].is_number());
            bad["user"][field] = uid.clone();
            assert!(serde_json::from_value::<ContainerSpec>(bad).is_err(), "{field} {uid}");
        }
    }
    PASS
}

/// CVE-2020-15257: abstract sockets are as private as the network namespace. Without joining that: "connected".
fn the_hosts_abstract_sockets_are_out_of_reach() -> Outcome {
    let fixture = Fixture::new();
    let name = format!("pericarp-hostile-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    assert_eq!(say(&fixture.pod("own"), inside("a", &["hostile-connect", &name])), "refused\n");
    // Who asks for the host's network gets its sockets, too: that is seen here, so that the test shows something.
    let host = fixture.node.create_pod(&PodSpec::new("host").network(NamespaceMode::Host))?;
    assert_eq!(say(&host, inside("a", &["hostile-connect", &name])), "connected\n");
    PASS
}

/// Nor does the library itself have any, which a container in the host's network could reach: the socket by which a
/// detached container is started is a file in a directory that only root reaches. Bound to an abstract name instead
/// (`listen_in` in `src/spawn/meeting.rs`), it is found here.
fn the_library_listens_on_no_abstract_socket() -> Outcome {
    let abstract_sockets = || -> Vec<String> {
        let table = std::fs::read_to_string("/proc/net/unix").expect("read the sockets");
        let paths = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7));
        paths.filter(|path| path.starts_with('@') && path.contains("pericarp")).map(String::from).collect()
    };
    let name = format!("pericarp-listening-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    assert!(abstract_sockets().contains(&format!("@{name}")), "the test would see one");
    drop(listener);
    let fixture = Fixture::new();
    let host =
        fixture.node.create_pod(&PodSpec::new("host").network(NamespaceMode::Host).pid(PidMode::Pod))?;
    let detached = host.create_container(&inside("a", &["sleep"]).detached(true))?;
    let table = std::fs::read_to_string("/proc/net/unix")?;
    let start = format!("{}/", fixture.options.state_dir.display());
    let others: Vec<String> =
        abstract_sockets().into_iter().filter(|path| !path.contains("hostile")).collect();
    assert_eq!(others, [""; 0]);
    // The library's socket is in that table under a path, or under none: it was bound within a directory.
    assert!(!table.lines().any(|line| line.contains(&format!("@{start}"))), "{table}");
    detached.remove()?;
    PASS
}
