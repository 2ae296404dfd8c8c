//! The Rust interface.

mod library;
mod streams;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, UNIX_EPOCH};

use pericarp::oci_spec::runtime::LinuxResources;
use pericarp::spec::kubernetes::Resize;
use pericarp::spec::oci::ProcessFile;
use pericarp::spec::{
    DeviceRule, IdMappings, IpcObjects, MessageQueueSpec, NamespaceMode, PidMode, SemaphoreSetSpec,
    SharedMemorySpec, ShmObjectSpec, SysvMessageQueueSpec,
};
use pericarp::stats::StatsOptions;
use pericarp::{
    Container, ContainerSpec, ContainerStatus, Error, Event, EventOptions, EventSource, Events, ExecSpec,
    ExitStatus, NamespaceKind, Node, Pod, PodSpec, Resources, Stdio,
};
use serde_json::{Value, json};

use library::bundle_of;

use crate::api::*;

pub struct Rust;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            kind: error.kind(),
            errno: error.errno(),
            step: error.step().to_string(),
            subject: error.subject().map(str::to_string),
            message: error.to_string(),
        }
    }
}

fn pod(pod: Pod) -> Box<dyn PodApi> {
    Box::new(pod)
}

fn container(container: Container) -> Box<dyn ContainerApi> {
    Box::new(container)
}

/// What `linux.resources` says.
fn oci_resources(json: &Value) -> Res<(Resources, Vec<DeviceRule>)> {
    let given: LinuxResources = serde_json::from_value(json.clone()).expect("resources");
    Ok((Resources::from_oci(&given)?, DeviceRule::all_from_oci(&given)?))
}

impl NodeApi for Node {
    fn again(&self) -> Box<dyn NodeApi> {
        Box::new(self.clone())
    }

    fn create_pod(&self, spec: &PodSpec) -> Res<Box<dyn PodApi>> {
        Ok(pod(self.create_pod(spec)?))
    }

    fn create_simple_pod(&self, simple: &Simple) -> Res<Box<dyn PodApi>> {
        let mode = |host: bool| if host { NamespaceMode::Host } else { NamespaceMode::Pod };
        let mut spec = PodSpec::new(&simple.name)
            .ephemeral(simple.ephemeral)
            .hostname_files(simple.hostname_files)
            .network(mode(simple.host_network))
            .ipc_namespace(mode(simple.host_ipc))
            .uts(mode(simple.host_uts));
        if simple.shared_pid {
            spec = spec.pid(PidMode::Pod);
        }
        if simple.host_pid {
            spec = spec.pid(PidMode::Host);
        }
        if let Some(namespace) = &simple.namespace {
            spec = spec.namespace(namespace);
        }
        if let Some(hostname) = &simple.hostname {
            spec = spec.hostname(hostname);
        }
        if let Some(bytes) = simple.shm_size {
            spec = spec.shm_size(bytes);
        }
        Ok(pod(self.create_pod(&spec)?))
    }

    fn create_pod_oci(&self, bundle: &dyn BundleApi, name: &str) -> Res<Box<dyn PodApi>> {
        Ok(pod(self.create_pod(&bundle_of(bundle).pod(name)?)?))
    }

    fn pods(&self) -> Res<Vec<Box<dyn PodApi>>> {
        Ok(self.pods()?.into_iter().map(pod).collect())
    }

    fn open_pod(&self, id_or_name: &str) -> Res<Box<dyn PodApi>> {
        Ok(pod(self.open_pod(id_or_name)?))
    }

    fn recover(&self) -> Res<Value> {
        let recovery = self.recover()?;
        let unsettled = recovery.resizes_unsettled.iter().map(|(id, why)| json!({ "pod": id, "error": why }));
        Ok(json!({
            "adopted": recovery.adopted,
            "removed": recovery.removed,
            "removedContainers": recovery.removed_containers,
            "foreign": recovery.foreign,
            "busy": recovery.busy,
            "resizesTakenBack": recovery.resizes_taken_back,
            "resizesFinished": recovery.resizes_finished,
            "resizesUnsettled": unsettled.collect::<Value>(),
        }))
    }

