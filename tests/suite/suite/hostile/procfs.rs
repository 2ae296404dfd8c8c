//! What the kernel says stays what the kernel says, and nobody writes to it for a container.
//!
//! CVE-2019-16884, CVE-2019-19921, CVE-2022-0811, CVE-2023-27561, CVE-2023-28642, CVE-2025-52881.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pericarp::spec::{Capabilities, Capability, MountKind, NamespaceMode, Security};
use pericarp::{CgroupParent, ContainerSpec, ErrorKind, Mount, Node, NodeOptions, PodSpec, Rootfs};

use crate::robust::again;
use crate::rootfs::bare;
use crate::support::fixture::{output, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    no_link_leads_a_mount_into_proc,
    what_looks_like_the_kernels_files_follows_no_link,
    nothing_but_a_proc_is_mounted_on_proc,
    what_lies_over_the_hosts_proc_is_never_written_to,
    parameters_of_the_whole_machine_are_refused,
    nothing_is_set_in_the_hosts_namespace_whatever_path_leads_there,
    kernel_parameters_cannot_be_written,
];

/// Commands for this program in a process of its own on the host.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["hostile-covered-proc", state_dir, fake] => covered_proc(state_dir, Path::new(fake)),
        ["hostile-hosts-namespace", state_dir, dir] => {
            again::body(set_in_hosts_namespace(state_dir, Path::new(dir)));
        }
        _ => return false,
    }
    true
}

fn with(spec: ContainerSpec, capabilities: Capabilities) -> ContainerSpec {
    spec.security(Security::default().capabilities(capabilities))
}

/// With no look at the filesystem in `mount_at` of `src/init/fs.rs`: "/proc1 was mounted on".
fn no_link_leads_a_mount_into_proc() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = fixture.path("root");
    fs::create_dir(&root)?;
    for (name, target) in [
        ("proc1", "/proc"),
        ("sys1", "/proc/sys"),
        ("attr", "/proc/self/attr"),
        ("magic", "/proc/self/root"),
        ("up", "../../proc/sys/kernel"),
        ("cwd", "/proc/thread-self/cwd"),
    ] {
        symlink(target, root.join(name))?;
    }
    let tmpfs = |path: &str| Mount::tmpfs(path, 1 << 16);
    for mount in [
        tmpfs("/proc1"),
        tmpfs("/proc1/sys"),
        tmpfs("/sys1"),
        tmpfs("/sys1/kernel"),
        tmpfs("/attr"),
        tmpfs("/up"),
        Mount::bind("/dev/null", "/proc1/version"),
        Mount::bind("/dev/null", "/up/hostname"),
        tmpfs("/magic"),
        tmpfs("/magic/tmp"),
        tmpfs("/cwd/x"),
    ] {
        let path = mount.destination.display().to_string();
        let Err(error) = pod.create_container(&bare("a", Rootfs::directory(&root), "true").mount(mount))
        else {
            panic!("{path} was mounted on");
        };
        let refused = matches!(error.errno(), Some(libc::EPERM | libc::ELOOP | libc::EACCES));
        assert!(refused && error.to_string().contains(&path), "{path}: {error}");
    }
    PASS
}

/// With `RESOLVE_NO_SYMLINKS` never asked for (`State::resolve` in `src/init/main.rs`) the containers were made.
fn what_looks_like_the_kernels_files_follows_no_link() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for name in ["proc", "sys", "dev"] {
        let root = fixture.path(&format!("root-{name}"));
        fs::create_dir_all(root.join("elsewhere"))?;
        symlink("/elsewhere", root.join(name))?;
        let error = pod.create_container(&bare("a", Rootfs::directory(&root), "true")).unwrap_err();
        // EINVAL: a directory does not go on what is no directory, as a link that is not followed.
        assert!(matches!(error.errno(), Some(libc::ELOOP | libc::EINVAL)), "{name}: {error}");
        assert!(error.step().ends_with(&format!("on /{name}")), "{error}");
        assert_eq!(fs::read_dir(root.join("elsewhere"))?.count(), 0);
    }
    // The kernel's own links are no way around: this is on the fresh /dev.
    let root = fixture.path("root");
    fs::create_dir(&root)?;
    let spec = bare("a", Rootfs::directory(&root), "true").mount(Mount::of(MountKind::Proc, "/dev/fd"));
    assert_eq!(pod.create_container(&spec).unwrap_err().errno(), Some(libc::ELOOP));
    PASS
}

