//! Pods through C.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::time::Duration;

use pericarp::spec::kubernetes::Resize;
use pericarp::spec::{
    IdMappings, IpcObjects, MessageQueueSpec, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec,
    SysvMessageQueueSpec,
};
use pericarp::stats::StatsOptions;
use pericarp::{
    ContainerSpec, ErrorKind, EventOptions, ExitStatus, NamespaceKind, PodSpec, Resources, Stdio,
};
use pericarp_ffi::*;
use serde_json::Value;

use super::container::{given, output};
use super::*;

/// Makes a call that opens a file.
pub(super) fn get_fd(function: impl Fn(*mut c_int, *mut *mut pericarp_error_t) -> c_int) -> Res<OwnedFd> {
    let fd = get(-77, function)?;
    // SAFETY: it is the caller's now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn constant(kind: NamespaceKind) -> u32 {
    match kind {
        NamespaceKind::Network => PERICARP_NAMESPACE_NETWORK,
        NamespaceKind::Ipc => PERICARP_NAMESPACE_IPC,
        NamespaceKind::Uts => PERICARP_NAMESPACE_UTS,
        NamespaceKind::Pid => PERICARP_NAMESPACE_PID,
        NamespaceKind::User => PERICARP_NAMESPACE_USER,
        other => panic!("the header has no constant for {other:?}"),
    }
}

impl PodApi for PodHandle {
    fn again(&self) -> Box<dyn PodApi> {
        Box::new(self.another())
    }

    fn id(&self) -> String {
        // SAFETY: it is a live handle.
        unsafe { text(pericarp_pod_id(self.pointer)) }.expect("an id")
    }

    fn name(&self) -> String {
        // SAFETY: it is a live handle.
        unsafe { text(pericarp_pod_name(self.pointer)) }.expect("a name")
    }

    fn namespace(&self) -> String {
        // SAFETY: it is a live handle.
        unsafe { text(pericarp_pod_namespace(self.pointer)) }.expect("a namespace")
    }

    fn cgroup_path(&self) -> String {
        // SAFETY: it is a live handle.
        unsafe { text(pericarp_pod_cgroup_path(self.pointer)) }.expect("a path")
    }

    fn created_at(&self) -> u64 {
        // SAFETY: it is a live handle.
        unsafe { pericarp_pod_created_at(self.pointer) }
    }

    fn node(&self) -> Box<dyn NodeApi> {
        // SAFETY: it is a live handle.
        Box::new(node(unsafe { pericarp_pod_node(self.pointer) }))
    }

