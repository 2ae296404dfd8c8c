//! Containers whose standard streams are those of this program, and which end when it is asked to.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pericarp::{Container, ErrorKind, Stdio};

use super::signals::{Signals, Woken};

/// The longest piece of a line that is held back until its end comes.
const LINE: u64 = 64 << 10;

/// What to give a container for one of our streams: the library never passes a terminal on, so that goes through a
/// pipe; anything else is simply inherited.
pub fn attach(stream: &impl IsTerminal) -> Stdio {
    if stream.is_terminal() { Stdio::Pipe } else { Stdio::Inherit }
}

/// Copies between this program's streams and the pipes of a container, on threads. Join what it returns when the
/// container has ended: then everything that it wrote has been passed on.
pub fn pump(container: &Container, prefix: Option<&str>) -> Vec<JoinHandle<()>> {
    if let Some(pipe) = container.take_stdin() {
        // Nobody waits for this thread: it may sit in read(2) when the container has ended.
        thread::spawn(move || copy(io::stdin(), pipe));
    }
    let mut threads = Vec::new();
    if let Some(pipe) = container.take_stdout() {
        threads.push(output(pipe, io::stdout(), prefix));
    }
    if let Some(pipe) = container.take_stderr() {
        threads.push(output(pipe, io::stderr(), prefix));
    }
    threads
}

fn output(pipe: File, to: impl Write + Send + 'static, prefix: Option<&str>) -> JoinHandle<()> {
    match prefix.map(str::to_string) {
        None => thread::spawn(move || copy(pipe, to)),
        Some(prefix) => thread::spawn(move || copy_lines(pipe, to, &prefix)),
    }
}

/// Passes on what comes as soon as it comes. When one side is closed, both are: the container then sees the end of
/// its input, or a broken pipe.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// Passes on whole lines, with the name of the container before each.
fn copy_lines(from: File, mut to: impl Write, prefix: &str) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = format!("{prefix} | ").into_bytes();
        match from.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        // One write, so that lines of several containers are not mixed.
        if to.write_all(&line).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// Waits until all these containers have ended. The first signal asks them to end; what is left after `grace`, or at
/// the next signal, is killed.
pub fn supervise(containers: &[Container], signals: &Signals, grace: Duration) -> Result<(), Box<dyn Error>> {
    let mut deadline: Option<Instant> = None;
    loop {
        // All of them at once, and each is asked as soon as it has ended: a container whose PID namespace another one
        // has joined cannot end before that one has been waited for.
        let mut running = Vec::new();
        for container in containers {
            if container.try_wait()?.is_none() {
                running.extend(container.pidfd());
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        match signals.wait(&running, left)? {
            Woken::Ended => {}
            Woken::Signal(name) if deadline.is_none() => {
                let seconds = grace.as_secs();
                eprintln!("{name}: stopping, killing after {seconds} s or at the next signal");
                deadline = Some(Instant::now() + grace);
                containers.iter().try_for_each(ask_to_stop)?;
            }
            Woken::Signal(_) | Woken::TimedOut => {
                containers.iter().try_for_each(Container::kill)?;
                deadline = Some(Instant::now() + Duration::from_secs(10));
            }
        }
    }
}

/// Sends the stop signal, unless the container has ended.
fn ask_to_stop(container: &Container) -> pericarp::Result<()> {
    match container.signal(container.spec().stop_signal) {
        Err(error) if error.kind() == ErrorKind::WrongState => Ok(()),
        result => result,
    }
}

/// Exit statuses of this program itself, as Docker and the shell have them.
pub fn own_exit_code(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref::<pericarp::Error>() {
        Some(error) if error.kind() == ErrorKind::Exec && error.errno() == Some(libc::ENOENT) => 127,
        Some(error) if error.kind() == ErrorKind::Exec => 126,
        _ => 125,
    }
}
