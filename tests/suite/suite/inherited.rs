//! What a container's process would inherit from the host program if nobody took care: files, signals, a terminal.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use pericarp::spec::{PidMode, Stdio};
use pericarp::{ErrorKind, PodSpec};

use crate::support::fixture::{facts, output, payload as payload_spec, say, script};
use crate::support::{Facts, Fixture, Outcome, PASS};

crate::tests![
    the_hosts_terminal_does_not_control_it,
    signals_are_reset_whatever_the_host_does_with_them,
    the_oom_score_is_left_alone,
    only_the_standard_streams_are_open_whatever_the_host_has,
    nothing_of_the_hosts_environment_is_passed_on,
];

/// Commands for this program in a process of its own on the host.
pub fn payload(words: &[&str]) -> bool {
    let ["inherited-host", change] = words else { return false };
    host(change);
    true
}

/// This program on the host, in a process of its own that is changed in one way; it prints what a container of it sees.
fn host(change: &str) {
    let mut keep: Vec<OwnedFd> = Vec::new();
    match change {
        "signals" => {
            for ignored in
                [Signal::SIGPIPE, Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1]
            {
                // SAFETY: ignoring a signal runs no code.
                unsafe { signal(ignored, SigHandler::SigIgn) }.expect("ignore a signal");
            }
            SigSet::all().thread_block().expect("block all signals");
        }
        "files" => {
            for flags in [libc::O_RDONLY | libc::O_DIRECTORY, libc::O_PATH] {
                for _ in 0..40 {
                    // SAFETY: the path is NUL-terminated; no O_CLOEXEC, which is the point.
                    let fd = unsafe { libc::open(c"/".as_ptr(), flags) };
                    assert!(fd >= 0);
                    // SAFETY: it was just opened, and is nobody else's.
                    keep.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            // Far above all others as well.
            // SAFETY: nothing in this process has that number.
            keep.push(unsafe { nix::unistd::dup2_raw(&keep[0], 900) }.expect("duplicate"));
        }
        "terminal" => {
            nix::unistd::setsid().expect("make a session");
            let pty = nix::pty::openpty(None, None).expect("open a pseudo-terminal");
            // SAFETY: the argument of this ioctl is a number.
            assert_eq!(unsafe { libc::ioctl(pty.slave.as_raw_fd(), libc::TIOCSCTTY, 0) }, 0);
            fs::File::open("/dev/tty").expect("this process has a terminal");
            keep.extend([pty.master, pty.slave]);
        }
        _ => panic!("unknown change {change}"),
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = match change {
        "terminal" => script("a", "cut -d ' ' -f 7 /proc/self/stat; (exec </dev/tty) 2>&1"),
        _ => payload_spec("a", &["facts"]),
    };
    let container = pod.create_container(&spec.stdout(Stdio::Pipe)).expect("make a container");
    let stdout = container.take_stdout().expect("a pipe");
    container.start().expect("start");
    print!("{}", std::io::read_to_string(stdout).expect("read"));
    // Whoever ignores SIGCHLD may lose the status, and is told so.
    match container.wait() {
        Ok(_) => {}
        Err(error) => assert!(change == "signals" && error.kind() == ErrorKind::StatusLost, "{error}"),
    }
    // Closing a terminal's master would hang up this process, which leads its session.
    std::mem::forget(keep);
}

/// What a container sees of such a program.
fn seen_from(change: &str) -> Result<String, libtest_mimic::Failed> {
    let output =
        Command::new(std::env::current_exe()?).args(["payload", "inherited-host", change]).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// CVE-2017-5226. Without `Step::Setsid` (`namespaces` in `src/container/plan/build/mod.rs`): 34816, which is a terminal.
fn the_hosts_terminal_does_not_control_it() -> Outcome {
    let text = seen_from("terminal")?;
    // Field 7 of /proc/PID/stat: no terminal. And /dev/tty, which every container has, is none (ENXIO).
    assert!(text.starts_with("0\n"), "{text}");
    assert!(text.contains("No such device or address"), "{text}");
    PASS
}

fn signals_are_reset_whatever_the_host_does_with_them() -> Outcome {
    let seen: Facts = serde_json::from_str(&seen_from("signals")?)?;
    assert_eq!(u64::from_str_radix(&seen.status["SigBlk"], 16)?, 0);
    assert_eq!(u64::from_str_radix(&seen.status["SigPnd"], 16)?, 0);
    // Rust's runtime ignores SIGPIPE (13) itself: grep tells the truth about that one.
    assert_eq!(u64::from_str_radix(&seen.status["SigIgn"], 16)? & !(1 << 12), 0);
    let fixture = Fixture::new();
    // The test program ignores SIGPIPE too, as every Rust program.
    let own = fs::read_to_string("/proc/self/status")?;
    let ignored = own.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("signals");
    assert_eq!(u64::from_str_radix(ignored.trim(), 16)? & 1 << 12, 1 << 12);
    let text =
        say(&fixture.pod("web"), script("a", "").args(["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]));
    assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    PASS
}

fn the_oom_score_is_left_alone() -> Outcome {
    let fixture = Fixture::new();
    let own = fs::read_to_string("/proc/self/oom_score_adj")?;
    assert_eq!(facts(&fixture.pod("web"), |spec| spec).oom_score_adj, own.trim());
    PASS
}

/// Without close_range(2) in `prepare_process` of `src/init/main.rs`: ten more files of init, a socket and the pod's
/// namespaces among them.
fn only_the_standard_streams_are_open_whatever_the_host_has() -> Outcome {
    let seen: Facts = serde_json::from_str(&seen_from("files")?)?;
    assert_eq!(seen.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{:?}", seen.fds);
    assert_eq!((&*seen.fds[&0], &*seen.fds[&2]), ("/dev/null", "/dev/null"));
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let seen = facts(&pod, |spec| spec);
    assert_eq!(seen.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{:?}", seen.fds);
    // The null device is not the host's, and not one that a container could change for others.
    let command =
        "stat -L -c '%d %t:%T' /proc/self/fd/0; chmod 600 /proc/self/fd/0; chown 5 /proc/self/fd/0; true";
    for name in ["one", "two"] {
        let (_, text) = output(&pod, script(name, command))?;
        assert!(text.contains(" 1:3\n"), "{text}");
        assert!(!text.starts_with(&format!("{} ", fs::metadata("/dev/null")?.dev())), "{text}");
        assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    }
    PASS
}

fn nothing_of_the_hosts_environment_is_passed_on() -> Outcome {
    let fixture = Fixture::new();
    assert!(std::env::vars_os().count() > 1, "the test program has an environment");
    let text =
        say(&fixture.pod("web"), script("a", "tr '\\0' '\\n' </proc/1/environ | grep -v ^PATH= | wc -l"));
    assert_eq!(text.trim(), "0");
    PASS
}
