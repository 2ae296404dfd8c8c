//! From a node to its pods and their containers. Containers are not opened for it: what their directories of state
//! and cgroups say is enough, and costs a fifth.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::Pid;

use super::network::{self, Shared};
use super::read::Reader;
use super::{
    CgroupStats, ContainerStats, FilesystemOptions, NodeStats, PodStats, StatsOptions, filesystem, gone,
    machine,
};
use crate::cgroup::ControllerSet;
use crate::container::{self, Container};
use crate::error::{Context, ErrorKind, Result};
use crate::node::{self, Node};
use crate::pod::{Pod, state};
use crate::spec::{Rootfs, Upper};
use crate::sys::thread;

/// The directory of a container below a pod's directory of state, and its cgroup.
const DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A thread takes as long to begin as a pod or two take to be read.
const PODS_A_THREAD: usize = 8;
const MOST_THREADS: usize = 4;

pub(super) fn node(node: &Node, options: &StatsOptions) -> Result<NodeStats> {
    let mut reader = Reader::new(options);
    let timestamp_usec = now();
    let machine = machine::read(&mut reader, &node.0.proc)?;
    let mut cgroup = CgroupStats::default();
    // A node of an ordinary user may have none.
    if let Some(tree) = node.0.cgroups.fd() {
        let controllers = reader.controllers(tree, c"cgroup.controllers")?;
        // The node's own cgroup may be one that somebody gave, with processes; below it there are pods only.
        cgroup = reader.cgroup(tree, controllers)?.unwrap_or_default();
    }
    let mut pods = node.pods()?;
    pods.sort_by(|a, b| (a.namespace(), a.name()).cmp(&(b.namespace(), b.name())));
    let shared = network::read(&pods, options)?;
    let pods = all_pods(pods, shared, options)?;
    let cgroup_path = node.0.cgroups.path().to_path_buf();
    let cgroup_mount = node.0.cgroups.mount_point();
    Ok(NodeStats { timestamp_usec, machine, cgroup_mount, cgroup_path, cgroup, pods })
}

/// Several threads, where there are many pods: almost all of it is time in the kernel, of which each pod has its own.
fn all_pods(
    pods: Vec<Pod>,
    mut shared: HashMap<String, Shared>,
    options: &StatsOptions,
) -> Result<Vec<PodStats>> {
    let others = (pods.len() / PODS_A_THREAD).min(MOST_THREADS).min(processors()).saturating_sub(1);
    // By value: what was opened of a pod is closed before the next one.
    let with_shared = |pod: Pod| {
        let shared = shared.remove(pod.id()).unwrap_or_default();
        (pod, shared)
    };
    let queue = Mutex::new(pods.into_iter().map(with_shared).enumerate());
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut found: Vec<(usize, PodStats)> = thread::share(others, &|| {
        let mut reader = Reader::new(options);
        let mut found = Vec::new();
        while let Some((place, (pod, shared))) = take() {
            let stats = one_pod(&mut reader, &pod, shared)?;
            found.extend(stats.map(|stats| (place, stats)));
        }
        Ok(found)
    })?
    .into_iter()
    .flatten()
    .collect();
    found.sort_unstable_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, stats)| stats).collect())
}

/// How many processors the calling thread may use.
fn processors() -> usize {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    (0..CpuSet::count()).filter(|processor| set.is_set(*processor).unwrap_or(false)).count()
}

pub(super) fn pod(pod: &Pod, options: &StatsOptions) -> Result<PodStats> {
    let mut shared = network::read(std::slice::from_ref(pod), options)?;
    let shared = shared.remove(pod.id()).unwrap_or_default();
    one_pod(&mut Reader::new(options), pod, shared)?.ok_or_else(|| gone(format!("pod {}", pod.id())))
}

pub(super) fn container(container: &Container, options: &StatsOptions) -> Result<ContainerStats> {
    let there = |file| fstatat(&container.0.dir, file, AtFlags::AT_SYMLINK_NOFOLLOW);
    let mut reader = Reader::new(options);
    let mut stats = match there(state::STATE) {
        Ok(made) => born(container.name(), &made, there(state::STARTED).ok()),
        Err(Errno::ENOENT) => return Err(gone(format!("container {:?}", container.name()))),
        Err(errno) => return Err(errno).step("stat", "the state of the container"),
    };
    if let Some(cgroup) = &container.0.cgroup {
        let own = container.pod().cgroup()?.as_fd();
        let controllers = reader.controllers(own, c"cgroup.subtree_control")?;
        fill(&mut reader, &mut stats, cgroup.as_fd(), controllers)?;
    }
    if let Some(how) = &options.filesystems {
        stats.writable_layer = writable_layer(container, how)?;
    }
    Ok(stats)
}

