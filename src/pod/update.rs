//! New limits for a pod, and for its containers with it.

use std::collections::BTreeMap;

use super::Pod;
use crate::error::Result;
use crate::spec::Resources;

impl Pod {
    /// Changes limits of the pod as a whole while it runs. What is `None` keeps the value that it has;
    /// [`spec`](Self::spec) still says what the pod was made of.
    ///
    /// # Errors
    /// `InvalidSpec`; `Unsupported` for a limit whose controller this machine lacks; whatever the kernel refused. Then
    /// no limit is changed.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        crate::cgroup::validate(resources)
            .and_then(|()| self.cgroup()?.update(resources))
            .map_err(|error| self.error("update", error))
    }

    /// As [`update`](Self::update) for the pod as a whole, and as [`Container::update`](crate::Container::update) for
    /// containers of it, by name: all of it, or nothing.
    ///
    /// # Errors
    /// As there, and `NotFound` for a container that the pod does not have.
    pub fn update_all(&self, pod: &Resources, containers: &BTreeMap<String, Resources>) -> Result<()> {
        self.try_update_all(pod, containers).map_err(|error| self.error("update", error))
    }

    fn try_update_all(&self, pod: &Resources, containers: &BTreeMap<String, Resources>) -> Result<()> {
        crate::cgroup::validate(pod)?;
        let mut found = Vec::with_capacity(containers.len());
        for (name, resources) in containers {
            crate::cgroup::validate(resources)
                .map_err(|error| error.within(format!("understand the limits of container {name:?}")))?;
            found.push((self.container(name)?, resources));
        }
        let mut changes = vec![(self.cgroup()?, pod)];
        for (container, resources) in &found {
            changes.push((container.live_cgroup()?, *resources));
        }
        crate::cgroup::update_all(changes)
    }
}
