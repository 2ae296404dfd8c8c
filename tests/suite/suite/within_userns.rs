//! Pods with user namespaces of their own in one that somebody else has made, with more ids than the user's: as podman
//! has an ordinary user's containers keep the user's id (`--userns=keep-id`).

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pericarp::spec::{ExecSpec, IdMap, IdMapping, IdMappings, IpcObjects, PidMode, Stdio, UserMode};
use pericarp::{CgroupParent, ErrorKind, Mount, NamespaceKind, Node, PodSpec, Volume};

use crate::robust::tiny;
use crate::rootless::{Delegated, NO_CGROUP2, by_user_with_ids, by_user_with_ids_in, wait_for_ids};
use crate::support::fixture::{output, say};
use crate::support::{Outcome, skip};
use crate::within::{here, node, options, script};

crate::tests![
    a_container_keeps_the_users_id,
    programs_are_executed_in_it_by_another_program,
    ids_of_others_are_refused,
    files_are_idmapped_where_the_kernel_lets,
    such_a_namespace_can_be_joined,
    containers_share_a_pid_namespace_in_a_delegated_cgroup,
];

/// What the user does.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["rootless", "within-userns", part, rest @ ..] => {
            unshare(CloneFlags::CLONE_NEWUSER).expect("make a user namespace");
            wait_for_ids();
            nix::unistd::setgroups(&[]).expect("leave all groups");
            nix::unistd::setresgid(0.into(), 0.into(), 0.into()).expect("become group 0");
            nix::unistd::setresuid(0.into(), 0.into(), 0.into()).expect("become root");
            unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
            match *part {
                "keep" => keep(),
                "exec" => exec(),
                "refused" => refused(),
                "files" => files(),
                "join" => join(),
                "cgroup" => cgroup(rest[0], rest[1] == "true"),
                _ => return false,
            }
        }
        ["within-userns-more"] => more(),
        _ => return false,
    }
    true
}

/// User 1000 inside is root of the outer namespace, who is the user.
fn kept() -> PodSpec {
    let ids = vec![IdMapping::new(0, 1, 1000), IdMapping::new(1000, 0, 1), IdMapping::new(1001, 1001, 64536)];
    let ids = IdMappings { uid_mappings: ids.clone(), gid_mappings: ids };
    PodSpec::new("web").user(UserMode::Mapped(ids)).unmapped_mounts(true)
}

/// Mutations: without `Step::Show` in the plan of the helper: "open /proc/14651/uid_map: EACCES". With `show_proc`: "make a
/// proc, …: EPERM".
fn a_container_keeps_the_users_id() -> Outcome {
    by_user_with_ids(&["within-userns", "keep"])
}

