//! Pods with a user namespace of their own: who is who on both sides, and what privileges inside are worth.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use nix::errno::Errno;
use pericarp::spec::{
    Capability, IdMappings, IpcObjects, MessageQueueSpec, NamespaceMode, PidMode, SeccompProfile,
    SharedMemorySpec, UserMode,
};
use pericarp::{ContainerSpec, ErrorKind, Mount, NamespaceKind, Node, NodeOptions, Pod, PodSpec};

use crate::ipc_payload::Seen;
use crate::stdio::Shell;
use crate::support::fixture::{output, payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    ids_inside_are_other_ids_on_the_host,
    all_namespaces_belong_to_the_pods_user_namespace,
    capabilities_inside_reach_nothing_of_the_host,
    capabilities_inside_are_whole_inside,
    the_dev_directory_is_as_in_any_container,
    ipc_objects_of_host_and_containers_meet,
    message_queues_that_cannot_be_made_are_told,
    kernel_parameters_are_set_and_belong_to_the_pod,
    a_shared_pid_namespace_belongs_to_the_user_namespace,
    the_hosts_pid_namespace_can_be_used,
    a_container_can_join_the_pid_namespace_of_another,
    a_given_user_namespace_is_joined,
    ids_that_the_pod_does_not_have_are_refused,
    limits_can_be_raised_as_on_the_host,
    nested_user_namespaces_work,
    an_ordinary_user_is_told_what_is_missing,
];

pub const FIRST: u32 = 1_048_576;

/// `NS_GET_USERNS` and `NS_GET_OWNER_UID` of ioctl_ns(2).
const NS_GET_USERNS: libc::c_ulong = 0xb701;
const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;

pub fn mapped() -> UserMode {
    UserMode::Mapped(IdMappings::contiguous(FIRST, 65536))
}

pub fn pod_of(fixture: &Fixture, change: impl FnOnce(PodSpec) -> PodSpec) -> Pod {
    fixture.node.create_pod(&change(PodSpec::new("web").user(mapped()))).expect("create a pod")
}

pub fn pod(fixture: &Fixture) -> Pod {
    pod_of(fixture, |spec| spec)
}

/// A container that may do everything that its user namespace lets it.
pub fn mighty(spec: ContainerSpec) -> ContainerSpec {
    let mut spec = spec;
    spec.security.seccomp = SeccompProfile::Unconfined;
    spec.security.no_new_privileges = false;
    for capability in [
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_SYS_BOOT,
        Capability::CAP_SYS_MODULE,
        Capability::CAP_SYS_PTRACE,
        Capability::CAP_SYS_RAWIO,
        Capability::CAP_SYS_TIME,
        Capability::CAP_NET_ADMIN,
        Capability::CAP_DAC_READ_SEARCH,
        Capability::CAP_IPC_OWNER,
    ] {
        spec.security.capabilities.bounding.insert(capability);
    }
    spec
}

fn ids_inside_are_other_ids_on_the_host() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    assert_eq!(pod.id_mappings(), Some(&IdMappings::contiguous(FIRST, 65536)));
    let map = say(
        &pod,
        script("a", "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id -u; id -g"),
    );
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    let line = ["0", "1048576", "65536"];
    assert_eq!(words, [&line[..], &line, &["allow", "0", "0"]].concat());
    let mut shell = Shell::start(&pod, script("b", "").user(1000, 2000));
    assert_eq!(shell.run("id -u; id -g; id -G"), "1000\n2000\n2000\n");
    let status = fs::metadata(format!("/proc/{}", shell.container.pid()))?;
    // Undumpable processes belong to root in proc: ask the status.
    let text = fs::read_to_string(format!("/proc/{}/status", shell.container.pid()))?;
    assert!(text.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", FIRST + 1000)), "{text} {status:?}");
    assert!(text.contains(&format!("Gid:\t{0}\t{0}\t{0}\t{0}\n", FIRST + 2000)), "{text}");
    // Its pipes belong to it, so that it can open them again.
    assert_eq!(shell.run("echo again >/dev/stdout; stat -Lc %u:%g /dev/stdin"), "again\n1000:2000\n");
    PASS
}

