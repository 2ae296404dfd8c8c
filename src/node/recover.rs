//! Putting a node in order after programs died.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::FlockArg;

use super::home::{GARBAGE, Home, LIVE, NEW, PODS, lock, names};
use super::{Node, Realm};
use crate::error::{Context, ErrorKind, Result};
use crate::logs;
use crate::pod::settle::{Settled, settle};
use crate::pod::{self, kubernetes, pins, state};

/// What [`Node::recover`] found and did. Pods are named by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Whole pods, which go on as they are.
    pub adopted: Vec<String>,
    /// Pods that were half made, half removed, ephemeral, or of an earlier boot: now gone.
    pub removed: Vec<String>,
    /// Containers that were half made, as `POD-ID/NAME`: now gone.
    pub removed_containers: Vec<String>,
    /// Pods that a later version of the library has made: left alone, since this one does not understand them.
    pub foreign: Vec<String>,
    /// Pods that a living program is making, changing or removing: left alone.
    pub busy: Vec<String>,
    /// Pods whose [resize](crate::Pod::resize) was cut short: they have what they had before.
    pub resizes_taken_back: Vec<String>,
    /// The same, where more memory is in use than they had before: they have what they were to have.
    pub resizes_finished: Vec<String>,
    /// The same, where neither was possible, with the error: some limits are the old and some the new ones. Whoever
    /// recovers the node, opens the pod or resizes it tries again.
    pub resizes_unsettled: Vec<(String, String)>,
}

pub(super) fn recover(node: &Node) -> Result<Recovery> {
    let mut recovery = Recovery::default();
    let result = put_in_order(node, &mut recovery);
    // Also what was done before an error, which nothing else tells.
    recovery.tell();
    result.map(|()| recovery)
}

impl Recovery {
    fn tell(&self) {
        let gone = self
            .removed
            .iter()
            .map(|id| (id, "pod", "was removed: it was half made, or its program or boot is gone"));
        let half =
            self.removed_containers.iter().map(|name| (name, "container", "was removed: it was half made"));
        let foreign = self
            .foreign
            .iter()
            .map(|id| (id, "pod", "is left alone: a later version of the library made it"));
        let back = self
            .resizes_taken_back
            .iter()
            .map(|id| (id, "pod", "was in a resize that was cut short: taken back"));
        let done = self
            .resizes_finished
            .iter()
            .map(|id| (id, "pod", "was in a resize that was cut short: finished"));
        for (name, what, found) in gone.chain(half).chain(foreign).chain(back).chain(done) {
            log::warn!(target: logs::NODE, "recovery: {what} {name} {found}");
        }
        for (id, error) in &self.resizes_unsettled {
            log::warn!(target: logs::NODE, "recovery: pod {id} is in a resize that was cut short, and stays so: {error}");
        }
    }
}

fn put_in_order(node: &Node, recovery: &mut Recovery) -> Result<()> {
    let home = &node.0.home;
    // One at a time, and not while somebody sets up.
    let _setup = home.lock(FlockArg::LockExclusive).step("lock", home.path().display())?;
    for phase in [NEW, GARBAGE] {
        for id in home.entries(phase)? {
            remove_pod(node, home, phase, &id, recovery)?;
        }
    }
    for id in home.pod_ids()? {
        match pod::open_as_is(node, home.clone(), &id) {
            Ok((pod, _)) => {
                mend(&pod, recovery)?;
                recovery.adopted.push(id);
            }
            Err(error)
                if error.kind() == ErrorKind::CorruptState
                    && state::is_of_a_later_version(&home.pod_dir(PODS, &id)?, state::STATE) =>
            {
                recovery.foreign.push(id);
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::CorruptState) => {
                remove_pod(node, home, PODS, &id, recovery)?;
            }
            Err(error) => return Err(error),
        }
    }
    remove_dead_programs(node, home, recovery)?;
    remove_orphans(&node.0.realm, home, recovery)?;
    // Ids that pods have had which are gone, also those of other nodes: nobody else may recover these.
    node.0.claims.as_ref().map_or(Ok(()), |claims| claims.sweep(&node.0.proc))
}

