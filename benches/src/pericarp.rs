//! The library under test as a contender. Its defaults are what the floor does: the fourteen capabilities, no new
//! privileges, a seccomp filter, the masked and read-only paths of containerd, no limits.

use std::io::Read;

use pericarp::spec::{SeccompProfile, Security};
use pericarp::{CgroupParent, ContainerSpec, Node, NodeOptions, Pod, PodSpec, Rootfs, Stdio};

use crate::contender::{Contender, Life, Program, Result};
use crate::workspace::Workspace;

pub const NAME: &str = "pericarp";

struct Pericarp {
    node: Node,
    rootfs: Rootfs,
    standing: Option<Pod>,
}

/// A node of its own with a pod that stays.
pub fn open(workspace: &Workspace) -> Result<Option<Box<dyn Contender>>> {
    let place = workspace.place(NAME)?;
    let options =
        NodeOptions::new().state_dir(place.scratch).cgroup_parent(CgroupParent::Path(place.cgroup.clone()));
    let node = Node::open(&options)?;
    let standing = Some(node.create_pod(&PodSpec::new("standing"))?);
    Ok(Some(Box::new(Pericarp { node, rootfs: Rootfs::directory(place.rootfs), standing })))
}

impl Pericarp {
    fn spec(&self, program: Program) -> ContainerSpec {
        let args: &[&str] = match program {
            Program::Tiny | Program::Unfiltered => &["/bin/tiny"],
            Program::Busybox => &["/bin/busybox", "true"],
        };
        let spec = ContainerSpec::new("one", self.rootfs.clone()).args(args.iter().copied());
        match program {
            Program::Unfiltered => spec.security(Security::default().seccomp(SeccompProfile::Unconfined)),
            Program::Tiny | Program::Busybox => spec,
        }
    }

    fn standing(&self) -> Result<&Pod> {
        self.standing.as_ref().ok_or_else(|| "the standing pod is gone".into())
    }
}

fn run(pod: &Pod, spec: &ContainerSpec) -> Result<()> {
    match pod.run(spec)? {
        status if status.success() => Ok(()),
        status => Err(format!("the container {status}").into()),
    }
}

impl Contender for Pericarp {
    fn name(&self) -> &str {
        NAME
    }

    fn pod(&mut self, life: Life, members: u32, program: Program) -> Result<()> {
        let pod = self.node.create_pod(&PodSpec::new("bench").ephemeral(life == Life::Ephemeral))?;
        let spec = self.spec(program);
        let ran = (0..members).try_for_each(|_| run(&pod, &spec));
        pod.remove()?;
        ran
    }

    fn container(&mut self, program: Program) -> Result<()> {
        run(self.standing()?, &self.spec(program))
    }

    fn shell(&mut self, script: &str) -> Result<Option<String>> {
        let spec = ContainerSpec::new("look", self.rootfs.clone())
            .args(["/bin/busybox", "sh", "-c", script])
            .stdout(Stdio::Pipe);
        let container = self.standing()?.create_container(&spec)?;
        let mut output = container.take_stdout().ok_or("no pipe")?;
        container.start()?;
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        container.wait()?;
        container.remove()?;
        Ok(Some(text))
    }
}

impl Drop for Pericarp {
    fn drop(&mut self) {
        if let Some(pod) = self.standing.take() {
            let _ = pod.remove();
        }
        // The state directory is the workspace's, but its line in the mount table is the node's.
        let _ = self.node.remove();
    }
}
