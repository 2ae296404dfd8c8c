//! The floor: the bare system calls of the isolation that pericarp gives, with nothing around them.
//!
//! All of it runs on one thread of its own that sits in the template mount namespace, and the clock is read on that
//! thread: the floor pays for no hand-over between threads, no state on disk and no checks.

mod container;
mod devices;
mod full;
mod node;
mod pod;
pub mod seccomp;
mod sys;
pub mod verify;

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::contender::{Contender, Life, Program, Result, Sample, Work, stopwatch};
use crate::workspace::Workspace;
use node::Node;

type Task = Box<dyn FnOnce(&mut Node) + Send>;

/// The floor as a contender: a handle of the thread that does the work.
pub struct Floor {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Floor {
    pub fn new(workspace: &Workspace) -> Result<Floor> {
        let place = workspace.place("floor")?;
        let (tasks, inbox): (Sender<Task>, Receiver<Task>) = channel();
        let (opened, answer) = channel();
        let thread = std::thread::Builder::new().name("floor".into()).spawn(move || {
            let mut node = match Node::open(&place) {
                Ok(node) => node,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let _ = opened.send(Ok(()));
            while let Ok(task) = inbox.recv() {
                task(&mut node);
            }
        })?;
        answer.recv().map_err(|_| io::Error::other("the floor's thread ended"))??;
        Ok(Floor { tasks: Some(tasks), thread: Some(thread) })
    }

    fn on_thread<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Node) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let gone = || io::Error::other("the floor's thread ended");
        let (answer, result) = channel();
        let task: Task = Box::new(move |node| drop(answer.send(task(node))));
        self.tasks.as_ref().ok_or_else(gone)?.send(task).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }
}

impl Contender for Floor {
    fn name(&self) -> &str {
        "floor"
    }

    fn pod(&mut self, life: Life, members: u32, program: Program) -> Result<()> {
        self.on_thread(move |node| node.run(Work::Pod { life, members, program }))
    }

    fn container(&mut self, program: Program) -> Result<()> {
        self.on_thread(move |node| node.run(Work::Container { program }))
    }

    fn measure(&mut self, work: Work) -> Result<Sample> {
        self.on_thread(move |node| stopwatch(|| node.run(work)))
    }

    fn shell(&mut self, program: Program, script: &str) -> Result<Option<String>> {
        let script = std::ffi::CString::new(script).map_err(io::Error::other)?;
        self.on_thread(move |node| node.shell(program, script)).map(Some)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.tasks.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
