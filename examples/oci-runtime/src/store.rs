//! Containers by their ids: each is a pod with one container.

use std::path::Path;

use pericarp::spec::oci::Bundle;
use pericarp::{
    CgroupParent, Container, ContainerSpec, ContainerStatus, ErrorKind, Node, NodeOptions, Pod, PodSpec,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::log::{Log, rfc3339};
use crate::options::{Options, within_user_namespace};

/// The container of each pod.
pub const CONTAINER: &str = "main";
/// The specification that states and configurations are written by.
pub const SPEC_VERSION: &str = "1.3.0";
/// What is remembered of a configuration in the pod's annotations.
const ID: &str = "pericarp-oci/id";
const BUNDLE: &str = "pericarp-oci/bundle";

/// The file in the state directory with the path of the cgroup that was delegated to an ordinary user.
const DELEGATED: &str = "delegated-cgroup";

pub fn node(options: &Options) -> Outcome<Node> {
    let root = options.root()?;
    let open = |parent| Node::open(&NodeOptions::new().state_dir(&root).cgroup_parent(parent));
    if !within_user_namespace() {
        return Ok(open(CgroupParent::Named("pericarp-oci".to_string()))?);
    }
    // Later commands may be called from anywhere: what was found first holds for all, until there is nothing to lose.
    let file = root.join(DELEGATED);
    match std::fs::read_to_string(&file) {
        Ok(path) if !path.is_empty() && Path::new(&path).is_dir() => {
            return Ok(open(CgroupParent::Path(path.into()))?);
        }
        Ok(_) => {
            let node = open(CgroupParent::None)?;
            if !node.pods()?.is_empty() {
                return Ok(node);
            }
        }
        Err(_) => {}
    }
    // Without one there are no limits: what takes a cgroup is an error that says so.
    let (parent, text) = match CgroupParent::delegated() {
        Ok(path) => (CgroupParent::Path(path.clone()), path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => (CgroupParent::None, String::new()),
        Err(error) => return Err(error.into()),
    };
    let node = open(parent)?;
    std::fs::write(&file, text).map_err(|error| format!("write {}: {error}", file.display()))?;
    Ok(node)
}

/// Where a configuration wants the cgroup, below the one that was delegated: that is the top of all that there is here.
fn below_delegated(options: &Options, cgroup: &str) -> Outcome<String> {
    let delegated = std::fs::read_to_string(options.root()?.join(DELEGATED)).unwrap_or_default();
    let wanted = Path::new(cgroup.trim_start_matches('/'));
    let rest = wanted.ancestors().filter(|above| !above.as_os_str().is_empty());
    let rest = rest
        .filter(|above| Path::new(&delegated).ends_with(above))
        .find_map(|above| wanted.strip_prefix(above).ok());
    Ok(rest.filter(|rest| !rest.as_os_str().is_empty()).unwrap_or(wanted).display().to_string())
}

/// The name of an id's pod: pods have names that DNS can have, and ids may be others.
fn pod_name(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !id.is_empty() && id.bytes().all(plain) && !id.starts_with("x0") {
        return format!("c{id}");
    }
    let hex: String = id.bytes().map(|byte| format!("{byte:02x}")).collect();
    // A label of DNS has at most 63 bytes.
    let labels: Vec<&str> =
        hex.as_bytes().chunks(60).map(|part| std::str::from_utf8(part).unwrap_or_default()).collect();
    format!("x0{}", labels.join("."))
}

/// As runc's: letters, digits, `_`, `+`, `-` and `.`.
pub fn check_id(id: &str) -> Outcome<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > 110 || !id.bytes().all(fine) || id == "." || id == ".." {
        return Err(
            format!("the id {id:?} is not 1 to 110 letters, digits and characters of \"_+-.\"").into()
        );
    }
    Ok(())
}

/// The pod and the container that a bundle describes.
pub fn specs(options: &Options, id: &str, bundle: &Path) -> Outcome<(PodSpec, ContainerSpec)> {
    let bundle = bundle.canonicalize().map_err(|error| format!("bundle {}: {error}", bundle.display()))?;
    let read = Bundle::open(&bundle)?;
    let (mut pod, mut container) = (read.pod(pod_name(id))?, read.container()?);
    read.warnings().iter().for_each(|warning| Log::new(options).warning(warning));
    pod.annotations =
        [(ID.to_string(), id.to_string()), (BUNDLE.to_string(), bundle.display().to_string())].into();
    // Seen at the path that the caller chose, as well as inside.
    pod.resources = container.resources.clone();
    if let Some(cgroup) = pod.cgroup.take() {
        let within = within_user_namespace();
        pod.cgroup = Some(if within { below_delegated(options, &cgroup)? } else { cgroup });
    }
    container.name = CONTAINER.to_string();
    container.detached = true;
    container.hooks.id = Some(id.to_string());
    container.hooks.bundle = Some(bundle);
    Ok((pod, container))
}

pub struct Found {
    pub pod: Pod,
    /// `None` while it is being made, or when that was cut short.
    pub container: Option<Container>,
}

/// The container of that id.
pub fn find(options: &Options, id: &str) -> Outcome<Found> {
    find_in(&node(options)?, id)?.ok_or_else(|| format!("container {id:?} does not exist").into())
}

pub fn find_in(node: &Node, id: &str) -> Outcome<Option<Found>> {
    check_id(id)?;
    match node.open_pod(&pod_name(id)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        pod => whole(pod?).map(Some),
    }
}

fn whole(pod: Pod) -> Outcome<Found> {
    let container = match pod.container(CONTAINER) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        container => Some(container?),
    };
    Ok(Found { pod, container })
}

