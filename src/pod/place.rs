//! Where a pod's cgroup is: below the node's, under the pod's id, unless the specification says where.
//!
//! A cgroup at a path of the specification can be somebody else's later. So it is written down before it is made, with
//! its id as soon as that is known: what recovers the node ends and removes that very cgroup and no other.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::state::{self, PodState};
use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::logs;
use crate::node::Node;
use crate::spec::kubernetes::KubernetesPod;
use crate::spec::{PodSpec, Resources};

/// The file in a pod's directory.
pub(crate) const FILE: &str = "cgroup.json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Place {
    path: String,
    /// `None` while it is being made.
    id: Option<u64>,
}

/// Makes the cgroup of a pod whose directory is `dir`; `None` in a node without cgroups.
pub(super) fn make(
    node: &Node,
    dir: &OwnedFd,
    spec: &PodSpec,
    resources: &Resources,
    id: &str,
) -> Result<Option<Cgroup>> {
    let cgroups = &node.0.cgroups;
    cgroups.check(resources)?;
    let Some(path) = &spec.cgroup else {
        return cgroups.exists().then(|| cgroups.create_pod(id, resources)).transpose();
    };
    state::write(dir, FILE, &Place { path: path.clone(), id: None })?;
    let share = spec.kubernetes.as_ref().map(KubernetesPod::share);
    let cgroup = cgroups.create_pod_at(path, resources, share.as_ref())?;
    let noted =
        cgroup.id().and_then(|id| state::write(dir, FILE, &Place { path: path.clone(), id: Some(id) }));
    if let Err(error) = noted {
        let of = format!("pod {}/{} ({id})", spec.namespace, spec.name);
        logs::swallowed(logs::POD, of, "take back its cgroup", remove(&cgroup));
        return Err(error);
    }
    Ok(Some(cgroup))
}

/// Ends all that is in the cgroup of a pod and removes it. What classes of Kubernetes have less of then, they have.
pub(super) fn remove(cgroup: &Cgroup) -> Result<()> {
    let classes = cgroup.classes().unwrap_or_default();
    cgroup.remove_tree()?;
    for class in classes {
        // The pod is gone: whoever comes or goes next, or recovers the node, puts that right.
        let _ = class.refresh();
    }
    Ok(())
}

/// The cgroup of a whole pod.
pub(super) fn open(node: &Node, state: &PodState) -> Result<Option<Cgroup>> {
    let found = match &state.spec.cgroup {
        None => return node.0.cgroups.open_pod(&state.id),
        Some(path) => node.0.cgroups.open_pod_at(path)?,
    };
    match found {
        Some(cgroup) if cgroup.id()? == state.cgroup_id => Ok(Some(cgroup)),
        _ => Ok(None),
    }
}

/// The cgroup of a pod that is to be removed, whether or not it was ever whole.
pub(crate) fn open_remains(
    node: &Node,
    dir: &OwnedFd,
    id: &str,
    state: Option<&PodState>,
) -> Result<Option<Cgroup>> {
    // A file that was corrupted may hold another pod's state.
    if let Some(state) = state.filter(|state| state.id == id) {
        return open(node, state);
    }
    let Some(place) = state::read::<Place>(dir, FILE)? else {
        return node.0.cgroups.open_pod(id);
    };
    let Some(cgroup) = node.0.cgroups.open_pod_at(&place.path)? else { return Ok(None) };
    let ours = match place.id {
        Some(id) => cgroup.id()? == id,
        // Its program died when it was just made, and nothing had entered it; what has is another's.
        None => cgroup.processes()?.is_empty(),
    };
    Ok(ours.then_some(cgroup))
}
