//! Other programs in containers, terminals, outputs with several readers, and calls that somebody else answers.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use pericarp::spec::{Seccomp, SeccompAction, SeccompProfile, SeccompSyscall};
use pericarp::{ErrorKind, ExecSpec, ExitStatus, SlowReader, Stdio};

use crate::world::*;

crate::behaviours![
    another_program_is_in_the_container,
    another_program_is_waited_for_signalled_and_killed,
    what_cannot_be_executed_is_refused,
    a_container_has_a_terminal,
    another_program_has_a_terminal,
    any_terminal_can_be_sized_named_and_sent,
    several_readers_have_one_output,
    an_output_is_distributed_step_by_step,
    calls_are_answered_by_who_has_the_listener,
];

fn shell(script: &str) -> ExecSpec {
    ExecSpec::new(["/bin/sh", "-c", script])
}

fn another_program_is_in_the_container(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c").env("GREETING", "hello"))?;
    let spec = shell("echo $GREETING; readlink /proc/self/ns/mnt; cat; echo done >&2; exit 3");
    let spec = spec.stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    let process = container.exec(&spec)?;
    assert_eq!(process.container().pid(), container.pid());
    assert!(container.processes()?.contains(&process.pid()));
    let mut stdin = process.take_stdin().expect("a pipe");
    let mut stdout = process.again().take_stdout().expect("a pipe");
    assert!(process.take_stdout().is_none() && process.take_terminal().is_none());
    assert_eq!(line(&mut stdout)?, "hello");
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", container.pid()))?;
    assert_eq!(line(&mut stdout)?, namespace.to_string_lossy());
    stdin.write_all(b"typed")?;
    drop(stdin);
    assert_eq!(std::io::read_to_string(stdout)?, "typed");
    assert_eq!(std::io::read_to_string(process.take_stderr().expect("a pipe"))?, "done\n");
    assert_eq!(process.wait()?, ExitStatus::Exited(3));
    // An open file of the caller's in place of a pipe.
    let file = File::create_new(world.path("out"))?;
    let process = container.exec(&shell("echo x").stdout(Stdio::fd(file)))?;
    assert!(process.wait()?.success());
    assert_eq!(fs::read_to_string(world.path("out"))?, "x\n");
    PASS
}

fn another_program_is_waited_for_signalled_and_killed(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let spec = shell("trap 'exit 7' TERM; echo; while :; do sleep 1000 & wait; done").stdout(Stdio::Pipe);
    let process = container.exec(&spec)?;
    line(&mut process.take_stdout().expect("a pipe"))?;
    let pidfd = process.pidfd();
    assert_eq!((process.try_wait()?, process.wait_timeout(Some(Duration::ZERO))?), (None, None));
    assert!(!readable(&pidfd, 0));
    process.signal(libc::SIGTERM)?;
    assert!(readable(&pidfd, 60_000), "it did not end");
    assert_eq!(process.wait_timeout(None)?, Some(ExitStatus::Exited(7)));
    assert_eq!(process.try_wait()?, Some(ExitStatus::Exited(7)));
    let failure = process.signal(libc::SIGTERM).expect_err("it has ended");
    assert_eq!(failure.kind, ErrorKind::WrongState);
    world.saw(format!("{failure:?}").replace(&process.pid().to_string(), "PID"));
    process.kill()?;
    let process = container.exec(&ExecSpec::new(["sleep", "1000"]))?;
    process.kill()?;
    assert_eq!(process.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    // It ends with the container, and not with its handle.
    let process = container.exec(&ExecSpec::new(["sleep", "1000"]))?;
    let pidfd = process.pidfd();
    drop(process);
    assert!(!readable(&pidfd, 0), "it ended with its handle");
    container.kill()?;
    assert!(readable(&pidfd, 60_000), "it outlived its container");
    PASS
}

fn what_cannot_be_executed_is_refused(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &script("c", "exec sleep 1000"))?;
    world.refused(container.exec(&ExecSpec::new(["/no/such/program"])), ErrorKind::Exec);
    world.refused(container.exec(&ExecSpec::new(["sh"]).cwd("relative")), ErrorKind::InvalidSpec);
    assert_eq!(container.processes()?.len(), 1, "its own process alone");
    container.kill()?;
    container.wait()?;
    world.refused(container.exec(&ExecSpec::new(["sh"])), ErrorKind::WrongState);
    PASS
}

/// Everything that is displayed until nobody has the other side open any more, with plain line feeds.
fn displayed(mut terminal: File) -> Result<String, libtest_mimic::Failed> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match terminal.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => text.extend(&buffer[..length]),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8(text)?.replace("\r\n", "\n"))
}

fn a_container_has_a_terminal(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "read line; tty; stty size; echo $line").terminal(true).console_size(100, 40);
    let container = pod.create_container(&spec)?;
    let terminal = container.take_terminal().expect("a terminal");
    assert!(container.take_terminal().is_none());
    assert_eq!(terminal.size()?, (100, 40));
    terminal.resize(80, 25)?;
    assert_eq!(terminal.size()?, (80, 25));
    container.start()?;
    let mut file = terminal.file();
    let name = terminal.name()?;
    file.write_all(b"typed\n")?;
    let text = displayed(file)?;
    assert_eq!(text, format!("typed\n{name}\n25 80\ntyped\n"));
    world.saw(text);
    assert!(container.wait()?.success());
    PASS
}

