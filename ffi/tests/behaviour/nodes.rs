//! Nodes: opening, recovery, removal.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pericarp::{CgroupParent, ContainerSpec, ErrorKind, NodeUser, PodSpec, Resources, Rootfs};
use serde_json::json;

use crate::world::*;

crate::behaviours![
    two_handles_see_the_same_pods,
    a_state_directory_that_others_can_write_to_is_refused,
    cgroups_that_cannot_be_are_refused,
    the_cgroup_can_be_given_by_path,
    the_delegated_cgroup_of_root_is_the_machines,
    a_node_with_pods_is_not_removed,
    a_removed_node_is_gone,
    recovery_adopts_what_is_whole,
    recovery_removes_what_is_half_made,
    controllers_are_told,
    closing_a_node_ends_nothing,
    an_ordinary_users_node_has_ephemeral_pods,
];

fn two_handles_see_the_same_pods(world: &World) -> Outcome {
    let other = world.reopen()?;
    let pod = world.pod("a")?;
    let seen = other.open_pod("a")?;
    assert_eq!((seen.id(), seen.created_at()), (pod.id(), pod.created_at()));
    other.create_pod(&PodSpec::new("b"))?;
    let mut names: Vec<String> = world.node.pods()?.iter().map(|pod| pod.name()).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
    PASS
}

fn a_state_directory_that_others_can_write_to_is_refused(world: &World) -> Outcome {
    let open = world.path("open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
    let options = world.options.clone().state_dir(&open);
    world.refused(world.api.open(&options), ErrorKind::CorruptState);
    assert_eq!(fs::read_dir(&open)?.count(), 0, "something was made in it");
    PASS
}

fn cgroups_that_cannot_be_are_refused(world: &World) -> Outcome {
    for name in ["", "..", "a//b", "cgroup.procs"] {
        let options = world.options.clone().cgroup_parent(CgroupParent::Named(name.to_string()));
        world.refused(world.api.open(&options), ErrorKind::InvalidSpec);
    }
    let none = CgroupParent::Path(world.path("none"));
    world.refused(world.api.open(&world.options.clone().cgroup_parent(none)), ErrorKind::NotFound);
    PASS
}

fn the_cgroup_can_be_given_by_path(world: &World) -> Outcome {
    let cgroup = world.pod("a")?.cgroup_path();
    let (parent, _) = cgroup.rsplit_once('/').expect("it has a parent");
    assert!(parent.ends_with(world.cgroup_name()), "{parent}");
    let state_dir = format!("{}-by-path", world.options.state_dir.display());
    let options =
        world.options.clone().state_dir(&state_dir).cgroup_parent(CgroupParent::Path(parent.into()));
    let node = world.api.open(&options)?;
    let pod = node.create_pod(&PodSpec::new("b"))?;
    assert_eq!(pod.cgroup_path(), format!("{parent}/{}", pod.id()));
    pod.remove()?;
    node.remove()?;
    assert!(fs::metadata(parent).is_ok(), "a cgroup that was given is not the node's to remove");
    PASS
}

/// Root may write to all of them; what an ordinary user has is in the suite's tests.
fn the_delegated_cgroup_of_root_is_the_machines(world: &World) -> Outcome {
    let path = world.api.delegated_cgroup()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = |line: &str| line.contains(" - cgroup2 ") && line.split(' ').nth(4) == path.to_str();
    assert!(mounts.lines().any(mounted), "{}", path.display());
    PASS
}

fn a_node_with_pods_is_not_removed(world: &World) -> Outcome {
    let pod = world.pod("a")?;
    world.refused(world.node.remove(), ErrorKind::WrongState);
    assert_eq!(world.node.open_pod("a")?.id(), pod.id());
    pod.remove()?;
    world.node.remove()?;
    PASS
}

fn a_removed_node_is_gone(world: &World) -> Outcome {
    assert!(world.options.state_dir.exists());
    world.node.remove()?;
    assert!(!world.options.state_dir.exists());
    // The same can be made again.
    let again = world.reopen()?;
    again.create_pod(&PodSpec::new("a"))?.remove()?;
    again.remove()?;
    PASS
}

fn recovery_adopts_what_is_whole(world: &World) -> Outcome {
    let pod = world.pod("a")?;
    let container = started(&*pod, &sleeper("c"))?;
    let recovery = world.reopen()?.recover()?;
    assert_eq!(recovery["adopted"], json!([pod.id()]));
    world.saw(recovery.to_string());
    assert_eq!(container.try_wait()?, None, "the container was ended");
    PASS
}

fn recovery_removes_what_is_half_made(world: &World) -> Outcome {
    let pod = world.pod("a")?;
    pod.create_container(&sleeper("c"))?;
    // As if a program had died while it removed the pod.
    let id = pod.id();
    let state = &world.options.state_dir;
    fs::rename(state.join("pods").join(&id), state.join("garbage").join(&id))?;
    let recovery = world.node.recover()?;
    assert_eq!((&recovery["adopted"], &recovery["removed"]), (&json!([]), &json!([id])));
    world.saw(recovery.to_string());
    assert!(fs::metadata(pod.cgroup_path()).is_err(), "its cgroup is left");
    world.pod("a")?;
    PASS
}

fn controllers_are_told(world: &World) -> Outcome {
    let mut controllers = world.node.controllers();
    world.saw(format!("{controllers:?}"));
    // Those are enabled where a limit asks for them.
    controllers.retain(|name| !["hugetlb", "rdma", "misc"].contains(&name.as_str()));
    let pod = world.pod("a")?;
    let file = fs::read_to_string(format!("{}/cgroup.controllers", pod.cgroup_path()))?;
    let present: Vec<&str> = file.split_ascii_whitespace().collect();
    assert!(controllers.iter().all(|name| present.contains(&name.as_str())), "{controllers:?} {present:?}");
    PASS
}

fn closing_a_node_ends_nothing(world: &World) -> Outcome {
    let other = world.reopen()?;
    let third = other.again();
    let pod = other.create_pod(&PodSpec::new("a"))?;
    drop(other);
    let container = started(&*pod, &sleeper("c"))?;
    drop(third);
    let again = world.node.open_pod("a")?.container("c")?;
    assert_eq!((again.pid(), again.try_wait()?), (container.pid(), None));
    PASS
}

/// Root can have one as well: with all ids but its own gone.
fn an_ordinary_users_node_has_ephemeral_pods(world: &World) -> Outcome {
    let state_dir = format!("{}-user", world.options.state_dir.display());
    let options = world.options.clone().state_dir(&state_dir);
    let options = options.user(NodeUser::SingleId).cgroup_parent(CgroupParent::None);
    let node = world.api.open(&options)?;
    assert!(node.controllers().is_empty());
    world.refused(node.create_pod(&PodSpec::new("a")), ErrorKind::Unsupported);
    let limits: Resources = serde_json::from_str(r#"{"pidsMax": 9}"#)?;
    let limited = PodSpec::new("a").ephemeral(true).resources(limits);
    world.refused(node.create_pod(&limited), ErrorKind::Unsupported);
    let pod = node.create_pod(&PodSpec::new("a").ephemeral(true))?;
    assert_eq!(pod.cgroup_path(), "");
    world.refused(pod.freeze(), ErrorKind::Unsupported);
    let spec =
        ContainerSpec::new("ids", Rootfs::directory("/").readonly()).args(["cat", "/proc/self/gid_map"]);
    let map = say(&*pod, spec)?;
    assert_eq!(map.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "0", "1"]);
    pod.remove()?;
    node.remove()?;
    assert!(!std::path::Path::new(&state_dir).exists());
    PASS
}
