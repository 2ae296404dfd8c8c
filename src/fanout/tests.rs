//! Without containers: pipes that the tests themselves write to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

fn stream(backlog: usize, slow: SlowReader) -> (File, Fanout) {
    let (source, writer) = nix::unistd::pipe().expect("a pipe");
    (File::from(writer), Fanout::new(source, backlog, slow).expect("a stream"))
}

fn pump_all(stream: &Fanout) {
    while is_ready(stream) {
        stream.pump().expect("pump");
    }
}

fn is_ready(stream: &Fanout) -> bool {
    poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
}

fn rest(mut reader: File) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).expect("read");
    all
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

#[test]
fn each_byte_goes_to_all_and_those_who_come_late_get_what_is_kept() {
    let (mut writer, stream) = stream(MIN_BACKLOG, SlowReader::Detach);
    let first = stream.attach().unwrap();
    writer.write_all(b"one ").unwrap();
    assert!(is_ready(&stream));
    pump_all(&stream);
    let late = stream.attach().unwrap();
    let now = stream.attach_from_now().unwrap();
    assert_eq!(stream.readers(), 3);
    writer.write_all(b"two").unwrap();
    drop(writer);
    pump_all(&stream);
    assert!(!stream.pump().unwrap(), "all is done");
    assert_eq!(stream.readers(), 0);
    let after = stream.attach().unwrap();
    let nothing = stream.attach_from_now().unwrap();
    assert_eq!(
        [first, late, now, after, nothing].map(rest),
        [&b"one two"[..], b"one two", b"two", b"one two", b""]
    );
}

#[test]
fn the_backlog_is_what_came_last_and_is_there_after_the_end_without_anybody_at_work() {
    for backlog in [MIN_BACKLOG, 10_000, 64 << 10, MAX_BACKLOG] {
        let (mut writer, stream) = stream(backlog, SlowReader::Detach);
        let sent = bytes(backlog * 3 + 777);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| stream.run());
            writer.write_all(&sent).unwrap();
            drop(writer);
            worker.join().unwrap().unwrap();
        });
        let reader = stream.attach().unwrap();
        assert_eq!(stream.readers(), 0, "it has all of it in its pipe");
        assert!(rest(reader) == sent[sent.len() - backlog..], "{backlog}");
    }
}

#[test]
fn a_slow_reader_is_detached_and_the_others_get_all() {
    let (mut writer, stream) = stream(MIN_BACKLOG, SlowReader::Detach);
    let (slow, mut fast) = (stream.attach().unwrap(), stream.attach().unwrap());
    let sent = bytes(1 << 20);
    let (mut kept, mut chunk) = (Vec::new(), vec![0; MIN_BACKLOG]);
    // Each step leaves less than a pipe holds to the one that reads.
    for part in sent.chunks(MIN_BACKLOG / 2) {
        writer.write_all(part).unwrap();
        pump_all(&stream);
        let length = fast.read(&mut chunk).unwrap();
        kept.extend_from_slice(&chunk[..length]);
    }
    assert_eq!(stream.readers(), 1, "the slow one is gone");
    drop(writer);
    pump_all(&stream);
    kept.extend(rest(fast));
    assert!(kept == sent);
    let slow = rest(slow);
    assert!(!slow.is_empty() && slow.len() < sent.len() && sent.starts_with(&slow), "{}", slow.len());
}

#[test]
fn a_slow_reader_is_waited_for_and_loses_nothing() {
    let (mut writer, stream) = stream(MIN_BACKLOG, SlowReader::Wait);
    let (slow, fast) = (stream.attach().unwrap(), stream.attach().unwrap());
    let sent = bytes(1 << 20);
    let (slow, fast) = std::thread::scope(|scope| {
        scope.spawn(|| stream.run().unwrap());
        let fast = scope.spawn(|| rest(fast));
        let sent = &sent;
        let writing = scope.spawn(move || writer.write_all(sent).unwrap());
        // Nobody can go on before this one reads.
        std::thread::sleep(Duration::from_millis(50));
        assert!(!writing.is_finished() && !fast.is_finished());
        assert_eq!(stream.readers(), 2);
        (rest(slow), fast.join().unwrap())
    });
    assert!(slow == sent && fast == sent);
}

#[test]
fn a_reader_that_goes_is_waited_for_no_longer() {
    for slow in [SlowReader::Wait, SlowReader::Detach] {
        let (mut writer, stream) = stream(MIN_BACKLOG, slow);
        let going = stream.attach().unwrap();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| stream.run().unwrap());
            let writing = scope.spawn(move || writer.write_all(&bytes(1 << 20)).unwrap());
            drop(going);
            writing.join().unwrap();
            worker.join().unwrap();
        });
        assert_eq!(stream.readers(), 0);
    }
}

#[test]
fn without_readers_nobody_waits() {
    let (mut writer, stream) = stream(MIN_BACKLOG, SlowReader::Wait);
    std::thread::scope(|scope| {
        scope.spawn(|| stream.run().unwrap());
        writer.write_all(&bytes(1 << 20)).unwrap();
        drop(writer);
    });
    assert!(rest(stream.attach().unwrap()) == bytes(1 << 20)[(1 << 20) - MIN_BACKLOG..]);
}

#[test]
fn a_socket_is_a_source_and_a_regular_file_is_none() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let stream = Fanout::new(theirs, MIN_BACKLOG, SlowReader::Detach).unwrap();
    let reader = stream.attach().unwrap();
    ours.write_all(b"hello").unwrap();
    drop(ours);
    stream.run().unwrap();
    assert_eq!(rest(reader), b"hello");

    let file = File::open("/proc/self/exe").unwrap();
    let error = Fanout::new(file, MIN_BACKLOG, SlowReader::Detach).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EPERM), "{error}");
}

#[test]
fn there_are_bounds() {
    let (source, _writer) = nix::unistd::pipe().unwrap();
    for backlog in [0, MIN_BACKLOG - 1, MAX_BACKLOG + 1] {
        let copy = source.try_clone().unwrap();
        let error = Fanout::new(copy, backlog, SlowReader::Detach).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("backlog")), "{error}");
    }
    let stream = Fanout::new(source, MIN_BACKLOG, SlowReader::Detach).unwrap();
    let readers: Vec<File> = (0..MAX_READERS).map(|_| stream.attach().unwrap()).collect();
    let error = stream.attach().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    drop(readers);
    pump_all(&stream);
    assert_eq!(stream.readers(), 0);
    assert!(stream.attach().is_ok());
}
