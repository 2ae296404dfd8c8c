//! The counters of the network interfaces of pods.
//!
//! They are asked for by a library thread that joins each pod's pinned network namespace in turn: the answer is of the
//! very namespace that the pod was made with, whatever its processes have joined since.

use std::collections::HashMap;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

use super::filesystem;
use super::types::{FilesystemStats, InterfaceStats};
use super::{FilesystemOptions, StatsOptions};
use crate::error::{Context, Result};
use crate::node::Home;
use crate::pod::Pod;
use crate::pod::pins::{PodPins, volume};
use crate::spec::{NamespaceMode, VolumeSource};
use crate::sys::namespace::Kind;
use crate::sys::netlink::{LinkCounters, Netlink};

/// What a pod has that is in no cgroup.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) network: Option<Vec<InterfaceStats>>,
    pub(super) volumes: Vec<(String, FilesystemStats)>,
}

/// What is shared in each of these pods, by id. Pods that end meanwhile are left out.
pub(super) fn read(pods: &[Pod], options: &StatsOptions) -> Result<HashMap<String, Shared>> {
    let mut all = HashMap::new();
    let wanted = |pod: &&Pod| {
        let network = options.network && pod.spec().namespaces.network != NamespaceMode::Host;
        network || (options.filesystems.is_some() && !pod.spec().volumes.is_empty())
    };
    let mut rest: Vec<&Pod> = pods.iter().filter(wanted).collect();
    // One thread for each home: that of the pods that outlast programs, and that of this program's ephemeral ones.
    while let Some((home, node)) = rest.first().map(|pod| (Arc::clone(&pod.0.home), pod.node().clone())) {
        let (here, others): (Vec<&Pod>, Vec<&Pod>) =
            rest.into_iter().partition(|pod| Arc::ptr_eq(&pod.0.home, &home));
        rest = others;
        all.extend(node.0.realm.run(|| of_home(&home, &here, options))?);
    }
    Ok(all)
}

fn of_home(home: &Home, pods: &[&Pod], options: &StatsOptions) -> Result<Vec<(String, Shared)>> {
    let mut all = Vec::new();
    for pod in pods {
        match of_pod(home, pod, options) {
            Ok(shared) => all.push((pod.id().to_string(), shared)),
            // The pod is taken apart; who asked for this one alone hears of it from the cgroup.
            Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error.within(format!("look at pod {}/{}", pod.namespace(), pod.name())));
            }
        }
    }
    Ok(all)
}

fn of_pod(home: &Home, pod: &Pod, options: &StatsOptions) -> Result<Shared> {
    let pins = PodPins::enter(&home.pins, pod.id())?;
    let mut shared = Shared::default();
    if let Some(how) = &options.filesystems {
        for one in &pod.spec().volumes {
            let stats = volume_use(&pins, &one.name, &one.source, how)?;
            shared.volumes.push((one.name.clone(), stats));
        }
    }
    if options.network && pod.spec().namespaces.network != NamespaceMode::Host {
        let namespace = pins.namespace(Kind::Network)?;
        setns(namespace, CloneFlags::CLONE_NEWNET).step("join", "the pod's network namespace")?;
        let links = Netlink::open()
            .and_then(|mut netlink| netlink.counters())
            .step("ask for", "the counters of the pod's network interfaces")?;
        shared.network = Some(links.into_iter().map(interface).collect());
    }
    Ok(shared)
}

fn volume_use(
    pins: &PodPins,
    name: &str,
    source: &VolumeSource,
    how: &FilesystemOptions,
) -> Result<FilesystemStats> {
    let dir = pins.directory(&volume(name))?;
    match source {
        VolumeSource::Tmpfs { .. } => filesystem::whole(&dir),
        VolumeSource::Directory { .. } => filesystem::below(&dir, how.max_files),
    }
    .step("look at", format!("volume {name:?}"))
}

fn interface(link: LinkCounters) -> InterfaceStats {
    InterfaceStats {
        name: link.name,
        received_bytes: link.rx_bytes,
        received_packets: link.rx_packets,
        receive_errors: link.rx_errors,
        receive_dropped: link.rx_dropped,
        sent_bytes: link.tx_bytes,
        sent_packets: link.tx_packets,
        send_errors: link.tx_errors,
        send_dropped: link.tx_dropped,
    }
}