fn another_program_has_a_terminal(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    assert!(container.take_terminal().is_none(), "it did not ask for one");
    let process = container.exec(&shell("read line; tty").terminal(true))?;
    let terminal = process.take_terminal().expect("a terminal");
    // To another program, which has the same one then.
    let path = world.path("console.sock");
    let listener = UnixListener::bind(&path)?;
    terminal.send_to(&path)?;
    let (mut connection, _) = listener.accept()?;
    let mut name = String::new();
    connection.read_to_string(&mut name)?;
    world.saw(&name);
    world.refused(terminal.send_to(&world.path("none.sock")), ErrorKind::NotFound);
    let mut file = terminal.file();
    file.write_all(b"\n")?;
    assert_eq!(displayed(file)?, format!("\n{}\n", terminal.name()?));
    assert!(process.wait()?.success());
    PASS
}

/// One that no container has.
fn any_terminal_can_be_sized_named_and_sent(world: &World) -> Outcome {
    // SAFETY: it opens a file, and the path ends with NUL.
    let master =
        unsafe { libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    assert!(master >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: it was just opened, and is nobody else's.
    let terminal = world.api.terminal(unsafe { OwnedFd::from_raw_fd(master) });
    terminal.resize(7, 9)?;
    assert_eq!(terminal.size()?, (7, 9));
    assert!(terminal.name()?.starts_with("/dev/pts/"));
    let failure = terminal.send_to(&world.path("none.sock")).expect_err("nobody listens");
    world.saw(format!("{failure:?}"));
    PASS
}

fn several_readers_have_one_output(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "echo one; read line; echo two").stdin(Stdio::Pipe).stdout(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let stdout = container.take_stdout().expect("a pipe");
    container.start()?;
    let fanout = world.api.fanout(stdout.into(), 4096, SlowReader::Detach)?;
    let again = fanout.again();
    let mut first = fanout.attach()?;
    let mut second = again.attach()?;
    assert_eq!(fanout.readers(), 2);
    let working = std::thread::spawn(move || again.run());
    for reader in [&mut first, &mut second] {
        assert_eq!(line(reader)?, "one");
    }
    let late = fanout.attach_from_now()?;
    let later = fanout.attach()?;
    drop(second);
    container.take_stdin().expect("a pipe").write_all(b"\n")?;
    assert_eq!(std::io::read_to_string(first)?, "two\n");
    assert_eq!(std::io::read_to_string(late)?, "two\n");
    assert_eq!(std::io::read_to_string(later)?, "one\ntwo\n");
    working.join().expect("no panic")?;
    assert_eq!(std::io::read_to_string(fanout.attach()?)?, "one\ntwo\n");
    PASS
}

fn an_output_is_distributed_step_by_step(world: &World) -> Outcome {
    let (source, mut sink) = std::io::pipe()?;
    let fanout = world.api.fanout(source.into(), 4096, SlowReader::Wait)?;
    let fd = fanout.fd();
    let mut reader = fanout.attach()?;
    while readable(&fd, 0) {
        assert!(fanout.pump()?);
    }
    sink.write_all(b"one\n")?;
    assert!(readable(&fd, 60_000), "it does not tell that there is something to do");
    while readable(&fd, 0) {
        assert!(fanout.pump()?);
    }
    assert_eq!(line(&mut reader)?, "one");
    drop(sink);
    while fanout.pump()? {
        assert!(readable(&fd, 60_000), "it does not tell of the end");
    }
    assert_eq!(std::io::read_to_string(reader)?, "");
    let nothing = || -> Result<OwnedFd, libtest_mimic::Failed> { Ok(File::open("/dev/null")?.into()) };
    world.refused(world.api.fanout(nothing()?, 1, SlowReader::Wait), ErrorKind::InvalidSpec);
    PASS
}

/// `struct seccomp_notif`, as far as it is looked at.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    rest: [u64; 9],
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

/// A call that the kernel would allow fails in the way that the answer says.
fn calls_are_answered_by_who_has_the_listener(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let calls = SeccompSyscall::new(["mkdir", "mkdirat"], SeccompAction::Notify);
    let mut spec = script("c", "mkdir /tmp/new 2>&1").stdout(Stdio::Pipe);
    spec.security.seccomp = SeccompProfile::Custom(Box::new(Seccomp::new(SeccompAction::Allow).rule(calls)));
    let container = pod.create_container(&spec)?;
    container.start()?;
    let listener = container.take_seccomp_listener().expect("a listener");
    assert!(container.take_seccomp_listener().is_none());
    assert!(readable(&listener, 60_000), "nobody asks");
    let mut asked = Notification::default();
    // SAFETY: the structure is as large as the number says.
    assert_eq!(unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &mut asked) }, 0);
    let answer = Answer { id: asked.id, value: 0, error: -libc::ENOSPC, flags: 0 };
    // SAFETY: likewise.
    assert_eq!(unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &answer) }, 0);
    let said = std::io::read_to_string(container.take_stdout().expect("a pipe"))?;
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!container.wait()?.success());
    PASS
}