fn owner(file: &impl AsRawFd) -> (u64, u32) {
    // SAFETY: the ioctls take nothing, and a place for a number.
    unsafe {
        let user = Errno::result(libc::ioctl(file.as_raw_fd(), NS_GET_USERNS)).expect("NS_GET_USERNS");
        let mut uid = u32::MAX;
        Errno::result(libc::ioctl(user, NS_GET_OWNER_UID, &mut uid)).expect("NS_GET_OWNER_UID");
        let inode = fs::metadata(format!("/proc/self/fd/{user}")).expect("stat").ino();
        libc::close(user);
        (inode, uid)
    }
}

fn all_namespaces_belong_to_the_pods_user_namespace() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let user = pod.namespace_inode(NamespaceKind::User)?;
    assert_ne!(user, fs::metadata("/proc/self/ns/user")?.ino());
    for kind in [NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts] {
        assert_eq!(owner(&pod.namespace_fd(kind)?), (user, 0), "{kind:?}");
    }
    let container = pod.create_container(&inside("a", &["sleep"]))?;
    let pid = container.pid();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let file = fs::File::open(format!("/proc/{pid}/ns/{kind}"))?;
        assert_eq!(owner(&file), (user, 0), "{kind}");
    }
    assert_eq!(fs::metadata(format!("/proc/{pid}/ns/user"))?.ino(), user);
    container.start()?;
    assert_eq!(fs::metadata(format!("/proc/{pid}/ns/user"))?.ino(), user);
    let text = say(&pod, script("b", "echo $$; ls /proc | grep -c '^[0-9]'; head -1 /proc/1/status"));
    assert!(text.starts_with("1\n"), "{text}");
    assert_eq!(
        fixture.pod("plain").namespace_fd(NamespaceKind::User).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    PASS
}

/// Everything that is tried here does no harm where it succeeds: with the protection taken out it is done to the machine.
///
/// Mutation: with `Step::EnterUser`, the `Step::Unshare` after it and `Step::CopyRoot` left out of plans, the container
/// reads, changes and gives away the file, makes the device node, and may write the kernel parameter:
/// only "sysrq disk cgroup" were refused.
fn capabilities_inside_reach_nothing_of_the_host() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod_of(&fixture, |spec| spec.unmapped_mounts(true));
    let secret = fixture.path("secret");
    fs::write(&secret, "s\n")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let try_all = "cat /secret 2>/dev/null || echo read; \
        echo x 2>/dev/null >/secret || echo write; \
        chown 0 /secret 2>/dev/null || echo chown; \
        mknod /dev/disk b 8 0 2>/dev/null || echo mknod; \
        (: >>/proc/sys/kernel/core_pattern) 2>/dev/null || echo sysctl; \
        (: >>/proc/sysrq-trigger) 2>/dev/null || echo sysrq; \
        mount -t ext4 /dev/vda /mnt 2>/dev/null || echo disk; \
        mkdir /sys/fs/cgroup/x 2>/dev/null || echo cgroup";
    let mut spec = mighty(script("a", try_all)).mount(Mount::bind(&secret, "/secret"));
    spec.security.masked_paths.clear();
    spec.security.readonly_paths.clear();
    let text = say(&pod, spec);
    assert_eq!(text, "read\nwrite\nchown\nmknod\nsysctl\nsysrq\ndisk\ncgroup\n");
    assert_eq!(fs::read_to_string(&secret)?, "s\n");
    PASS
}

fn capabilities_inside_are_whole_inside() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let host = nix::unistd::gethostname()?;
    let own = "hostname inside && hostname; mount -t tmpfs x /mnt && echo y >/mnt/y && cat /mnt/y; umount /mnt && echo gone; \
               chroot / true && echo chroot; chown 7 /etc/passwd && stat -c %u /etc/passwd; \
               ip link set lo mtu 1500 2>/dev/null && cat /sys/class/net/lo/mtu || echo 1500";
    assert_eq!(say(&pod, mighty(script("a", own))), "inside\ny\ngone\nchroot\n7\n1500\n");
    assert_eq!(nix::unistd::gethostname()?, host);
    // The default container has none of that.
    let text = say(
        &pod,
        script(
            "b",
            "hostname x 2>/dev/null || echo refused; mount -t tmpfs x /mnt 2>/dev/null || echo refused",
        ),
    );
    assert_eq!(text, "refused\nrefused\n");
    PASS
}

