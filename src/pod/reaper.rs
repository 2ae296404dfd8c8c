//! Process 1 of a PID namespace that all containers of a pod share: init, which stays and reaps.

use std::os::fd::AsFd;

use nix::sched::CloneFlags;

use super::pins::{PROC, PodPins};
use super::score;
use super::state::ProcessRef;
use crate::cgroup::Cgroup;
use crate::container::plan;
use crate::container::source::Opener;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::{Home, Node};
use crate::spawn::{Child, Control, Launch, Message};
use crate::spec::{PodSpec, Resources};
use crate::sys::namespace::{self, Kind};

/// The leaf cgroup that it lives in. No container can have this name.
pub(crate) const CGROUP: &str = "_init";

/// A process that this program started.
pub(crate) struct Reaper(Child);

impl Reaper {
    /// What identifies it later.
    pub(crate) fn identify(&self, node: &Node) -> Result<ProcessRef> {
        Ok(ProcessRef { pid: self.0.pid, identity: node.0.proc.identity(self.0.pid, self.0.pidfd.as_fd())? })
    }

    /// Takes the status of the process, which has been killed.
    pub(crate) fn wait(self) {
        self.0.wait();
    }
}

/// Starts it, and keeps its PID namespace and a proc of it in the pins namespace.
pub(crate) fn start(node: &Node, home: &Home, spec: &PodSpec, id: &str, pod: &Cgroup) -> Result<Reaper> {
    let guard = node.0.cgroups.device_guard(&[])?;
    let cgroup = pod.create_guarded(CGROUP, &Resources::default(), &guard)?;
    let realm = &node.0.realm;
    let plan = plan::reaper(spec, realm.keeps_groups(), realm.is_ordinary());
    let mut namespaces = CloneFlags::empty();
    // One that belongs to the pod's user namespace is made by init, when it is in that.
    if !plan.enters_pid() {
        namespaces |= CloneFlags::CLONE_NEWPID;
    }
    let (control, inits) = Control::pair()?;
    let (mut child, opener) = realm.launch(|| {
        let mut opener = Opener::new(node, None);
        opener.open_in_pins(&plan, home, id)?;
        let launch = Launch {
            init: &node.0.init,
            control: inits,
            mounts: Some(home.template.as_fd()),
            namespaces,
            cgroup: Some(cgroup.as_fd()),
        };
        Ok((launch.spawn()?, opener))
    })?;
    let given = plan.encode().and_then(|bytes| control.plan(&bytes, &opener.descriptors()));
    let result = given.and_then(|()| settle(node, home, id, &plan, &control, &mut child));
    match result {
        Ok(()) => Ok(Reaper(child)),
        Err(error) => {
            child.end();
            node.0.proc.end_forks(&control);
            Err(error)
        }
    }
}

fn settle(
    node: &Node,
    home: &Home,
    id: &str,
    plan: &plan::Plan,
    control: &Control,
    child: &mut Child,
) -> Result<()> {
    let mut proc = None;
    let mut enters = plan.enters_pid();
    loop {
        match control.receive()? {
            // Which process stays comes first.
            Message::Fd(last) if enters => {
                node.0.proc.follow(child, last)?;
                enters = false;
            }
            Message::Fd(fd) => proc = Some(fd),
            // It has no filter.
            Message::Listener(_) => {}
            Message::Ready => break,
            Message::Terminal(_) => {}
            Message::Failed { step, call, errno } => return Err(plan.failure(step, call, errno)),
            Message::Closed | Message::Paused | Message::Twin(_) | Message::TakesOver => {
                return Err(Error::new(ErrorKind::System, "start")
                    .on("the pod's init")
                    .because("it ended early"));
            }
        }
    }
    let proc = proc.ok_or_else(|| Error::new(ErrorKind::System, "hear from").on("the pod's init"))?;
    let namespace =
        namespace::of_process(&node.0.proc, child.pid, Kind::Pid).step("open", "the PID namespace")?;
    node.0.realm.run_with_mounts(|| {
        let pins = PodPins::enter(&home.pins, id)?;
        pins.pin_namespace(Kind::Pid, &namespace)?;
        pins.attach(PROC, &proc)
    })?;
    spare(node, child.pid)?;
    control.start()?;
    Ok(())
}

/// oom_score_adj of the process: that of a sandbox in Kubernetes, one less than the least of containers.
const LAST: i32 = -998;

/// Has the OOM killer take the containers first: without this process none of them lives. As theirs, the score needs
/// `CAP_SYS_RESOURCE`; without, it stays the program's own, and so does a lower one.
fn spare(node: &Node, pid: i32) -> Result<()> {
    let proc = &node.0.proc;
    match score::possible(node, LAST)? < proc.own_oom_score_adj()? {
        true => proc.set_oom_score_adj(pid, LAST),
        false => Ok(()),
    }
}
