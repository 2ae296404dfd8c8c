//! `mountLabel`: the SELinux label of what is in filesystems that are made for a pod and its containers.

use std::collections::BTreeMap;
use std::fs;

use pericarp::spec::{Security, Upper};
use pericarp::{ContainerSpec, ErrorKind, Mount, Pod, PodSpec, Rootfs, Volume};

use super::{file_label, pods, selinux};
use crate::support::fixture::{payload as inside, rootfs, say};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    files_in_filesystems_of_a_container_have_its_label,
    files_in_filesystems_of_the_pod_have_its_label,
    a_confined_program_writes_only_what_has_a_label_for_it,
    a_label_of_the_mount_itself_stays,
    labels_that_the_policy_does_not_have_are_told_and_nothing_is_left,
];

/// The policy's words, see `policy.cil`.
const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";
const OF_POD: &str = "system_u:object_r:container_file_t:s0";
const OTHERS: &str = "system_u:object_r:host_file_t:s0";

/// The labels that a container sees of these files.
fn labels(
    pod: &Pod,
    paths: &[&str],
    change: impl FnOnce(ContainerSpec) -> ContainerSpec,
) -> BTreeMap<String, String> {
    let command: Vec<&str> = ["labels"].iter().chain(paths).copied().collect();
    let text = say(pod, change(inside("a", &command)));
    let pairs = text.lines().map(|line| line.split_once(' ').expect("a path and a label"));
    pairs.map(|(path, label)| (path.to_string(), label.to_string())).collect()
}

/// Mutation: with no filesystem in `LABELLED`, `/dev` had the label of others; with nothing in `label_of_overlay`, `/usr`.
fn files_in_filesystems_of_a_container_have_its_label() -> Outcome {
    if let Err(why) = selinux::with_policy() {
        return skip(why);
    }
    let fixture = Fixture::new();
    let own = ["/", "/usr", "/dev", "/dev/null", "/dev/fd", "/dev/pts", "/dev/pts/ptmx", "/work"];
    let others = ["/proc", "/proc/self/status", "/sys", "/sys/kernel", "/payload", "/dev/shm"];
    let paths: Vec<&str> = own.into_iter().chain(others).collect();
    for spec in pods() {
        let pod = fixture.node.create_pod(&spec)?;
        let seen = |security| {
            labels(&pod, &paths, |spec| spec.security(security).mount(Mount::tmpfs("/work", 1 << 20)))
        };
        let (labelled, plain) = (seen(Security::default().mount_label(LABEL)), seen(Security::default()));
        for path in own {
            assert_eq!(labelled[path], LABEL, "{path} in {}", spec.name);
        }
        for path in others {
            assert_eq!(labelled[path], plain[path], "{path} in {}", spec.name);
        }
        for path in ["/", "/dev", "/work", "/payload", "/dev/shm"] {
            assert_eq!(plain[path], OTHERS, "{path} in {}", spec.name);
        }
    }
    // Neither is what the layers of the root are made of.
    assert_eq!(file_label("/usr".as_ref())?, OTHERS);
    PASS
}

/// Mutation: without the option in `new_tmpfs`, `/dev/shm` had the label of others; without `label_queues`,
/// `/dev/mqueue`.
fn files_in_filesystems_of_the_pod_have_its_label() -> Outcome {
    if let Err(why) = selinux::with_policy() {
        return skip(why);
    }
    let fixture = Fixture::new();
    let paths = ["/dev/shm", "/dev/mqueue", "/volume", "/etc/hosts", "/etc/hostname"];
    for spec in pods() {
        let spec = spec.hostname_files(true).volume(Volume::tmpfs("v", 1 << 20));
        for (label, name) in [(Some(OF_POD), "labelled"), (None, "plain")] {
            let mut spec = spec.clone();
            spec.mount_label = label.map(str::to_string);
            spec.name = format!("{}-{name}", spec.name);
            let pod = fixture.node.create_pod(&spec)?;
            // Whatever the container's own filesystems have.
            let security = Security::default().mount_label(LABEL);
            let seen =
                labels(&pod, &paths, |spec| spec.security(security).mount(Mount::volume("v", "/volume")));
            for path in paths {
                assert_eq!(seen[path], label.unwrap_or(OTHERS), "{path} in {}", spec.name);
            }
        }
    }
    // The machine's own queues keep theirs.
    assert_eq!(file_label("/dev/mqueue".as_ref())?, OTHERS);
    PASS
}

