//! What a container or a pod asks for, and what it may have at most.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Quantity;
use crate::error::{Error, Result};

/// Sizes of huge pages: what any machine has, with room.
const MAX_RESOURCES: usize = 16;

/// What can be asked for, by Kubernetes' name: `cpu` (processors), `memory` (bytes) and `hugepages-SIZE` (bytes).
///
/// `ephemeral-storage` and resources of device plugins are refused: nothing here counts the one or hands out the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum ResourceName {
    /// `cpu`: processors, in thousandths.
    Cpu,
    /// `memory`: bytes.
    Memory,
    /// `hugepages-2Mi`: bytes of huge pages of that size, itself in bytes.
    HugePages(u64),
}

impl FromStr for ResourceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let wrong = |why: String| Err(Error::invalid(format_args!("resource {name:?}"), why));
        match (name, name.strip_prefix("hugepages-")) {
            ("cpu", _) => Ok(ResourceName::Cpu),
            ("memory", _) => Ok(ResourceName::Memory),
            ("ephemeral-storage", _) => wrong(
                "is not counted here; give the tmpfs volumes and the upper layer of the root filesystem a size".into(),
            ),
            (_, Some(size)) => match size.parse::<Quantity>() {
                Ok(size) if size.value() >= 4096 && size.value().count_ones() == 1 && size.is_multiple_of(1) => {
                    Ok(ResourceName::HugePages(size.value() as u64))
                }
                _ => wrong("has no size of pages behind the hyphen, such as 2Mi or 1Gi".into()),
            },
            _ => wrong("is none of cpu, memory and hugepages-SIZE".into()),
        }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResourceName::Cpu => f.write_str("cpu"),
            ResourceName::Memory => f.write_str("memory"),
            ResourceName::HugePages(size) => write!(f, "hugepages-{}", Quantity::from_bytes(*size)),
        }
    }
}

impl TryFrom<String> for ResourceName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> String {
        name.to_string()
    }
}

/// Amounts by resource.
pub type ResourceList = BTreeMap<ResourceName, Quantity>;

/// What a container, or a pod as a whole, asks for and may have at most: `resources` of a Kubernetes manifest.
///
/// ```
/// use pericarp::Resources;
/// let web = Resources::kubernetes().request("cpu", "250m")?.request("memory", "64Mi")?.limit("memory", "1Gi")?;
/// # Ok::<(), pericarp::Error>(())
/// ```
///
/// A resource with a limit and no request requests its limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Requirements {
    /// What is set aside.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: ResourceList,
    /// What there is at most. Zero of cpu and memory is no limit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: ResourceList,
}

impl Requirements {
    /// Nothing asked for, nothing limited.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests so much of a resource: `request("cpu", "500m")`.
    ///
    /// # Errors
    /// `InvalidSpec` for an unknown resource and for what is no [`Quantity`].
    pub fn request(mut self, resource: &str, quantity: &str) -> Result<Self> {
        self.requests.insert(resource.parse()?, quantity.parse()?);
        Ok(self)
    }

    /// Limits a resource: `limit("memory", "1Gi")`.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn limit(mut self, resource: &str, quantity: &str) -> Result<Self> {
        self.limits.insert(resource.parse()?, quantity.parse()?);
        Ok(self)
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }

    /// The requests, where a limit without a request is one (the API server's default).
    pub fn effective_requests(&self) -> ResourceList {
        let mut all = self.limits.clone();
        all.extend(self.requests.iter());
        all
    }

    /// What is requested of one resource, zero if nothing is.
    pub(super) fn requested(&self, resource: ResourceName) -> Quantity {
        let limit = || self.limits.get(&resource);
        self.requests.get(&resource).or_else(limit).copied().unwrap_or_default()
    }

    /// The limit of one resource; none for zero.
    pub(super) fn limited(&self, resource: ResourceName) -> Option<Quantity> {
        self.limits.get(&resource).copied().filter(|limit| !limit.is_zero())
    }

    /// Checks everything that can be checked without asking the machine. `field` is where it is.
    pub(crate) fn validate(&self, field: &str) -> Result<()> {
        for (part, list) in [("requests", &self.requests), ("limits", &self.limits)] {
            validate_list(&format!("{field}.{part}"), list)?;
        }
        let wrong = |part: &str, name: ResourceName, why: String| {
            Err(Error::invalid(format_args!("{field}.{part}.{name}"), why))
        };
        for (name, request) in &self.requests {
            if let Some(limit) = self.limits.get(name).filter(|limit| *limit < request) {
                return wrong("requests", *name, format!("is {request}, more than the limit of {limit}"));
            }
        }
        for (name, quantity) in self.effective_requests() {
            let ResourceName::HugePages(size) = name else { continue };
            if self.limits.get(&name) != Some(&quantity) {
                let why = "must be equal to its limit: huge pages cannot be overcommitted";
                return wrong("requests", name, why.to_string());
            }
            if !quantity.is_multiple_of(size) {
                return wrong("limits", name, format!("{quantity} is no multiple of the size of the pages"));
            }
        }
        let names = || self.requests.keys().chain(self.limits.keys());
        let basic = |name: &ResourceName| matches!(name, ResourceName::Cpu | ResourceName::Memory);
        if names().any(|name| !basic(name)) && !names().any(basic) {
            return Err(Error::invalid(field, "has huge pages: they need cpu or memory besides"));
        }
        if let Some(limit) = self.limited(ResourceName::Memory)
            && limit.value() < 4096
        {
            return wrong("limits", ResourceName::Memory, format!("{limit} is less than a page of memory"));
        }
        Ok(())
    }
}

/// Amounts have to be from 0 to what 64 bits hold.
pub(super) fn validate_list(field: &str, list: &ResourceList) -> Result<()> {
    if list.len() > MAX_RESOURCES {
        return Err(Error::invalid(field, format!("has more than {MAX_RESOURCES} resources")));
    }
    for (name, quantity) in list {
        let wrong =
            |why: &str| Err(Error::invalid(format_args!("{field}.{name}"), format!("{quantity} {why}")));
        if quantity.is_negative() {
            return wrong("is less than zero");
        }
        if *quantity > Quantity::new(i64::MAX / 1000) {
            return wrong("is more than any machine has");
        }
    }
    Ok(())
}

impl super::super::Resources {
    /// Requests and limits as Kubernetes has them, to be filled with [`Requirements::request`] and
    /// [`Requirements::limit`]: for [`ContainerSpec::requirements`](crate::ContainerSpec::requirements) and
    /// [`KubernetesPod`](super::KubernetesPod), which turn them into limits of cgroups.
    pub fn kubernetes() -> Requirements {
        Requirements::new()
    }
}
