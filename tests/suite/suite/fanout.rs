//! Several readers of what one container writes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use pericarp::{Fanout, SlowReader, Stdio};

use crate::support::fixture::script;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    readers_of_a_container_come_when_they_like,
    a_container_waits_for_a_slow_reader_and_for_no_other,
    a_terminal_has_several_readers,
];

fn text(mut reader: File) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    text
}

fn readers_of_a_container_come_when_they_like() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = script("a", "echo begun; read line; echo $line").stdin(Stdio::Pipe).stdout(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let mut stdin = container.take_stdin().ok_or("no pipe")?;
    let output = Fanout::new(container.take_stdout().ok_or("no pipe")?, 64 << 10, SlowReader::Detach)?;
    let mut first = output.attach()?;
    let worker = output.clone();
    let working = std::thread::spawn(move || worker.run());
    container.start()?;
    let mut begun = [0; 6];
    first.read_exact(&mut begun)?;
    assert_eq!(&begun, b"begun\n");
    let (late, now) = (output.attach()?, output.attach_from_now()?);
    stdin.write_all(b"a line\n")?;
    assert!(container.wait()?.success());
    working.join().expect("the worker")?;
    assert_eq!([first, late, now].map(text), ["a line\n", "begun\na line\n", "a line\n"]);
    container.remove()?;
    assert_eq!(text(output.attach()?), "begun\na line\n");
    PASS
}

fn a_container_waits_for_a_slow_reader_and_for_no_other() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for (slow, whole) in [(SlowReader::Wait, true), (SlowReader::Detach, false)] {
        let spec = script("a", "head -c 1000000 /dev/zero").stdout(Stdio::Pipe);
        let container = pod.create_container(&spec)?;
        let output = Fanout::new(container.take_stdout().ok_or("no pipe")?, 4096, slow)?;
        let (reader, gone) = (output.attach()?, output.attach()?);
        drop(gone);
        let worker = output.clone();
        let working = std::thread::spawn(move || worker.run());
        container.start()?;
        if !whole {
            // Nobody reads, and it ends all the same.
            assert!(container.wait()?.success());
        }
        let length = text(reader).len();
        assert!(container.wait()?.success());
        working.join().expect("the worker")?;
        assert_eq!(length == 1_000_000, whole, "{slow:?}: {length}");
        container.remove()?;
    }
    PASS
}

fn a_terminal_has_several_readers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(
        &script("a", "stty -echo; echo ready; read line; echo \"<$line>\"").terminal(true),
    )?;
    let mut terminal = container.take_terminal().ok_or("no terminal")?;
    let output = Fanout::new(terminal.as_fd().try_clone_to_owned()?, 4096, SlowReader::Detach)?;
    let mut one = output.attach()?;
    let two = output.attach()?;
    let worker = output.clone();
    let working = std::thread::spawn(move || worker.run());
    container.start()?;
    let mut ready = [0; 7];
    one.read_exact(&mut ready)?;
    assert_eq!(&ready, b"ready\r\n");
    terminal.resize(100, 30)?;
    terminal.write_all(b"typed\n")?;
    assert!(container.wait()?.success());
    // What the terminal says at its end, EIO, is the end of the stream.
    working.join().expect("the worker")?;
    assert_eq!((text(one), text(two)), ("<typed>\r\n".into(), "ready\r\n<typed>\r\n".into()));
    PASS
}
