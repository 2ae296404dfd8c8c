//! Making a pod: all of it, or nothing and the first error.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use super::given::{self, Given};
use super::handle::words;
use super::pins::{self, PodPins};
use super::state::{self, PodState};
use super::user::{self, UserNamespace};
use super::{Inner, Pod};
use super::{kubernetes, netdev, place, reaper};
use crate::cgroup::{Cgroup, no_cgroups};
use crate::container::lsm;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::logs;
use crate::node::{self, Claimant, GARBAGE, Home, NEW, Node, PODS};
use crate::spec::kubernetes::ResourceList;
use crate::spec::{
    IdMappings, NamespaceMode, PidMode, PodSpec, Propagation, SysctlNamespace, UserMode, VolumeSource,
    sysctl_namespace,
};
use crate::sys::mount::{attr, clone_tree, new_filesystem};
use crate::sys::namespace::{self, Kind};
use crate::sys::{loopback, uts, xattr};

/// Makes a pod of a specification that is valid.
pub(crate) fn create(node: &Node, home: Arc<Home>, spec: &PodSpec) -> Result<Pod> {
    lsm::can_label(node, spec)?;
    let id = uuid::Uuid::new_v4().to_string();
    let mut attempt = Attempt { node, home: &home, spec, id: &id, cgroup: None, reaper: None, devices: None };
    match attempt.run() {
        Ok(state) => {
            let cgroup = attempt.cgroup.take().map_or_else(OnceLock::new, OnceLock::from);
            let pod = Pod(Arc::new(Inner { node: node.clone(), home: home.clone(), state, cgroup }));
            log::info!(target: logs::POD, "{} was made", pod.words());
            Ok(pod)
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
        let allocation = kubernetes::allocate(self.node, self.spec)?;
        let mut resources = Cow::Borrowed(&self.spec.resources);
        if let Some(allocation) = &allocation {
            resources = Cow::Owned(allocation.pod_resources(self.spec));
            crate::cgroup::validate(&resources)?;
            self.node.admit(self.id, &dir, allocation, &ResourceList::new())?;
        }
        self.home.take_name(&self.spec.namespace, &self.spec.name, self.id)?;
        mkdirat(&*dir, state::CONTAINERS, Mode::S_IRWXU).step("make", "the directory of containers")?;
        // Kept at once: whatever fails from here on, it is removed.
        self.cgroup = place::make(self.node, &dir, self.spec, &resources, self.id)?;
        let cgroup_id = self.cgroup.as_ref().map_or(Ok(0), Cgroup::id)?;
        let ids = self.claim_ids()?;
        let devices = &mut self.devices;
        let realm = &self.node.0.realm;
        let ids =
            realm.run_with_mounts(|| make_shared(self.node, self.home, self.spec, self.id, ids, devices))?;
        if let (UserMode::Path(_), Some(claims), Some(ids)) =
            (&self.spec.namespaces.user, &self.node.0.claims, &ids)
        {
            claims.join(&self.claimant(), ids)?;
        }
        let mut process = None;
        if self.spec.namespaces.pid == PidMode::Pod {
            let cgroup = self.cgroup.as_ref().ok_or_else(|| no_cgroups("share the PID namespace of"))?;
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
            ids,
            spec: self.spec.clone(),
        };
        // The directory moves as a whole: nobody sees this file before it is complete.
        state::write_new(&dir, state::STATE, &state)?;
        self.home.move_pod(self.id, NEW, PODS)?;
        Ok(state)
    }

    /// Sees to it that nobody gets the ids of a new user namespace who must not share them, and returns them.
    fn claim_ids(&self) -> Result<Option<IdMappings>> {
        let node = &self.node.0;
        Ok(match (&self.spec.namespaces.user, &node.claims) {
            (UserMode::Mapped(ids), claims) => {
                if let Some(claims) = claims {
                    claims.share(&self.claimant(), ids)?;
                }
                Some(ids.clone())
            }
            (UserMode::Auto { size }, Some(claims)) => {
                Some(claims.take_free(&self.claimant(), &node.id_ranges, *size)?)
            }
            // The realm has refused the third.
            (UserMode::Host | UserMode::Path(_) | UserMode::Auto { .. }, _) => None,
        })
    }

    fn claimant(&self) -> Claimant<'_> {
        let node = &self.node.0;
        Claimant {
            pod: self.id,
            home: self.home,
            node: &node.home,
            cgroup: self.cgroup.as_ref(),
            proc: &node.proc,
        }
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

    /// Takes back all that was made. Errors here are told to a logger alone: the first error is the one that matters, and
    /// `Node::recover` finds what is left.
    fn undo(&mut self) {
        let (namespace, name) = (&self.spec.namespace, &self.spec.name);
        let of = words(namespace, name, self.id);
        if let Some(devices) = &mut self.devices {
            devices.back();
        }
        if let Some(cgroup) = &self.cgroup {
            logs::swallowed(logs::POD, &of, logs::UNDO, place::remove(cgroup));
        }
        if let Some(reaper) = self.reaper.take() {
            reaper.wait();
        }
        let unpinned = self.node.0.realm.run(|| PodPins::enter(&self.home.pins, self.id)?.remove());
        logs::swallowed(logs::POD, &of, logs::UNDO, unpinned);
        match self.home.move_pod(self.id, NEW, GARBAGE) {
            // Its directory could not be made.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            moved => {
                let removed = moved.and_then(|()| self.home.remove_dir(GARBAGE, self.id));
                logs::swallowed(logs::POD, &of, logs::UNDO, removed);
            }
        }
        logs::swallowed(logs::POD, &of, logs::UNDO, self.home.release_name(namespace, name, self.id));
        logs::swallowed(logs::POD, &of, logs::UNDO, self.node.release_ids(self.spec, self.id));
    }
}

