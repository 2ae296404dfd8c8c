//! Other requests and limits for a pod that runs.

use nix::fcntl::FlockArg;

use super::Pod;
use super::kubernetes::{Allocation, allocation};
use crate::cgroup::{Change, resize};
use crate::error::{Context, Error, Result};
use crate::node;
use crate::spec::kubernetes::{Resize, Resized};

impl Pod {
    /// Gives a running pod and its containers other requests and limits, as Kubernetes' `resize` does: all of them, or
    /// none.
    ///
    /// Containers that run get their new limits at once, others when they are made (again). What the pod's or a
    /// container's [`resources`](crate::ContainerSpec::resources) say besides stays as it is, and so does the
    /// oom_score_adj of what runs. If the node has [admission](crate::NodeOptions::admission), what is requested has to
    /// fit. [`kubernetes`](Self::kubernetes) says what the pod has then, [`spec`](Self::spec) still what it was made of.
    ///
    /// # Errors
    /// `InvalidSpec` for a pod without [`kubernetes`](crate::PodSpec::kubernetes), and for what a resize may not change:
    /// the QoS class, init containers that are no sidecars, anything but cpu and memory; and nothing can be removed.
    /// `WrongState` when more memory is in use than a new limit and cannot, or [is not to](crate::spec::kubernetes::Shrink),
    /// be reclaimed; `Exhausted` when the requests do not fit; whatever the kernel refused. Then nothing is changed, but
    /// what was reclaimed stays so.
    pub fn resize(&self, resize: &Resize) -> Result<Resized> {
        self.try_resize(resize)
            .map_err(|error| error.within(format!("resize pod {}/{}", self.namespace(), self.name())))
    }

    fn try_resize(&self, change: &Resize) -> Result<Resized> {
        // Waits for containers that are being made: their limits are the old ones.
        let dir = node::lock(self.dir()?, FlockArg::LockExclusive).step("lock", "the pod's directory")?;
        let without =
            || Error::invalid("kubernetes", "is missing in the specification that the pod was made of");
        let old = allocation(self)?.ok_or_else(without)?;
        let new = Allocation::new(old.pod.resized(change)?, old.machine.clone());
        let whole = new.pod_resources(self.spec());
        crate::cgroup::validate(&whole)?;
        let containers = self.containers()?;
        let mut changes = Vec::new();
        let mut names = Vec::new();
        for container in &containers {
            let spec = container.spec();
            // A container that is in no list is the pod's all the same: a limit of the whole pod is its, too.
            let now = old.pod.container_resources(&spec.name, &old.machine);
            let then = new.pod.container_resources(&spec.name, &new.machine);
            crate::cgroup::validate(&then)?;
            if let Some(cgroup) = container.cgroup() {
                changes.push(Change::new(cgroup, &now, &then, &spec.resources));
                names.push(spec.name.clone());
            }
        }
        let of_pod =
            Change::new(self.cgroup()?, &old.pod_resources(self.spec()), &whole, &self.spec().resources);
        // Written first: what the pod is about to take, no other pod can be given meanwhile.
        self.node().admit(self.id(), &dir, &new, &old.requests)?;
        let (reclaimed, of_pod) = match resize(&of_pod, &changes, change.shrink) {
            Ok(reclaimed) => reclaimed,
            Err(error) => {
                // It was there before: that it fits is not asked again.
                old.write(&dir)?;
                return Err(error);
            }
        };
        let reclaimed = names.into_iter().zip(reclaimed).chain([(String::new(), of_pod)]);
        Ok(Resized::new(reclaimed.filter_map(|(name, reclaimed)| Some((name, reclaimed?)))))
    }
}
