//! Counting what the pods of a node request, and letting a further one in.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::FlockArg;

use super::Node;
use super::home::{LIVE, NEW, PODS, lock, names, open_directory};
use crate::error::{Context, Error, Result};
use crate::pod::kubernetes::{Allocation, FILE};
use crate::pod::settle::Record;
use crate::pod::state;
use crate::spec::kubernetes::{ResourceList, add, raise};

impl Node {
    /// Writes down what a pod requests, in its directory `dir`, if that fits. `granted` is what the pod with that id has
    /// already: of what it has no more of than that, nothing is asked.
    ///
    /// Whoever admits has the node locked from counting to writing: of two programs one sees what the other wrote.
    pub(crate) fn admit(
        &self,
        id: &str,
        dir: &OwnedFd,
        allocation: &Allocation,
        granted: &ResourceList,
    ) -> Result<()> {
        let Some(admission) = &self.0.admission else { return state::write(dir, FILE, allocation) };
        let home = &self.0.home;
        let _counting = home.lock(FlockArg::LockExclusive).step("lock", home.path().display())?;
        let used = self.requested(id)?;
        let mut requests = allocation.requests.clone();
        requests.retain(|name, request| granted.get(name).is_none_or(|granted| *request > *granted));
        admission.check(&requests, &used, &self.capacity()?)?;
        state::write(dir, FILE, allocation)
    }

    /// What all pods request that there are, or that living programs are making, except one.
    fn requested(&self, except: &str) -> Result<ResourceList> {
        let home = &self.0.home;
        let mut sum = ResourceList::new();
        count(home, "", except, &mut sum)?;
        for program in home.entries(LIVE)? {
            let path = format!("{LIVE}/{program}");
            match lock(home.phase(&path)?, FlockArg::LockExclusiveNonblock) {
                Err(Errno::EAGAIN) => count(home, &format!("{path}/"), except, &mut sum)?,
                // Its program is gone, and its pods with it.
                result => drop(result.step("lock", &path)?),
            }
        }
        Ok(sum)
    }
}

/// Adds what the pods of one home request; `prefix` is where it is.
fn count(home: &super::Home, prefix: &str, except: &str, sum: &mut ResourceList) -> Result<()> {
    for phase in [NEW, PODS] {
        let path = format!("{prefix}{phase}");
        let dir = home.phase(&path)?;
        let ids = names(dir.try_clone().step("duplicate", &path)?).step("read", &path)?;
        for id in ids.iter().filter(|id| *id != except) {
            let pod = match open_directory(&dir, id.as_str()) {
                // Another program has removed or finished it since; finished ones are looked at next.
                Err(Errno::ENOENT) => continue,
                result => result.step("open", format!("{path}/{id}"))?,
            };
            let context = |error: Error| error.within(format!("count the requests of pod {id}"));
            let Some(allocation) = state::read::<Allocation>(&pod, FILE).map_err(context)? else {
                count_containers(pod, sum).map_err(context)?;
                continue;
            };
            let mut requests = allocation.requests;
            // What a resize has made smaller may be taken back.
            if let Some(record) = Record::read(&pod).map_err(context)? {
                raise(&mut requests, &record.old.requests);
            }
            // Whoever makes a pod has it locked: what can be locked was left by a program that died.
            if phase == NEW && lock(pod, FlockArg::LockExclusiveNonblock).is_ok() {
                continue;
            }
            add(sum, &requests);
        }
    }
    Ok(())
}

/// Adds what containers request by themselves, in a pod that requests nothing.
fn count_containers(pod: OwnedFd, sum: &mut ResourceList) -> Result<()> {
    let names = match open_directory(&pod, state::CONTAINERS).and_then(names) {
        Err(Errno::ENOENT) => return Ok(()),
        result => result.step("read", "the directory of containers")?,
    };
    let mut half_made = ResourceList::new();
    for name in names {
        let path = format!("{}/{name}", state::CONTAINERS);
        let Some(alone) = state::read::<Allocation>(&pod, &format!("{path}/{FILE}"))? else { continue };
        let whole = state::exists(&pod, &format!("{path}/{}", state::STATE));
        add(if whole { sum } else { &mut half_made }, &alone.requests);
    }
    // Whoever makes a container has the pod locked: what can be locked was left by a program that died.
    if !half_made.is_empty() && lock(pod, FlockArg::LockExclusiveNonblock).is_err() {
        add(sum, &half_made);
    }
    Ok(())
}
