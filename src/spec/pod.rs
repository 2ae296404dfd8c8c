//! The shared context: what containers of a pod have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ipc::IpcObjects;
use super::kubernetes::KubernetesPod;
use super::netdevice::NetDevice;
use super::resources::Resources;
use super::user::UserMode;

/// A pod to make: `Node::create_pod` turns it into namespaces, mounts and a cgroup, without any process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct PodSpec {
    /// A DNS subdomain (RFC 1123), at most 253 bytes; unique among the node's pods of the same namespace.
    pub name: String,
    /// A DNS label, at most 63 bytes.
    #[serde(default = "PodSpec::default_namespace")]
    pub namespace: String,
    /// For whoever selects pods; the library only keeps them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For whoever made the pod; the library only keeps them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The host name. When `None`: the first 63 bytes of the name, less trailing `-` and `.`, as Kubernetes does; or, in a
    /// UTS namespace that is given by its path, the one that is there. Such a namespace gets the name unless it is the
    /// machine's or this program's own: that is refused when the pod is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name, see setdomainname(2); in a namespace that is given as for [`hostname`](Self::hostname).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Whether containers get `/etc/hostname` and `/etc/hosts` that fit the pod, mounted over their own.
    #[serde(default)]
    pub hostname_files: bool,
    /// Kernel parameters of the pod's network and IPC namespaces by their names (`net.ipv4.tcp_syncookies`), and
    /// `kernel.domainname`. A namespace may be the pod's own or one that is given by its path, which must be neither the
    /// machine's nor this program's: that is refused when the pod is made. What a given one is set stays with it. As in
    /// sysctl(8) a name may also be written with slashes, and then with dots in its parts
    /// (`net/ipv4/conf/eth0.5/forwarding`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Where each namespace comes from.
    #[serde(default)]
    pub namespaces: PodNamespaces,
    /// Network devices to move into the pod's network namespace, by their names in that of the calling thread. They keep
    /// their permanent addresses of global scope and are brought up. When the pod ends, the kernel gives a physical
    /// device back to the machine's first network namespace, and deletes a virtual one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Bytes of the tmpfs at `/dev/shm`; 64 MiB unless said otherwise.
    #[serde(default = "PodSpec::default_shm_size")]
    pub shm_size: u64,
    /// Volumes that containers of the pod can mount by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Limits of the pod as a whole.
    #[serde(default)]
    pub resources: Resources,
    /// Requests and limits of the pod and its containers in Kubernetes' terms: they give the pod and those containers
    /// their limits, and decide about admission. What [`resources`](Self::resources) says goes on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesPod>,
    /// The pod's cgroup, where it is not to be the node's own choice: a path from the top of the hierarchy
    /// (`"/kubepods/burstable/pod1234"`), or from the directory of
    /// [`CgroupParent::Path`](crate::CgroupParent::Path). What is missing above it is made and stays; the
    /// cgroup itself must not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// IPC objects that are there before the first container.
    #[serde(default, skip_serializing_if = "IpcObjects::is_empty")]
    pub ipc: IpcObjects,
    /// In a pod with a user namespace: root filesystems, directories of the host as volumes, and bind mounts are not
    /// idmapped. Their files then belong inside to whom they belong on the host, mostly to nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmapped_mounts: bool,
    /// The SELinux label of all files in filesystems that are made for the pod: `/dev/shm`, volumes on tmpfs, its
    /// `/etc/hosts` and `/etc/hostname`; and of the directory `/dev/mqueue` of an IPC namespace of its own. At most 255
    /// bytes. For those of a container see [`Security::mount_label`](crate::spec::Security::mount_label).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// An ephemeral pod lives no longer than the program that made it, and no other program can open it.
    #[serde(default)]
    pub ephemeral: bool,
    /// Whether whoever removes a container writes down how it ended, also when nobody watches the pod, so that
    /// [`Pod::events`](crate::Pod::events) tells of it later. The journal is emptied when it has grown to 1 MiB, or when the
    /// state directory is full; what was dropped is counted ([`Event::Skipped`](crate::Event::Skipped)). Without it
    /// only containers are told of that are there when somebody first watches the pod, and later ones. On unless said
    /// otherwise.
    #[serde(default = "PodSpec::default_journal", skip_serializing_if = "Clone::clone")]
    pub journal: bool,
}