    fn capacity(&self) -> Res<Value> {
        Ok(json!(self.capacity()?))
    }

    fn controllers(&self) -> Vec<String> {
        self.controllers()
    }

    fn stats(&self, options: &StatsOptions) -> Res<Value> {
        Ok(json!(self.stats_with(options)?))
    }

    fn prometheus(&self) -> Res<String> {
        Ok(self.stats()?.to_prometheus())
    }

    fn remove(&self) -> Res<()> {
        Ok(self.remove()?)
    }
}

impl PodApi for Pod {
    fn again(&self) -> Box<dyn PodApi> {
        pod(self.clone())
    }

    fn id(&self) -> String {
        self.id().to_string()
    }

    fn name(&self) -> String {
        self.name().to_string()
    }

    fn namespace(&self) -> String {
        self.namespace().to_string()
    }

    fn cgroup_path(&self) -> String {
        self.cgroup_path().to_string_lossy().into_owned()
    }

    fn created_at(&self) -> u64 {
        let since = self.created_at().duration_since(UNIX_EPOCH).expect("after 1970");
        since.as_nanos().try_into().expect("before 2554")
    }

    fn node(&self) -> Box<dyn NodeApi> {
        Box::new(self.node().clone())
    }

    fn spec(&self) -> PodSpec {
        self.spec().clone()
    }

    fn label(&self, key: &str) -> Option<String> {
        self.spec().labels.get(key).cloned()
    }

    fn namespace_fd(&self, kind: NamespaceKind) -> Res<OwnedFd> {
        Ok(self.namespace_fd(kind)?)
    }

    fn namespace_inode(&self, kind: NamespaceKind) -> Res<u64> {
        Ok(self.namespace_inode(kind)?)
    }

    fn create_container(&self, spec: &ContainerSpec) -> Res<Box<dyn ContainerApi>> {
        Ok(container(self.create_container(spec)?))
    }

    fn create_container_oci(
        &self,
        bundle: &dyn BundleApi,
        name: &str,
        stdout: Stdio,
    ) -> Res<Box<dyn ContainerApi>> {
        let mut spec = bundle_of(bundle).container()?.stdout(stdout);
        spec.name = name.to_string();
        Ok(container(self.create_container(&spec)?))
    }

    fn update(&self, resources: &Resources) -> Res<()> {
        Ok(self.update(resources)?)
    }

    fn update_all(&self, resources: &Resources, containers: &BTreeMap<String, Resources>) -> Res<()> {
        Ok(self.update_all(resources, containers)?)
    }

    fn update_oci(&self, resources: &Value) -> Res<()> {
        let (limits, rules) = oci_resources(resources)?;
        assert!(rules.is_empty(), "they are a container's");
        Ok(self.update(&limits)?)
    }

    fn id_mappings(&self) -> Option<IdMappings> {
        self.id_mappings().cloned()
    }

    fn run(&self, spec: &ContainerSpec) -> Res<ExitStatus> {
        Ok(self.run(spec)?)
    }

    fn qos_class(&self) -> Option<String> {
        self.qos_class().map(|class| class.to_string())
    }

    fn kubernetes(&self) -> Res<Option<Value>> {
        Ok(self.kubernetes()?.map(|pod| json!(pod)))
    }

    fn resize(&self, resize: &Resize) -> Res<Value> {
        Ok(json!(self.resize(resize)?))
    }

    fn explain(&self, spec: &ContainerSpec) -> Res<String> {
        Ok(self.explain(spec)?.to_string())
    }

    fn container(&self, name: &str) -> Res<Box<dyn ContainerApi>> {
        Ok(container(self.container(name)?))
    }

    fn containers(&self) -> Res<Vec<Box<dyn ContainerApi>>> {
        Ok(self.containers()?.into_iter().map(container).collect())
    }

