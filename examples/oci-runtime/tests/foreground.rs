//! `run` and `exec` with a terminal and nobody to send it to: it is that of this program, as with runc and crun.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use pericarp::Terminal;

use support::Bundle;

/// The other side of a program's terminal: somebody who types and looks.
struct Person {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// The program's side, which keeps what it is set to.
    own: OwnedFd,
}

impl Person {
    fn with(command: &mut Command) -> (Person, Child) {
        let pty = openpty(None, None).unwrap();
        let stream = || Stdio::from(pty.slave.as_fd().try_clone_to_owned().unwrap());
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        let keyboard = File::from(pty.master);
        let (mut looks, (sender, screen)) = (keyboard.try_clone().unwrap(), channel());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = looks.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        (Person { keyboard, screen, seen: String::new(), own: pty.slave }, child)
    }

    fn has(&self, width: u16, height: u16) {
        Terminal::from(self.own.try_clone().unwrap()).resize(width, height).unwrap();
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.own).unwrap()
    }

    fn waits_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("{text:?} has not come: {:?}", self.seen),
            }
        }
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }
}

/// The signal interrupts a `read` that waits, which has read nothing then.
const SCRIPT: &str = "trap 'echo changed' WINCH; echo ready; while [ -z \"$line\" ]; do read line; done; \
                      echo \"got $line\"; stty size; echo \"\n\"; exit 7";

/// The same for `run` and `exec`: the script has been started.
fn use_terminal(mut person: Person, mut child: Child, before: &Termios, bundle: &Bundle, pid_file: &Path) {
    person.waits_for("ready");
    assert!(before.local_flags.contains(LocalFlags::ICANON));
    let raw = person.settings().local_flags;
    assert!(!raw.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG), "{raw:?}");
    person.has(55, 22);
    // This program has no terminal that controls it, so that the kernel tells it nothing.
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    // What is typed would overtake the new size, which has a way of its own.
    person.waits_for("changed");
    person.types("hello\r");
    person.waits_for("got hello");
    person.waits_for("22 55");
    assert_eq!(child.wait().unwrap().code(), Some(7), "{}", person.seen);
    assert_eq!(person.settings(), *before, "the terminal is as it was");
    assert!(pid_file.exists() && bundle.path().exists());
}

#[test]
fn a_terminal_in_the_foreground_is_that_of_the_program() {
    let bundle = Bundle::new(true, SCRIPT);
    let pid_file = bundle.path().join("pid");
    let mut command = bundle.command(&["run", "--pid-file"]);
    command.arg(&pid_file).arg("-b").arg(bundle.path()).arg("one");
    let before = tcgetattr(openpty(None, None).unwrap().slave).unwrap();
    let (person, child) = Person::with(&mut command);
    use_terminal(person, child, &before, &bundle, &pid_file);
    // In the background somebody has to take it.
    let output = bundle.command(&["run", "-d", "-b"]).arg(bundle.path()).arg("two").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--console-socket"));
}

#[test]
fn so_is_that_of_another_program_in_a_container() {
    let bundle = Bundle::new(false, "exec sleep 1000");
    assert!(bundle.command(&["run", "-d", "-b"]).arg(bundle.path()).arg("one").status().unwrap().success());
    let pid_file = bundle.path().join("pid");
    let mut command = bundle.command(&["exec", "-t", "--pid-file"]);
    // What is left in the background holds nobody up.
    command.arg(&pid_file).args(["one", "sh", "-c", &format!("sleep 1000 & {SCRIPT}")]);
    let before = tcgetattr(openpty(None, None).unwrap().slave).unwrap();
    let (person, child) = Person::with(&mut command);
    use_terminal(person, child, &before, &bundle, &pid_file);
    assert!(bundle.command(&["delete", "--force", "one"]).status().unwrap().success());
}

#[test]
fn what_is_piped_in_goes_through_a_terminal_as_well() {
    let bundle = Bundle::new(true, "read line; echo \"got $line\"");
    let mut command = bundle.command(&["run", "-b"]);
    let mut child =
        command.arg(bundle.path()).arg("one").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"line\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("got line"), "{output:?}");
}
