//! IPC objects of a pod, by call from the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::setns;

use super::handle::Pod;
use super::ipc::{self, IpcListing};
use super::pins::{self, PodPins};
use super::user;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::{
    IpcObjects, MessageQueueSpec, NamespaceMode, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec,
    SysvMessageQueueSpec,
};
use crate::sys::namespace::Kind;

/// The POSIX and System V objects of a pod's IPC namespace.
///
/// Objects can be made before containers run and while they do. Containers of the pod can open, change and remove
/// them as their owners and modes allow: what the host maps may shrink under it, and then reading ends in `SIGBUS`.
///
/// All calls fail with `NotFound` for a pod that is in the host's IPC namespace.
pub struct PodIpc<'a> {
    pod: &'a Pod,
}

/// The roots of the pod's shared memory and queues.
struct Roots {
    shm: OwnedFd,
    mqueue: OwnedFd,
    ipc: OwnedFd,
    /// The pod's own user namespace, where its IPC namespace belongs to that.
    user: Option<OwnedFd>,
}

fn one(fill: impl FnOnce(&mut IpcObjects)) -> IpcObjects {
    let mut objects = IpcObjects::default();
    fill(&mut objects);
    objects
}

impl<'a> PodIpc<'a> {
    pub(super) fn new(pod: &'a Pod) -> Self {
        PodIpc { pod }
    }

    /// Runs `work` on a thread that has joined the pod's IPC namespace.
    fn inside<T: Send>(&self, work: impl FnOnce(&Roots) -> Result<T> + Send) -> Result<T> {
        let pod = self.pod;
        let context = || format!("IPC of pod {}/{}", pod.namespace(), pod.name());
        if pod.spec().namespaces.ipc == NamespaceMode::Host {
            return Err(Error::new(ErrorKind::NotFound, "open")
                .on("the IPC namespace")
                .because("the pod has none of its own")
                .within(context()));
        }
        // A removed pod is told as such, not as a missing pin.
        pod.dir()?;
        pod.0
            .node
            .0
            .realm
            .run(|| {
                let pins = PodPins::enter(&pod.0.home.pins, pod.id())?;
                let owned = pod.0.state.ids.is_some() && pod.spec().namespaces.ipc == NamespaceMode::Pod;
                let roots = Roots {
                    shm: pins.directory(pins::SHM)?,
                    mqueue: pins.directory(pins::MQUEUE)?,
                    ipc: pins.namespace(Kind::Ipc)?,
                    user: if owned { Some(pins.namespace(Kind::User)?) } else { None },
                };
                setns(&roots.ipc, Kind::Ipc.flag()).step("join", "the pod's IPC namespace")?;
                work(&roots)
            })
            .map_err(|error| error.within(context()))
    }

    /// The objects with ids of the host.
    fn on_host(&self, objects: IpcObjects) -> Result<IpcObjects> {
        match &self.pod.0.state.ids {
            Some(ids) => ipc::to_host(&objects, ids),
            None => Ok(objects),
        }
    }

    /// Makes a queue: `queue` has the ids inside the pod, `host` those of the host.
    fn make_queue(&self, roots: &Roots, queue: &MessageQueueSpec, host: &MessageQueueSpec) -> Result<()> {
        let Some(user) = &roots.user else { return ipc::create_mqueue(host) };
        user::make_queue(&self.pod.0.node, queue, |kind| {
            let namespace = if kind == Kind::User { user } else { &roots.ipc };
            namespace.try_clone().step("duplicate", "a namespace of the pod")
        })
    }

    fn with_shm<T: Send>(&self, work: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send) -> Result<T> {
        self.inside(|roots| work(roots.shm.as_fd()))
    }

    /// Makes all these objects, or none of them.
    pub fn create(&self, objects: &IpcObjects) -> Result<()> {
        ipc::validate(objects)?;
        let Some(ids) = &self.pod.0.state.ids else {
            return self.with_shm(|shm| ipc::create_all(shm, objects));
        };
        let host = ipc::to_host(objects, ids)?;
        self.inside(|roots| {
            ipc::create_all_with(roots.shm.as_fd(), &host, &|queue| {
                // Found by its name, which is unique: what is made inside takes the ids inside.
                let inside = objects.mqueues.iter().find(|inside| inside.name == queue.name).unwrap_or(queue);
                self.make_queue(roots, inside, queue)
            })
        })
    }