/// Removes a pod of a phase, unless somebody has it locked.
fn remove_pod(node: &Node, home: &Home, phase: &str, id: &str, recovery: &mut Recovery) -> Result<()> {
    let dir = match home.pod_dir(phase, id) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    let dir = match lock(dir, FlockArg::LockExclusiveNonblock) {
        Err(Errno::EAGAIN) => {
            recovery.busy.push(id.to_string());
            return Ok(());
        }
        result => result.step("lock", format!("pod {id}"))?,
    };
    if phase != GARBAGE {
        match home.move_pod(id, phase, GARBAGE) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            result => result?,
        }
    }
    pod::dismantle(node, home, id, &dir)?;
    for (namespace, name, owner) in home.all_names()? {
        if owner == id {
            home.release_name(&namespace, &name, id)?;
        }
    }
    home.remove_dir(GARBAGE, id)?;
    recovery.removed.push(id.to_string());
    Ok(())
}

/// Removes what is half made of containers, and settles a resize that was cut short.
fn mend(pod: &pod::Pod, recovery: &mut Recovery) -> Result<()> {
    let dir = pod.dir()?;
    let dir = match lock(dir, FlockArg::LockExclusiveNonblock) {
        Err(Errno::EAGAIN) => {
            recovery.busy.push(pod.id().to_string());
            return Ok(());
        }
        result => result.step("lock", format!("pod {}", pod.id()))?,
    };
    remove_half_made_containers(pod, &dir, recovery)?;
    kubernetes::keep_class(pod);
    let id = pod.id().to_string();
    match settle(pod, &dir) {
        Ok(Settled::Nothing) => {}
        Ok(Settled::TakenBack) => recovery.resizes_taken_back.push(id),
        Ok(Settled::Finished) => recovery.resizes_finished.push(id),
        Err(error) => recovery.resizes_unsettled.push((id, error.to_string())),
    }
    Ok(())
}

/// A container's directory without a state: its program died while it made or removed it.
fn remove_half_made_containers(pod: &pod::Pod, dir: &OwnedFd, recovery: &mut Recovery) -> Result<()> {
    let containers =
        crate::node::open_directory(dir, state::CONTAINERS).step("open", "the directory of containers")?;
    let known = names(containers).step("read", "the directory of containers")?;
    for name in &known {
        if state::exists(&pod.container_dir(name)?, state::STATE) {
            continue;
        }
        if let Some(cgroup) = pod.cgroup()?.open_child(name)? {
            cgroup.remove_tree()?;
        }
        let path = format!("{}/{name}", state::CONTAINERS);
        super::remove_tree(dir, &path).step("remove", format!("container {name:?}"))?;
        recovery.removed_containers.push(format!("{}/{name}", pod.id()));
    }
    Ok(())
}

/// Ephemeral pods end with their program: their namespaces are gone already, their processes and cgroups may not be.
fn remove_dead_programs(node: &Node, home: &Home, recovery: &mut Recovery) -> Result<()> {
    for program in home.entries(LIVE)? {
        let path = format!("{LIVE}/{program}");
        let dir = home.phase(&path)?;
        let Ok(_dead) = lock(dir, FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        for phase in [NEW, PODS, GARBAGE] {
            let Ok(ids) = home.entries(&format!("{path}/{phase}")) else {
                continue;
            };
            for id in ids {
                pod::remove_cgroup(node, &home.phase(&format!("{path}/{phase}/{id}"))?, &id)?;
                recovery.removed.push(id);
            }
        }
        home.remove_dir(LIVE, &program)?;
    }
    Ok(())
}

/// What a program left in places that belong to no pod: it died between two steps of making or removing one.
fn remove_orphans(realm: &Realm, home: &Home, recovery: &mut Recovery) -> Result<()> {
    let known = |id: &str| -> Result<bool> {
        for phase in [NEW, PODS, GARBAGE] {
            if home.entries(phase)?.iter().any(|known| known == id) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    // Those of an ordinary user's node hold ephemeral pods of this very program.
    let pinned = if realm.is_user() { Vec::new() } else { pins::pinned_pods(&home.pins)? };
    for id in pinned {
        if !known(&id)? {
            crate::sys::thread::run(|| pins::PodPins::enter(&home.pins, &id)?.remove())?;
            recovery.removed.push(id);
        }
    }
    // A pod's directory is there before it takes its name and until it has given it back.
    for (namespace, name, id) in home.all_names()? {
        if !known(&id)? {
            home.release_name(&namespace, &name, &id)?;
        }
    }
    Ok(())
}
