//! Kernel parameters of a pod's own namespaces: set for it, for it alone, and nothing else ever set.

use std::fs;
use std::path::PathBuf;

use pericarp::spec::NamespaceMode::{Host, Path};
use pericarp::spec::UserMode;
use pericarp::{ErrorKind, PodSpec};

use crate::support::fixture::{payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    parameters_are_set_in_the_pod_and_nowhere_else,
    an_unprivileged_server_may_take_a_low_port_when_the_pod_says_so,
    parameters_of_namespaces_of_the_host_are_refused,
    parameters_and_names_are_set_in_a_namespace_that_is_given,
    the_domain_name_may_be_a_parameter,
    names_with_slashes_are_those_of_sysctl,
    a_parameter_that_this_kernel_lacks_is_unsupported,
    a_value_that_the_kernel_does_not_take_whole_is_an_error,
];

const NETWORK: [(&str, &str); 5] = [
    ("net.ipv4.ip_unprivileged_port_start", "77"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv4.ip_local_port_range", "20000 20009"),
    ("net.ipv4.tcp_keepalive_time", "123"),
    ("net.ipv4.conf.lo.log_martians", "1"),
];

const IPC: [(&str, &str); 6] = [
    ("kernel.shmmax", "65536"),
    ("kernel.shm_rmid_forced", "1"),
    ("kernel.msgmax", "4321"),
    ("kernel.sem", "100 200 10 20"),
    ("fs.mqueue.msg_max", "7"),
    ("fs.mqueue.msgsize_max", "4096"),
];

fn file(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

/// The numbers of a value: the kernel separates them by tabs.
fn words(value: &str) -> Vec<&str> {
    value.split_ascii_whitespace().collect()
}

fn parameters_are_set_in_the_pod_and_nowhere_else() -> Outcome {
    let fixture = Fixture::new();
    let all: Vec<(&str, &str)> = NETWORK.into_iter().chain(IPC).collect();
    let of_host = || -> Vec<String> {
        all.iter().map(|(name, _)| fs::read_to_string(file(name)).expect("a parameter of the host")).collect()
    };
    let before = of_host();
    let other = fixture.pod("other");
    let plain: Vec<String> = all
        .iter()
        .map(|(name, _)| say(&other, script("a", &format!("cat {}", file(name).display()))))
        .collect();
    let spec = all.iter().fold(PodSpec::new("web"), |spec, (name, value)| spec.sysctl(*name, *value));
    let pod = fixture.node.create_pod(&spec)?;
    for ((name, value), plain) in all.iter().zip(&plain) {
        let read = script("a", &format!("cat {}", file(name).display()));
        assert_eq!(words(&say(&pod, read.clone())), words(value), "{name}");
        assert_ne!(words(plain), words(value), "{name} has that value anyway: the test tests nothing");
        assert_eq!(say(&other, read), *plain, "{name} of another pod");
    }
    assert_eq!(of_host(), before);
    PASS
}

/// The parameter acts, as the kernel shows to a process without capabilities.
fn an_unprivileged_server_may_take_a_low_port_when_the_pod_says_so() -> Outcome {
    let fixture = Fixture::new();
    let strict = fixture
        .node
        .create_pod(&PodSpec::new("strict").sysctl("net.ipv4.ip_unprivileged_port_start", "1024"))?;
    let open =
        fixture.node.create_pod(&PodSpec::new("open").sysctl("net.ipv4.ip_unprivileged_port_start", "0"))?;
    let server = inside("a", &["net", "bind", "127.0.0.1:80"]).user(1000, 1000);
    assert_eq!(say(&strict, server.clone()), "PermissionDenied\n");
    assert_eq!(say(&open, server), "bound\n");
    PASS
}

/// With no look at the mode in `validate_sysctls` of `src/spec/sysctl.rs`, in a program in namespaces of its own: the first
/// pod was made.
fn parameters_of_namespaces_of_the_host_are_refused() -> Outcome {
    let fixture = Fixture::new();
    for (name, value) in NETWORK {
        let spec = PodSpec::new("web").network(Host).sysctl(name, value);
        let error = fixture.node.create_pod(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{name}: {error}");
    }
    for (name, value) in IPC {
        let spec = PodSpec::new("web").ipc_namespace(Host).sysctl(name, value);
        let error = fixture.node.create_pod(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{name}: {error}");
    }
    let spec = PodSpec::new("web").uts(Host).sysctl("kernel.domainname", "x");
    assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
    // The other namespace is the pod's own.
    let spec = PodSpec::new("web").network(Host).uts(Host).sysctl("kernel.shmmax", "65536");
    fixture.node.create_pod(&spec)?.remove()?;
    let spec = PodSpec::new("web").ipc_namespace(Host).sysctl("net.ipv4.tcp_keepalive_time", "9");
    fixture.node.create_pod(&spec)?.remove()?;
    PASS
}

/// As the CRI of containerd has it: it makes the network namespace, and wants parameters in it.
fn parameters_and_names_are_set_in_a_namespace_that_is_given() -> Outcome {
    let fixture = Fixture::new();
    let before = domainname_of_host();
    let given = fixture.pod("given");
    let path = |kind| -> pericarp::Result<_> {
        use std::os::fd::AsRawFd;
        let fd = given.namespace_fd(kind)?;
        Ok((Path(format!("/proc/self/fd/{}", fd.as_raw_fd()).into()), fd))
    };
    let (network, _network) = path(pericarp::NamespaceKind::Network)?;
    let (ipc, _ipc) = path(pericarp::NamespaceKind::Ipc)?;
    let (uts, _uts) = path(pericarp::NamespaceKind::Uts)?;
    let spec = PodSpec::new("web").network(network).ipc_namespace(ipc).uts(uts).hostname("box");
    let spec = spec.sysctl("kernel.domainname", "yp.example");
    let spec = NETWORK.iter().chain(&IPC).fold(spec, |spec, (name, value)| spec.sysctl(*name, *value));
    let pod = fixture.node.create_pod(&spec)?;
    for pod in [&pod, &given] {
        for (name, value) in NETWORK.iter().chain(&IPC) {
            let read = script("a", &format!("cat {}", file(name).display()));
            assert_eq!(words(&say(pod, read)), words(value), "{name}");
        }
        let names = script("a", "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname");
        assert_eq!(say(pod, names), "box\nyp.example\n");
    }
    assert_eq!(domainname_of_host(), before);
    PASS
}

fn domainname_of_host() -> String {
    fs::read_to_string("/proc/sys/kernel/domainname").expect("the domain name of the host")
}

/// Docker says the domain name by its parameter.
fn the_domain_name_may_be_a_parameter() -> Outcome {
    let fixture = Fixture::new();
    let before = domainname_of_host();
    let named = |name: &str| PodSpec::new(name).sysctl("kernel.domainname", "yp.example");
    let read = || script("a", "cat /proc/sys/kernel/domainname");
    for spec in
        [named("a"), named("b").domainname("yp.example"), named("c").user(UserMode::Auto { size: None })]
    {
        assert_eq!(say(&fixture.node.create_pod(&spec)?, read()), "yp.example\n");
    }
    assert_eq!(domainname_of_host(), before);
    let error = fixture.node.create_pod(&named("d").domainname("other")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    PASS
}

fn names_with_slashes_are_those_of_sysctl() -> Outcome {
    let fixture = Fixture::new();
    let spec =
        PodSpec::new("web").sysctl("net/ipv4/conf/lo/log_martians", "1").sysctl("kernel/shmmax", "65536");
    let pod = fixture.node.create_pod(&spec)?;
    let read = "cat /proc/sys/net/ipv4/conf/lo/log_martians /proc/sys/kernel/shmmax";
    assert_eq!(say(&pod, script("a", read)), "1\n65536\n");
    let twice = PodSpec::new("b").sysctl("kernel/shmmax", "65536").sysctl("kernel.shmmax", "65537");
    assert_eq!(fixture.node.create_pod(&twice).unwrap_err().kind(), ErrorKind::InvalidSpec);
    PASS
}

fn a_parameter_that_this_kernel_lacks_is_unsupported() -> Outcome {
    let fixture = Fixture::new();
    for name in
        ["net.ipv4.no_such_parameter", "net.no.such", "fs.mqueue.none", "net.ipv4.conf.eth99.forwarding"]
    {
        let spec = PodSpec::new("web").sysctl("net.ipv4.tcp_keepalive_time", "9").sysctl(name, "1");
        let error = fixture.node.create_pod(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(fixture.node.pods()?.is_empty());
    assert_eq!(fixture.node.recover()?, Default::default(), "something was left");
    PASS
}

/// The kernel takes as much of a value as it understands and says how much: the rest must not go unnoticed.
fn a_value_that_the_kernel_does_not_take_whole_is_an_error() -> Outcome {
    let fixture = Fixture::new();
    for (name, value) in [
        ("net.ipv4.tcp_keepalive_time", "9 10 11"),
        ("net.ipv4.tcp_keepalive_time", "9; 10"),
        ("net.ipv4.tcp_keepalive_time", "x"),
        ("net.ipv4.tcp_keepalive_time", "99999999999999999999"),
        ("net.ipv4.ip_unprivileged_port_start", "65537"),
        ("net.ipv4.ip_unprivileged_port_start", "-1"),
        ("kernel.shm_rmid_forced", "2"),
        ("fs.mqueue.msg_max", "0"),
        // A directory.
        ("net.ipv4.conf", "1"),
    ] {
        match fixture.node.create_pod(&PodSpec::new("web").sysctl(name, value)) {
            Ok(pod) => {
                let taken = say(&pod, script("a", &format!("cat {}", file(name).display())));
                return Err(format!("{name} = {value:?} was taken as {taken:?} without a word").into());
            }
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
    }
    assert!(fixture.node.pods()?.is_empty());
    PASS
}
