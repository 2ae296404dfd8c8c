//! System call filters of one's own, and programs that answer for a container what its filter asks.

use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use pericarp::spec::{
    PidMode, Seccomp, SeccompAction, SeccompArch, SeccompFlag, SeccompOp, SeccompProfile, SeccompSyscall,
    Security, Stdio,
};
use pericarp::{Container, ContainerSpec, ErrorKind, ExitStatus, PodSpec};

use crate::support::fixture::{facts, output, payload as payload_spec, say};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_filter_does_what_its_rules_say,
    a_filter_that_kills_ends_the_container,
    a_filter_is_there_with_and_without_new_privileges,
    a_name_that_nobody_knows_is_told_where_it_would_open_a_hole,
    a_filter_that_refuses_the_start_is_told,
    a_filter_that_refuses_even_the_exit_leaves_nobody_behind,
    a_supervisor_answers_for_the_container,
    a_supervisor_answers_in_the_pid_namespace_of_the_pod,
    a_supervisor_answers_when_new_privileges_are_allowed,
    the_start_itself_can_be_asked_about,
    the_listener_is_not_in_the_container,
    the_listener_is_taken_once_and_by_its_maker,
    an_agent_gets_the_listener_and_the_state,
    an_agent_gets_the_listener_of_a_container_that_runs_at_once,
    an_agent_that_is_not_there_is_an_error_of_the_creation,
    an_agent_that_has_gone_ends_the_start,
    a_listener_needs_somebody_to_take_it,
    a_listener_that_could_not_be_handed_over_is_told,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        // What making a directory says, and whether it is there.
        ["seccomp-mkdir", path] => {
            let made =
                std::fs::create_dir(path).map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0);
            println!("{made} {}", std::path::Path::new(path).exists());
        }
        ["seccomp-priority", nice] => {
            let nice: i32 = nice.parse().expect("a number");
            // SAFETY: only numbers are passed.
            let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
            println!(
                "{}",
                if result == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
            );
        }
        _ => return false,
    }
    true
}

pub fn custom(profile: &Seccomp) -> Security {
    Security::default().seccomp(SeccompProfile::Custom(Box::new(profile.clone())))
}

fn rule(names: &[&str], action: SeccompAction) -> SeccompSyscall {
    SeccompSyscall::new(names.iter().copied(), action)
}

/// Everything but what rules say.
fn open() -> Seccomp {
    Seccomp::new(SeccompAction::Allow).architecture(SeccompArch::X86).architecture(SeccompArch::Arm)
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

/// Asks about new directories.
pub fn asking() -> Seccomp {
    open().rule(rule(&MKDIR, SeccompAction::Notify))
}

pub fn mkdir(name: &str, profile: &Seccomp) -> ContainerSpec {
    payload_spec(name, &["seccomp-mkdir", "/tmp/new"]).security(custom(profile))
}

fn a_filter_does_what_its_rules_say() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let refused = open().rule(rule(&MKDIR, SeccompAction::Errno).errno_ret(libc::EDQUOT as u32));
    assert_eq!(say(&pod, mkdir("a", &refused)), format!("{} false\n", libc::EDQUOT));
    // The default errno, and a flag.
    let refused = open().rule(rule(&MKDIR, SeccompAction::Errno)).flag(SeccompFlag::Log);
    assert_eq!(say(&pod, mkdir("a", &refused)), format!("{} false\n", libc::EPERM));
    assert_eq!(say(&pod, mkdir("a", &open())), "0 true\n");
    // By an argument, of which only the lower half is one.
    let above = rule(&["setpriority"], SeccompAction::Errno).errno_ret(libc::E2BIG as u32);
    let profile = open().rule(above.masked_arg(2, 0xffff_ffff, 7));
    for (nice, errno) in [("7", libc::E2BIG), ("8", 0)] {
        let spec = payload_spec("a", &["seccomp-priority", nice]).security(custom(&profile));
        assert_eq!(say(&pod, spec), format!("{errno}\n"), "nice {nice}");
    }
    let profile = open().rule(rule(&["setpriority"], SeccompAction::Errno).arg(2, SeccompOp::Gt, 9));
    for (nice, errno) in [("9", 0), ("10", libc::EPERM)] {
        let spec = payload_spec("a", &["seccomp-priority", nice]).security(custom(&profile));
        assert_eq!(say(&pod, spec), format!("{errno}\n"), "nice {nice}");
    }
    PASS
}

fn a_filter_that_kills_ends_the_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for action in [SeccompAction::Kill, SeccompAction::KillThread, SeccompAction::KillProcess] {
        let status = pod.run(&mkdir("a", &open().rule(rule(&MKDIR, action))))?;
        assert!(matches!(status, ExitStatus::Signaled { signal: libc::SIGSYS, .. }), "{action:?}: {status}");
    }
    PASS
}