impl PodSpec {
    fn default_journal() -> bool {
        true
    }

    fn default_namespace() -> String {
        "default".to_string()
    }

    fn default_shm_size() -> u64 {
        64 << 20
    }

    /// A pod of that name in namespace `default`, with all namespaces its own.
    pub fn new(name: impl Into<String>) -> Self {
        PodSpec {
            name: name.into(),
            namespace: Self::default_namespace(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            hostname: None,
            domainname: None,
            hostname_files: false,
            sysctls: BTreeMap::new(),
            namespaces: PodNamespaces::default(),
            net_devices: BTreeMap::new(),
            shm_size: Self::default_shm_size(),
            volumes: Vec::new(),
            resources: Resources::default(),
            kubernetes: None,
            cgroup: None,
            ipc: IpcObjects::default(),
            unmapped_mounts: false,
            mount_label: None,
            ephemeral: false,
            journal: Self::default_journal(),
        }
    }

    /// Sets [`namespace`](Self::namespace).
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Adds a label.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets [`hostname`](Self::hostname).
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// Sets [`domainname`](Self::domainname).
    pub fn domainname(mut self, domainname: impl Into<String>) -> Self {
        self.domainname = Some(domainname.into());
        self
    }

    /// Sets [`hostname_files`](Self::hostname_files).
    pub fn hostname_files(mut self, on: bool) -> Self {
        self.hostname_files = on;
        self
    }

    /// Adds a kernel parameter.
    pub fn sysctl(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.sysctls.insert(name.into(), value.into());
        self
    }

    /// Sets the network namespace.
    pub fn network(mut self, mode: NamespaceMode) -> Self {
        self.namespaces.network = mode;
        self
    }

    /// Sets the IPC namespace.
    pub fn ipc_namespace(mut self, mode: NamespaceMode) -> Self {
        self.namespaces.ipc = mode;
        self
    }

    /// Sets the UTS namespace.
    pub fn uts(mut self, mode: NamespaceMode) -> Self {
        self.namespaces.uts = mode;
        self
    }

    /// Sets the PID namespace of the pod's containers.
    pub fn pid(mut self, mode: PidMode) -> Self {
        self.namespaces.pid = mode;
        self
    }

    /// Sets the user namespace.
    pub fn user(mut self, mode: UserMode) -> Self {
        self.namespaces.user = mode;
        self
    }

    /// Sets [`unmapped_mounts`](Self::unmapped_mounts).
    pub fn unmapped_mounts(mut self, on: bool) -> Self {
        self.unmapped_mounts = on;
        self
    }

    /// Sets [`mount_label`](Self::mount_label).
    pub fn mount_label(mut self, label: impl Into<String>) -> Self {
        self.mount_label = Some(label.into());
        self
    }

    /// Adds a network device, by its name in the network namespace of the calling thread.
    pub fn net_device(mut self, host_name: impl Into<String>, device: NetDevice) -> Self {
        self.net_devices.insert(host_name.into(), device);
        self
    }

    /// Sets [`shm_size`](Self::shm_size).
    pub fn shm_size(mut self, bytes: u64) -> Self {
        self.shm_size = bytes;
        self
    }

    /// Adds a volume.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.volumes.push(volume);
        self
    }

    /// Sets [`resources`](Self::resources).
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// Sets [`kubernetes`](Self::kubernetes).
    pub fn kubernetes(mut self, pod: KubernetesPod) -> Self {
        self.kubernetes = Some(pod);
        self
    }

    /// Sets [`cgroup`](Self::cgroup).
    pub fn cgroup(mut self, path: impl Into<String>) -> Self {
        self.cgroup = Some(path.into());
        self
    }

