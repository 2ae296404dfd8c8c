//! The standard streams of containers.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::FromRawFd;

use pericarp::{ErrorKind, ExitStatus, Stdio};

use crate::world::*;

crate::behaviours![
    three_pipes_carry_what_is_written,
    a_pipe_is_taken_once,
    unless_asked_for_there_are_no_pipes,
    files_by_path,
    files_by_descriptor,
    a_terminal_is_refused,
];

fn three_pipes_carry_what_is_written(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "echo ready >&2; cat; echo done >&2")
        .stdin(Stdio::Pipe)
        .stdout(Stdio::Pipe)
        .stderr(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let mut stdin = container.take_stdin().expect("a pipe");
    let mut stdout = container.take_stdout().expect("a pipe");
    let mut stderr = container.take_stderr().expect("a pipe");
    container.start()?;
    assert_eq!(line(&mut stderr)?, "ready");
    // More than a pipe holds.
    let sent: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let received = std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || stdin.write_all(sent).expect("write to the container"));
        let mut received = Vec::new();
        stdout.read_to_end(&mut received).map(|_| received)
    })?;
    assert!(received == sent, "{} bytes came of {}", received.len(), sent.len());
    assert_eq!(std::io::read_to_string(stderr)?, "done\n");
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    PASS
}

fn a_pipe_is_taken_once(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = sleeper("c").stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let another = container.again();
    assert!(container.take_stdin().is_some() && another.take_stdin().is_none());
    assert!(another.take_stdout().is_some() && container.take_stdout().is_none());
    assert!(container.take_stderr().is_some() && container.take_stderr().is_none());
    assert!(pod.container("c")?.take_stdout().is_none(), "another program has no pipe");
    PASS
}

fn unless_asked_for_there_are_no_pipes(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = pod.create_container(&script("c", "cat && echo x && echo y >&2"))?;
    assert!(container.take_stdin().is_none());
    assert!(container.take_stdout().is_none());
    assert!(container.take_stderr().is_none());
    container.start()?;
    assert_eq!(container.wait()?, ExitStatus::Exited(0), "the null device takes all and ends at once");
    PASS
}

fn files_by_path(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let (input, output) = (world.path("in"), world.path("out"));
    fs::write(&input, "one\n")?;
    let spec = script("c", "cat; echo two >&2")
        .stdin(Stdio::File(input))
        .stdout(Stdio::File(output.clone()))
        .stderr(Stdio::File(output.clone()));
    assert!(pod.run(&spec)?.success());
    assert!(pod.run(&spec)?.success());
    assert_eq!(fs::read_to_string(&output)?, "one\ntwo\none\ntwo\n");
    let nowhere = script("c", "exit 0").stdin(Stdio::File(world.path("none")));
    world.refused(pod.run(&nowhere), ErrorKind::NotFound);
    PASS
}

fn files_by_descriptor(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let mut input = File::options().read(true).write(true).create_new(true).open(world.path("in"))?;
    input.write_all(b"one\n")?;
    input.rewind()?;
    let output = File::create_new(world.path("out"))?;
    let spec = script("c", "cat; echo two >&2")
        .stdin(Stdio::fd(input))
        .stdout(Stdio::fd(output.try_clone()?))
        .stderr(Stdio::fd(output.try_clone()?));
    assert!(pod.run(&spec)?.success());
    assert_eq!(fs::read_to_string(world.path("out"))?, "one\ntwo\n");
    // It is still the caller's.
    assert_eq!(output.metadata()?.len(), 8);
    PASS
}

fn a_terminal_is_refused(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    // SAFETY: it opens a file, and the path ends with NUL.
    let master =
        unsafe { libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    assert!(master >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: it was just opened, and is nobody else's.
    let master = unsafe { File::from_raw_fd(master) };
    world.refused(pod.create_container(&sleeper("c").stdin(Stdio::fd(master))), ErrorKind::InvalidSpec);
    assert!(pod.containers()?.is_empty());
    PASS
}