/// On a thread of its own: makes or joins the pod's namespaces and leaves them, with all that belongs to them, in the
/// pins namespace.
///
/// `ids` are those of a new user namespace; returned are those of whatever user namespace the pod has.
fn make_shared(
    node: &Node,
    home: &Home,
    spec: &PodSpec,
    id: &str,
    ids: Option<IdMappings>,
    devices: &mut Option<netdev::Moved>,
) -> Result<Option<IdMappings>> {
    let leaving = netdev::find(&node.0.proc, spec)?;
    let modes = [
        (Kind::Network, &spec.namespaces.network),
        (Kind::Ipc, &spec.namespaces.ipc),
        (Kind::Uts, &spec.namespaces.uts),
    ];
    // Whatever is the host's is opened while this thread is still there.
    let given = given::open(node, spec, &modes)?;
    let new: Vec<Kind> =
        modes.iter().filter(|(_, mode)| **mode == NamespaceMode::Pod).map(|(kind, _)| *kind).collect();
    let user = match &spec.namespaces.user {
        UserMode::Host => None,
        mode => Some(user::make(node, mode, ids, &new)?),
    };
    let mut mounts: Vec<(String, OwnedFd)> = Vec::new();
    for volume in &spec.volumes {
        let user = user.as_ref();
        mounts.push((pins::volume(&volume.name), make_volume(spec, &volume.source, user)?));
    }
    match &user {
        None => {
            let flags = new.iter().fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
            unshare(flags).step("make", "the pod's namespaces")?;
        }
        Some(user) => {
            for (kind, namespace) in &user.new {
                setns(namespace, kind.flag()).step("join", format!("the pod's {} namespace", kind.word()))?;
            }
        }
    }
    given.iter().try_for_each(Given::join)?;
    // A namespace that is given has names already.
    if spec.namespaces.uts == NamespaceMode::Pod || spec.hostname.is_some() {
        let hostname = spec.effective_hostname();
        nix::unistd::sethostname(&hostname).step("set the host name to", &hostname)?;
    }
    if let Some(domainname) = &spec.domainname {
        uts::set_domainname(domainname).step("set the domain name to", domainname)?;
    }
    if spec.namespaces.network == NamespaceMode::Pod {
        loopback::up().step("bring up", "the loopback interface")?;
    }
    *devices = leaving.map(|leaving| leaving.enter(&node.0.proc)).transpose()?;
    set_sysctls(node, spec, user.as_ref(), &given)?;
    if spec.namespaces.ipc != NamespaceMode::Host {
        let locked = attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let size = CString::new(spec.shm_size.to_string()).expect("digits have no NUL");
        let options = [(c"size", size.as_c_str()), (c"mode", c"1777")];
        let shm = new_tmpfs(spec, "the tmpfs of /dev/shm", &options, locked, user.as_ref())?;
        make_ipc(node, shm.as_fd(), spec, user.as_ref())?;
        mounts.push((pins::SHM.to_string(), shm));
        let mqueue = new_filesystem(c"mqueue", &[], locked).step("make", "the mqueue filesystem")?;
        if spec.namespaces.ipc == NamespaceMode::Pod {
            label_queues(spec, &mqueue)?;
        }
        mounts.push((pins::MQUEUE.to_string(), mqueue));
    }
    if spec.hostname_files {
        mounts.push((pins::ETC.to_string(), make_etc(spec, user.as_ref())?));
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
    if let Some(user) = &user {
        pins.pin_namespace(Kind::User, &user.namespace)?;
    }
    mounts.iter().try_for_each(|(name, fd)| pins.attach(name, fd))?;
    Ok(user.map(|user| user.ids))
}

/// A tmpfs that belongs to root of the pod, with its label.
fn new_tmpfs(
    spec: &PodSpec,
    what: &'static str,
    options: &[(&CStr, &CStr)],
    attributes: u64,
    user: Option<&UserNamespace>,
) -> Result<OwnedFd> {
    let owner = user.map(UserNamespace::owner_options);
    let owner = owner.iter().flatten().map(|(key, value)| (*key, value.as_c_str()));
    let label = spec.mount_label.as_deref().map(|label| CString::new(label).expect("labels have no NUL"));
    let context = label.iter().map(|label| (c"context", label.as_c_str()));
    let options: Vec<(&CStr, &CStr)> = options.iter().copied().chain(owner).chain(context).collect();
    new_filesystem(c"tmpfs", &options, attributes).map_err(|errno| {
        let error = Error::system(errno, "make").on(what);
        match &spec.mount_label {
            Some(label) if errno == Errno::EINVAL => {
                error.because(format!("the SELinux policy has no such label as {label:?}"))
            }
            _ => error,
        }
    })
}

/// The namespace has had its filesystem of queues since it was made, too early for the option of the others.
fn label_queues(spec: &PodSpec, mqueue: &OwnedFd) -> Result<()> {
    let Some(label) = &spec.mount_label else { return Ok(()) };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(mqueue, ".", flags, Mode::empty())
        .and_then(|directory| xattr::set(directory, c"security.selinux", label.as_bytes()))
        .step("give the directory of message queues the SELinux label", label)
}

/// Makes the IPC objects that the specification names, in the namespace of this thread.
fn make_ipc(node: &Node, shm: BorrowedFd<'_>, spec: &PodSpec, user: Option<&UserNamespace>) -> Result<()> {
    let Some(space) = user else { return super::ipc::create_all(shm, &spec.ipc) };
    let host = super::ipc::to_host(&spec.ipc, &space.ids)?;
    super::ipc::create_all_with(shm, &host, &|queue| {
        // A given IPC namespace is not the pod's user namespace's.
        let Some((_, namespace)) = space.new.iter().find(|(kind, _)| *kind == Kind::Ipc) else {
            return super::ipc::create_mqueue(queue);
        };
        // Found by its name, which is unique: what is made inside takes the ids inside.
        let inside = spec.ipc.mqueues.iter().find(|inside| inside.name == queue.name).unwrap_or(queue);
        user::make_queue(node, inside, |kind| {
            let namespace = if kind == Kind::User { &space.namespace } else { namespace };
            namespace.try_clone().step("duplicate", "a namespace of the pod")
        })
    })
}

/// Sets each kernel parameter in the namespace that this thread is in. What belongs to a namespace of the host was refused
/// before.
fn set_sysctls(node: &Node, spec: &PodSpec, user: Option<&UserNamespace>, given: &[Given<'_>]) -> Result<()> {
    let mut refused = Vec::new();
    for (name, value) in &spec.sysctls {
        let owner = sysctl_namespace(name);
        debug_assert!(owner.is_some());
        if owner == Some(SysctlNamespace::Uts) {
            // By its call: the file in proc belongs to root of the machine, whoever owns the namespace.
            uts::set_domainname(value).step("set the domain name to", value)?;
            continue;
        }
        match node.0.proc.set_sysctl(name, value) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && user.is_some() => {
                refused.push((name.as_str(), value.as_str()));
            }
            result => result?,
        }
    }
    let Some(space) = user.filter(|_| !refused.is_empty()) else { return Ok(()) };
    let given = given.iter().map(|given| (given.kind, &given.namespace));
    let all: Vec<_> = space.new.iter().map(|(kind, new)| (*kind, new)).chain(given).collect();
    let find = |kind: Kind| all.iter().find(|(of, _)| *of == kind).map(|(_, namespace)| *namespace);
    let kinds = [find(Kind::Network).is_some(), find(Kind::Ipc).is_some()];
    user::set_sysctls(node, kinds, &refused, |kind| {
        let namespace = if kind == Kind::User { Some(&space.namespace) } else { find(kind) };
        let missing = || Error::new(ErrorKind::NotFound, "open").on(kind.word());
        namespace.ok_or_else(missing)?.try_clone().step("duplicate", "a namespace of the pod")
    })
}

fn make_volume(spec: &PodSpec, source: &VolumeSource, user: Option<&UserNamespace>) -> Result<OwnedFd> {
    match source {
        VolumeSource::Tmpfs { size, mode } => {
            let size = CString::new(size.to_string()).expect("digits have no NUL");
            let mode = CString::new(format!("{mode:o}")).expect("digits have no NUL");
            let options = [(c"size", size.as_c_str()), (c"mode", mode.as_c_str())];
            new_tmpfs(spec, "the tmpfs of a volume", &options, attr::NOSUID | attr::NODEV, user)
        }
        VolumeSource::Directory { path } => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let dir = openat(AT_FDCWD, path, flags, Mode::empty()).step("open volume", path.display())?;
            let tree = clone_tree(&dir, c"", true)
                .and_then(|tree| {
                    crate::container::set_propagation(&tree, Propagation::Private).map(|()| tree)
                })
                .step("clone the mounts at", path.display())?;
            if let Some(user) = user.filter(|_| !spec.unmapped_mounts) {
                user.map_ids(tree.as_fd())
                    .map_err(|errno| crate::container::not_mapped(errno, path.display()))?;
            }
            Ok(tree)
        }
    }
}

