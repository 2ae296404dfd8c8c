//! This program once more, as a host program that is nobody else's: other tests' threads do not disturb it, and
//! what it does to itself does not disturb them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pericarp::{CgroupParent, Node, NodeOptions};

use crate::support::fixture::{claims_beside, id_ranges};
use crate::support::{Fixture, Outcome, PASS};

/// A guard against hanging, no measure of time: emulated processors are slow.
const PATIENCE: Duration = Duration::from_secs(1200);

/// `suite payload WORDS…`
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.arg("payload").args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `suite payload WORDS…` and returns what it printed. It must end with 0.
pub fn run(words: &[&str]) -> String {
    run_command(command(words))
}

/// As [`run`], with a command that was changed.
pub fn run_command(command: Command) -> String {
    outputs(command).0
}

/// What it printed on standard output and standard error.
fn outputs(mut command: Command) -> (String, String) {
    let child: Child = command.spawn().expect("start this program again");
    let guard = Watchdog::new(Pid::from_raw(child.id() as i32), PATIENCE);
    let output = child.wait_with_output().expect("wait for this program");
    drop(guard);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    (out.into_owned(), err.into_owned())
}

/// Runs the body of a test alone in a process: one that waits for every process that it traces, as a tracer must, and
/// would take from other tests what their containers leave (a process whose thread has ended is any thread's child).
pub fn alone(words: &[&str]) -> Outcome {
    let (_, told) = outputs(command(words));
    eprint!("{told}");
    PASS
}

/// In the other program: the body of a test.
pub fn body(outcome: Outcome) {
    if let Err(failed) = outcome {
        panic!("{failed:?}");
    }
}

/// The state directory of a fixture, as a word for [`run`].
pub fn word(fixture: &Fixture) -> String {
    fixture.options.state_dir.to_string_lossy().into_owned()
}

/// In the other program: the node that [`word`] means, with the cgroup that [`Fixture`] gives it.
pub fn node(state_dir: &str) -> Node {
    let name = Path::new(state_dir).file_name().expect("a name").to_string_lossy().into_owned();
    let options = NodeOptions::new()
        .state_dir(state_dir)
        .id_claims(claims_beside(Path::new(state_dir)))
        .cgroup_parent(CgroupParent::Named(name))
        .id_ranges(id_ranges(16));
    Node::open(&options).expect("open the node of the test")
}

/// Kills a process, unless it is dropped in time.
pub struct Watchdog(Option<(Sender<()>, JoinHandle<()>)>);

impl Watchdog {
    pub fn new(pid: Pid, patience: Duration) -> Watchdog {
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || {
            if receiver.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                eprintln!("process {pid} hangs: it is killed");
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        Watchdog(Some((sender, thread)))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let (sender, thread) = self.0.take().expect("dropped once");
        drop(sender);
        let _ = thread.join();
    }
}

/// Runs `work` on a thread of its own and fails when it hangs.
pub fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || sender.send(work()));
    match receiver.recv_timeout(PATIENCE) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it sent nothing, so it panicked"))
        }
    }
}
