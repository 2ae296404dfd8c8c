//! What the ordinary user of `rootless.rs` does. Each part leaves nothing behind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use pericarp::spec::{
    Capabilities, Capability, Device, DeviceAccess, DeviceRule, DeviceRuleKind, ExecSpec, IpcObjects,
    PidMode, SeccompProfile, Security, ShmObjectSpec, Stdio, UserMode,
};
use pericarp::stats::{FilesystemOptions, StatsOptions};
use pericarp::{
    CgroupParent, Container, ContainerSpec, ContainerStatus, ErrorKind, Mount, NamespaceKind, Node,
    NodeOptions, NodeUser, Pod, PodSpec, Resources, Rootfs, Volume,
};

use crate::rootless::{SUBORDINATE, USER};
use crate::support::fixture::{output, say};
use crate::support::{Done, Facts};

pub fn payload(words: &[&str]) -> bool {
    let ["rootless", name, rest @ ..] = words else { return false };
    // What a login gives nobody, either.
    let status = fs::read_to_string("/proc/self/status").expect("read the status");
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    match (*name, rest) {
        ("pod", []) => pod(),
        ("owner", []) => owner(),
        ("groups", []) => groups(),
        ("limits", []) => limits(),
        ("refused", []) => refused(),
        ("directory", []) => directory(),
        ("root", []) => root(),
        ("stats", []) => stats(),
        ("files", []) => files(),
        ("exec", []) => exec(),
        ("guest", []) => guest(),
        ("stay", []) => stay(),
        ("recover", []) => recover(),
        ("missing", []) => missing(),
        ("ids", []) => ids(),
        ("cgroup", [path, has_pids]) => cgroup(path, *has_pids == "true"),
        _ => return false,
    }
    true
}

fn options() -> NodeOptions {
    NodeOptions::for_user(NodeUser::SingleId).expect("the options")
}

fn node() -> Node {
    Node::open(&options()).expect("open the node")
}

fn spec(name: &str) -> PodSpec {
    PodSpec::new(name).ephemeral(true)
}

/// A path in the directory of the test.
fn here(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HERE").expect("the directory of the test")).join(name)
}

fn script(name: &str, text: &str) -> ContainerSpec {
    ContainerSpec::new(name, Rootfs::directory("/").readonly()).args(["/bin/sh", "-c", text])
}

