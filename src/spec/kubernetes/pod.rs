//! What a whole pod asks for: its containers, init containers, overhead, and what it asks for as a pod.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::requirements::{Requirements, ResourceList, ResourceName, validate_list};
use crate::error::{Error, Result};

/// Containers of one pod.
const MAX_CONTAINERS: usize = 1024;

/// The requests and limits of a pod and of all its containers, as a Kubernetes manifest has them under `spec`. They
/// have to be known before the first container is made: the pod's cgroup, its QoS class and with that the priority of
/// every container at the OOM killer follow from all of them.
///
/// A container of that name that is made in the pod gets its limits and its oom_score_adj from here. One that is not
/// named here is made like an ephemeral container of Kubernetes: it has no requests and no limits of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct KubernetesPod {
    /// The containers that run together.
    pub containers: Vec<KubernetesContainer>,
    /// Those that run before them, one after the other, and sidecars, which are started in between and stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<KubernetesContainer>,
    /// Of the pod as a whole; what it sets takes the place of the sum of the containers.
    #[serde(skip_serializing_if = "Requirements::is_empty")]
    pub resources: Requirements,
    /// What the pod itself costs: added to its requests, and to those limits that there are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overhead: ResourceList,
    /// The name of the priority class. `system-node-critical` keeps the OOM killer away, and that or
    /// `system-cluster-critical` also keeps the containers off swap; others are only kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// What the configuration of a kubelet says on top.
    #[serde(skip_serializing_if = "Policy::is_default")]
    pub policy: Policy,
}

/// A container of a [`KubernetesPod`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesContainer {
    /// The name that the container is made with: a DNS label.
    pub name: String,
    /// For an init container: `Always` makes it a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Its requests and limits.
    #[serde(default, skip_serializing_if = "Requirements::is_empty")]
    pub resources: Requirements,
}

/// The restart policy of an init container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// It is a sidecar: it runs as long as the pod.
    Always,
}

impl KubernetesContainer {
    fn is_sidecar(&self) -> bool {
        self.restart_policy.is_some()
    }
}

impl KubernetesPod {
    /// A pod without containers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a container.
    pub fn container(mut self, name: impl Into<String>, resources: Requirements) -> Self {
        self.containers.push(KubernetesContainer { name: name.into(), restart_policy: None, resources });
        self
    }

    /// Adds a container that runs before the others.
    pub fn init_container(mut self, name: impl Into<String>, resources: Requirements) -> Self {
        self.init_containers.push(KubernetesContainer { name: name.into(), restart_policy: None, resources });
        self
    }

    /// Adds an init container that stays.
    pub fn sidecar(mut self, name: impl Into<String>, resources: Requirements) -> Self {
        let restart_policy = Some(RestartPolicy::Always);
        self.init_containers.push(KubernetesContainer { name: name.into(), restart_policy, resources });
        self
    }

    /// Sets [`resources`](Self::resources).
    pub fn resources(mut self, resources: Requirements) -> Self {
        self.resources = resources;
        self
    }

    /// Adds to [`overhead`](Self::overhead).
    ///
    /// # Errors
    /// As [`Requirements::request`].
    pub fn overhead(mut self, resource: &str, quantity: &str) -> Result<Self> {
        self.overhead.insert(resource.parse()?, quantity.parse()?);
        Ok(self)
    }

    /// Sets [`priority_class_name`](Self::priority_class_name).
    pub fn priority_class_name(mut self, name: impl Into<String>) -> Self {
        self.priority_class_name = Some(name.into());
        self
    }