/// All containers, by their ids.
pub fn all(options: &Options) -> Outcome<Vec<Found>> {
    let mut found: Vec<Found> = node(options)?.pods()?.into_iter().map(whole).collect::<Outcome<_>>()?;
    found.sort_by_key(|found| found.id().to_string());
    Ok(found)
}

impl Found {
    pub fn id(&self) -> &str {
        self.pod.spec().annotations.get(ID).map_or("", String::as_str)
    }

    pub fn container(&self) -> Outcome<&Container> {
        self.container.as_ref().ok_or_else(|| format!("container {:?} is still being made", self.id()).into())
    }

    /// In the words of the specification, and `paused`, which runc has.
    pub fn status(&self) -> Outcome<&'static str> {
        let Some(container) = &self.container else { return Ok("creating") };
        Ok(match container.status()? {
            ContainerStatus::Created => "created",
            ContainerStatus::Running if container.is_frozen()? => "paused",
            ContainerStatus::Running => "running",
            ContainerStatus::Exited(_) => "stopped",
        })
    }

    /// The state (runtime-spec, "State"), with what runc and crun add to it.
    pub fn state(&self) -> Outcome<Value> {
        let status = self.status()?;
        let pid = match (&self.container, status) {
            (Some(container), "created" | "running" | "paused") => container.pid(),
            _ => 0,
        };
        let annotations = self.container.as_ref().map(|container| container.spec().annotations.clone());
        Ok(json!({
            "ociVersion": SPEC_VERSION,
            "id": self.id(),
            "pid": pid,
            "status": status,
            "bundle": self.pod.spec().annotations.get(BUNDLE),
            "rootfs": self.container.as_ref().map(|container| container.spec().rootfs.path()),
            "created": rfc3339(self.pod.created_at()),
            "annotations": annotations.unwrap_or_default(),
            "owner": "root",
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_name_of_its_own_that_dns_can_have() {
        let long = "A".repeat(110);
        let ids = ["abc", "cabc", "x0abc", "ABC", "a_b", "a.b", "-", "+", "78", "x", &long];
        let names: std::collections::BTreeSet<String> = ids.iter().map(|id| pod_name(id)).collect();
        assert_eq!(names.len(), ids.len());
        for (id, name) in ids.iter().map(|id| (id, pod_name(id))) {
            check_id(id).unwrap();
            PodSpec::new(&name).validate().unwrap_or_else(|error| panic!("{id}: {name}: {error}"));
        }
        for bad in ["", ".", "..", "a/b", "a b", &"a".repeat(111)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