fn keep() {
    let node = node();
    // A queue of the pod's root, and a parameter: both by processes inside.
    let ipc: IpcObjects =
        serde_json::from_str(r#"{"mqueues": [{"name": "jobs", "maxMessages": 2, "messageSize": 64}]}"#)
            .expect("a message queue");
    let spec = kept().ipc(ipc).sysctl("kernel.msgmax", "4097").volume(Volume::tmpfs("t", 1 << 16));
    let pod = node.create_pod(&spec.hostname_files(true)).expect("create a pod");
    fs::create_dir(here("home")).expect("make a directory");
    let text = "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u /mnt /root/t /etc/hosts; echo x >/mnt/made; \
                cat /proc/1/comm; ls /dev/mqueue; cat /proc/sys/kernel/msgmax; stat -c %u /dev/pts/ptmx; \
                cat /sys/class/net/lo/operstate; head -c 3 /dev/zero | wc -c; cat /proc/1/status | grep ^Groups";
    let spec = script("main", text)
        .user(1000, 1000)
        .additional_gids([7])
        .mount(Mount::bind(here("home"), "/mnt"))
        .mount(Mount::volume("t", "/root/t"));
    assert_eq!(
        say(&pod, spec),
        "1000\n 0 1 1000\n 1000 0 1\n 1001 1001 64536\n1000\n0\n0\nsh\njobs\n4097\n0\nunknown\n3\nGroups:\t7 \n"
    );
    // The user's own file, outside as well.
    assert_eq!(fs::metadata(here("home/made")).expect("look at the file").uid(), 0);
    // Root inside has a terminal, and undoes no mount.
    let text = "id -u; tty; mount -t tmpfs t /mnt || echo none; umount /mnt 2>/dev/null || echo locked";
    let spec = script("root", text).mount(Mount::bind(here("home"), "/mnt")).terminal(true);
    let container = pod.create_container(&spec).expect("create a container");
    let mut terminal = container.take_terminal().expect("a terminal");
    container.start().expect("start it");
    let mut said = Vec::new();
    let _ = terminal.read_to_end(&mut said);
    assert!(container.wait().expect("wait").success());
    let said = String::from_utf8_lossy(&said);
    let found = said.starts_with("0\r\n/dev/pts/0\r\n")
        && ["none", "locked"].iter().all(|word| said.contains(&format!("{word}\r\n")));
    assert!(found, "{said}");
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}

fn programs_are_executed_in_it_by_another_program() -> Outcome {
    by_user_with_ids(&["within-userns", "exec"])
}

fn exec() {
    let node = node();
    let pod = node.create_pod(&kept()).expect("create a pod");
    let main = pod.create_container(&script("main", "exec sleep 1000").user(1000, 1000)).expect("create");
    main.start().expect("start it");
    let ran = Command::new("/proc/self/exe").args(["payload", "within-userns-more"]).output().expect("run");
    let text = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{text}");
    assert_eq!(main.wait().expect("wait").code(), 137);
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}

fn more() {
    let node = node();
    assert_eq!(node.recover().expect("recover").adopted.len(), 1);
    let pod = node.open_pod("web").expect("open the pod");
    let main = pod.container("main").expect("open the container");
    for (user, expected) in [(1000, "1000\nsleep\nrefused\n"), (0, "0\nsleep\nhas it\n")] {
        let text = "id -u; cat /proc/1/comm; chown 5 /dev/shm 2>/dev/null && echo has it || echo refused";
        let exec = ExecSpec::new(["/bin/sh", "-c", text]).user(user, user).stdout(Stdio::Pipe);
        let process = main.exec(&exec).expect("execute");
        let mut said = String::new();
        process.take_stdout().expect("a pipe").read_to_string(&mut said).expect("read");
        assert!(process.wait().expect("wait").success());
        assert_eq!(said, expected);
    }
    let _ = main.stop(Duration::from_millis(50));
}

fn ids_of_others_are_refused() -> Outcome {
    by_user_with_ids(&["within-userns", "refused"])
}

fn refused() {
    let node = node();
    let mapped = |ids: IdMappings| PodSpec::new("web").user(UserMode::Mapped(ids));
    let groups = IdMappings {
        uid_mappings: vec![IdMapping::new(0, 1, 1)],
        gid_mappings: vec![IdMapping::new(0, 70_000, 1)],
    };
    for (spec, kind, word) in [
        (mapped(IdMappings::contiguous(1, 65537)), ErrorKind::InvalidSpec, "uids 1 to 65537 are not"),
        // Each range is from one of those that there are.
        (mapped(IdMappings::contiguous(0, 10)), ErrorKind::InvalidSpec, "0 to 0, 1 to 65536"),
        (mapped(groups), ErrorKind::InvalidSpec, "gids 70000 to 70000"),
        (PodSpec::new("web").user(UserMode::Auto { size: None }), ErrorKind::Unsupported, "mapped"),
    ] {
        let error = node.create_pod(&spec).expect_err(word);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word), "no {word:?} in {error}");
    }
    node.remove().expect("remove the node");
}

/// A filesystem that was mounted in the user namespace of the program, and one that was not.
fn files_are_idmapped_where_the_kernel_lets() -> Outcome {
    by_user_with_ids(&["within-userns", "files"])
}