fn a_filter_is_there_with_and_without_new_privileges() -> Outcome {
    let fixture = Fixture::new();
    let refused = open().rule(rule(&MKDIR, SeccompAction::Errno));
    for pod in [PodSpec::new("one"), PodSpec::new("shared").pid(PidMode::Pod)] {
        let pod = fixture.node.create_pod(&pod)?;
        for on in [true, false] {
            for user in [0, 1000] {
                let spec = mkdir("a", &refused).user(user, user);
                let spec = spec.security(custom(&refused).no_new_privileges(on));
                assert_eq!(say(&pod, spec), format!("{} false\n", libc::EPERM), "{on} {user}");
            }
        }
    }
    PASS
}

fn a_name_that_nobody_knows_is_told_where_it_would_open_a_hole() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = mkdir("a", &open().rule(rule(&["mkdirr"], SeccompAction::Errno)));
    let error = pod.create_container(&spec).expect_err("a misspelt refusal was taken");
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("security.seccomp")));
    assert!(error.to_string().contains("mkdirr"), "{error}");
    let spec = mkdir("a", &open().rule(rule(&["mkdirr"], SeccompAction::Log)));
    assert_eq!(say(&pod, spec), "0 true\n");
    PASS
}

fn a_filter_that_refuses_the_start_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec =
        mkdir("a", &open().rule(rule(&["execve"], SeccompAction::Errno).errno_ret(libc::ENOTBLK as u32)));
    let error = pod.run(&spec).expect_err("executed");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exec, Some(libc::ENOTBLK)), "{error}");
    PASS
}

/// With the loop over exit_group(2) that init had, this container's process ran for ever.
fn a_filter_that_refuses_even_the_exit_leaves_nobody_behind() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let calls = ["execve", "exit_group", "exit", "sendto"];
    let container = pod.create_container(&mkdir("a", &open().rule(rule(&calls, SeccompAction::Errno))))?;
    // Init cannot tell what was refused: the start looks as if the program ended at once.
    let _ = container.start();
    let status = container.wait()?;
    assert!(matches!(status, ExitStatus::Signaled { .. }), "{status}");
    container.remove()?;
    PASS
}

/// `struct seccomp_notif` of linux/seccomp.h.
#[repr(C)]
#[derive(Default)]
pub struct Notification {
    pub id: u64,
    pub pid: u32,
    pub flags: u32,
    pub number: i32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const CONTINUE: u32 = 1;

/// Answers calls until nobody is left to ask: by `answer`, `None` for going on with the call. Tells how many there were.
fn supervise(listener: &OwnedFd, mut answer: impl FnMut(&Notification) -> Option<(i64, i32)>) -> usize {
    let mut count = 0;
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the structure is ours.
        unsafe { libc::poll(&mut poll, 1, -1) };
        if poll.revents & libc::POLLIN == 0 {
            return count;
        }
        let mut notification = Notification::default();
        // SAFETY: the structure is ours and of the size that the number says.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &mut notification) } != 0 {
            continue;
        }
        count += 1;
        let (value, error, flags) = match answer(&notification) {
            Some((value, error)) => (value, -error, 0),
            None => (0, 0, CONTINUE),
        };
        let answer = Answer { id: notification.id, value, error, flags };
        // SAFETY: as above. Who asked may be gone.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &answer) };
    }
}

/// Starts a container and answers for it; gives what it wrote and how many calls were asked about.
pub fn supervised(
    container: &Container,
    answer: impl FnMut(&Notification) -> Option<(i64, i32)>,
) -> Result<(String, usize), libtest_mimic::Failed> {
    let mut stdout = container.take_stdout().ok_or("no pipe")?;
    container.start()?;
    let listener = container.take_seccomp_listener().ok_or("no listener")?;
    // Before Linux 6.11 a filter has its users until they were waited for.
    let waiting = container.clone();
    let waiting = std::thread::spawn(move || waiting.wait());
    let count = supervise(&listener, answer);
    assert!(waiting.join().expect("the waiter")?.success());
    let mut text = String::new();
    stdout.read_to_string(&mut text)?;
    container.remove()?;
    Ok((text, count))
}

