//! Other requests and limits for a pod that runs.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use nix::fcntl::FlockArg;

use super::Pod;
use super::kubernetes::{Allocation, allocation};
use super::settle::{Record, Settled, settle};
use crate::cgroup::{Cgroup, Change, Failed, resize};
use crate::container::Container;
use crate::error::{Context, Error, Result};
use crate::logs;
use crate::node;
use crate::spec::kubernetes::{Reclaimed, Resize, Resized, Share, Shrink};

impl Pod {
    /// Gives a running pod and its containers other requests and limits, as Kubernetes' `resize` does: all of them, or
    /// none.
    ///
    /// Containers that run get their new limits at once, others when they are made (again). What the pod's or a
    /// container's [`resources`](crate::ContainerSpec::resources) say besides stays as it is, and so does the
    /// oom_score_adj of what runs. If the node has [admission](crate::NodeOptions::admission), what is requested has to
    /// fit. [`kubernetes`](Self::kubernetes) says what the pod has then, [`spec`](Self::spec) still what it was made of.
    ///
    /// What a program did not live to end is taken back, or else finished, by whoever opens or resizes the pod next, or
    /// [recovers](crate::Node::recover) the node.
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
        // One that can be neither taken back nor finished may be in the way of nobody: this one starts from there.
        logs::swallowed(logs::POD, self.words(), "settle an earlier resize", settle(self, &dir));
        let cut_short = Record::read(&dir)?;
        let without =
            || Error::invalid("kubernetes", "is missing in the specification that the pod was made of");
        let now = allocation(self)?.ok_or_else(without)?;
        let new = Allocation::new(now.pod.resized(change)?, now.machine.clone());
        let (base, highs) =
            cut_short.map_or_else(|| (now.clone(), BTreeMap::new()), |record| (record.old, record.highs));
        let containers = self.containers()?;
        let from = [&base, &now];
        let changes = Changes::new(self, &containers, &from, &new, &highs)?;
        let record = Record::new(base, new.clone(), changes.highs()?);
        record.write(&dir)?;
        let outcome = self.carry_out(&dir, &changes, &now, &new, change.shrink);
        match outcome {
            Ok(resized) => match Record::remove(&dir) {
                Ok(()) => Ok(resized),
                // As long as the record is there it is not done.
                Err(error) => Err(back(self, &dir, error)),
            },
            Err(Failed { error, restored: true }) if record.old == now => {
                // That it is there says no more than what is the case: nothing is lost with its removal failing.
                let _ = Record::remove(&dir);
                Err(error)
            }
            Err(Failed { error, .. }) => Err(back(self, &dir, error)),
        }
    }

    fn carry_out(
        &self,
        dir: &OwnedFd,
        changes: &Changes<'_>,
        now: &Allocation,
        new: &Allocation,
        shrink: Shrink,
    ) -> std::result::Result<Resized, Failed> {
        // Before the limits are changed: what the pod is about to take, no other pod can be given meanwhile.
        self.node().admit(self.id(), dir, new, &now.requests)?;
        changes.apply(shrink).map_err(|failed| match now.write(dir) {
            Ok(()) => failed,
            Err(lost) => Failed {
                error: failed.error.and(format!("the old requests could not be written down again: {lost}")),
                restored: false,
            },
        })
    }
}

/// Takes back what is half done, and adds to the error when that fails: then it is tried again later.
fn back(pod: &Pod, dir: &OwnedFd, error: Error) -> Error {
    match settle(pod, dir) {
        Ok(Settled::Finished) => {
            error.and("the pod has its new limits all the same: it uses more memory by now than the old ones")
        }
        Ok(_) => error,
        Err(lost) => error.and(format!("taking it back failed: {lost}")),
    }
}

/// What is to change in the cgroups of a pod.
pub(super) struct Changes<'a> {
    pod: Change<'a>,
    containers: Vec<Change<'a>>,
    names: Vec<&'a str>,
    /// The pod's cgroup, and what the pod adds to that of a class above it.
    share: Option<(&'a Cgroup, Share)>,
}

impl<'a> Changes<'a> {
    /// From whatever one of `from` makes to what `to` makes. `highs` is what `memory.high` is to be by the id of a cgroup
    /// in which an earlier resize may have left it low.
    pub(super) fn new(
        pod: &'a Pod,
        containers: &'a [Container],
        from: &[&Allocation],
        to: &Allocation,
        highs: &BTreeMap<u64, String>,
    ) -> Result<Self> {
        let mut changes = Vec::new();
        let mut names = Vec::new();
        for container in containers {
            let spec = container.spec();
            // A container that is in no list is the pod's all the same: a limit of the whole pod is its, too.
            let then = to.pod.container_resources(&spec.name, &to.machine);
            crate::cgroup::validate(&then)?;
            let Some(cgroup) = container.cgroup() else { continue };
            let from: Vec<_> =
                from.iter().map(|from| from.pod.container_resources(&spec.name, &from.machine)).collect();
            let from: Vec<_> = from.iter().collect();
            let high = highs.get(&cgroup.id()?).cloned();
            changes.push(Change::new(cgroup, &from, &then, &spec.resources).with_high(high));
            names.push(spec.name.as_str());
        }
        let whole = to.pod_resources(pod.spec());
        crate::cgroup::validate(&whole)?;
        let from: Vec<_> = from.iter().map(|from| from.pod_resources(pod.spec())).collect();
        let from: Vec<_> = from.iter().collect();
        let cgroup = pod.cgroup()?;
        let high = highs.get(&cgroup.id()?).cloned();
        let share = pod.spec().cgroup.as_ref().map(|_| (cgroup, to.pod.share()));
        let pod = Change::new(cgroup, &from, &whole, &pod.spec().resources).with_high(high);
        Ok(Changes { pod, containers: changes, names, share })
    }

    /// `memory.high` wherever it sinks meanwhile, by the id of the cgroup.
    fn highs(&self) -> Result<BTreeMap<u64, String>> {
        let all = self.containers.iter().chain([&self.pod]);
        all.filter_map(|change| change.high().transpose()).collect()
    }

    pub(super) fn apply(&self, shrink: Shrink) -> std::result::Result<Resized, Failed> {
        let (reclaimed, of_pod) = resize(&self.pod, &self.containers, shrink)?;
        if let Some((cgroup, share)) = &self.share {
            cgroup.set_share(share).map_err(|error| Failed { error, restored: false })?;
        }
        let names = self.names.iter().map(|name| name.to_string());
        let reclaimed = names.zip(reclaimed).chain([(String::new(), of_pod)]);
        let reclaimed =
            reclaimed.filter_map(|(name, reclaimed): (_, Option<Reclaimed>)| Some((name, reclaimed?)));
        Ok(Resized::new(reclaimed))
    }
}