/// `None` when the pod was removed.
fn one_pod(reader: &mut Reader<'_>, pod: &Pod, shared: Shared) -> Result<Option<PodStats>> {
    let dir = match pod.dir() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let mut stats = PodStats {
        timestamp_usec: now(),
        id: pod.id().to_string(),
        name: pod.name().to_string(),
        namespace: pod.namespace().to_string(),
        created_at_usec: pod.0.state.created_at / 1000,
        cgroup_path: pod.cgroup_path(),
        network: shared.network,
        volumes: shared.volumes.into_iter().collect(),
        ..PodStats::default()
    };
    let has_cgroups = pod.0.node.0.cgroups.exists();
    let cgroup = match has_cgroups.then(|| pod.cgroup()).transpose() {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        result => result?.map(AsFd::as_fd),
    };
    let mut below = ControllerSet::default();
    if let Some(cgroup) = cgroup {
        let controllers = reader.controllers(cgroup, c"cgroup.controllers")?;
        below = reader.controllers(cgroup, c"cgroup.subtree_control")?;
        stats.cgroup = reader.cgroup(cgroup, controllers)?.unwrap_or_default();
    }
    let containers = match node::open_directory(&dir, state::CONTAINERS) {
        // It is being taken apart.
        Err(Errno::ENOENT) => return Ok(None),
        result => result.step("open", "the directory of containers")?,
    };
    let copy = crate::sys::fd::duplicate(&containers).step("duplicate", "the directory of containers")?;
    let mut names = node::names(copy).step("read", "the directory of containers")?;
    names.sort_unstable();
    for name in names {
        let one = one_container(reader, pod, &containers, &name, cgroup, below)?;
        stats.containers.extend(one);
    }
    if reader.options.processes && cgroup.is_some() {
        stats.cgroup.processes = stats.containers.iter().map(|container| container.cgroup.processes).sum();
    }
    Ok(Some(stats))
}

/// `None` when there is no such container (any more, or yet).
fn one_container(
    reader: &mut Reader<'_>,
    pod: &Pod,
    containers: &OwnedFd,
    name: &str,
    of_pod: Option<BorrowedFd<'_>>,
    controllers: ControllerSet,
) -> Result<Option<ContainerStats>> {
    let there =
        |file: &str| fstatat(containers, format!("{name}/{file}").as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
    let made = match there(state::STATE) {
        Err(Errno::ENOENT) => return Ok(None),
        result => result.step("stat", format!("the state of container {name:?}"))?,
    };
    let mut stats = born(name, &made, there(state::STARTED).ok());
    let cgroup = of_pod.map(|dir| openat(dir, name, DIRECTORY, Mode::empty()));
    match cgroup {
        None | Some(Err(Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR)) => {}
        Some(result) => {
            let cgroup = result.step("open", format!("the cgroup of container {name:?}"))?;
            fill(reader, &mut stats, cgroup.as_fd(), controllers)?;
        }
    }
    if let Some(how) = &reader.options.filesystems {
        match container::open(pod, name).and_then(|container| writable_layer(&container, how)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => stats.writable_layer = result?,
        }
    }
    // Its cgroup goes before its state does.
    let whole = stats.cgroup != CgroupStats::default() || there(state::STATE).is_ok();
    Ok(whole.then_some(stats))
}

fn fill(
    reader: &mut Reader<'_>,
    stats: &mut ContainerStats,
    cgroup: BorrowedFd<'_>,
    controllers: ControllerSet,
) -> Result<()> {
    stats.timestamp_usec = now();
    if let Some(found) = reader.cgroup(cgroup, controllers)? {
        stats.cgroup = found;
        if reader.options.processes {
            stats.cgroup.processes = reader.processes(cgroup)?;
        }
    }
    Ok(())
}

/// A container whose state was written with these files: each once, when what it tells happened.
fn born(name: &str, made: &FileStat, started: Option<FileStat>) -> ContainerStats {
    let written = |stat: &FileStat| {
        let nanoseconds = u64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        u64::try_from(stat.st_mtime).unwrap_or(0) * 1_000_000 + nanoseconds / 1000
    };
    ContainerStats {
        timestamp_usec: now(),
        name: name.to_string(),
        created_at_usec: written(made),
        started_at_usec: started.as_ref().map(written),
        ..ContainerStats::default()
    }
}

/// What the container has changed in its overlay.
fn writable_layer(container: &Container, how: &FilesystemOptions) -> Result<Option<super::FilesystemStats>> {
    let Rootfs::Overlay { upper, .. } = &container.spec().rootfs else { return Ok(None) };
    let opening = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match upper {
        Upper::Directory { upper, .. } => {
            let dir = openat(AT_FDCWD, upper, opening, Mode::empty()).step("open", upper.display())?;
            filesystem::below(&dir, how.max_files).map(Some).step("look at", upper.display())
        }
        Upper::Tmpfs { .. } => {
            // An overlay tells of the filesystem of its upper layer, and this one has no other name.
            let root = format!("{}/root", container.pid());
            let proc = &container.pod().node().0.proc;
            let root =
                match openat(proc, root.as_str(), DIRECTORY.difference(OFlag::O_NOFOLLOW), Mode::empty()) {
                    Ok(root) => root,
                    Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
                    Err(errno) => return Err(errno).step("open", "the root directory of the container"),
                };
            let overlay = filesystem::is_on_overlay(proc, container.pid(), &root);
            // What was opened by a pid was the container's if that still lives. It may have chosen another root.
            if container.wait_end(Some(std::time::Duration::ZERO)) || !overlay? {
                return Ok(None);
            }
            filesystem::whole(&root).map(Some).step("look at", "the root filesystem of the container")
        }
    }
}

fn now() -> u64 {
    state::now() / 1000
}