    /// Makes a POSIX shared memory object, and opens it for reading and writing: map it with mmap(2).
    pub fn create_shm_object(&self, object: &ShmObjectSpec) -> Result<OwnedFd> {
        ipc::validate(&IpcObjects { shm: vec![object.clone()], ..IpcObjects::default() })?;
        let object = self.on_host(one(|o| o.shm.push(object.clone())))?.shm.remove(0);
        self.with_shm(|shm| ipc::create_shm_object(shm, &object))
    }

    /// Opens a POSIX shared memory object.
    pub fn open_shm_object(&self, name: &str, writable: bool) -> Result<OwnedFd> {
        self.with_shm(|shm| ipc::open_shm_object(shm, name, writable))
    }

    /// Removes the name of a POSIX shared memory object; who has it open keeps it.
    pub fn remove_shm_object(&self, name: &str) -> Result<()> {
        self.with_shm(|shm| ipc::remove_shm_object(shm, name))
    }

    /// Makes a POSIX message queue.
    pub fn create_mqueue(&self, queue: &MessageQueueSpec) -> Result<()> {
        ipc::validate(&IpcObjects { mqueues: vec![queue.clone()], ..IpcObjects::default() })?;
        let host = self.on_host(one(|o| o.mqueues.push(queue.clone())))?.mqueues.remove(0);
        self.inside(|roots| self.make_queue(roots, queue, &host))
    }

    /// Removes the name of a POSIX message queue.
    pub fn remove_mqueue(&self, name: &str) -> Result<()> {
        self.inside(|_| ipc::remove_mqueue(name))
    }

    /// Makes a System V shared memory segment and returns its id.
    pub fn create_sysv_shm(&self, segment: &SharedMemorySpec) -> Result<i32> {
        ipc::validate(&IpcObjects { sysv_shm: vec![segment.clone()], ..IpcObjects::default() })?;
        let segment = self.on_host(one(|o| o.sysv_shm.push(segment.clone())))?.sysv_shm.remove(0);
        self.inside(|_| ipc::create_sysv_shm(&segment))
    }

    /// Removes a System V shared memory segment.
    pub fn remove_sysv_shm(&self, key: i32) -> Result<()> {
        self.inside(|_| ipc::remove_sysv_shm(key))
    }

    /// Makes a System V semaphore set with its values and returns its id.
    pub fn create_sysv_sem(&self, set: &SemaphoreSetSpec) -> Result<i32> {
        ipc::validate(&IpcObjects { sysv_sem: vec![set.clone()], ..IpcObjects::default() })?;
        let set = self.on_host(one(|o| o.sysv_sem.push(set.clone())))?.sysv_sem.remove(0);
        self.inside(|_| ipc::create_sysv_sem(&set))
    }

    /// Removes a System V semaphore set.
    pub fn remove_sysv_sem(&self, key: i32) -> Result<()> {
        self.inside(|_| ipc::remove_sysv_sem(key))
    }

    /// Makes a System V message queue and returns its id.
    pub fn create_sysv_msg(&self, queue: &SysvMessageQueueSpec) -> Result<i32> {
        ipc::validate(&IpcObjects { sysv_msg: vec![queue.clone()], ..IpcObjects::default() })?;
        let queue = self.on_host(one(|o| o.sysv_msg.push(queue.clone())))?.sysv_msg.remove(0);
        self.inside(|_| ipc::create_sysv_msg(&queue))
    }

    /// Removes a System V message queue.
    pub fn remove_sysv_msg(&self, key: i32) -> Result<()> {
        self.inside(|_| ipc::remove_sysv_msg(key))
    }

    /// All objects, with sizes and owners.
    pub fn list(&self) -> Result<IpcListing> {
        let listing = self.inside(|roots| ipc::list(roots.shm.as_fd(), roots.mqueue.as_fd()))?;
        Ok(match &self.pod.0.state.ids {
            Some(ids) => ipc::to_container(listing, ids),
            None => listing,
        })
    }
}