/// `/etc/hostname` and `/etc/hosts` of the pod, as the kubelet writes them.
fn make_etc(spec: &PodSpec, user: Option<&UserNamespace>) -> Result<OwnedFd> {
    let options = [(c"size", c"64k"), (c"mode", c"755")];
    let locked = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let tmpfs = new_tmpfs(spec, "the tmpfs of the pod's /etc files", &options, locked, user)?;
    let hostname = spec.effective_hostname();
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if spec.namespaces.network == NamespaceMode::Pod {
        writeln!(hosts, "127.0.1.1\t{hostname}").expect("a string takes any text");
    }
    for (name, content) in [("hostname", format!("{hostname}\n")), ("hosts", hosts)] {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_retain(0o644);
        let fd = openat(&tmpfs, name, flags, mode).step("create", format!("the pod's {name}"))?;
        if let Some(user) = user {
            let (uid, gid) = (Uid::from_raw(user.root.0), Gid::from_raw(user.root.1));
            fchown(&fd, Some(uid), Some(gid)).step("chown", format!("the pod's {name}"))?;
        }
        nix::sys::stat::fchmod(&fd, mode).step("chmod", format!("the pod's {name}"))?;
        nix::unistd::write(&fd, content.as_bytes()).step("write", format!("the pod's {name}"))?;
    }
    Ok(tmpfs)
}