    fn status(&self) -> Res<Value> {
        let of = |status: ContainerStatus| match status {
            ContainerStatus::Created => json!({"state": "created"}),
            ContainerStatus::Running => json!({"state": "running"}),
            ContainerStatus::Exited(None) => json!({"state": "exited"}),
            ContainerStatus::Exited(Some(ExitStatus::Exited(code))) => {
                json!({"state": "exited", "exitCode": code})
            }
            ContainerStatus::Exited(Some(ExitStatus::Signaled { signal, core_dumped })) => {
                json!({"state": "exited", "signal": signal, "coreDumped": core_dumped})
            }
        };
        let containers: serde_json::Map<String, Value> =
            self.status()?.containers.into_iter().map(|(name, status)| (name, of(status))).collect();
        Ok(json!({ "containers": containers }))
    }

    fn stats(&self, options: &StatsOptions) -> Res<Value> {
        Ok(json!(self.stats_with(options)?))
    }

    fn stop(&self, grace: Duration) -> Res<()> {
        Ok(self.stop(grace)?)
    }

    fn freeze(&self) -> Res<()> {
        Ok(self.freeze()?)
    }

    fn thaw(&self) -> Res<()> {
        Ok(self.thaw()?)
    }

    fn is_frozen(&self) -> Res<bool> {
        Ok(self.is_frozen()?)
    }

    fn kill(&self) -> Res<()> {
        Ok(self.kill()?)
    }

    fn events(&self, options: Option<&EventOptions>) -> Res<Box<dyn EventsApi>> {
        Ok(Box::new(options.map_or_else(|| self.events(), |options| self.events_with(options))?))
    }

    fn remove(&self) -> Res<()> {
        Ok(self.remove()?)
    }

    fn ipc_create(&self, objects: &IpcObjects) -> Res<()> {
        Ok(self.ipc().create(objects)?)
    }

    fn create_shm_object(&self, object: &ShmObjectSpec) -> Res<OwnedFd> {
        Ok(self.ipc().create_shm_object(object)?)
    }

    fn open_shm_object(&self, name: &str, writable: bool) -> Res<OwnedFd> {
        Ok(self.ipc().open_shm_object(name, writable)?)
    }

    fn remove_shm_object(&self, name: &str) -> Res<()> {
        Ok(self.ipc().remove_shm_object(name)?)
    }

    fn create_mqueue(&self, queue: &MessageQueueSpec) -> Res<()> {
        Ok(self.ipc().create_mqueue(queue)?)
    }

    fn remove_mqueue(&self, name: &str) -> Res<()> {
        Ok(self.ipc().remove_mqueue(name)?)
    }

    fn create_sysv_shm(&self, segment: &SharedMemorySpec) -> Res<i32> {
        Ok(self.ipc().create_sysv_shm(segment)?)
    }

    fn remove_sysv_shm(&self, key: i32) -> Res<()> {
        Ok(self.ipc().remove_sysv_shm(key)?)
    }

    fn create_sysv_sem(&self, set: &SemaphoreSetSpec) -> Res<i32> {
        Ok(self.ipc().create_sysv_sem(set)?)
    }

    fn remove_sysv_sem(&self, key: i32) -> Res<()> {
        Ok(self.ipc().remove_sysv_sem(key)?)
    }

    fn create_sysv_msg(&self, queue: &SysvMessageQueueSpec) -> Res<i32> {
        Ok(self.ipc().create_sysv_msg(queue)?)
    }

    fn remove_sysv_msg(&self, key: i32) -> Res<()> {
        Ok(self.ipc().remove_sysv_msg(key)?)
    }

    fn ipc_list(&self) -> Res<Value> {
        Ok(serde_json::to_value(self.ipc().list()?).expect("a listing is JSON"))
    }
}

impl EventsApi for Events {
    fn next(&self) -> Res<Option<Event>> {
        Ok(self.next_event()?)
    }

    fn fd(&self) -> OwnedFd {
        self.as_fd().try_clone_to_owned().expect("duplicate a descriptor")
    }

    fn is_over(&self) -> bool {
        self.is_over()
    }

    fn sources(&self) -> Value {
        let words = self.sources().iter().map(|source| match source {
            EventSource::Containers => "containers",
            EventSource::Freezer => "freezer",
            EventSource::Memory => "memory",
            EventSource::Pressure(_) => "pressure",
            other => panic!("the header has no word for {other:?}"),
        });
        words.collect()
    }