fn facts(pod: &Pod, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Facts {
    let exe = fs::read_link("/proc/self/exe").expect("the path of this program");
    let facts = ContainerSpec::new("facts", Rootfs::directory("/").readonly());
    let text = say(pod, change(facts.args([exe.to_str().expect("a text"), "payload", "facts"])));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn end(node: Node, pod: Pod) {
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}

/// An error of that kind that says all of these words.
fn says(error: pericarp::Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

fn pod() {
    let node = node();
    let pod = node.create_pod(&spec("mine").hostname("somewhere")).expect("create the pod");
    let keeper =
        pod.create_container(&script("keeper", "echo 7 > /dev/shm/n; exec sleep 1000")).expect("create");
    assert_eq!(keeper.status().expect("the status"), ContainerStatus::Created);
    keeper.start().expect("start");
    let other = facts(&pod, |spec| spec);
    assert_eq!(other.hostname, "somewhere");
    for (kind, name) in
        [(NamespaceKind::Network, "net"), (NamespaceKind::Ipc, "ipc"), (NamespaceKind::Uts, "uts")]
    {
        let path = format!("/proc/self/ns/{name}");
        let own = std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("a namespace"));
        assert_eq!(other.namespaces[name], pod.namespace_inode(kind).expect("the inode"));
        assert_ne!(other.namespaces[name], own);
    }
    assert_eq!((other.pid, other.cwd.as_str()), (1, "/"));
    assert_eq!(other.fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{:?}", other.fds);
    // What every container has, it has.
    for (path, fstype) in
        [("/proc", "proc"), ("/sys", "sysfs"), ("/sys/fs/cgroup", "cgroup2"), ("/dev/pts", "devpts")]
    {
        assert_eq!(other.mount(path).unwrap_or_else(|| panic!("{:?}", other.mounts)).1, fstype);
    }
    for (field, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapBnd", "00000000a80425fb")] {
        assert_eq!(other.status[field], value, "{field}");
    }
    let text = "cat /dev/shm/n; echo > /dev/null; head -c 3 /dev/zero | wc -c; cat /proc/sys/net/ipv4/ip_forward; \
                cat /sys/class/net/lo/carrier; ls /sys/firmware; [ ! -e /proc/keys ] || cat /proc/keys";
    assert_eq!(say(&pod, script("devices", text)), "7\n3\n0\n1\n");
    assert_eq!(output(&pod, script("status", "exit 5")).expect("run").0.code(), 5);
    let status = keeper.stop(Duration::from_millis(50)).expect("stop");
    assert_eq!(status.code(), 137, "sleep has no handler, and is killed");
    keeper.remove().expect("remove the container");
    assert!(matches!(
        pod.run(&ContainerSpec::new("none", Rootfs::directory("/").readonly()).args(["/no/such"])),
        Err(error) if error.kind() == ErrorKind::Exec
    ));
    assert_eq!(pod.status().expect("the status").containers.len(), 0);
    // A pod that is removed ends its containers.
    let last = pod.create_container(&script("last", "exec sleep 1000")).expect("create");
    last.start().expect("start");
    pod.remove().expect("remove the pod");
    assert!(matches!(last.status().expect("the status"), ContainerStatus::Exited(_)));
    node.remove().expect("remove the node");
    assert!(children().is_empty(), "{:?}", children());
}

fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("the threads").flatten();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.map(of).filter(|list| !list.is_empty()).collect()
}

fn owner() {
    let node = node();
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    fs::write(here("outside"), "").expect("write a file");
    let text =
        "cd /mnt; stat -c %u:%g outside .; echo > made-inside; stat -c %u:%g made-inside /etc; id -u; id -g";
    let shown = say(&pod, script("owner", text).mount(Mount::bind(here(""), "/mnt")));
    // Those of root of the machine are nobody's.
    assert_eq!(shown, "0:0\n0:0\n0:0\n65534:65534\n0\n0\n");
    end(node, pod);
}

fn groups() {
    let node = node();
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    assert_eq!(say(&pod, script("deny", "cat /proc/self/setgroups")), "deny\n");
    // The filter comes before the identity then, and before it files are looked at as the user.
    let early = Security::default().no_new_privileges(false);
    assert_eq!(say(&pod, script("early", "echo early").security(early)), "early\n");
    let error =
        pod.create_container(&script("groups", "true").additional_gids([7])).expect_err("one id only");
    says(error, ErrorKind::InvalidSpec, &["user.additionalGids", "SubordinateIds"]);
    let error = pod.create_container(&script("user", "true").user(7, 0)).expect_err("one id only");
    says(error, ErrorKind::InvalidSpec, &["user.uid", "7"]);
    end(node, pod);
}

fn limits() {
    let node = node();
    assert_eq!(node.controllers(), [""; 0]);
    let fix = ["CgroupParent::None", "NodeOptions::cgroup_parent", "Delegate=yes"];
    let resources: Resources = serde_json::from_str(r#"{"pidsMax": 10}"#).expect("limits");
    let error = node.create_pod(&spec("limited").resources(resources.clone())).expect_err("no cgroup");
    says(error, ErrorKind::Unsupported, &fix);
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    let error =
        pod.create_container(&script("limited", "true").resources(resources.clone())).expect_err("no cgroup");
    says(error, ErrorKind::Unsupported, &fix);
    let container = pod.create_container(&script("free", "exec sleep 1000")).expect("create");
    container.start().expect("start");
    says(container.update(&resources).expect_err("no cgroup"), ErrorKind::Unsupported, &fix);
    says(container.freeze().expect_err("no cgroup"), ErrorKind::Unsupported, &fix);
    says(container.processes().expect_err("no cgroup"), ErrorKind::Unsupported, &fix);
    says(pod.freeze().expect_err("no cgroup"), ErrorKind::Unsupported, &fix);
    says(pod.update(&resources).expect_err("no cgroup"), ErrorKind::Unsupported, &fix);
    assert_eq!(pod.cgroup_path(), PathBuf::new());
    container.kill().expect("kill");
    assert_eq!(container.wait().expect("wait").code(), 137);
    end(node, pod);
}

fn refused() {
    let error = Node::open(&NodeOptions::new().state_dir(here("run/x"))).expect_err("not root");
    says(error, ErrorKind::PermissionDenied, &["NodeOptions::for_user"]);
    // The usual cgroup is root's.
    let usual = options().cgroup_parent(CgroupParent::default());
    says(Node::open(&usual).expect_err("not root's"), ErrorKind::PermissionDenied, &["CgroupParent::None"]);
    // So is one that is there: mutation: without the look at its permissions in `Tree::open_as` the node was opened.
    let table = fs::read_to_string("/proc/self/mounts").expect("read the mount table");
    let top =
        table.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup2 is mounted");
    let top = PathBuf::from(top.split(' ').nth(1).expect("a path"));
    let there = options().cgroup_parent(CgroupParent::Path(top));
    says(Node::open(&there).expect_err("root's"), ErrorKind::PermissionDenied, &["CgroupParent::None"]);
    let node = node();
    let persistent = node.create_pod(&PodSpec::new("mine")).expect_err("nothing keeps it");
    says(persistent, ErrorKind::Unsupported, &["outlives", "say ephemeral"]);
    let own =
        node.create_pod(&spec("mine").user(UserMode::Auto { size: None })).expect_err("the node has one");
    says(own, ErrorKind::Unsupported, &["user namespace of its own"]);
    let host = node.create_pod(&spec("mine").pid(PidMode::Host)).expect_err("workers could be seen");
    says(host, ErrorKind::Unsupported, &["PID namespace of the machine"]);
    let shared = node.create_pod(&spec("mine").pid(PidMode::Pod)).expect_err("no cgroup");
    says(shared, ErrorKind::Unsupported, &["cgroup_parent"]);
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    let create = |spec: ContainerSpec| pod.create_container(&spec).expect_err("refused");
    says(
        create(script("pid", "true").pid(PidMode::Host)),
        ErrorKind::Unsupported,
        &["PID namespace of the machine"],
    );
    let path = PidMode::Path("/proc/self/ns/pid".into());
    says(create(script("pid", "true").pid(path)), ErrorKind::Unsupported, &["PID namespace of the machine"]);
    let disk = Device::block("/dev/disk", 8, 0);
    says(create(script("disk", "true").device(disk)), ErrorKind::Unsupported, &["/dev/disk", "source"]);
    let rule = DeviceRule::deny(DeviceRuleKind::All, None, None, DeviceAccess::READ);
    let zero = Device::char("/dev/other", 1, 5).source("/dev/zero");
    let denied = script("rule", "true").device(zero).device_rule(rule);
    says(create(denied), ErrorKind::Unsupported, &["/dev/other", "deviceRules"]);
    let tracer = Security::default().capabilities(Capabilities::default().with(Capability::CAP_SYS_PTRACE));
    says(
        create(script("tracer", "true").security(tracer)),
        ErrorKind::Unsupported,
        &["CAP_SYS_PTRACE", "workers"],
    );
    assert!(pod.containers().expect("the containers").is_empty());
    end(node, pod);
}

fn directory() {
    // SAFETY: this program has one thread here.
    let set = |value: Option<&str>| unsafe {
        match value {
            Some(value) => std::env::set_var("XDG_RUNTIME_DIR", value),
            None => std::env::remove_var("XDG_RUNTIME_DIR"),
        }
    };
    let error = || NodeOptions::for_user(NodeUser::SingleId).expect_err("no directory");
    set(None);
    says(error(), ErrorKind::NotFound, &["XDG_RUNTIME_DIR is not set", "state_dir"]);
    set(Some("/"));
    says(error(), ErrorKind::PermissionDenied, &["belongs to user 0", &USER.to_string()]);
    set(Some("/no/such"));
    says(error(), ErrorKind::NotFound, &["/no/such"]);
}

/// Whatever could do anything to the machine.
const PRIVILEGES: [Capability; 13] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_RAWIO,
    Capability::CAP_SYS_MODULE,
    Capability::CAP_SYS_BOOT,
    Capability::CAP_SYS_TIME,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_SYS_NICE,
    Capability::CAP_SYSLOG,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_LINUX_IMMUTABLE,
    Capability::CAP_IPC_OWNER,
    Capability::CAP_BLOCK_SUSPEND,
];

/// With all that and no filter, in a container that has all of the machine's files.
fn root() {
    let node = node();
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    let all = PRIVILEGES.into_iter().fold(Capabilities::default(), Capabilities::with);
    let security = || Security::default().capabilities(all.clone()).seccomp(SeccompProfile::Unconfined);
    // Its own root filesystem, with the device that root of the machine has left in it.
    for name in ["rootfs", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/mnt"] {
        fs::create_dir(here(name)).expect("make a directory");
    }
    let tries = [
        ("read", "cat SECRET"),
        ("write", "echo x > SECRET"),
        ("chown", "chown 0:0 SECRET"),
        ("open", "head -c 1 HERE/device"),
        ("mknod", "mknod /dev/shm/disk b 8 0"),
        ("sysrq", "echo h > /proc/sysrq-trigger"),
        ("printk", "echo 1 > /proc/sys/kernel/printk"),
        ("kernel", "echo 100 > /proc/sys/vm/swappiness"),
        ("host name", "nsenter --uts=/proc/1/root/proc/1/ns/uts --user=/proc/1/root/proc/1/ns/user false"),
        ("module", "echo 1 > /sys/kernel/mm/ksm/run"),
    ];
    for (name, text) in tries {
        let text = text.replace("SECRET", &here("secret").display().to_string());
        let text = text.replace("HERE", &here("").display().to_string());
        let spec = script("tries", &text).security(security());
        let (status, text) = output(&pod, spec).expect("run");
        assert!(!status.success(), "{name} was done: {text}");
    }
    let facts = facts(&pod, |spec| spec.security(security()));
    let effective = u64::from_str_radix(&facts.status["CapEff"], 16).expect("a set");
    assert!(effective & 1 << 21 != 0, "CAP_SYS_ADMIN is there: {effective:x}");
    // The processes of the machine are not to be seen, nor is anything of them.
    let seen = say(&pod, script("ps", "ls -d /proc/[0-9]* | wc -l").security(security()));
    assert!(seen.trim().parse::<u32>().expect("a number") <= 4, "{seen}");
    end(node, pod);
}

fn files() {
    let node = node();
    let ipc: IpcObjects = serde_json::from_str(
        r#"{"shm": [{"name": "ring", "size": 4096}], "mqueues": [{"name": "jobs"}],
            "sysvShm": [{"key": 7, "size": 4096}], "sysvSem": [{"key": 7, "values": [1, 2]}]}"#,
    )
    .expect("IPC objects");
    fs::create_dir(here("data")).expect("make a directory");
    let spec = spec("mine")
        .ipc(ipc)
        .domainname("somewhere")
        .hostname_files(true)
        .sysctl("net.ipv4.ip_unprivileged_port_start", "80")
        .volume(Volume::tmpfs("scratch", 1 << 20))
        .volume(Volume::directory("data", here("data")));
    let pod = node.create_pod(&spec).expect("create the pod");
    let list = pod.ipc().list().expect("list");
    assert_eq!((list.shm.len(), list.mqueues.len(), list.sysv_shm.len(), list.sysv_sem.len()), (1, 1, 1, 1));
    pod.ipc().remove_sysv_sem(7).expect("remove");
    pod.ipc().open_shm_object("ring", true).expect("open");
    let more = ShmObjectSpec { name: "more".into(), size: 4096, mode: 0o600, uid: 0, gid: 0 };
    pod.ipc().create_shm_object(&more).expect("make");
    assert_eq!(facts(&pod, |spec| spec).domainname, "somewhere");
    // A layer of the user's own, with a shell that needs no other file.
    let lower = here("lower");
    for name in ["", "bin", "proc", "sys", "dev", "etc", "old", "usr"] {
        fs::create_dir(lower.join(name)).expect("make a directory");
    }
    for name in ["lib", "lib64"] {
        if let Ok(target) = fs::read_link(format!("/{name}")) {
            std::os::unix::fs::symlink(target, lower.join(name)).expect("make a link");
        } else {
            let _ = fs::create_dir(lower.join(name));
        }
    }
    fs::write(lower.join("old/file"), "below").expect("write");
    fs::copy("/bin/sh", lower.join("bin/sh")).expect("copy the shell");
    fs::set_permissions(lower.join("bin/sh"), fs::Permissions::from_mode(0o755)).expect("set the mode");
    let overlay = |name: &str, text: &str| {
        let spec = ContainerSpec::new(name, Rootfs::overlay([&lower])).args(["/bin/sh", "-c", text]);
        let spec = spec.mount(Mount::volume("data", "/data")).mount(Mount::volume("scratch", "/scratch"));
        ["/usr", "/lib", "/lib64"]
            .into_iter()
            .filter(|path| fs::read_link(path).is_err() && fs::metadata(path).is_ok())
            .fold(spec, |spec, path| spec.mount(Mount::bind(path, path).readonly(true)))
    };
    let text = "read x < /old/file || :; echo $x; echo changed > /old/file; echo 1 > /data/one; echo 2 > /scratch/two; \
                read name < /etc/hostname; echo $name; echo new > /new; read y < /new; echo $y";
    assert_eq!(say(&pod, overlay("a", text)), "below\nmine\nnew\n");
    assert_eq!(fs::read_to_string(lower.join("old/file")).expect("read"), "below");
    assert_eq!(fs::read_to_string(here("data/one")).expect("read"), "1\n");
    let text = "read x < /scratch/two; echo $x; read y < /old/file; echo $y; echo > /new/x || echo gone";
    let shown = say(&pod, overlay("b", text));
    assert!(shown.starts_with("2\nbelow\ngone\n"), "{shown}");
    end(node, pod);
}

fn exec() {
    let node = node();
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    let main = script("main", "cd /dev/shm; exec sleep 1000").terminal(true).console_size(80, 25);
    let main = pod.create_container(&main).expect("create");
    main.start().expect("start");
    let mut terminal = main.take_terminal().expect("a terminal");
    assert_eq!(terminal.size().expect("the size"), (80, 25));
    let words = ["/bin/sh", "-c", "echo $(cat /proc/1/comm) $(id -u) $(ls /dev/pts); cat; exit 3"];
    let process = main.exec(&ExecSpec::new(words).stdin(Stdio::Pipe).stdout(Stdio::Pipe)).expect("execute");
    process.take_stdin().expect("a pipe").write_all(b"through\n").expect("write");
    let mut text = String::new();
    process.take_stdout().expect("a pipe").read_to_string(&mut text).expect("read");
    assert_eq!(text, "sleep 0 0 ptmx\nthrough\n");
    assert_eq!(process.wait().expect("wait").code(), 3);
    let with_terminal = ExecSpec::new(["/bin/sh", "-c", "tty; exit 4"]).terminal(true);
    let process = main.exec(&with_terminal).expect("execute");
    assert_eq!(process.wait().expect("wait").code(), 4);
    let mut said = Vec::new();
    let _ = process.take_terminal().expect("a terminal").read_to_end(&mut said);
    assert_eq!(String::from_utf8_lossy(&said).trim(), "/dev/pts/1");
    terminal.write_all(b"x").expect("type");
    assert_eq!(main.stop(Duration::from_millis(50)).expect("stop").code(), 137);
    end(node, pod);
}

/// Nothing of the program changes, whatever is done, and others of its threads go on.
fn guest() {
    let own = || {
        let namespaces: Vec<PathBuf> = fs::read_dir("/proc/self/ns")
            .expect("the namespaces")
            .flatten()
            .map(|entry| fs::read_link(entry.path()).expect("a link"))
            .collect();
        let status = fs::read_to_string("/proc/thread-self/status").expect("the status");
        // SigQ counts what is pending for the user, also in other programs: it may go down meanwhile.
        let signals = ["SigPnd", "SigBlk", "SigIgn", "SigCgt"];
        let kept = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "Umask"];
        let status: Vec<String> = status
            .lines()
            .filter(|line| kept.iter().chain(&signals).any(|key| line.starts_with(key)))
            .map(str::to_string)
            .collect();
        let dumpable = nix::sys::prctl::get_dumpable().expect("ask");
        let descriptors: Vec<PathBuf> = fs::read_dir("/proc/self/fd")
            .expect("the files")
            .flatten()
            .map(|entry| fs::read_link(entry.path()).unwrap_or_default())
            .collect();
        (namespaces, status, dumpable, descriptors, std::env::current_dir().expect("the directory"))
    };
    // The C library handles a signal of its own from the first thread on.
    std::thread::spawn(|| ()).join().expect("a thread");
    assert!(own().2);
    let before = own();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut kept = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                kept.push(vec![1u8; 100_000]);
                kept.truncate(8);
                assert!(nix::sys::prctl::get_dumpable().expect("ask"), "also in between");
            }
        });
        let _end = Done(&stop);
        let node = node();
        let pods: Vec<Pod> = std::thread::scope(|scope| {
            let make = |n: u32| {
                let node = &node;
                scope.spawn(move || {
                    let pod = node.create_pod(&spec(&format!("p{n}"))).expect("create the pod");
                    assert_eq!(say(&pod, script("a", "echo $((6 * 7))")), "42\n");
                    pod
                })
            };
            let threads: Vec<_> = (0..4).map(make).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
        });
        for pod in pods {
            pod.remove().expect("remove the pod");
        }
        node.remove().expect("remove the node");
    });
    assert_eq!(own(), before);
    assert!(children().is_empty(), "{:?}", children());
}