fn the_dev_directory_is_as_in_any_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let look = "echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; ls /dev; \
                stat -c %u:%g:%a /dev /dev/null /dev/pts /dev/shm; touch /dev/mine && echo made; mount | grep -c 'devpts.*gid'";
    let text = say(&pod, script("a", look));
    let plain = say(&fixture.pod("plain"), script("a", look));
    assert_eq!(text, plain);
    assert!(text.contains("0:0:755\n0:0:666\n"), "{text}");
    PASS
}

fn ipc_objects_of_host_and_containers_meet() -> Outcome {
    let fixture = Fixture::new();
    let objects: IpcObjects = serde_json::from_str(
        r#"{"shm": [{"name": "page", "size": 4096, "uid": 3, "gid": 4}], "mqueues": [{"name": "jobs", "uid": 5, "gid": 6}],
            "sysvShm": [{"key": 17, "size": 4096, "uid": 7, "gid": 8}], "sysvSem": [{"key": 18, "values": [1], "uid": 9}],
            "sysvMsg": [{"key": -19, "gid": 10}]}"#,
    )?;
    let check = |pod: &Pod| -> Result<(), libtest_mimic::Failed> {
        let seen: Seen = serde_json::from_str(&say(pod, mighty(inside("look", &["ipc", "look"]))))?;
        assert_eq!(seen.shm.map(|o| (o.uid, o.gid)), Some((3, 4)));
        assert_eq!(seen.mqueue.map(|o| (o.uid, o.gid, o.mode)), Some((5, 6, 0o600)));
        assert_eq!(seen.sysv_shm.map(|o| (o.uid, o.gid)), Some((7, 8)));
        assert_eq!(seen.sysv_sem.map(|o| (o.uid, o.gid)), Some((9, 0)));
        assert_eq!(seen.sysv_msg.map(|o| (o.uid, o.gid)), Some((0, 10)));
        let listing = pod.ipc().list()?;
        assert_eq!((listing.shm[0].uid, listing.mqueues[0].uid, listing.sysv_shm[0].uid), (3, 5, 7));
        Ok(())
    };
    let from_spec = pod_of(&fixture, |spec| spec.ipc(objects.clone()));
    check(&from_spec)?;
    let by_call = fixture.node.create_pod(&PodSpec::new("call").user(mapped()))?;
    by_call.ipc().create(&objects)?;
    check(&by_call)?;
    by_call.ipc().remove_mqueue("jobs")?;
    by_call.ipc().create_mqueue(&objects.mqueues[0])?;
    by_call.ipc().remove_sysv_shm(17)?;
    by_call.ipc().create_sysv_shm(&objects.sysv_shm[0])?;
    check(&by_call)?;
    // Containers make theirs, and the other one and the host find them.
    let mut a = Shell::start(&from_spec, script("a", ""));
    let mut b = Shell::start(&from_spec, script("b", "").user(1000, 1000));
    assert_eq!(a.run("echo one >/dev/shm/x; ls /dev/mqueue"), "jobs\n");
    assert_eq!(b.run("cat /dev/shm/x; echo two >/dev/shm/y"), "one\n");
    let listing = from_spec.ipc().list()?;
    let names: Vec<(&str, u32)> = listing.shm.iter().map(|object| (&*object.name, object.uid)).collect();
    assert_eq!(names, [("page", 3), ("x", 0), ("y", 1000)]);
    PASS
}