    /// Sets the IPC objects that are there from the start.
    pub fn ipc(mut self, objects: IpcObjects) -> Self {
        self.ipc = objects;
        self
    }

    /// Sets [`ephemeral`](Self::ephemeral).
    pub fn ephemeral(mut self, on: bool) -> Self {
        self.ephemeral = on;
        self
    }

    /// Sets [`journal`](Self::journal).
    pub fn journal(mut self, on: bool) -> Self {
        self.journal = on;
        self
    }

    /// The host name that the pod gets: the given one, or the one made from the name.
    ///
    /// Kubernetes cuts after 63 bytes and trims `-` and `.` from the end.
    pub fn effective_hostname(&self) -> String {
        self.hostname.clone().unwrap_or_else(|| super::hostname_from_name(&self.name))
    }
}

/// Where each namespace of a pod comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PodNamespaces {
    /// The network namespace.
    pub network: NamespaceMode,
    /// The IPC namespace, which also decides whose `/dev/shm` and `/dev/mqueue` containers get.
    pub ipc: NamespaceMode,
    /// The UTS namespace (host name and domain name).
    pub uts: NamespaceMode,
    /// The PID namespaces of the containers.
    pub pid: PidMode,
    /// The user namespace, which the others belong to.
    #[serde(skip_serializing_if = "UserMode::is_host")]
    pub user: UserMode,
}

/// Where a namespace comes from; see namespaces(7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NamespaceMode {
    /// A new one, the pod's own.
    #[default]
    Pod,
    /// The one that the calling thread is in.
    Host,
    /// The one at that path: a file of `/proc/PID/ns`, or a bind mount of one. An open file descriptor can be
    /// given as `/proc/self/fd/N`. It is opened once, when the pod is made.
    Path(PathBuf),
}

/// Where a container's PID namespace comes from; see pid_namespaces(7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PidMode {
    /// A new one for each container, whose first process is process 1.
    #[default]
    Container,
    /// One for all containers of the pod. A few kilobytes of init stay as its process 1 and reap orphans.
    Pod,
    /// The host's.
    Host,
    /// That of another container of the pod, which must be running. Only for a container, not for a pod.
    Target(String),
    /// The one at that path: a file of `/proc/PID/ns`, or a bind mount of one. It is opened for each container.
    Path(PathBuf),
}

/// Where a container's cgroup namespace comes from; see cgroup_namespaces(7).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CgroupNamespace {
    /// A new one, whose root is the container's cgroup.
    #[default]
    Container,
    /// The host's: the container sees where in the machine's tree it is.
    Host,
    /// The one at that path.
    Path(PathBuf),
}

impl CgroupNamespace {
    pub(super) fn is_container(&self) -> bool {
        *self == CgroupNamespace::Container
    }
}

/// A directory that containers of a pod share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// A DNS label, unique in the pod.
    pub name: String,
    /// What it is.
    pub source: VolumeSource,
}

impl Volume {
    /// A tmpfs of at most so many bytes; it ends with the pod.
    pub fn tmpfs(name: impl Into<String>, size: u64) -> Self {
        Volume { name: name.into(), source: VolumeSource::Tmpfs { size, mode: default_volume_mode() } }
    }

    /// A directory of the host, which stays when the pod ends.
    pub fn directory(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Volume { name: name.into(), source: VolumeSource::Directory { path: path.into() } }
    }
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum VolumeSource {
    /// A tmpfs of the pod, see tmpfs(5).
    #[serde(rename_all = "camelCase")]
    Tmpfs {
        /// Bytes, more than 0.
        size: u64,
        /// Permission bits of its root directory; `0o777` unless said otherwise, as Kubernetes' emptyDir.
        #[serde(default = "default_volume_mode")]
        mode: u32,
    },
    /// A directory of the host, with what is mounted below it.
    #[serde(rename_all = "camelCase")]
    Directory {
        /// Its absolute path, resolved once, when the pod is made.
        path: PathBuf,
    },
}

fn default_volume_mode() -> u32 {
    0o777
}
