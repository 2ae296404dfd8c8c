//! The same in nodes of ordinary users, who need no privilege for it where the policy lets them.

use std::fs;

use pericarp::spec::Security;
use pericarp::{ContainerSpec, Mount, Node, NodeOptions, NodeUser, Pod, PodSpec, Rootfs};

use super::apparmor::{MOST, Profile};
use super::selinux;
use crate::rootless::by_user_with;
use crate::support::fixture::say;
use crate::support::{Outcome, skip};

crate::tests![a_profile_is_taken, labels_are_taken];

/// Mutation: without the step that writes the profile, the program was unconfined.
fn a_profile_is_taken() -> Outcome {
    match Profile::load("ordinary", MOST) {
        Ok(profile) => by_user_with(&["apparmor", &profile.name]),
        Err(why) => skip(why),
    }
}

/// Mutation: without the step that writes the label, the program was `kernel_t`.
fn labels_are_taken() -> Outcome {
    match selinux::with_policy() {
        Ok(()) => by_user_with(&["selinux"]),
        Err(why) => skip(why),
    }
}

/// What the user does.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["apparmor", name] => apparmor(name),
        ["selinux"] => labels(),
        _ => return false,
    }
    true
}

fn with_pod(spec: &PodSpec, test: impl FnOnce(&Pod)) {
    let options = NodeOptions::for_user(NodeUser::SingleId).expect("the options");
    let node = Node::open(&options).expect("open the node");
    let pod = node.create_pod(spec).expect("create the pod");
    test(&pod);
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}

/// This program in what the machine has: a user cannot make an overlay of all of that.
fn inside(command: &[&str]) -> ContainerSpec {
    let exe = fs::read_link("/proc/self/exe").expect("the path of this program");
    let words = [exe.to_str().expect("a text"), "payload"].into_iter().chain(command.iter().copied());
    ContainerSpec::new("a", Rootfs::directory("/").readonly()).args(words)
}

fn apparmor(name: &str) {
    with_pod(&PodSpec::new("web").ephemeral(true), |pod| {
        let spec = inside(&["attribute", "apparmor/current"]);
        let text = say(pod, spec.security(Security::default().apparmor_profile(name)));
        assert_eq!(text, format!("{name} (enforce)\n"));
    });
}

fn labels() {
    let (files, program) =
        ("system_u:object_r:container_file_t:s0:c1", "system_u:system_r:container_t:s0:c1,c2");
    with_pod(&PodSpec::new("web").ephemeral(true).mount_label(files), |pod| {
        let security = || Security::default().selinux_label(program).mount_label(files);
        let with = |command: &[&str]| {
            say(pod, inside(command).mount(Mount::tmpfs("/mnt", 1 << 20)).security(security()))
        };
        assert_eq!(with(&["attribute", "current"]).trim_end(), program);
        let paths = ["/dev", "/dev/pts", "/mnt", "/dev/shm", "/dev/mqueue"];
        let labels = with(&["labels", "/dev", "/dev/pts", "/mnt", "/dev/shm", "/dev/mqueue"]);
        let expected: String = paths.iter().map(|path| format!("{path} {files}\n")).collect();
        assert_eq!(labels, expected);
        let written = with(&["write", "/mnt/file", "/dev/shm/file"]);
        assert_eq!(
            written,
            "/mnt/file written
/dev/shm/file written
"
        );
    });
}