fn message_queues_that_cannot_be_made_are_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let queue = |name: &str| MessageQueueSpec {
        name: name.to_string(),
        max_messages: 10,
        message_size: 100,
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    pod.ipc().create_mqueue(&queue("q"))?;
    let error = pod.ipc().create_mqueue(&queue("q")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let error =
        pod.ipc().create_mqueue(&MessageQueueSpec { max_messages: 100_000, ..queue("r") }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    for wrong in
        [MessageQueueSpec { uid: 65536, ..queue("r") }, MessageQueueSpec { gid: 70_000, ..queue("r") }]
    {
        assert_eq!(pod.ipc().create_mqueue(&wrong).unwrap_err().kind(), ErrorKind::InvalidSpec);
    }
    let segment = SharedMemorySpec { key: 1, size: 10, mode: 0o600, uid: 70_000, gid: 0 };
    assert_eq!(pod.ipc().create_sysv_shm(&segment).unwrap_err().kind(), ErrorKind::InvalidSpec);
    assert_eq!(pod.ipc().list()?.mqueues.len(), 1);
    // All or nothing: the queue that is there already undoes the others.
    let objects = IpcObjects { mqueues: vec![queue("new"), queue("q")], ..IpcObjects::default() };
    assert_eq!(pod.ipc().create(&objects).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(pod.ipc().list()?.mqueues.len(), 1);
    PASS
}

fn kernel_parameters_are_set_and_belong_to_the_pod() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod_of(&fixture, |spec| {
        spec.sysctl("net.ipv4.ip_unprivileged_port_start", "80")
            .sysctl("kernel.shmmax", "123456")
            .sysctl("fs.mqueue.msg_max", "7")
            .hostname("inside")
    });
    let read = "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/shmmax fs/mqueue/msg_max kernel/hostname";
    assert_eq!(say(&pod, script("a", read)), "80\n123456\n7\ninside\n");
    let spec = PodSpec::new("x").user(mapped()).sysctl("net.ipv4.nothing_of_that_name", "1");
    assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::Unsupported);
    // 9 10 is not a number: some kernels say so, others take the 9; both are errors here.
    let spec = PodSpec::new("x").user(mapped()).sysctl("kernel.shmmax", "9 10");
    assert!(fixture.node.create_pod(&spec).is_err());
    PASS
}

fn a_shared_pid_namespace_belongs_to_the_user_namespace() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod_of(&fixture, |spec| spec.pid(PidMode::Pod));
    let user = pod.namespace_inode(NamespaceKind::User)?;
    assert_eq!(owner(&pod.namespace_fd(NamespaceKind::Pid)?), (user, 0));
    let mut a = Shell::start(&pod, script("a", ""));
    let text =
        a.run("head -1 /proc/1/status; stat -c %u /proc/1; grep -E '^(Uid|CapEff)' /proc/1/status; echo $$");
    assert!(text.starts_with("Name:\tpericarp-init\n"), "{text}");
    assert!(text.contains("Uid:\t0\t0\t0\t0\nCapEff:\t0000000000000000\n"), "{text}");
    let b = pod.create_container(&inside("b", &["sleep"]))?;
    b.start()?;
    let seen = a.run("ls /proc | grep '^[0-9]' | while read p; do tr '\\0' ' ' </proc/$p/cmdline; done");
    assert!(seen.contains("/payload payload sleep"), "{seen}");
    assert_eq!(a.run("kill -KILL -1; echo alive"), "alive\n");
    assert!(!b.wait()?.success());
    PASS
}

fn the_hosts_pid_namespace_can_be_used() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod_of(&fixture, |spec| spec.pid(PidMode::Host));
    let own = std::process::id();
    assert_eq!(
        say(
            &pod,
            script(
                "a",
                &format!(
                    "stat -c %u /proc/{own}; cat /proc/sys/kernel/pid_max >/dev/null && echo there; kill -0 {own} 2>/dev/null || echo refused"
                )
            )
        ),
        "65534\nthere\nrefused\n"
    );
    PASS
}

fn a_container_can_join_the_pid_namespace_of_another() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let a = pod.create_container(&inside("a", &["sleep"]))?;
    a.start()?;
    let mut spec = script("b", "tr '\\0' ' ' </proc/1/cmdline; echo; kill -0 1 && echo can");
    spec.pid = Some(PidMode::Target("a".to_string()));
    assert_eq!(say(&pod, spec), "/payload payload sleep \ncan\n");
    PASS
}

