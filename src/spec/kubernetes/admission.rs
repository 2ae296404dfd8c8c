//! Whether a pod's requests fit what is left.

use serde::{Deserialize, Serialize};

use super::requirements::validate_list;
use super::{Capacity, ResourceList, ResourceName};
use crate::error::{Error, ErrorKind, Result};

/// Admission of pods by their requests: one whose requests do not fit what those of the live pods leave is refused. Pods
/// without [`kubernetes`](crate::PodSpec::kubernetes) request nothing and are never refused; of these each container with
/// [`requirements`](crate::ContainerSpec::requirements) is asked for, and counts until it is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Admission {
    /// What is not for pods: for the system, and for the program itself.
    pub reserved: ResourceList,
}

impl Admission {
    /// Everything that the node has is for pods.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps so much of a resource for others: `reserve("memory", "1Gi")`.
    ///
    /// # Errors
    /// `InvalidSpec` for an unknown resource and for what is no [`Quantity`](super::Quantity).
    pub fn reserve(mut self, resource: &str, quantity: &str) -> Result<Self> {
        self.reserved.insert(resource.parse()?, quantity.parse()?);
        Ok(self)
    }

    /// Bytes of memory that are not for pods.
    pub(crate) fn reserved_memory(&self) -> Option<u64> {
        let reserved = self.reserved.get(&ResourceName::Memory)?;
        u64::try_from(reserved.value()).ok().filter(|bytes| *bytes > 0)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        validate_list("admission.reserved", &self.reserved)
    }

    /// Whether requests fit into the capacity, less what is reserved and what others have requested.
    ///
    /// # Errors
    /// `Exhausted` with the figures of each resource that does not fit.
    pub(crate) fn check(
        &self,
        requests: &ResourceList,
        used: &ResourceList,
        capacity: &Capacity,
    ) -> Result<()> {
        let capacity = capacity.resources();
        let of = |list: &ResourceList, name| list.get(name).copied().unwrap_or_default();
        let short: Vec<String> = requests
            .iter()
            .filter(|(name, request)| {
                let taken = request.plus(of(used, name)).plus(of(&self.reserved, name));
                !request.is_zero() && taken > of(&capacity, name)
            })
            .map(|(name, request)| {
                let (used, reserved, all) = (of(used, name), of(&self.reserved, name), of(&capacity, name));
                format!("{name}: requested {request}, used {used}, reserved {reserved}, capacity {all}")
            })
            .collect();
        match short.is_empty() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Exhausted, "admit the requests")
                .because(format!("they do not fit what is left ({})", short.join("; ")))),
        }
    }
}