fn a_supervisor_answers_for_the_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let make = || pod.create_container(&mkdir("a", &asking()).stdout(Stdio::Pipe));
    // The supervisor says that it failed, that it succeeded, or that the kernel is to do it.
    let (text, count) = supervised(&make()?, |_| Some((0, libc::EXDEV)))?;
    assert_eq!((text, count), (format!("{} false\n", libc::EXDEV), 1));
    assert_eq!(supervised(&make()?, |_| Some((0, 0)))?.0, "0 false\n");
    assert_eq!(supervised(&make()?, |_| None)?.0, "0 true\n");
    // It learns who asks, and what.
    let container = make()?;
    let pid = container.pid();
    let mut asked = Vec::new();
    supervised(&container, |notification| {
        asked.push((notification.pid as i32, i64::from(notification.number)));
        Some((0, 0))
    })?;
    let number = if cfg!(target_arch = "x86_64") { libc::SYS_mkdir } else { libc::SYS_mkdirat };
    assert_eq!(asked, [(pid, number)]);
    PASS
}

fn a_supervisor_answers_in_the_pid_namespace_of_the_pod() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let container = pod.create_container(&mkdir("a", &asking()).user(1000, 1000).stdout(Stdio::Pipe))?;
    assert_eq!(supervised(&container, |_| Some((0, libc::EXDEV)))?.0, format!("{} false\n", libc::EXDEV));
    // Where the filter has to be loaded before the last fork, nobody could be told the right process.
    let spec = mkdir("b", &asking()).security(custom(&asking()).no_new_privileges(false));
    let error = pod.create_container(&spec).expect_err("made");
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    PASS
}

fn a_supervisor_answers_when_new_privileges_are_allowed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = mkdir("a", &asking()).security(custom(&asking()).no_new_privileges(false)).user(1000, 1000);
    let container = pod.create_container(&spec.stdout(Stdio::Pipe))?;
    assert_eq!(supervised(&container, |_| Some((0, libc::EXDEV)))?.0, format!("{} false\n", libc::EXDEV));
    PASS
}

fn the_start_itself_can_be_asked_about() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let profile = open().rule(rule(&["execve"], SeccompAction::Notify));
    for (answer, works) in [(None, true), (Some((0, libc::ENOTBLK)), false)] {
        let container = pod.create_container(&mkdir("a", &profile))?;
        let other = container.clone();
        let supervisor = std::thread::spawn(move || {
            let listener = loop {
                match other.take_seccomp_listener() {
                    Some(listener) => break listener,
                    None => std::thread::yield_now(),
                }
            };
            supervise(&listener, |_| answer)
        });
        match container.start() {
            Ok(()) => assert!(works && container.wait()?.success()),
            Err(error) => assert!(!works && error.errno() == Some(libc::ENOTBLK), "{error}"),
        }
        container.kill()?;
        container.wait()?;
        assert_eq!(supervisor.join().expect("the supervisor"), 1);
        container.remove()?;
    }
    PASS
}

/// CVE-2024-21626: the program finds 0, 1 and 2, and nothing else.
fn the_listener_is_not_in_the_container() -> Outcome {
    let fixture = Fixture::new();
    let seen = facts(&fixture.pod("web"), |spec| spec.security(custom(&asking())));
    assert_eq!(seen.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(seen.status["Seccomp"], "2");
    PASS
}

fn the_listener_is_taken_once_and_by_its_maker() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&payload_spec("a", &["sleep"]).security(custom(&asking())))?;
    assert!(container.take_seccomp_listener().is_none(), "the filter is loaded at the start");
    container.start()?;
    let again = fixture.reopen().open_pod("web")?.container("a")?;
    assert!(again.take_seccomp_listener().is_none());
    assert!(container.clone().take_seccomp_listener().is_some());
    assert!(container.take_seccomp_listener().is_none());
    container.remove()?;
    let plain = pod.create_container(&payload_spec("b", &["sleep"]))?;
    plain.start()?;
    assert!(plain.take_seccomp_listener().is_none());
    plain.remove()?;
    PASS
}

