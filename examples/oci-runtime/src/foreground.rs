//! Waiting for a process in the foreground: with signals passed on, and with the terminal of this program.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use pericarp::{ExitStatus, Terminal};

use crate::Outcome;

/// A terminal in a container, typed on and seen at the standard streams of this program.
pub struct Console {
    terminal: Arc<Terminal>,
    /// How the own terminal was, if standard input is one.
    before: Option<Termios>,
    output: Option<JoinHandle<()>>,
    /// Closed when the process has ended.
    ended: Option<OwnedFd>,
}

impl Console {
    /// Takes the standard streams for it, until it is dropped.
    pub fn attach(terminal: Terminal) -> Outcome<Console> {
        let (terminal, stdin) = (Arc::new(terminal), io::stdin());
        let before = tcgetattr(&stdin).ok();
        let (ends, ended) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let mut console = Console { terminal, before, output: None, ended: Some(ended) };
        if let Some(before) = &console.before {
            // What is typed goes there as it is: signals are made by the terminal in the container.
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
            resize(&console.terminal);
        }
        let typed = console.terminal.clone();
        // Nobody waits for this thread: it may sit in read(2) until the end.
        std::thread::spawn(move || copy(io::stdin(), &*typed));
        let shown = console.terminal.clone();
        console.output = Some(std::thread::spawn(move || show(&shown, &ends)));
        Ok(console)
    }

    /// Shows the rest of what was written.
    fn finish(&mut self) {
        drop(self.ended.take());
        if let Some(output) = self.output.take() {
            let _ = output.join();
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}

/// The size of this program's terminal.
fn own_size() -> Option<(u16, u16)> {
    let own = io::stdin().as_fd().try_clone_to_owned().ok()?;
    Terminal::from(own).size().ok()
}

fn resize(terminal: &Terminal) {
    if let Some((width, height)) = own_size() {
        // It may be gone by now.
        let _ = terminal.resize(width, height);
    }
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 4096];
    loop {
        let length = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Shows what is written, up to what is there when the process has ended. Others may have the terminal open for longer.
fn show(terminal: &Terminal, ended: &OwnedFd) {
    // Not line by line, as Rust's own standard output does it.
    let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned() else { return };
    let (mut from, mut to, mut buffer) = (terminal, File::from(stdout), [0; 4096]);
    let mut timeout = PollTimeout::NONE;
    loop {
        let mut files =
            [PollFd::new(terminal.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        match poll(&mut files, timeout) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let [output, end] = files.map(|file| file.any().unwrap_or_default());
        match output.then(|| from.read(&mut buffer)) {
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody has it open any more.
            Some(Ok(0) | Err(_)) => return,
            Some(Ok(length)) if to.write_all(&buffer[..length]).is_err() => return,
            Some(Ok(_)) => {}
            None if end => return,
            None => {}
        }
        if end {
            timeout = PollTimeout::ZERO;
        }
    }
}

/// Signals that are for the process and not for this program, from now on, in this thread and those that it starts.
pub fn take_signals() -> Outcome<SigSet> {
    let all = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ];
    let signals: SigSet = all.into_iter().collect();
    signals.thread_block()?;
    Ok(signals)
}

/// Waits until the process has ended; its exit status is this program's.
pub fn wait(
    signals: SigSet,
    console: Option<Console>,
    wait: impl Fn(Option<Duration>) -> pericarp::Result<Option<ExitStatus>>,
    send: impl Fn(i32) -> pericarp::Result<()> + Send + 'static,
) -> Outcome {
    let terminal = console.as_ref().map(|console| console.terminal.clone());
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            match (signal, &terminal) {
                (Signal::SIGWINCH, Some(terminal)) => resize(terminal),
                (Signal::SIGWINCH, None) => {}
                // It may have ended meanwhile.
                (signal, _) => drop(send(signal as i32)),
            }
        }
    });
    let status = loop {
        if let Some(status) = wait(None)? {
            break status;
        }
    };
    drop(console);
    Ok(u8::try_from(status.code()).unwrap_or(u8::MAX))
}