fn running(pod: &Pod) -> Container {
    let container = pod.create_container(&script("left", "exec sleep 1000")).expect("create");
    container.start().expect("start");
    container
}

/// Says the pid of a container, and waits to be killed.
fn stay() {
    let node = node();
    let pod = node.create_pod(&spec("left")).expect("create the pod");
    println!("{}", running(&pod).pid());
    loop {
        std::thread::park();
    }
}

fn recover() {
    let node = node();
    let recovery = node.recover().expect("recover");
    assert_eq!((recovery.removed.len(), recovery.busy.len()), (1, 0), "{recovery:?}");
    // Pods of this very program are left alone.
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    let container = running(&pod);
    assert_eq!(node.recover().expect("recover"), pericarp::Recovery::default());
    assert_eq!(container.status().expect("the status"), ContainerStatus::Running);
    assert_eq!(say(&pod, script("after", "echo still here")), "still here\n");
    end(node, pod);
}

fn missing() {
    // SAFETY: this program has one thread here.
    unsafe { std::env::set_var("PATH", "/no/such") };
    let error = Node::open(&options().user(NodeUser::SubordinateIds)).expect_err("no program");
    says(error, ErrorKind::Unsupported, &["newuidmap", "uidmap", "single id"]);
    assert!(!here("run/pericarp").exists());
}

