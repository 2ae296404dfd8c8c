//! The pods of one machine under one state directory.

mod admission;
mod capacity;
mod claims;
mod home;
mod ids;
mod mapping;
mod options;
mod proc;
mod realm;
mod recover;

use std::sync::{Arc, Mutex};

pub use ids::{IdRange, IdRanges};
pub use options::{NodeOptions, NodeUser};
pub use recover::Recovery;

pub(crate) use claims::{Claimant, Claims};
pub(crate) use home::{GARBAGE, Home, NEW, PODS, lock, names, open_directory, remove_known, remove_tree};
pub(crate) use proc::Proc;
pub(crate) use realm::Realm;

use crate::cgroup::Tree;
use crate::container::guests::Guests;
use crate::error::{Error, ErrorKind, Result};
use crate::pod::{self, Pod};
use crate::spawn::InitImage;
use crate::spec::PodSpec;
use crate::spec::kubernetes::Admission;

/// The pods of this machine under one state directory.
///
/// A handle: cloning it is cheap, dropping it removes nothing. Any thread may use it. Several programs may open the
/// same state directory at the same time; they see each other's pods.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

/// What handles of a node share.
pub(crate) struct Inner {
    /// Where pods live that outlast this program.
    pub(crate) home: Arc<Home>,
    /// Where pods live that do not; made with the first of them.
    ephemeral: Mutex<Option<Arc<Home>>>,
    pub(crate) cgroups: Tree,
    pub(crate) proc: Proc,
    pub(crate) init: InitImage,
    pub(crate) guests: Arc<Guests>,
    /// Where pods get ids from that ask for some.
    pub(crate) id_ranges: IdRanges,
    /// Which ids pods of all nodes have; `None` but for root of the machine, who alone gives pods some of the machine's.
    pub(crate) claims: Option<Claims>,
    /// Where the work is done.
    pub(crate) realm: Arc<Realm>,
    /// Whether requests of pods have to fit.
    pub(crate) admission: Option<Admission>,
}