fn files() {
    let node = node();
    let place = here("t");
    fs::create_dir(&place).expect("make a directory");
    mount(Some("t"), &place, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount a tmpfs");
    fs::write(place.join("f"), "").expect("write a file");
    chown(place.join("f"), Some(7), Some(8)).expect("give it away");
    let ids = || IdMappings::contiguous(1, 1000);
    let IdMappings { uid_mappings, gid_mappings } = ids();
    let own = IdMap { uid_mappings, gid_mappings, recursive: false };
    let pod = node.create_pod(&PodSpec::new("web").user(UserMode::Mapped(ids())).unmapped_mounts(true));
    let pod = pod.expect("create a pod");
    let look = |text| script("a", text).mount(Mount::bind(&place, "/mnt"));
    // As they are, 7 outside is 6 inside; and as they are inside.
    assert_eq!(say(&pod, look("stat -c %u:%g /mnt/f")), "6:7\n");
    let mut spec = look("stat -c %u:%g /mnt/f");
    spec.mounts.last_mut().expect("a mount").idmap = Some(own);
    let mapped = output(&pod, spec);
    pod.remove().expect("remove the pod");
    match mapped {
        // A tmpfs has had idmapped mounts since Linux 6.3.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        Ok((_, text)) => {
            assert_eq!(text, "7:8\n");
            let root = place.join("root");
            tiny::make_rootfs(&root);
            let pod = node.create_pod(&PodSpec::new("web").user(UserMode::Mapped(ids()))).expect("a pod");
            assert!(pod.run(&tiny::container("main", &root, "exit")).expect("run").success());
            // Whose files are the machine's.
            let error = pod.run(&script("b", "true")).expect_err("files of the machine");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.to_string().contains("unmappedMounts"), "{error}");
            pod.remove().expect("remove the pod");
        }
    }
    node.remove().expect("remove the node");
    nix::mount::umount(&place).expect("unmount the tmpfs");
}

fn such_a_namespace_can_be_joined() -> Outcome {
    by_user_with_ids(&["within-userns", "join"])
}

fn join() {
    let node = node();
    let pod = node.create_pod(&kept()).expect("create a pod");
    let user = pod.namespace_fd(NamespaceKind::User).expect("its user namespace");
    let path = format!("/proc/self/fd/{}", user.as_raw_fd());
    let spec = PodSpec::new("second").user(UserMode::Path(path.into())).unmapped_mounts(true);
    let second = node.create_pod(&spec).expect("create another pod");
    assert_eq!(second.id_mappings(), pod.id_mappings());
    assert_eq!(say(&second, script("main", "id -u; hostname").user(1000, 1000)), "1000\nsecond\n");
    let error = second.create_container(&tiny::container("x", &here("root"), "true").user(70_000, 0));
    assert_eq!(error.expect_err("an id of nobody").kind(), ErrorKind::InvalidSpec);
    second.remove().expect("remove a pod");
    pod.remove().expect("remove a pod");
    node.remove().expect("remove the node");
}

/// Process 1 of the pod is init, which makes the proc that all have in the pod's user namespace.
fn containers_share_a_pid_namespace_in_a_delegated_cgroup() -> Outcome {
    let Some(delegated) = Delegated::new("within")? else { return skip(NO_CGROUP2) };
    let words = ["within-userns", "cgroup", &delegated.pods(), &delegated.has_pids.to_string()];
    let outcome = by_user_with_ids_in(Some(&delegated), &words);
    delegated.remove()?;
    outcome
}

fn cgroup(path: &str, has_pids: bool) {
    let options = options(here("run/node")).cgroup_parent(CgroupParent::Path(path.into()));
    let node = Node::open(&options).expect("open the node");
    let pod = node.create_pod(&kept().pid(PidMode::Pod)).expect("create a pod");
    let mut spec = script("main", "exec sleep 1000").user(1000, 1000);
    if has_pids {
        spec.resources.pids_max = Some(9.into());
    }
    let main = pod.create_container(&spec).expect("create a container");
    main.start().expect("start it");
    let text = "cat /proc/1/comm; stat -c %u /proc/1; cat /proc/[0-9]*/comm | grep -c sleep; readlink /proc/1/ns/user \
                >/dev/null 2>&1 && echo seen || echo hidden";
    assert_eq!(say(&pod, script("other", text)), "pericarp-init\n0\n1\nhidden\n");
    if has_pids {
        let limit = fs::read_to_string(pod.cgroup_path().join("main/pids.max")).expect("read the limit");
        assert_eq!(limit, "9\n");
    }
    pod.freeze().expect("freeze");
    assert!(main.is_frozen().expect("look"));
    pod.thaw().expect("thaw");
    assert_eq!(main.stop(Duration::from_secs(10)).expect("stop").code(), 143);
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}