fn ids() {
    let node = Node::open(&options().user(NodeUser::SubordinateIds)).expect("open the node");
    let pod = node.create_pod(&spec("mine")).expect("create the pod");
    let map = say(&pod, script("map", "cat /proc/self/uid_map"));
    let numbers: Vec<u32> =
        map.split_ascii_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert_eq!(numbers, [0, USER, 1, 1, SUBORDINATE, 65536]);
    let facts = facts(&pod, |spec| spec.user(1000, 2000).additional_gids([3000]));
    assert_eq!(facts.status["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!(facts.status["Gid"], "2000\t2000\t2000\t2000");
    assert_eq!(facts.status["Groups"], "3000");
    fs::set_permissions(here(""), fs::Permissions::from_mode(0o777)).expect("let them in");
    let file =
        script("file", "echo > /mnt/made-inside").user(1000, 2000).mount(Mount::bind(here(""), "/mnt"));
    assert_eq!(say(&pod, file), "");
    // Standard streams of a user that this program is not can be opened again.
    assert_eq!(say(&pod, script("again", "echo x > /dev/stdout").user(1000, 2000)), "x\n");
    let terminals =
        pod.create_container(&script("tty", "stat -c %u:%g /dev/pts/0; exit 6").terminal(true).user(5, 5));
    let terminals = terminals.expect("create");
    terminals.start().expect("start");
    assert_eq!(terminals.wait().expect("wait").code(), 6);
    let mut said = Vec::new();
    let _ = terminals.take_terminal().expect("a terminal").read_to_end(&mut said);
    assert_eq!(String::from_utf8_lossy(&said).trim(), "5:5");
    end(node, pod);
    fs::set_permissions(here(""), fs::Permissions::from_mode(0o711)).expect("set the mode");
}

fn cgroup(path: &str, has_pids: bool) {
    let node = Node::open(&options().cgroup_parent(CgroupParent::Path(path.into()))).expect("open the node");
    let pod = node.create_pod(&spec("mine").pid(PidMode::Pod)).expect("create the pod");
    let mut spec = script("main", "sleep 1000 & exec sleep 1000");
    let limits: Resources = serde_json::from_str(r#"{"pidsMax": 9}"#).expect("limits");
    if has_pids {
        spec = spec.resources(limits);
    } else {
        let error = pod.create_container(&spec.clone().resources(limits)).expect_err("no controller");
        says(error, ErrorKind::Unsupported, &["pids"]);
    }
    let host = pod.create_container(&spec.clone().pid(PidMode::Host)).expect_err("workers could be seen");
    says(host, ErrorKind::Unsupported, &["PID namespace of the machine"]);
    let container = pod.create_container(&spec).expect("create");
    container.start().expect("start");
    while container.processes().expect("the processes").len() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let file = |name: &str| fs::read_to_string(pod.cgroup_path().join("main").join(name)).expect("a file");
    if has_pids {
        assert_eq!(file("pids.max"), "9\n");
    }
    container.freeze().expect("freeze");
    assert!(file("cgroup.events").contains("frozen 1"));
    container.thaw().expect("thaw");
    // In the PID namespace that all share, with a process that its first one has left behind.
    assert_eq!(say(&pod, script("other", "cat /proc/1/comm")), "pericarp-init\n");
    assert_eq!(container.stop(Duration::from_millis(50)).expect("stop").code(), 143);
    container.remove().expect("remove");
    end(node, pod);
}

fn stats() {
    let node = node();
    let pod = node.create_pod(&spec("mine").volume(Volume::tmpfs("data", 1 << 20))).expect("create the pod");
    let lower = here("lower");
    fs::create_dir(&lower).expect("make a directory");
    // It is never started: an empty layer will do.
    let main = ContainerSpec::new("main", Rootfs::overlay([&lower])).args(["/none"]);
    let container = pod.create_container(&main).expect("create");
    let options = StatsOptions::new().filesystems(FilesystemOptions::default());
    let told = node.stats_with(&options).expect("stats of the node");
    assert_eq!(told.pods.len(), 1, "{told:?}");
    let mine = &told.pods[0];
    let network = mine.network.as_ref().expect("a network of its own");
    assert_eq!(network.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["lo"]);
    assert_eq!(mine.volumes["data"].capacity_bytes, 1 << 20);
    assert!(mine.containers[0].writable_layer.is_some(), "{mine:?}");
    // There is no cgroup: what would be in it is not told.
    assert_eq!((&mine.cgroup, &mine.containers[0].cgroup), (&Default::default(), &Default::default()));
    assert_eq!(container.stats().expect("stats").cgroup, Default::default());
    assert!(told.machine.memory_bytes.is_some());
    assert!(told.to_prometheus().contains("container_fs_usage_bytes{container=\"main\","));
    end(node, pod);
}