    fn pod(&self) -> Box<dyn PodApi> {
        pod(self.pod())
    }
}

impl ContainerApi for Container {
    fn again(&self) -> Box<dyn ContainerApi> {
        container(self.clone())
    }

    fn name(&self) -> String {
        self.name().to_string()
    }

    fn pod(&self) -> Box<dyn PodApi> {
        pod(self.pod().clone())
    }

    fn spec(&self) -> ContainerSpec {
        self.spec().clone()
    }

    fn pid(&self) -> i32 {
        self.pid()
    }

    fn pidfd(&self) -> Option<OwnedFd> {
        self.pidfd().map(|pidfd| pidfd.try_clone_to_owned().expect("duplicate a pidfd"))
    }

    fn take_stdin(&self) -> Option<File> {
        self.take_stdin()
    }

    fn take_stdout(&self) -> Option<File> {
        self.take_stdout()
    }

    fn take_stderr(&self) -> Option<File> {
        self.take_stderr()
    }

    fn start(&self) -> Res<()> {
        Ok(self.start()?)
    }

    fn signal(&self, signal: i32) -> Res<()> {
        Ok(self.signal(signal)?)
    }

    fn signal_all(&self, signal: i32) -> Res<()> {
        Ok(self.signal_all(signal)?)
    }

    fn update_device_rules(&self, rules: &[DeviceRule]) -> Res<()> {
        Ok(self.update_device_rules(rules)?)
    }

    fn kill(&self) -> Res<()> {
        Ok(self.kill()?)
    }

    fn wait(&self) -> Res<ExitStatus> {
        Ok(self.wait()?)
    }

    fn wait_timeout(&self, timeout: Option<Duration>) -> Res<Option<ExitStatus>> {
        Ok(self.wait_timeout(timeout)?)
    }

    fn try_wait(&self) -> Res<Option<ExitStatus>> {
        Ok(self.try_wait()?)
    }

    fn status(&self) -> Res<ContainerStatus> {
        Ok(self.status()?)
    }

    fn stop(&self, grace: Duration) -> Res<ExitStatus> {
        Ok(self.stop(grace)?)
    }

    fn remove(&self) -> Res<()> {
        Ok(self.remove()?)
    }

    fn processes(&self) -> Res<Vec<i32>> {
        Ok(self.processes()?)
    }

    fn set_oom_score_adj(&self, adjustment: i32) -> Res<()> {
        Ok(self.set_oom_score_adj(adjustment)?)
    }

    fn freeze(&self) -> Res<()> {
        Ok(self.freeze()?)
    }

    fn thaw(&self) -> Res<()> {
        Ok(self.thaw()?)
    }

    fn stats(&self, options: &StatsOptions) -> Res<Value> {
        Ok(json!(self.stats_with(options)?))
    }

    fn exec(&self, spec: &ExecSpec) -> Res<Box<dyn ProcessApi>> {
        Ok(Box::new(self.exec(spec)?))
    }

    fn exec_oci(&self, process: &Value, stdout: Stdio) -> Res<Box<dyn ProcessApi>> {
        let process = ProcessFile::parse(&process.to_string())?;
        Ok(Box::new(self.exec(&process.spec()?.stdout(stdout))?))
    }

    fn update(&self, resources: &Resources) -> Res<()> {
        Ok(self.update(resources)?)
    }

    fn update_oci(&self, resources: &Value) -> Res<()> {
        let (limits, rules) = oci_resources(resources)?;
        self.update(&limits)?;
        if !rules.is_empty() {
            self.update_device_rules(&rules)?;
        }
        Ok(())
    }

    fn is_frozen(&self) -> Res<bool> {
        Ok(self.is_frozen()?)
    }

    fn take_terminal(&self) -> Option<Box<dyn TerminalApi>> {
        Some(Box::new(self.take_terminal()?))
    }

    fn take_seccomp_listener(&self) -> Option<OwnedFd> {
        self.take_seccomp_listener()
    }

    fn hot_stats(&self) -> Res<BTreeMap<&'static str, Option<u64>>> {
        Ok(hot_of(&json!(self.stats()?)))
    }
}
