//! An init that lives for a moment: it does in a user namespace what a thread of the host program cannot, since
//! threads can neither make nor join one.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sched::CloneFlags;

use crate::container::plan::{Plan, Source};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::Node;
use crate::spawn::{Child, Control, Launch, Message};
use crate::sys::{self, pidfd};

/// A process that has done its plan up to the barrier, and ends when this is dropped.
pub(super) struct Helper {
    child: Child,
    control: Control,
    plan: Plan,
}

impl Helper {
    /// Starts it from the calling library thread, in these new namespaces, and waits until it has done its plan. `open`
    /// opens the sources of the plan.
    pub(super) fn start(
        node: &Node,
        plan: Plan,
        namespaces: CloneFlags,
        mut open: impl FnMut(&Source) -> Result<OwnedFd>,
    ) -> Result<Self> {
        let (control, inits) = Control::pair()?;
        let mut files = vec![inits];
        for source in plan.sources.iter().skip(1) {
            let fd = sys::fd::clear_of_stdio(open(source)?);
            files.push(fd.step("duplicate", "a descriptor for init")?);
        }
        let descriptors: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let bytes = plan.encode(&descriptors)?;
        let memory = sys::fd::sealed_memfd(c"pericarp-plan", &bytes, false)
            .and_then(sys::fd::clear_of_stdio)
            .step("make", "the plan of init")?;
        let launch = Launch {
            init: node.0.init.as_fd(),
            plan: memory.as_fd(),
            inherited: &descriptors,
            namespaces,
            cgroup: None,
        };
        let helper = Helper { child: launch.spawn()?, control, plan };
        // Init's end is init's alone: its end is the end of file.
        drop(files);
        helper.settle().map(|()| helper)
    }

    fn settle(&self) -> Result<()> {
        loop {
            match self.control.receive()? {
                Message::Ready => return Ok(()),
                Message::Fd(_) => {}
                Message::Failed { step, call, errno } => return Err(self.plan.failure(step, call, errno)),
                // It has no hooks, no listener and no terminal.
                Message::Closed | Message::Paused | Message::Listener(_) | Message::Terminal(_) => {
                    return Err(Error::new(ErrorKind::System, "start")
                        .on("an init in the pod's user namespace")
                        .because("it ended early"));
                }
            }
        }
    }

    /// The process id as the host program sees it.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = pidfd::send_signal(&self.child.pidfd, libc::SIGKILL);
        super::wait_readable(&self.child.pidfd, None);
        let _ = pidfd::reap(&self.child.pidfd);
    }
}
