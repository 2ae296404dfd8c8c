//! Requests and limits of a pod and its containers, where they meet the machine.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::Pod;
use super::score;
use super::state::{self, PodState};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::spec::kubernetes::{Capacity, KubernetesPod, QosClass, ResourceList};
use crate::spec::{ContainerSpec, PodSpec, Resources};

/// The file in a pod's directory: there from its admission on, and written anew by each resize.
pub(crate) const FILE: &str = "kubernetes.json";

/// The id of no pod.
const NOBODY: &str = "";

/// What a pod has been given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Allocation {
    version: u32,
    qos_class: QosClass,
    /// What counts when others are admitted.
    pub(crate) requests: ResourceList,
    /// The machine at that time: every container's limits are computed with the same numbers.
    pub(crate) machine: Capacity,
    pub(crate) pod: KubernetesPod,
}

impl Allocation {
    pub(crate) fn new(pod: KubernetesPod, machine: Capacity) -> Self {
        Allocation {
            version: PodState::version(),
            qos_class: pod.qos_class(),
            requests: pod.requests(),
            machine,
            pod,
        }
    }

    /// Writes it down.
    pub(super) fn write(&self, dir: &OwnedFd) -> Result<()> {
        state::write(dir, FILE, self)
    }

    /// The limits of the pod as a whole.
    pub(super) fn pod_resources(&self, spec: &PodSpec) -> Resources {
        self.pod.pod_resources(&self.machine).overlaid_by(&spec.resources)
    }
}

/// What a new pod is to be given; `None` without [`PodSpec::kubernetes`].
pub(super) fn allocate(node: &Node, spec: &PodSpec) -> Result<Option<Allocation>> {
    let Some(pod) = &spec.kubernetes else { return Ok(None) };
    Ok(Some(Allocation::new(pod.clone(), node.capacity()?)))
}

/// What a pod has been given; `None` without [`PodSpec::kubernetes`].
pub(super) fn allocation(pod: &Pod) -> Result<Option<Allocation>> {
    if pod.spec().kubernetes.is_none() {
        return Ok(None);
    }
    let missing = || {
        Error::new(ErrorKind::CorruptState, "open")
            .on(format!("{FILE} of pod {}", pod.name()))
            .because("it is missing")
    };
    state::read(&pod.dir()?, FILE)?.ok_or_else(missing).map(Some)
}

/// Gives the cgroup of a class that a pod is in what it has to have with this pod: its program may have died on the way.
pub(crate) fn keep_class(pod: &Pod) {
    if pod.spec().cgroup.is_some()
        && let Ok(Some(allocation)) = allocation(pod)
        && let Ok(cgroup) = pod.cgroup()
    {
        // Whoever comes or goes next does it again.
        let _ = cgroup.set_share(&allocation.pod.share());
    }
}

/// What decides about a container: what its pod has been given, or the container alone; `None` where neither has
/// requests.
fn deciding(pod: &Pod, spec: &ContainerSpec) -> Result<Option<Allocation>> {
    let Some(allocation) = allocation(pod)? else {
        let Some(own) = &spec.requirements else { return Ok(None) };
        let alone = KubernetesPod::new().container(&spec.name, own.clone());
        return Ok(Some(Allocation::new(alone, pod.node().capacity()?)));
    };
    let Some(own) = &spec.requirements else { return Ok(Some(allocation)) };
    let wrong = |why| Err(Error::invalid("requirements", why));
    let first = pod.spec().kubernetes.as_ref().and_then(|first| first.find(&spec.name));
    match (allocation.pod.find(&spec.name), first) {
        (None, _) => wrong("are not among those that the pod was made with: only these count for its class"),
        (Some((now, _)), _) if now == own => Ok(Some(allocation)),
        (_, Some((first, _))) if first == own => Ok(Some(allocation)),
        _ => wrong("differ from those that the pod has for a container of that name"),
    }
}

/// Admits a container with requests of its own in a pod that has none. What it has been given is written into its
/// directory `dir`, and counts until that is gone.
pub(crate) fn admit_alone(pod: &Pod, spec: &ContainerSpec, dir: &OwnedFd) -> Result<()> {
    if pod.spec().kubernetes.is_some() || spec.requirements.is_none() {
        return Ok(());
    }
    let Some(alone) = deciding(pod, spec)? else { return Ok(()) };
    pod.node().admit(NOBODY, dir, &alone, &ResourceList::new())
}

/// The limits of a container's cgroup: what follows from requests and limits, and on top of that what the specification
/// says.
pub(crate) fn container_resources<'a>(pod: &Pod, spec: &'a ContainerSpec) -> Result<Cow<'a, Resources>> {
    let Some(allocation) = deciding(pod, spec)? else { return Ok(Cow::Borrowed(&spec.resources)) };
    let resources = allocation.pod.container_resources(&spec.name, &allocation.machine);
    let resources = resources.overlaid_by(&spec.resources);
    crate::cgroup::validate(&resources)?;
    Ok(Cow::Owned(resources))
}

/// The specification with the oom_score_adj that follows from requests and limits, unless it has one.
///
/// Lower than the program's own it can be only with `CAP_SYS_RESOURCE`. Without, it is the program's own, as runtimes of
/// Kubernetes do it; the specification that is kept tells.
pub(crate) fn with_score<'a>(pod: &Pod, spec: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>> {
    if spec.oom_score_adj.is_some() {
        return Ok(Cow::Borrowed(spec));
    }
    let Some(allocation) = deciding(pod, spec)? else { return Ok(Cow::Borrowed(spec)) };
    let score = allocation.pod.oom_score_adj(&spec.name, allocation.machine.memory);
    let mut spec = spec.clone();
    spec.oom_score_adj = Some(score::possible(pod.node(), score)?);
    Ok(Cow::Owned(spec))
}

impl Pod {
    /// The pod's QoS class in Kubernetes' terms; `None` for a pod without [`PodSpec::kubernetes`]. It never changes.
    pub fn qos_class(&self) -> Option<QosClass> {
        self.spec().kubernetes.as_ref().map(KubernetesPod::qos_class)
    }

    /// The requests and limits that the pod and its containers have now, after every [`resize`](Self::resize); `None` for
    /// a pod without [`PodSpec::kubernetes`].
    ///
    /// # Errors
    /// `NotFound` when the pod is gone.
    pub fn kubernetes(&self) -> Result<Option<KubernetesPod>> {
        Ok(allocation(self)?.map(|allocation| allocation.pod))
    }
}