impl Node {
    /// Opens the state directory, and makes it when it is missing.
    ///
    /// This makes the node's two private mount namespaces (one line in the host's mount table), unless they are
    /// there, and its cgroup.
    ///
    /// # Errors
    /// `PermissionDenied` without root, unless [`NodeOptions::user`] says otherwise; `Unsupported` on a machine without
    /// cgroup v2, or for an ordinary user without user namespaces; `CorruptState` when the state
    /// directory belongs to somebody else or can be written to by others.
    pub fn open(options: &NodeOptions) -> Result<Node> {
        options.admission.as_ref().map_or(Ok(()), Admission::validate)?;
        let claims = Claims::new(&options.id_claims)?;
        let root = realm::is_root(options.user)?;
        let proc = Proc::new(root)?;
        let init = InitImage::new()?;
        let guests = Guests::open()?;
        let context = |error: Error| error.within(format!("open node {}", options.state_dir.display()));
        // First, since this is what a machine may lack: then there is no state directory and no mount to take back.
        let realm = Arc::new(Realm::open(options.user, root, &init, &proc).map_err(context)?);
        let cgroups = Tree::open_as(&options.cgroup_parent, !realm.is_ordinary()).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied if realm.is_ordinary() => context(error.because(
                "an ordinary user, or root of a user namespace, gives NodeOptions::cgroup_parent the path of a directory that was delegated, or \
                 CgroupParent::None",
            )),
            _ => context(error),
        })?;
        let home = Home::open(&options.state_dir, &proc, &realm).map_err(|error| {
            cgroups.undo();
            context(error)
        })?;
        Ok(Node(Arc::new(Inner {
            home: Arc::new(home),
            ephemeral: Mutex::new(None),
            cgroups,
            proc,
            init,
            guests,
            id_ranges: options.id_ranges.clone(),
            claims: (!realm.is_ordinary()).then_some(claims),
            realm,
            admission: options.admission.clone(),
        })))
    }

    /// Makes a pod: its namespaces, its shared memory and queues, its volumes and its cgroup. No process stays,
    /// unless the pod has a PID namespace of its own.
    ///
    /// # Errors
    /// `InvalidSpec` for a wrong specification, `AlreadyExists` when a pod of that name exists, `Exhausted` when its
    /// requests do not fit and the node has [admission](NodeOptions::admission). Whatever the error,
    /// nothing is left behind.
    pub fn create_pod(&self, spec: &PodSpec) -> Result<Pod> {
        let context = || format!("create pod {}/{}", spec.namespace, spec.name);
        spec.validate()
            .and_then(|()| self.0.realm.check(spec))
            .and_then(|()| self.0.cgroups.check(&spec.resources))
            .map_err(|error| error.within(context()))?;
        let home = if spec.ephemeral { self.ephemeral_home()? } else { self.0.home.clone() };
        pod::create(self, home, spec).map_err(|error| error.within(context()))
    }

    /// All pods that outlast the program that made them, and this program's ephemeral ones, in no order.
    pub fn pods(&self) -> Result<Vec<Pod>> {
        let mut pods = Vec::new();
        for home in self.homes() {
            for id in home.pod_ids()? {
                match pod::open(self, home.clone(), &id) {
                    // Removed since the directory was read.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    result => pods.push(result?),
                }
            }
        }
        Ok(pods)
    }

    /// Opens a pod by its id, its name (in namespace `default`), or `namespace/name`.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn open_pod(&self, id_or_name: &str) -> Result<Pod> {
        for home in self.homes() {
            if let Some(id) = home.find(id_or_name)? {
                match pod::open(self, home, &id) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    result => return result,
                }
            }
        }
        Err(Error::new(ErrorKind::NotFound, "find")
            .on(format!("pod {id_or_name:?}"))
            .because("no pod has that id or name"))
    }

    /// Puts the node in order after programs died: ends what they left half made or half removed, and reports it.
    /// Pods that are whole are adopted: they go on as they are.
    ///
    /// What a living program is working on is left alone, so that this can be called at any time.
    pub fn recover(&self) -> Result<Recovery> {
        recover::recover(self)
    }

    /// The cgroup controllers that limits of pods and containers can use here ("cpu", "memory", …).
    pub fn controllers(&self) -> Vec<String> {
        let cgroups = &self.0.cgroups;
        let always = cgroups.controllers().iter().map(|controller| controller.name());
        always.chain(cgroups.optional()).map(str::to_string).collect()
    }

    /// Removes the node itself: its line in the host's mount table, its state directory and its cgroup, and the
    /// [claims of ids](NodeOptions::id_claims) when no node has any. For programs that want to leave no trace; handles of
    /// the node are of no use afterwards.
    ///
    /// # Errors
    /// `WrongState` while there are pods, also half made ones or another program's ephemeral ones.
    pub fn remove(&self) -> Result<()> {
        let mut ephemeral = self.0.ephemeral.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.0
            .home
            .remove()
            .map_err(|error| error.within(format!("remove node {}", self.0.home.path().display())))?;
        // Not before: while there are pods in it, they go on.
        *ephemeral = None;
        if let Some(claims) = &self.0.claims {
            claims.remove(&self.0.proc)?;
        }
        self.0.cgroups.remove()
    }

    /// Lets go the ids of a pod.
    pub(crate) fn release_ids(&self, spec: &PodSpec, pod: &str) -> Result<()> {
        match &self.0.claims {
            Some(claims) if !spec.namespaces.user.is_host() => claims.release(pod),
            _ => Ok(()),
        }
    }

    fn homes(&self) -> impl Iterator<Item = Arc<Home>> {
        let ephemeral = self.0.ephemeral.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        std::iter::once(self.0.home.clone()).chain(ephemeral)
    }

    fn ephemeral_home(&self) -> Result<Arc<Home>> {
        let mut ephemeral = self.0.ephemeral.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(home) = &*ephemeral {
            return Ok(home.clone());
        }
        let home = Arc::new(self.0.home.make_ephemeral(&self.0.proc)?);
        *ephemeral = Some(home.clone());
        Ok(home)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("state_dir", &self.0.home.path())
            .field("cgroup", &self.0.cgroups.path())
            .finish()
    }
}