/// Mutation: with no filesystem in `LABELLED`, the first program could not write to `/work`.
fn a_confined_program_writes_only_what_has_a_label_for_it() -> Outcome {
    if let Err(why) = selinux::with_policy() {
        return skip(why);
    }
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").mount_label(OF_POD))?;
    let security = || Security::default().selinux_label("system_u:system_r:container_t:s0:c1,c2");
    let written = |security| {
        say(
            &pod,
            inside("a", &["write", "/file", "/work/file", "/dev/shm/file"])
                .security(security)
                .mount(Mount::tmpfs("/work", 1 << 20)),
        )
    };
    assert_eq!(
        written(security().mount_label(LABEL)),
        "/file written\n/work/file written\n/dev/shm/file written\n"
    );
    assert_eq!(
        written(security()),
        format!("/file {0}\n/work/file {0}\n/dev/shm/file written\n", libc::EACCES)
    );
    PASS
}

/// Mutation: with the container's label added to that of the mount, the kernel refused the second as a double.
fn a_label_of_the_mount_itself_stays() -> Outcome {
    if let Err(why) = selinux::with_policy() {
        return skip(why);
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let with = |option: &str| {
        let mut mount = Mount::tmpfs("/work", 1 << 20);
        mount.data.push(option.to_string());
        let mut filesystem = Mount::filesystem("ramfs", None, "/fs");
        filesystem.data.push(option.to_string());
        let security = Security::default().mount_label(LABEL);
        labels(&pod, &["/", "/work", "/fs"], |spec| spec.security(security).mount(mount).mount(filesystem))
    };
    let seen = with(&format!("context={OF_POD}"));
    assert_eq!([&seen["/"], &seen["/work"], &seen["/fs"]], [LABEL, OF_POD, OF_POD]);
    let seen = with("nr_inodes=100");
    assert_eq!([&seen["/"], &seen["/work"], &seen["/fs"]], [LABEL, LABEL, LABEL]);
    PASS
}

fn labels_that_the_policy_does_not_have_are_told_and_nothing_is_left() -> Outcome {
    if let Err(why) = selinux::with_policy() {
        return skip(why);
    }
    let fixture = Fixture::new();
    let wrong = "system_u:object_r:no_such_t:s0";
    for spec in pods() {
        let pod = fixture.node.create_pod(&spec)?;
        // The first filesystem with a label is a tmpfs below the root, the overlay, or /dev.
        let (root, upper, work) = (fixture.path("root"), fixture.path("upper"), fixture.path("work"));
        let directory = Upper::Directory { upper: upper.clone(), work: work.clone() };
        let overlay = Rootfs::Overlay { lower: vec!["/".into()], upper: directory, readonly: false };
        for dir in [&root, &upper, &work] {
            fs::create_dir_all(dir)?;
        }
        for rootfs in [rootfs(), overlay, Rootfs::directory(&root)] {
            let mut spec = inside("a", &["exit", "0"]).security(Security::default().mount_label(wrong));
            spec.rootfs = rootfs;
            let error = pod
                .create_container(&spec)
                .map(|container| container.remove())
                .expect_err("a container was made");
            assert_eq!((error.kind(), error.errno()), (ErrorKind::System, Some(libc::EINVAL)), "{error}");
            assert!(error.to_string().contains(wrong), "{error}");
            assert!(error.to_string().contains("the SELinux policy has no such context"), "{error}");
            assert!(pod.containers()?.is_empty());
        }
        pod.remove()?;
        let error = fixture.node.create_pod(&spec.mount_label(wrong)).expect_err("a pod was made");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::System, Some(libc::EINVAL)), "{error}");
        assert!(error.to_string().contains(wrong), "{error}");
        assert!(fixture.node.pods()?.is_empty());
    }
    PASS
}
