//! Making a pod: all of it, or nothing and the first error.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, mkdirat};

use super::pins::{self, PodPins};
use super::state::{self, PodState};
use super::{Inner, Pod};
use super::{netdev, place, reaper};
use crate::cgroup::Cgroup;
use crate::error::{Context, ErrorKind, Result};
use crate::node::{self, GARBAGE, Home, NEW, Node, PODS};
use crate::spec::{
    NamespaceMode, PidMode, PodSpec, Propagation, SysctlNamespace, VolumeSource, sysctl_namespace,
};
use crate::sys::mount::{attr, clone_tree, new_filesystem};
use crate::sys::namespace::{self, Kind};
use crate::sys::{loopback, thread};

/// Makes a pod of a specification that is valid.
pub(crate) fn create(node: &Node, home: Arc<Home>, spec: &PodSpec) -> Result<Pod> {
    let id = uuid::Uuid::new_v4().to_string();
    let mut attempt = Attempt { node, home: &home, spec, id: &id, cgroup: None, reaper: None, devices: None };
    match attempt.run() {
        Ok(state) => {
            let cgroup = attempt.cgroup.take().map_or_else(OnceLock::new, OnceLock::from);
            Ok(Pod(Arc::new(Inner { node: node.clone(), home: home.clone(), state, cgroup })))
        }
        Err(error) => {
            attempt.undo();
            Err(error)
        }
    }
}

/// What has been made so far.
struct Attempt<'a> {
    node: &'a Node,
    home: &'a Arc<Home>,
    spec: &'a PodSpec,
    id: &'a str,
    cgroup: Option<Cgroup>,
    reaper: Option<reaper::Reaper>,
    devices: Option<netdev::Moved>,
}

impl Attempt<'_> {
    fn run(&mut self) -> Result<PodState> {
        let dir = self.make_dir()?;
        self.home.take_name(&self.spec.namespace, &self.spec.name, self.id)?;
        mkdirat(&*dir, state::CONTAINERS, Mode::S_IRWXU).step("make", "the directory of containers")?;
        // Kept at once: whatever fails from here on, it is removed.
        let cgroup = self.cgroup.insert(place::make(self.node, &dir, self.spec, self.id)?);
        let cgroup_id = cgroup.id()?;
        let devices = &mut self.devices;
        thread::run(|| make_shared(self.node, self.home, self.spec, self.id, devices))?;
        let mut process = None;
        if self.spec.namespaces.pid == PidMode::Pod {
            let reaper = self.reaper.insert(reaper::start(self.node, self.home, self.spec, self.id, cgroup)?);
            process = Some(reaper.identify(self.node)?);
        }
        let state = PodState {
            version: PodState::version(),
            id: self.id.to_string(),
            boot_id: self.node.0.proc.boot_id().to_string(),
            created_at: state::now(),
            cgroup_id,
            reaper: process,
            spec: self.spec.clone(),
        };
        // The directory moves as a whole: nobody sees this file before it is complete.
        state::write_new(&dir, state::STATE, &state)?;
        self.home.move_pod(self.id, NEW, PODS)?;
        Ok(state)
    }

    /// Makes the pod's directory and locks it: whoever recovers the node leaves alone what it cannot lock. It may
    /// have been there in between, and then the directory is made again.
    fn make_dir(&self) -> Result<Flock<OwnedFd>> {
        let new = self.home.phase(NEW)?;
        loop {
            mkdirat(&new, self.id, Mode::S_IRWXU)
                .step("make", format!("the state directory of pod {}", self.id))?;
            let dir = match self.home.pod_dir(NEW, self.id) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                result => result?,
            };
            let dir = node::lock(dir, FlockArg::LockExclusive).step("lock", "the pod's directory")?;
            let links = nix::sys::stat::fstat(&*dir).step("stat", "the pod's directory")?.st_nlink;
            if links > 0 {
                return Ok(dir);
            }
        }
    }

    /// Takes back all that was made. Errors here are not told: the first error is the one that matters, and
    /// `Node::recover` finds what is left.
    fn undo(&mut self) {
        if let Some(devices) = &mut self.devices {
            devices.back();
        }
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.remove_tree();
        }
        if let Some(reaper) = self.reaper.take() {
            reaper.wait();
        }
        let _ = thread::run(|| PodPins::enter(&self.home.pins, self.id)?.remove());
        if self.home.move_pod(self.id, NEW, GARBAGE).is_ok() {
            let _ = self.home.remove_dir(GARBAGE, self.id);
        }
        let _ = self.home.release_name(&self.spec.namespace, &self.spec.name, self.id);
    }
}