    /// Sets [`policy`](Self::policy).
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Checks everything that can be checked without asking the machine.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec), naming the first field that is wrong.
    pub fn validate(&self) -> Result<()> {
        const FIELD: &str = "kubernetes";
        if self.containers.is_empty() {
            return Err(Error::invalid(format_args!("{FIELD}.containers"), "is empty"));
        }
        if self.containers.len() + self.init_containers.len() > MAX_CONTAINERS {
            return Err(Error::invalid(FIELD, format!("has more than {MAX_CONTAINERS} containers")));
        }
        let mut names = BTreeSet::new();
        for (list, containers) in
            [("containers", &self.containers), ("initContainers", &self.init_containers)]
        {
            for (i, container) in containers.iter().enumerate() {
                let field = format!("{FIELD}.{list}[{i}]");
                if !crate::spec::is_dns_label(&container.name) {
                    let why = format!("{:?} is not a DNS label (RFC 1123)", container.name);
                    return Err(Error::invalid(format_args!("{field}.name"), why));
                }
                if !names.insert(&container.name) {
                    let why = format!("a second container is named {:?}", container.name);
                    return Err(Error::invalid(format_args!("{field}.name"), why));
                }
                if list == "containers" && container.is_sidecar() {
                    let why =
                        "is for init containers: whether others are restarted is the caller's to decide";
                    return Err(Error::invalid(format_args!("{field}.restartPolicy"), why));
                }
                container.resources.validate(&format!("{field}.resources"))?;
            }
        }
        self.validate_whole(&format!("{FIELD}.resources"))?;
        validate_list(&format!("{FIELD}.overhead"), &self.overhead)?;
        if self.priority_class_name.as_ref().is_some_and(|name| !crate::spec::is_dns_subdomain(name)) {
            let why = "is not a DNS subdomain (RFC 1123)";
            return Err(Error::invalid(format_args!("{FIELD}.priorityClassName"), why));
        }
        self.policy.validate(&format!("{FIELD}.policy"))
    }

    /// What the pod asks for as a whole has to hold what its containers do: the rules of the API server, which come after
    /// its defaults.
    fn validate_whole(&self, field: &str) -> Result<()> {
        // First as it was given, so that errors tell of that.
        validate_list(&format!("{field}.requests"), &self.resources.requests)?;
        validate_list(&format!("{field}.limits"), &self.resources.limits)?;
        let whole = self.whole();
        let (requests, limits) =
            (self.sum_of_requests(), self.aggregate(|container| container.limits.clone()));
        for (name, request) in &whole.requests {
            if let Some(sum) = requests.get(name).filter(|sum| *sum > request) {
                let why = format!("is {request}, less than the {sum} of the containers together");
                return Err(Error::invalid(format_args!("{field}.requests.{name}"), why));
            }
        }
        for (name, limit) in whole.limits.iter().filter(|(name, _)| is_huge(name)) {
            if let Some(sum) = limits.get(name).filter(|sum| *sum > limit) {
                let why = format!("is {limit}, less than the {sum} of the containers together");
                return Err(Error::invalid(format_args!("{field}.limits.{name}"), why));
            }
        }
        whole.validate(field)?;
        // Init containers are not looked at there either.
        for (name, whole) in &self.resources.limits {
            for container in &self.containers {
                if let Some(limit) = container.resources.limited(*name).filter(|limit| limit > whole) {
                    let why = format!("is {whole}, less than the {limit} of container {:?}", container.name);
                    return Err(Error::invalid(format_args!("{field}.limits.{name}"), why));
                }
            }
        }
        Ok(())
    }

    /// All containers.
    pub(super) fn all(&self) -> impl Iterator<Item = &KubernetesContainer> {
        self.containers.iter().chain(&self.init_containers)
    }

    /// A container by its name, and whether it is a sidecar.
    pub(crate) fn find(&self, name: &str) -> Option<(&Requirements, bool)> {
        let found = self.all().find(|container| container.name == name)?;
        Some((&found.resources, found.is_sidecar()))
    }

    /// Whether limits or requests of the pod as a whole are given.
    pub(super) fn has_whole(&self) -> bool {
        !self.resources.is_empty()
    }

    /// Everything that is requested for the pod, with its overhead: what has to be free for it to be admitted.
    ///
    /// Init containers run one after the other, before the others but next to the sidecars that were started before
    /// them: of each resource it is what the pod needs at its greediest moment.
    pub fn requests(&self) -> ResourceList {
        let mut all = self.sum_of_requests();
        all.extend(self.whole().requests);
        add(&mut all, &self.overhead);
        all
    }

    /// The limits of the pod as a whole, with its overhead where there is a limit. Only those resources have one that
    /// every container limits, or the pod itself.
    pub fn limits(&self) -> ResourceList {
        let mut all = self.aggregate(|container| container.limits.clone());
        let by_every_one = |name: &ResourceName| self.all().all(|c| c.resources.limited(*name).is_some());
        all.retain(|name, limit| !limit.is_zero() && (is_huge(name) || by_every_one(name)));
        all.extend(self.resources.limits.iter().filter(|(_, limit)| !limit.is_zero()));
        for (name, overhead) in &self.overhead {
            if let Some(limit) = all.get_mut(name) {
                *limit = limit.plus(*overhead);
            }
        }
        all
    }

    /// What the containers request together, without the overhead and without what the pod says as a whole.
    pub(super) fn sum_of_requests(&self) -> ResourceList {
        self.aggregate(Requirements::effective_requests)
    }

    /// What the pod asks for as a whole, with the defaults of the API server. They apply where anything is asked for:
    /// what containers may have of huge pages is the pod's limit; and where it has limits, what containers request is its
    /// request, or else its limit is.
    pub(super) fn whole(&self) -> Requirements {
        let mut whole = self.resources.clone();
        if whole.is_empty() {
            return whole;
        }
        for (name, limit) in self.aggregate(|container| container.limits.clone()) {
            if is_huge(&name) && !whole.requests.contains_key(&name) {
                whole.limits.entry(name).or_insert(limit);
            }
        }
        if whole.limits.is_empty() {
            return whole;
        }
        for (name, request) in self.sum_of_requests() {
            if !is_huge(&name) {
                whole.requests.entry(name).or_insert(request);
            }
        }
        for (name, limit) in &whole.limits {
            whole.requests.entry(*name).or_insert(*limit);
        }
        whole
    }

    fn aggregate(&self, of: impl Fn(&Requirements) -> ResourceList) -> ResourceList {
        let mut together = ResourceList::new();
        for container in &self.containers {
            add(&mut together, &of(&container.resources));
        }
        let (mut sidecars, mut most) = (ResourceList::new(), ResourceList::new());
        for container in &self.init_containers {
            let mut moment = of(&container.resources);
            if container.is_sidecar() {
                add(&mut together, &moment);
                add(&mut sidecars, &moment);
                moment = sidecars.clone();
            } else {
                add(&mut moment, &sidecars);
            }
            raise(&mut most, &moment);
        }
        raise(&mut together, &most);
        together
    }
}

fn is_huge(name: &ResourceName) -> bool {
    matches!(name, ResourceName::HugePages(_))
}

/// Adds what is requested of each resource.
pub(crate) fn add(sum: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        let entry = sum.entry(*name).or_default();
        *entry = entry.plus(*quantity);
    }
}

/// Takes the greater amount of each resource.
pub(crate) fn raise(most: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        let entry = most.entry(*name).or_insert(*quantity);
        *entry = (*entry).max(*quantity);
    }
}
