//! The library under test as a contender. Its defaults are what the floor does: the fourteen capabilities, no new
//! privileges, a seccomp filter, the masked and read-only paths of containerd, no limits.

use std::ffi::CStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use pericarp::spec::{
    Capabilities, Capability, Device, DeviceAccess, DeviceRule, DeviceRuleKind, IoPriorityClass, Mount,
    RlimitResource, Scheduler, SchedulerPolicy, SeccompProfile, Security,
};
use pericarp::{CgroupParent, ContainerSpec, Node, NodeOptions, Pod, PodSpec, Rootfs, Stdio};

use crate::contender::{Contender, Life, Program, Result};
use crate::full;
use crate::workspace::Workspace;

pub const NAME: &str = "pericarp";

struct Pericarp {
    node: Node,
    rootfs: Rootfs,
    rootfs_path: PathBuf,
    standing: Option<Pod>,
}

/// A node of its own with a pod that stays.
pub fn open(workspace: &Workspace) -> Result<Option<Box<dyn Contender>>> {
    let place = workspace.place(NAME)?;
    let options =
        NodeOptions::new().state_dir(place.scratch).cgroup_parent(CgroupParent::Path(place.cgroup.clone()));
    let node = Node::open(&options)?;
    let standing = Some(node.create_pod(&PodSpec::new("standing"))?);
    Ok(Some(Box::new(Pericarp {
        node,
        rootfs: Rootfs::directory(&place.rootfs),
        rootfs_path: place.rootfs,
        standing,
    })))
}

impl Pericarp {
    fn spec(&self, program: Program) -> ContainerSpec {
        let args: &[&str] = match program {
            Program::Tiny | Program::Unfiltered => &["/bin/tiny"],
            Program::Busybox | Program::Full => &["/bin/busybox", "true"],
        };
        let spec = ContainerSpec::new("one", self.rootfs.clone()).args(args.iter().copied());
        match program {
            Program::Unfiltered => spec.security(Security::default().seccomp(SeccompProfile::Unconfined)),
            Program::Full => self.with_all(spec),
            Program::Tiny | Program::Busybox => spec,
        }
    }

    /// What `crate::full` has.
    fn with_all(&self, mut spec: ContainerSpec) -> ContainerSpec {
        let inside = |path: &CStr| Path::new("/").join(path.to_string_lossy().as_ref());
        let of_rootfs = |path: &CStr| self.rootfs_path.join(path.to_string_lossy().as_ref());
        let bind = |source, destination| {
            Mount::bind(of_rootfs(source), inside(destination)).readonly(true).nosuid(true).nodev(true)
        };
        let (major, minor) = full::DEVICE_NUMBER;
        let access = DeviceAccess::READ.and(DeviceAccess::WRITE);
        let ambient = Capability::CAP_NET_BIND_SERVICE;
        spec = spec
            .user(full::UID, full::GID)
            .additional_gids(full::GROUPS)
            .umask(full::UMASK)
            .oom_score_adj(full::OOM_SCORE_ADJ)
            .io_priority(IoPriorityClass::BestEffort, full::IO_PRIORITY)
            .scheduler(Scheduler::new(SchedulerPolicy::Batch).nice(full::NICE))
            .mount(bind(full::DATA_SOURCE, full::DATA))
            .mount(bind(full::FILE_SOURCE, full::FILE))
            .mount(Mount::tmpfs(inside(full::TMPFS), 1 << 20).nosuid(true).nodev(true))
            .device(Device::char(inside(full::DEVICE), major, minor).mode(0o666))
            .device_rule(DeviceRule::allow(DeviceRuleKind::Char, Some(major), Some(minor), access))
            .security(Security::default().capabilities(Capabilities::default().with_ambient(ambient)));
        for (resource, soft, hard) in full::RLIMITS {
            let resource = match resource {
                libc::RLIMIT_NOFILE => RlimitResource::Nofile,
                libc::RLIMIT_CORE => RlimitResource::Core,
                _ => RlimitResource::Stack,
            };
            spec = spec.rlimit(resource, soft, hard);
        }
        spec.rootfs = Rootfs::directory(&self.rootfs_path).readonly();
        spec
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

    fn shell(&mut self, program: Program, script: &str) -> Result<Option<String>> {
        let spec = self.spec(program).args(["/bin/busybox", "sh", "-c", script]).stdout(Stdio::Pipe);
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