/// CVE-2022-0811. With every name taken in `validate_sysctls` of `src/spec/validate.rs` the next check, an assertion of
/// the library about the namespace, failed.
fn parameters_of_the_whole_machine_are_refused() -> Outcome {
    let fixture = Fixture::new();
    for name in [
        "",
        ".",
        "net",
        "net.",
        ".net",
        "net..ipv4",
        "net.ipv4.",
        "kernel.core_pattern",
        "kernel.hostname",
        "kernel.panic",
        "kernel.ns_last_pid",
        "kernel.shmmax.x",
        "kernel.shm",
        "kernel.SHMMAX",
        "vm.overcommit_memory",
        "vm.nr_hugepages",
        "fs.file-max",
        "fs.mqueue",
        "user.max_user_namespaces",
        // CVE-2022-0811, and its relations.
        "net.ipv4.tcp_syncookies+kernel.core_pattern",
        "net.ipv4.tcp_syncookies=1+kernel.core_pattern",
        "net.ipv4.tcp_syncookies\nkernel.core_pattern",
        "net.ipv4.tcp_syncookies\0",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net/ipv4/../../kernel/core_pattern",
        "net/./../kernel.core_pattern",
        "/kernel/shmmax",
        "net./../kernel.core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "net.../kernel/core_pattern",
        "net.ipv4.*",
        "net.ipv4.%s",
        " net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_syncookies ",
        "net.ipv4.tcp\\syncookies",
        "nеt.ipv4.tcp_syncookies",
        "proc.sys.net",
        &format!("net.{}", "x.".repeat(200) + "x"),
    ] {
        // What it is anyway: harmless where it is taken.
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        let value = fs::read_to_string(file).map_or("1".into(), |value| value.trim().to_string());
        let error = fixture.node.create_pod(&PodSpec::new("web").sysctl(name, value)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{name:?}: {error}");
    }
    for value in ["", "1\n", "1\nkernel.no_such_parameter=x", "1\0", &"1".repeat(5000)] {
        let spec = PodSpec::new("web").sysctl("net.ipv4.tcp_syncookies", value);
        let error = fixture.node.create_pod(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{value:?}: {error}");
    }
    assert!(fixture.node.pods()?.is_empty());
    PASS
}

/// CVE-2022-0811, by a path instead of a name. With no look at what it led to (`is_no_hosts` in `src/pod/given.rs` returning
/// at once): "net.ipv4.tcp_keepalive_time was set in the namespace at /proc/self/ns/net". Values are those that are there anyway, harmless where they are taken.
fn nothing_is_set_in_the_hosts_namespace_whatever_path_leads_there() -> Outcome {
    let fixture = Fixture::new();
    let text = again::run(&[
        "hostile-hosts-namespace",
        &again::word(&fixture),
        &fixture.path("").display().to_string(),
    ]);
    assert_eq!(text, format!("{} refused\n", if fs::File::open("/proc/1/ns/net").is_ok() { 30 } else { 15 }));
    PASS
}

/// In a mount namespace of its own; then also in other namespaces than process 1, those of which stay the machine's, unless
/// this program may not look at that.
fn set_in_hosts_namespace(state_dir: &str, dir: &Path) -> Outcome {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let node = again::node(state_dir);
    let mut refused = 0;
    let all = [("self", "this program"), ("1", "the machine")];
    let hidden = fs::File::open("/proc/1/ns/net").is_err();
    for (process, whose) in if hidden { &all[..1] } else { &all[..] } {
        for (kind, parameter) in [
            ("net", "net.ipv4.tcp_keepalive_time"),
            ("ipc", "kernel.shm_rmid_forced"),
            ("uts", "kernel.domainname"),
        ] {
            let file = format!("/proc/{process}/ns/{kind}");
            let (link, bound) =
                (dir.join(format!("link-{process}-{kind}")), dir.join(format!("bind-{process}-{kind}")));
            symlink(&file, &link)?;
            fs::write(&bound, "")?;
            mount(Some(&*file), &bound, none, MsFlags::MS_BIND, none)?;
            let open = fs::File::open(&file)?;
            use std::os::fd::AsRawFd;
            let descriptor = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string());
            let chain = dir.join(format!("chain-{process}-{kind}"));
            symlink(&descriptor, &chain)?;
            let value = fs::read_to_string(Path::new("/proc/sys").join(parameter.replace('.', "/")))?;
            for path in [Path::new(&file), &link, &bound, &descriptor, &chain] {
                let mode = NamespaceMode::Path(path.to_path_buf());
                let spec = PodSpec::new("web").sysctl(parameter, value.trim());
                let spec = match kind {
                    "net" => spec.network(mode),
                    "ipc" => spec.ipc_namespace(mode),
                    _ => spec.uts(mode),
                };
                let Err(error) = node.create_pod(&spec) else {
                    panic!("{parameter} was set in the namespace at {}", path.display());
                };
                assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
                let text = error.to_string();
                assert!(text.contains(*whose) && text.contains(&*path.to_string_lossy()), "{text}");
                refused += 1;
                if kind == "uts" {
                    let NamespaceMode::Path(path) = spec.namespaces.uts else { panic!("no path") };
                    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
                    let spec = PodSpec::new("web").uts(NamespaceMode::Path(path)).hostname(name.trim());
                    assert_eq!(node.create_pod(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
                }
            }
        }
        // From here on the machine's are not those of this program.
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    }
    assert!(node.pods()?.is_empty());
    println!("{refused} refused");
    PASS
}

/// Every attempt writes what is there already, so that it harms nobody when it succeeds: with `/proc/sys` not made
/// read-only (`READONLY` doing nothing in `src/init/fs.rs`) nothing of it is refused but what is in /sys.
fn kernel_parameters_cannot_be_written() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let command = "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/1/root/proc/sys/vm/swappiness \
                     /proc/self/root/proc/sys/kernel/panic /proc/thread-self/root/proc/irq/default_smp_affinity; do
                       v=$(cat $f) && (echo \"$v\" >$f) && echo wrote $f
                   done
                   (echo 0 >/sys/kernel/mm/transparent_hugepage/no-such; mkdir /sys/fs/cgroup/x) && echo wrote";
    let all = Capabilities::default().with(Capability::CAP_SYS_ADMIN).with(Capability::CAP_NET_ADMIN);
    for capabilities in [Capabilities::default(), all] {
        // Also for those who could if the files were writable. (Such a container can mount again; see the CVEs.)
        let (_, text) = output(&pod, with(script("a", command), capabilities))?;
        assert!(text.matches("Read-only file system").count() >= 4 && !text.contains("wrote"), "{text}");
    }
    PASS
}

/// With no look for `/proc` in `validate_mounts` of `src/spec/validate.rs` the first container was made.
fn nothing_but_a_proc_is_mounted_on_proc() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for path in [
        "/proc",
        "/proc/",
        "/proc/.",
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/sys/kernel/x",
        "/proc/1",
    ] {
        for mount in [
            Mount::bind(fixture.dir.path(), path),
            Mount::tmpfs(path, 4096),
            Mount::of(MountKind::Sysfs, path),
            Mount::of(MountKind::Proc, "/proc/x"),
        ] {
            let error = pod.create_container(&script("a", "true").mount(mount)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{path}: {error}");
        }
    }
    PASS
}

/// CVE-2019-16884: on a host whose `/proc` somebody has mounted something over, the library writes where it means to.
/// With files of `/proc` in place of the private one (`set_sysctl` in `src/node/proc.rs`), the parameter was in the
/// ordinary file and not in the pod.
fn what_lies_over_the_hosts_proc_is_never_written_to() -> Outcome {
    let fixture = Fixture::new();
    let fake = fixture.path("fake");
    for directory in ["sys/net/ipv4", "sys/kernel", "self/attr", "thread-self/attr"] {
        fs::create_dir_all(fake.join(directory))?;
    }
    for file in ["sys/net/ipv4/ip_unprivileged_port_start", "sys/kernel/domainname", "self/oom_score_adj"] {
        fs::write(fake.join(file), "fake\n")?;
    }
    let state_dir = format!("{}-covered", again::word(&fixture));
    let text = again::run(&["hostile-covered-proc", &state_dir, &fake.display().to_string()]);
    assert_eq!(text, "77\n");
    for file in ["sys/net/ipv4/ip_unprivileged_port_start", "sys/kernel/domainname", "self/oom_score_adj"] {
        assert_eq!(fs::read_to_string(fake.join(file))?, "fake\n", "{file}");
    }
    PASS
}

/// In a mount namespace of its own, with a directory over `/proc`.
fn covered_proc(state_dir: &str, fake: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("make all mounts private");
    let name = Path::new(state_dir).file_name().expect("a name").to_string_lossy().into_owned();
    let options = NodeOptions::new().state_dir(state_dir).cgroup_parent(CgroupParent::Named(name));
    // The node finds the cgroups in the mount table; from then on it has its own proc.
    let node = Node::open(&options).expect("open a node");
    mount(Some(fake), "/proc", none, MsFlags::MS_BIND, none).expect("bind");
    let spec = PodSpec::new("web").sysctl("net.ipv4.ip_unprivileged_port_start", "77").domainname("covered");
    let pod = node.create_pod(&spec).expect("make a pod");
    let look = script("a", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").oom_score_adj(999);
    print!("{}", crate::support::fixture::say(&pod, look));
    pod.remove().expect("remove the pod");
    node.remove().expect("remove the node");
}