/// An agent at a socket: takes one connection, and gives the state and the listener.
fn agent(socket: UnixListener) -> (serde_json::Value, OwnedFd) {
    let (mut connection, _) = socket.accept().expect("a connection");
    let (mut bytes, mut space) = (vec![0; 1 << 16], nix::cmsg_space!([i32; 4]));
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<()>(connection.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .expect("a message");
    let mut listeners = Vec::new();
    for control in message.cmsgs().expect("control data") {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: recvmsg(2) made these for us.
            listeners.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    bytes.truncate(length);
    connection.read_to_end(&mut bytes).expect("the rest");
    assert_eq!(listeners.len(), 1);
    let state = serde_json::from_slice(&bytes).expect("the state is JSON");
    (state, listeners.pop().expect("a listener"))
}

fn agent_socket(fixture: &Fixture) -> (UnixListener, PathBuf) {
    let path = fixture.path("agent");
    let _ = std::fs::remove_file(&path);
    (UnixListener::bind(&path).expect("bind a socket"), path)
}

/// Closes it, and waits until nobody has it any more: a process that another test makes at this moment has a copy of the
/// descriptor until it executes its program.
fn leaves(socket: UnixListener, path: &Path) {
    drop(socket);
    while UnixStream::connect(path).is_ok() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn an_agent_gets_the_listener_and_the_state() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for (no_new_privileges, status, annotation) in
        [(true, "created", "short".to_string()), (false, "creating", "long".repeat(60_000))]
    {
        let (socket, path) = agent_socket(&fixture);
        let profile = asking().listener_path(&path).listener_metadata("answer \"no\"");
        let security = custom(&profile).no_new_privileges(no_new_privileges);
        let spec = mkdir("a", &profile).security(security).annotation("key", &annotation).stdout(Stdio::Pipe);
        let answering = std::thread::spawn(move || {
            let (state, listener) = agent(socket);
            let count = supervise(&listener, |_| Some((0, libc::EXDEV)));
            (state, count)
        });
        let container = pod.create_container(&spec)?;
        let stdout: File = container.take_stdout().ok_or("no pipe")?;
        container.start()?;
        assert!(container.take_seccomp_listener().is_none(), "the agent has it");
        assert_eq!(std::io::read_to_string(stdout)?, format!("{} false\n", libc::EXDEV));
        assert!(container.wait()?.success());
        let (state, count) = answering.join().expect("the agent");
        assert_eq!(count, 1);
        assert_eq!(state["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!(state["pid"], container.pid());
        assert_eq!(state["metadata"], "answer \"no\"");
        assert_eq!(state["state"]["id"], format!("{}/a", pod.id()));
        assert_eq!(state["state"]["bundle"], "/");
        assert_eq!(state["state"]["pid"], container.pid());
        assert_eq!(state["state"]["status"], status);
        assert_eq!(state["state"]["annotations"]["key"], annotation);
        for version in [&state["ociVersion"], &state["state"]["ociVersion"]] {
            assert!(version.as_str().is_some_and(|version| version.starts_with("1.")), "{version}");
        }
        container.remove()?;
    }
    PASS
}

fn an_agent_gets_the_listener_of_a_container_that_runs_at_once() -> Outcome {
    let fixture = Fixture::new();
    for pod in [PodSpec::new("one"), PodSpec::new("shared").pid(PidMode::Pod)] {
        let pod = fixture.node.create_pod(&pod)?;
        let (socket, path) = agent_socket(&fixture);
        let answering = std::thread::spawn(move || supervise(&agent(socket).1, |_| Some((0, 0))));
        let out = fixture.path("out");
        let spec = mkdir("a", &asking().listener_path(&path)).stdout(Stdio::File(out.clone()));
        assert!(pod.run(&spec)?.success());
        assert_eq!(answering.join().expect("the agent"), 1);
        assert_eq!(std::fs::read_to_string(&out)?, "0 false\n");
        std::fs::remove_file(out)?;
    }
    PASS
}

fn an_agent_that_is_not_there_is_an_error_of_the_creation() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (socket, path) = agent_socket(&fixture);
    leaves(socket, &path);
    for (path, kind) in [(fixture.path("nobody"), ErrorKind::NotFound), (path, ErrorKind::System)] {
        let spec = mkdir("a", &asking().listener_path(&path));
        let error = pod.create_container(&spec).expect_err("made without an agent");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(pod.containers()?.is_empty());
    }
    // A filter that asks nothing needs nobody who answers.
    let spec = mkdir("a", &open().listener_path(fixture.path("nobody")));
    assert_eq!(say(&pod, spec), "0 true\n");
    PASS
}

/// Nothing runs that nobody answers for.
fn an_agent_that_has_gone_ends_the_start() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (socket, path) = agent_socket(&fixture);
    let container = pod.create_container(&mkdir("a", &asking().listener_path(&path)))?;
    leaves(socket, &path);
    let error = container.start().expect_err("started without an agent");
    assert_eq!(error.errno(), Some(libc::EPIPE), "{error}");
    assert!(!container.wait()?.success());
    container.remove()?;
    PASS
}

fn a_listener_needs_somebody_to_take_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let error = pod.run(&mkdir("a", &asking())).expect_err("ran with nobody to answer");
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    assert!(error.to_string().contains("listenerPath"), "{error}");
    PASS
}

fn a_listener_that_could_not_be_handed_over_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for call in ["read", "write"] {
        let spec = mkdir("a", &asking().rule(rule(&[call], SeccompAction::Notify)));
        let error = output(&pod, spec).expect_err("made");
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(error.to_string().contains(call), "{error}");
    }
    PASS
}
