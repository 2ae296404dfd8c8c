//! An init that lives for a moment: it does in a user or PID namespace what a thread of the host program cannot, since
//! threads can neither make nor join one.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sched::CloneFlags;

use crate::container::plan::{Plan, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::spawn::{Child, Control, Launch, Message};

/// A process that has done its plan up to the barrier, and ends when this is dropped.
pub(crate) struct Helper {
    child: Child,
    control: Control,
    plan: Plan,
    /// What its plan sent.
    file: Option<OwnedFd>,
}

impl Helper {
    /// Starts it from the calling library thread, in these new namespaces, and waits until it has done its plan. `open`
    /// opens the sources of the plan.
    pub(crate) fn start(
        node: &Node,
        plan: Plan,
        namespaces: CloneFlags,
        mut open: impl FnMut(&Source) -> Result<OwnedFd>,
    ) -> Result<Self> {
        let (control, inits) = Control::pair()?;
        let files = plan.sources.iter().skip(1).map(&mut open).collect::<Result<Vec<OwnedFd>>>()?;
        let descriptors: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let bytes = plan.encode()?;
        let launch = Launch { init: &node.0.init, control: inits, mounts: None, namespaces, cgroup: None };
        let mut helper = Helper { child: launch.spawn()?, control, plan, file: None };
        helper.control.plan(&bytes, &descriptors)?;
        helper.settle(node)?;
        Ok(helper)
    }

    fn settle(&mut self, node: &Node) -> Result<()> {
        let mut enters = self.plan.enters_pid();
        loop {
            match self.control.receive()? {
                Message::Ready => return Ok(()),
                // Which process stays comes first.
                Message::Fd(last) if enters => {
                    node.0.proc.follow(&mut self.child, last)?;
                    enters = false;
                }
                Message::Fd(fd) => self.file = Some(fd),
                Message::Failed { step, call, errno } => return Err(self.plan.failure(step, call, errno)),
                // It has no hooks, no listener, no terminal and no twin.
                Message::Closed
                | Message::Paused
                | Message::Listener(_)
                | Message::Terminal(_)
                | Message::Twin(_)
                | Message::TakesOver => {
                    return Err(Error::new(ErrorKind::System, "start")
                        .on("an init that works in a namespace")
                        .because("it ended early"));
                }
            }
        }
    }

    /// The file that its plan sent.
    pub(crate) fn file(mut self) -> Result<OwnedFd> {
        self.file.take().ok_or_else(|| Error::new(ErrorKind::System, "hear of").on("what init made"))
    }

    /// The process id as the host program sees it.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Even where no signal may be sent (a filter of the host program's own): init ends when nobody can let it go on.
        self.control.hang_up();
        self.child.end();
    }
}