/// On a thread of its own: makes or joins the pod's namespaces and leaves them, with all that belongs to them, in the
/// pins namespace.
fn make_shared(
    node: &Node,
    home: &Home,
    spec: &PodSpec,
    id: &str,
    devices: &mut Option<netdev::Moved>,
) -> Result<()> {
    let leaving = netdev::find(&node.0.proc, spec)?;
    let modes = [
        (Kind::Network, &spec.namespaces.network),
        (Kind::Ipc, &spec.namespaces.ipc),
        (Kind::Uts, &spec.namespaces.uts),
    ];
    // Whatever is the host's is opened while this thread is still there.
    let mut given = Vec::new();
    for (kind, mode) in modes {
        if let NamespaceMode::Path(path) = mode {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let fd = openat(AT_FDCWD, path, flags, Mode::empty()).step("open", path.display())?;
            given.push((kind, path, fd));
        }
    }
    let mut mounts: Vec<(String, OwnedFd)> = Vec::new();
    for volume in &spec.volumes {
        mounts.push((pins::volume(&volume.name), make_volume(&volume.source)?));
    }
    let new = modes
        .iter()
        .filter(|(_, mode)| **mode == NamespaceMode::Pod)
        .fold(CloneFlags::empty(), |flags, (kind, _)| flags | kind.flag());
    unshare(new).step("make", "the pod's namespaces")?;
    for (kind, path, fd) in &given {
        setns(fd, kind.flag()).step(format!("join the {} namespace at", kind.word()), path.display())?;
    }
    if spec.namespaces.uts == NamespaceMode::Pod {
        let hostname = spec.effective_hostname();
        nix::unistd::sethostname(&hostname).step("set the host name to", &hostname)?;
        if let Some(domainname) = &spec.domainname {
            node.0.proc.set_domainname(domainname)?;
        }
    }
    if spec.namespaces.network == NamespaceMode::Pod {
        loopback::up().step("bring up", "the loopback interface")?;
    }
    *devices = leaving.map(|leaving| leaving.enter(&node.0.proc)).transpose()?;
    set_sysctls(node, spec)?;
    if spec.namespaces.ipc != NamespaceMode::Host {
        let locked = attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let size = CString::new(spec.shm_size.to_string()).expect("digits have no NUL");
        let shm = new_filesystem(c"tmpfs", &[(c"size", &size), (c"mode", c"1777")], locked)
            .step("make", "the tmpfs of /dev/shm")?;
        super::ipc::create_all(shm.as_fd(), &spec.ipc)?;
        mounts.push((pins::SHM.to_string(), shm));
        let mqueue = new_filesystem(c"mqueue", &[], locked).step("make", "the mqueue filesystem")?;
        mounts.push((pins::MQUEUE.to_string(), mqueue));
    }
    if spec.hostname_files {
        mounts.push((pins::ETC.to_string(), make_etc(spec)?));
    }
    let mut namespaces = Vec::new();
    for (kind, mode) in modes {
        if *mode != NamespaceMode::Host {
            namespaces.push((kind, namespace::mount_of_this_thread(&node.0.proc, kind)?));
        }
    }
    let pins = PodPins::enter(&home.pins, id)?;
    pins.create()?;
    namespaces.iter().try_for_each(|(kind, fd)| pins.attach_namespace(*kind, fd))?;
    mounts.iter().try_for_each(|(name, fd)| pins.attach(name, fd))
}

/// Sets each kernel parameter in the namespace that this thread is in. What belongs to a namespace that is not the
/// pod's was refused before.
fn set_sysctls(node: &Node, spec: &PodSpec) -> Result<()> {
    for (name, value) in &spec.sysctls {
        debug_assert!(matches!(
            sysctl_namespace(name),
            Some(SysctlNamespace::Network | SysctlNamespace::Ipc)
        ));
        node.0.proc.set_sysctl(name, value)?;
    }
    Ok(())
}

fn make_volume(source: &VolumeSource) -> Result<OwnedFd> {
    match source {
        VolumeSource::Tmpfs { size, mode } => {
            let size = CString::new(size.to_string()).expect("digits have no NUL");
            let mode = CString::new(format!("{mode:o}")).expect("digits have no NUL");
            new_filesystem(c"tmpfs", &[(c"size", &size), (c"mode", &mode)], attr::NOSUID | attr::NODEV)
                .step("make", "the tmpfs of a volume")
        }
        VolumeSource::Directory { path } => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let dir = openat(AT_FDCWD, path, flags, Mode::empty()).step("open volume", path.display())?;
            clone_tree(&dir, c"", true)
                .and_then(|tree| {
                    crate::container::set_propagation(&tree, Propagation::Private).map(|()| tree)
                })
                .step("clone the mounts at", path.display())
        }
    }
}

/// `/etc/hostname` and `/etc/hosts` of the pod, as the kubelet writes them.
fn make_etc(spec: &PodSpec) -> Result<OwnedFd> {
    let tmpfs = new_filesystem(
        c"tmpfs",
        &[(c"size", c"64k"), (c"mode", c"755")],
        attr::NOSUID | attr::NODEV | attr::NOEXEC,
    )
    .step("make", "the tmpfs of the pod's /etc files")?;
    let hostname = spec.effective_hostname();
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if spec.namespaces.network == NamespaceMode::Pod {
        writeln!(hosts, "127.0.1.1\t{hostname}").expect("a string takes any text");
    }
    for (name, content) in [("hostname", format!("{hostname}\n")), ("hosts", hosts)] {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_retain(0o644);
        let fd = openat(&tmpfs, name, flags, mode).step("create", format!("the pod's {name}"))?;
        nix::sys::stat::fchmod(&fd, mode).step("chmod", format!("the pod's {name}"))?;
        nix::unistd::write(&fd, content.as_bytes()).step("write", format!("the pod's {name}"))?;
    }
    Ok(tmpfs)
}