fn a_given_user_namespace_is_joined() -> Outcome {
    let fixture = Fixture::new();
    let first = pod(&fixture);
    let user = first.namespace_fd(NamespaceKind::User)?;
    let path = format!("/proc/self/fd/{}", user.as_raw_fd());
    let second = fixture.node.create_pod(&PodSpec::new("second").user(UserMode::Path(path.into())))?;
    assert_eq!(second.namespace_inode(NamespaceKind::User)?, first.namespace_inode(NamespaceKind::User)?);
    assert_eq!(second.id_mappings(), first.id_mappings());
    assert_ne!(
        second.namespace_inode(NamespaceKind::Network)?,
        first.namespace_inode(NamespaceKind::Network)?
    );
    assert_eq!(say(&second, script("a", "id -u; stat -c %u /etc/passwd; hostname")), "0\n0\nsecond\n");
    // A network namespace of the same owner, given as well.
    let network = first.namespace_fd(NamespaceKind::Network)?;
    let path = |fd: i32| std::path::PathBuf::from(format!("/proc/self/fd/{fd}"));
    let spec = PodSpec::new("third")
        .user(UserMode::Path(path(user.as_raw_fd())))
        .network(NamespaceMode::Path(path(network.as_raw_fd())));
    let third = fixture.node.create_pod(&spec)?;
    assert_eq!(
        third.namespace_inode(NamespaceKind::Network)?,
        first.namespace_inode(NamespaceKind::Network)?
    );
    assert_eq!(say(&third, script("a", "id -u; ls /sys/class/net | grep lo")), "0\nlo\n");
    // What is no user namespace.
    let wrong = PodSpec::new("x").user(UserMode::Path(path(network.as_raw_fd())));
    let error = fixture.node.create_pod(&wrong).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EINVAL), "{error}");
    // Those of the host's containers can be the pod's as well.
    let host = PodSpec::new("host")
        .user(mapped())
        .network(NamespaceMode::Host)
        .uts(NamespaceMode::Host)
        .ipc_namespace(NamespaceMode::Host);
    let host = fixture.node.create_pod(&host)?;
    let text =
        say(&host, script("a", "id -u; readlink /proc/self/ns/net; touch /dev/shm/.x; rm -f /dev/shm/.x"));
    assert_eq!(text, format!("0\n{}\n", fs::read_link("/proc/self/ns/net")?.display()));
    PASS
}

fn ids_that_the_pod_does_not_have_are_refused() -> Outcome {
    let fixture = Fixture::new();
    let small = PodSpec::new("small").user(UserMode::Mapped(IdMappings::contiguous(FIRST, 1)));
    let small = fixture.node.create_pod(&small)?;
    let error = small.create_container(&script("a", "true").user(1, 0)).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("user.uid")));
    // One id is enough for a container.
    assert_eq!(say(&small, script("a", "id -u; stat -c %u /etc/passwd /dev/null")), "0\n0\n0\n");
    PASS
}

fn limits_can_be_raised_as_on_the_host() -> Outcome {
    use pericarp::spec::{Rlimit, RlimitResource};
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let mut spec = script("a", "ulimit -Sn; ulimit -Hn; ulimit -Su; ulimit -Hc");
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    for (resource, soft, hard) in
        [(RlimitResource::Nofile, 50, hard), (RlimitResource::Nproc, 100, 9000), (RlimitResource::Core, 0, 0)]
    {
        spec.rlimits.push(Rlimit { resource, soft, hard });
    }
    // dash has no ulimit -u: ask the kernel.
    spec.args = ["/bin/sh", "-c", "cat /proc/self/limits"].map(str::to_string).to_vec();
    let text = say(&pod, spec);
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        line[name.len()..].split_ascii_whitespace().take(2).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(line("Max open files"), ["50".to_string(), hard.to_string()]);
    assert_eq!(line("Max processes"), ["100", "9000"]);
    assert_eq!(line("Max core file size"), ["0", "0"]);
    PASS
}

fn nested_user_namespaces_work() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let mut spec = mighty(script(
        "a",
        "unshare -Urmpf --mount-proc sh -c 'id -u; echo $$; mount -t tmpfs x /mnt && echo mounted; ls /proc | grep -c ^[0-9]'",
    ));
    // The kernel makes a new proc only where a whole one is seen.
    spec.security.masked_paths.clear();
    spec.security.readonly_paths.clear();
    let (status, text) = output(&pod, spec)?;
    assert!(status.success() && text.starts_with("0\n1\nmounted\n"), "{text}");
    PASS
}

/// What an ordinary user is told: run as one.
pub fn payload(words: &[&str]) -> bool {
    let ["userns-open", state_dir] = words else { return false };
    let error =
        Node::open(&NodeOptions::new().state_dir(state_dir)).expect_err("an ordinary user opens a node");
    println!("{:?} {error}", error.kind());
    true
}

fn an_ordinary_user_is_told_what_is_missing() -> Outcome {
    let dir = tempfile::tempdir()?;
    // Where an ordinary user can execute it.
    let program = dir.path().join("suite");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
    let state_dir = dir.path().join("state");
    let output = std::process::Command::new(&program)
        .args(["payload", "userns-open"])
        .arg(&state_dir)
        .uid(12345)
        .gid(12345)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.starts_with("PermissionDenied ") && text.contains("takes root") && text.contains("for_user"),
        "{text} {output:?}"
    );
    assert!(!state_dir.exists());
    PASS
}