    fn spec(&self) -> PodSpec {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_pod_spec(self.pointer, place, err) })
            .expect("a specification")
    }

    fn label(&self, key: &str) -> Option<String> {
        let key = c_text(key);
        // SAFETY: all pointers are to what the header asks for.
        let label =
            get_text(|place, err| unsafe { pericarp_pod_label(self.pointer, key.as_ptr(), place, err) });
        label.inspect_err(|failure| assert_eq!(failure.kind, ErrorKind::NotFound)).ok()
    }

    fn namespace_fd(&self, kind: NamespaceKind) -> Res<OwnedFd> {
        // SAFETY: all pointers are to what the header asks for.
        get_fd(|place, err| unsafe { pericarp_pod_open_namespace(self.pointer, constant(kind), place, err) })
    }

    fn namespace_inode(&self, kind: NamespaceKind) -> Res<u64> {
        // SAFETY: all pointers are to what the header asks for.
        get(77, |place, err| unsafe {
            pericarp_pod_namespace_inode(self.pointer, constant(kind), place, err)
        })
    }

    fn create_container(&self, spec: &ContainerSpec) -> Res<Box<dyn ContainerApi>> {
        let (json, stdio) = given(spec);
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_pod_create_container(self.pointer, json.as_ptr(), &stdio, place, err)
        })
        .map(boxed_container)
    }

    fn create_container_oci(
        &self,
        bundle: &dyn BundleApi,
        name: &str,
        stdout: Stdio,
    ) -> Res<Box<dyn ContainerApi>> {
        let (bundle, name, stdio) = (library::bundle_of(bundle), c_text(name), output(&stdout));
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_pod_create_container_oci(self.pointer, bundle, name.as_ptr(), &stdio, place, err)
        })
        .map(boxed_container)
    }

    fn update(&self, resources: &Resources) -> Res<()> {
        let json = c_json(resources);
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_pod_update_json(self.pointer, json.as_ptr(), err) })
    }

    fn update_all(&self, resources: &Resources, containers: &BTreeMap<String, Resources>) -> Res<()> {
        let (json, containers) = (c_json(resources), c_json(containers));
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe {
            pericarp_pod_update_all_json(self.pointer, json.as_ptr(), containers.as_ptr(), err)
        })
    }

    fn update_oci(&self, resources: &Value) -> Res<()> {
        let json = c_json(resources);
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_pod_update_oci(self.pointer, json.as_ptr(), err) })
    }

    fn id_mappings(&self) -> Option<IdMappings> {
        // SAFETY: all pointers are to what the header asks for.
        let ids = get_json(|place, err| unsafe { pericarp_pod_id_mappings(self.pointer, place, err) });
        ids.inspect_err(|failure| assert_eq!(failure.kind, ErrorKind::NotFound)).ok()
    }

    fn run(&self, spec: &ContainerSpec) -> Res<ExitStatus> {
        let (json, stdio) = given(spec);
        // SAFETY: all pointers are to what the header asks for.
        let status = get_status(|place, err| unsafe {
            pericarp_pod_run(self.pointer, json.as_ptr(), &stdio, place, err)
        })?;
        Ok(status.expect("it has ended"))
    }

    fn qos_class(&self) -> Option<String> {
        // SAFETY: all pointers are to what the header asks for.
        let class = get_text(|place, err| unsafe { pericarp_pod_qos_class(self.pointer, place, err) });
        class.inspect_err(|failure| assert_eq!(failure.kind, ErrorKind::NotFound)).ok()
    }

    fn kubernetes(&self) -> Res<Option<Value>> {
        // SAFETY: all pointers are to what the header asks for.
        match get_json(|place, err| unsafe { pericarp_pod_kubernetes(self.pointer, place, err) }) {
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }

    fn resize(&self, resize: &Resize) -> Res<Value> {
        let json = c_json(resize);
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_pod_resize_json(self.pointer, json.as_ptr(), place, err) })
    }

    fn explain(&self, spec: &ContainerSpec) -> Res<String> {
        let json = c_json(spec);
        // SAFETY: all pointers are to what the header asks for.
        get_text(|place, err| unsafe { pericarp_pod_explain(self.pointer, json.as_ptr(), place, err) })
    }

    fn container(&self, name: &str) -> Res<Box<dyn ContainerApi>> {
        let name = c_text(name);
        // SAFETY: all pointers are to what the header asks for.
        get(null_mut(), |place, err| unsafe {
            pericarp_pod_open_container(self.pointer, name.as_ptr(), place, err)
        })
        .map(boxed_container)
    }

    fn containers(&self) -> Res<Vec<Box<dyn ContainerApi>>> {
        // SAFETY: all pointers are to what the header asks for.
        let containers =
            get_list(pericarp_container_ref, pericarp_container_list_free, |place, count, err| unsafe {
                pericarp_pod_containers(self.pointer, place, count, err)
            })?;
        Ok(containers.into_iter().map(boxed_container).collect())
    }

    fn status(&self) -> Res<Value> {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_pod_status(self.pointer, place, err) })
    }

    fn stats(&self, options: &StatsOptions) -> Res<Value> {
        let options = c_json(options);
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_pod_stats_json(self.pointer, options.as_ptr(), place, err) })
    }

    fn stop(&self, grace: Duration) -> Res<()> {
        let grace = grace.as_millis().try_into().expect("a short time");
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_pod_stop(self.pointer, grace, err) })
    }

    fn freeze(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_pod_freeze(self.pointer, err) })
    }

    fn thaw(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_pod_thaw(self.pointer, err) })
    }

    fn is_frozen(&self) -> Res<bool> {
        // SAFETY: all pointers are to what the header asks for.
        get(77, |place, err| unsafe { pericarp_pod_is_frozen(self.pointer, place, err) })
            .map(|frozen| frozen == 1)
    }

    fn kill(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_pod_kill(self.pointer, err) })
    }

    fn events(&self, options: Option<&EventOptions>) -> Res<Box<dyn EventsApi>> {
        events::subscribe(self.pointer, options)
    }

    fn remove(&self) -> Res<()> {
        // SAFETY: all pointers are to what the header asks for.
        call(|err| unsafe { pericarp_pod_remove(self.pointer, err) })
    }

    fn ipc_create(&self, objects: &IpcObjects) -> Res<()> {
        ipc::create(self.pointer, objects)
    }

    fn create_shm_object(&self, object: &ShmObjectSpec) -> Res<OwnedFd> {
        ipc::create_shm_object(self.pointer, object)
    }

    fn open_shm_object(&self, name: &str, writable: bool) -> Res<OwnedFd> {
        ipc::open_shm_object(self.pointer, name, writable)
    }

    fn remove_shm_object(&self, name: &str) -> Res<()> {
        ipc::remove_by_name(self.pointer, pericarp_ipc_remove_shm_object, name)
    }

    fn create_mqueue(&self, queue: &MessageQueueSpec) -> Res<()> {
        ipc::create_mqueue(self.pointer, queue)
    }

    fn remove_mqueue(&self, name: &str) -> Res<()> {
        ipc::remove_by_name(self.pointer, pericarp_ipc_remove_mqueue, name)
    }

    fn create_sysv_shm(&self, segment: &SharedMemorySpec) -> Res<i32> {
        ipc::create_sysv_shm(self.pointer, segment)
    }

    fn remove_sysv_shm(&self, key: i32) -> Res<()> {
        ipc::remove_by_key(self.pointer, pericarp_ipc_remove_sysv_shm, key)
    }

    fn create_sysv_sem(&self, set: &SemaphoreSetSpec) -> Res<i32> {
        ipc::create_sysv_sem(self.pointer, set)
    }

    fn remove_sysv_sem(&self, key: i32) -> Res<()> {
        ipc::remove_by_key(self.pointer, pericarp_ipc_remove_sysv_sem, key)
    }

    fn create_sysv_msg(&self, queue: &SysvMessageQueueSpec) -> Res<i32> {
        ipc::create_sysv_msg(self.pointer, queue)
    }

    fn remove_sysv_msg(&self, key: i32) -> Res<()> {
        ipc::remove_by_key(self.pointer, pericarp_ipc_remove_sysv_msg, key)
    }

    fn ipc_list(&self) -> Res<Value> {
        // SAFETY: all pointers are to what the header asks for.
        get_json(|place, err| unsafe { pericarp_ipc_list(self.pointer, place, err) })
    }
}
