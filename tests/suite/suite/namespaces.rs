//! Which namespaces containers of a pod share, which they do not, and where a pod's namespaces may come from.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use pericarp::spec::NamespaceMode::{self, Host};
use pericarp::{Container, ErrorKind, NamespaceKind, Pod, PodSpec};

use crate::support::fixture::{facts, output, payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    containers_share_what_is_the_pods_and_nothing_else,
    containers_of_a_pod_talk_over_localhost,
    a_port_is_taken_for_its_pod_only,
    loopback_is_up_with_both_addresses_and_there_is_nothing_else,
    pods_cannot_reach_each_other,
    abstract_sockets_belong_to_the_pod,
    the_hosts_network_is_the_hosts,
    the_hosts_ipc_comes_with_its_shared_memory_and_queues,
    the_hosts_name_is_the_hosts,
    given_namespaces_are_joined_and_outlive_who_made_them,
    a_namespace_can_be_given_by_an_open_file,
    what_is_no_such_namespace_is_refused,
    the_host_name_follows_kubernetes,
    files_of_the_host_name_fit_the_pod,
];

/// Kinds as in `/proc/PID/ns`.
const ALL: [&str; 8] = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"];

/// The namespaces of a process, as the host's kernel tells them.
fn namespaces(pid: impl std::fmt::Display) -> BTreeMap<&'static str, u64> {
    let inode = |kind: &str| {
        fs::metadata(format!("/proc/{pid}/ns/{kind}"))
            .unwrap_or_else(|e| panic!("{kind} of {pid}: {e}"))
            .ino()
    };
    ALL.into_iter().map(|kind| (kind, inode(kind))).collect()
}

/// The kinds that two processes share.
fn shared(a: &BTreeMap<&'static str, u64>, b: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    ALL.into_iter().filter(|kind| a[kind] == b[kind]).collect()
}

fn sleeper(pod: &Pod, name: &str) -> Container {
    let container = pod.create_container(&inside(name, &["sleep"])).expect("make a container");
    container.start().expect("start a container");
    container
}

/// A container that has said that it is ready, and the rest of what it says.
fn ready(pod: &Pod, name: &str, command: &[&str]) -> (Container, BufReader<fs::File>) {
    let container =
        pod.create_container(&inside(name, command).stdout(pericarp::Stdio::Pipe)).expect("make a container");
    let mut out = BufReader::new(container.take_stdout().expect("a pipe"));
    container.start().expect("start a container");
    let mut line = String::new();
    out.read_line(&mut line).expect("read from a container");
    assert_eq!(line, "ready\n");
    (container, out)
}

fn containers_share_what_is_the_pods_and_nothing_else() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let host = namespaces("self");
    let (a, b) = (namespaces(sleeper(&pod, "a").pid()), namespaces(sleeper(&pod, "b").pid()));
    assert_eq!(shared(&a, &b), ["net", "ipc", "uts", "user", "time"]);
    for seen in [&a, &b] {
        assert_eq!(shared(seen, &host), ["user", "time"]);
        for (kind, name) in
            [(NamespaceKind::Network, "net"), (NamespaceKind::Ipc, "ipc"), (NamespaceKind::Uts, "uts")]
        {
            assert_eq!(pod.namespace_inode(kind)?, seen[name]);
            assert_eq!(fs::File::from(pod.namespace_fd(kind)?).metadata()?.ino(), seen[name]);
        }
    }
    assert_eq!(pod.namespace_fd(NamespaceKind::Pid).unwrap_err().kind(), ErrorKind::NotFound);
    // What a container sees of itself is the same.
    let inside = facts(&pod, |spec| spec).namespaces;
    assert_eq!((inside["net"], inside["ipc"], inside["uts"]), (a["net"], a["ipc"], a["uts"]));
    // A second pod shares nothing with the first.
    let other = namespaces(sleeper(&fixture.pod("other"), "a").pid());
    assert_eq!(shared(&a, &other), ["user", "time"]);
    // The calling threads were not moved.
    assert_eq!(namespaces("self"), host);
    assert_eq!(namespaces("thread-self"), host);
    PASS
}

fn containers_of_a_pod_talk_over_localhost() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for (number, address) in addresses().into_iter().enumerate() {
        let address = SocketAddr::new(address, 8080).to_string();
        let (server, mut out) = ready(&pod, &format!("server{number}"), &["net", "serve", &address]);
        assert_eq!(say(&pod, inside("client", &["net", "connect", &address])), "heard: hello\n");
        let mut heard = String::new();
        out.read_to_string(&mut heard)?;
        assert_eq!(heard, "got: hello\n");
        assert!(server.wait()?.success());
    }
    PASS
}

/// 127.0.0.1, and ::1 where the kernel has IPv6.
fn addresses() -> Vec<std::net::IpAddr> {
    let mut all = vec![Ipv4Addr::LOCALHOST.into()];
    if fs::exists("/proc/net/if_inet6").expect("look for IPv6") {
        all.push(Ipv6Addr::LOCALHOST.into());
    }
    all
}

fn a_port_is_taken_for_its_pod_only() -> Outcome {
    let fixture = Fixture::new();
    let (pod, other) = (fixture.pod("web"), fixture.pod("other"));
    let _server = ready(&pod, "server", &["net", "serve", "0.0.0.0:8080"]);
    assert_eq!(say(&pod, inside("b", &["net", "bind", "127.0.0.1:8080"])), "AddrInUse\n");
    assert_eq!(say(&pod, inside("b", &["net", "bind", "127.0.0.1:8081"])), "bound\n");
    let _second = ready(&other, "server", &["net", "serve", "0.0.0.0:8080"]);
    PASS
}

fn loopback_is_up_with_both_addresses_and_there_is_nothing_else() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let interfaces = say(&pod, script("a", "tail -n +3 /proc/net/dev"));
    let names: Vec<&str> =
        interfaces.lines().filter_map(|line| line.split(':').next()).map(str::trim).collect();
    // Some kernels put fallback devices of tunnel modules into every network namespace; they are down.
    assert_eq!(names.iter().filter(|name| !is_fallback(name)).collect::<Vec<_>>(), [&"lo"], "{interfaces}");
    assert_eq!(say(&pod, inside("b", &["net", "self", "127.0.0.1:0"])), "connected\n");
    assert_eq!(say(&pod, inside("b", &["net", "self", "127.9.9.9:0"])), "connected\n");
    if addresses().len() > 1 {
        assert_eq!(say(&pod, inside("b", &["net", "self", "[::1]:0"])), "connected\n");
        let addresses = say(&pod, script("c", "cat /proc/net/if_inet6"));
        assert!(addresses.starts_with("00000000000000000000000000000001 "), "{addresses}");
        assert_eq!(addresses.lines().count(), 1, "{addresses}");
    }
    // Neither is there a way out.
    assert_eq!(say(&pod, inside("d", &["net", "connect", "192.0.2.1:80"])), "NetworkUnreachable\n");
    PASS
}

fn is_fallback(name: &str) -> bool {
    ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"]
        .contains(&name)
}

fn pods_cannot_reach_each_other() -> Outcome {
    let fixture = Fixture::new();
    let (pod, other) = (fixture.pod("web"), fixture.pod("other"));
    let (_server, _) = ready(&pod, "server", &["net", "serve", "127.0.0.1:8080"]);
    assert_eq!(say(&other, inside("client", &["net", "connect", "127.0.0.1:8080"])), "ConnectionRefused\n");

    let note = format!("pericarp-suite-{}-note", std::process::id());
    say(&pod, script("a", &format!("echo secret >/dev/shm/{note}")));
    assert_eq!(say(&pod, script("b", "ls /dev/shm")), format!("{note}\n"));
    assert_eq!(say(&other, script("b", "ls /dev/shm /dev/mqueue")), "/dev/mqueue:\n\n/dev/shm:\n");
    assert!(!fs::exists(format!("/dev/shm/{note}"))?, "the host's /dev/shm is the pod's");
    PASS
}

/// CVE-2020-15257. Without joining the pod's network namespace (`join_pod_namespaces` in `src/container/plan/build/mod.rs`):
/// "connected" from another pod.
fn abstract_sockets_belong_to_the_pod() -> Outcome {
    let fixture = Fixture::new();
    let (pod, other) = (fixture.pod("web"), fixture.pod("other"));
    let _listener = ready(&pod, "server", &["net", "listen-abstract", "pericarp"]);
    // The others first: the server hears one client.
    assert_eq!(
        say(&other, inside("client", &["net", "connect-abstract", "pericarp"])),
        "ConnectionRefused\n"
    );
    let host = std::os::unix::net::SocketAddr::from_abstract_name("pericarp")?;
    assert!(UnixStream::connect_addr(&host).is_err(), "the host reaches an abstract socket of the pod");
    assert_eq!(say(&pod, inside("client", &["net", "connect-abstract", "pericarp"])), "connected\n");
    PASS
}

fn the_hosts_network_is_the_hosts() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").network(Host))?;
    let container = sleeper(&pod, "a");
    let (seen, host) = (namespaces(container.pid()), namespaces("self"));
    assert_eq!(shared(&seen, &host), ["net", "user", "time"]);
    assert_eq!(pod.namespace_fd(NamespaceKind::Network).unwrap_err().kind(), ErrorKind::NotFound);
    // A server of the host on its loopback is reached.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let server = std::thread::spawn(move || serve_one(&listener));
    assert_eq!(say(&pod, inside("client", &["net", "connect", &address])), "heard: hello\n");
    assert_eq!(server.join().expect("the server")?, "hello");
    PASS
}

fn the_hosts_ipc_comes_with_its_shared_memory_and_queues() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc_namespace(Host))?;
    let (seen, host) = (namespaces(sleeper(&pod, "a").pid()), namespaces("self"));
    assert_eq!(shared(&seen, &host), ["ipc", "user", "time"]);
    assert_eq!(pod.namespace_fd(NamespaceKind::Ipc).unwrap_err().kind(), ErrorKind::NotFound);
    let name = format!("pericarp-suite-{}-host", std::process::id());
    let file = PathBuf::from("/dev/shm").join(&name);
    fs::write(&file, "of the host\n")?;
    let read = output(&pod, script("b", &format!("cat {}", file.display())));
    fs::remove_file(&file)?;
    assert_eq!(read?.1, "of the host\n");

    // The host's queues are seen in /dev/mqueue, whether or not the host has them mounted anywhere.
    use nix::mqueue::{MQ_OFlag, MqAttr, mq_close, mq_open, mq_unlink};
    let queue = format!("/{name}");
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
    // Without attributes nix does not pass the mode on either.
    let attributes = MqAttr::new(0, 1, 64, 0);
    let open = mq_open(queue.as_str(), flags, nix::sys::stat::Mode::S_IRUSR, Some(&attributes))?;
    let list = output(&pod, script("c", "ls /dev/mqueue"));
    mq_unlink(queue.as_str())?;
    mq_close(open)?;
    let list = list?.1;
    assert!(list.lines().any(|line| line == name), "{list}");
    PASS
}

fn the_hosts_name_is_the_hosts() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").uts(Host))?;
    let (seen, host) = (namespaces(sleeper(&pod, "a").pid()), namespaces("self"));
    assert_eq!(shared(&seen, &host), ["uts", "user", "time"]);
    assert_eq!(pod.namespace_fd(NamespaceKind::Uts).unwrap_err().kind(), ErrorKind::NotFound);
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    assert_eq!(facts(&pod, |spec| spec).hostname, name.trim());
    // A name of its own would be the host's new name.
    for spec in [PodSpec::new("b").uts(Host).hostname("b"), PodSpec::new("b").uts(Host).domainname("b")] {
        assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname")?, name);
    PASS
}

/// A process in namespaces of its own, until it is dropped.
struct Holder(Child);

impl Holder {
    fn new() -> Holder {
        let mut child = Command::new(std::env::current_exe().expect("the path of this program"))
            .args(["payload", "net", "hold", "holder"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("read a line");
        assert_eq!(line, "ready\n");
        Holder(child)
    }

    fn path(&self, kind: &str) -> PathBuf {
        format!("/proc/{}/ns/{kind}", self.0.id()).into()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn given_namespaces_are_joined_and_outlive_who_made_them() -> Outcome {
    let fixture = Fixture::new();
    let holder = Holder::new();
    let path = |kind: &str| NamespaceMode::Path(holder.path(kind));
    let held = namespaces(holder.0.id());
    let spec = PodSpec::new("web").network(path("net")).ipc_namespace(path("ipc")).uts(path("uts"));
    let pod = fixture.node.create_pod(&spec)?;
    let seen = namespaces(sleeper(&pod, "a").pid());
    assert_eq!(shared(&seen, &held), ["net", "ipc", "uts", "user", "time"]);
    assert_eq!(pod.namespace_inode(NamespaceKind::Network)?, held["net"]);
    assert_eq!(facts(&pod, |spec| spec).hostname, "holder");
    // One at a time, too: the others are the pod's own.
    for (kind, spec) in [
        ("net", PodSpec::new("one").network(path("net"))),
        ("ipc", PodSpec::new("one").ipc_namespace(path("ipc"))),
        ("uts", PodSpec::new("one").uts(path("uts"))),
    ] {
        let one = fixture.node.create_pod(&spec)?;
        assert_eq!(shared(&namespaces(sleeper(&one, "a").pid()), &held), [kind, "user", "time"]);
        one.remove()?;
    }
    drop(holder);
    let later = namespaces(sleeper(&pod, "later").pid());
    assert_eq!(shared(&later, &held), ["net", "ipc", "uts", "user", "time"]);
    assert_eq!(say(&pod, script("b", "echo x >/dev/shm/x; cat /dev/shm/x")), "x\n");
    PASS
}

fn a_namespace_can_be_given_by_an_open_file() -> Outcome {
    let fixture = Fixture::new();
    let holder = Holder::new();
    let held = namespaces(holder.0.id());
    let open: Vec<fs::File> = ["net", "ipc", "uts"]
        .iter()
        .map(|kind| fs::File::open(holder.path(kind)))
        .collect::<Result<_, _>>()?;
    drop(holder);
    let path =
        |index: usize| NamespaceMode::Path(format!("/proc/self/fd/{}", open[index].as_raw_fd()).into());
    let spec = PodSpec::new("web").network(path(0)).ipc_namespace(path(1)).uts(path(2));
    let pod = fixture.node.create_pod(&spec)?;
    drop(open);
    let seen = namespaces(sleeper(&pod, "a").pid());
    assert_eq!(shared(&seen, &held), ["net", "ipc", "uts", "user", "time"]);
    // A pod's namespace is given to another one in the same way.
    let file = pod.namespace_fd(NamespaceKind::Network)?;
    let spec = PodSpec::new("guest")
        .network(NamespaceMode::Path(format!("/proc/self/fd/{}", file.as_raw_fd()).into()));
    let guest = fixture.node.create_pod(&spec)?;
    pod.remove()?;
    assert_eq!(guest.namespace_inode(NamespaceKind::Network)?, held["net"]);
    assert_eq!(say(&guest, inside("b", &["net", "self", "127.0.0.1:0"])), "NetworkUnreachable\n");
    PASS
}

fn what_is_no_such_namespace_is_refused() -> Outcome {
    let fixture = Fixture::new();
    let file = fixture.path("file");
    fs::write(&file, "")?;
    let before = namespaces("self");
    for path in [
        "/proc/self/ns/uts",
        "/proc/self/ns/mnt",
        "/dev/null",
        &file.to_string_lossy(),
        "/no/such/file",
        "/proc/self/fd/9999",
    ] {
        let spec = PodSpec::new("web").network(NamespaceMode::Path(path.into()));
        let error = fixture.node.create_pod(&spec).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
        assert_ne!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    }
    for path in ["", "proc/self/ns/net", "/proc/self/../1/ns/net"] {
        let spec = PodSpec::new("web").network(NamespaceMode::Path(path.into()));
        assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec, "{path}");
    }
    assert!(fixture.node.pods()?.is_empty());
    assert_eq!(fixture.node.recover()?, Default::default(), "something was left");
    assert_eq!(namespaces("self"), before);
    fixture.pod("web");
    PASS
}

fn the_host_name_follows_kubernetes() -> Outcome {
    let fixture = Fixture::new();
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let (long, given) = ("x".repeat(70), "Y".repeat(64));
    for (spec, hostname) in [
        (PodSpec::new("web.shop"), "web.shop"),
        (PodSpec::new(&long), &long[..63]),
        // The 63rd byte is a dot, which goes, and the dash before it cannot stand there.
        (PodSpec::new(format!("{}.yyy", "x".repeat(62))), &long[..62]),
        (PodSpec::new(format!("{}--yyy", "x".repeat(61))), &long[..61]),
        (PodSpec::new("named").hostname(&given), &given),
        (PodSpec::new("b").hostname("Shop-1.example"), "Shop-1.example"),
    ] {
        let pod = fixture.node.create_pod(&spec.domainname("nis.example"))?;
        let seen = facts(&pod, |spec| spec);
        assert_eq!((seen.hostname.as_str(), seen.domainname.as_str()), (hostname, "nis.example"));
        assert_eq!(pod.spec().effective_hostname(), hostname);
        assert_eq!(say(&pod, script("a", "uname -n")).trim(), hostname);
        pod.remove()?;
    }
    // Without a domain name there is none of the host's either.
    assert!(["", "(none)"].contains(&facts(&fixture.pod("plain"), |spec| spec).domainname.as_str()));
    for bad in ["", "-a", "a-", ".a", "a.", "a_b", "a b", "a\n", "é", &"x".repeat(65)] {
        let error = fixture.node.create_pod(&PodSpec::new("bad").hostname(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{bad:?}");
    }
    for bad in ["", "a\nb", "a\0", &"x".repeat(65)] {
        let error = fixture.node.create_pod(&PodSpec::new("bad").domainname(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{bad:?}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname")?, host);
    PASS
}

fn files_of_the_host_name_fit_the_pod() -> Outcome {
    let fixture = Fixture::new();
    let of_host = |name: &str| fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
    let before = (of_host("hostname"), of_host("hosts"));
    let pod = fixture.node.create_pod(&PodSpec::new("web").hostname("shop-1").hostname_files(true))?;
    assert_eq!(say(&pod, script("a", "cat /etc/hostname")), "shop-1\n");
    let hosts = say(&pod, script("a", "cat /etc/hosts"));
    let has = |address: &str, name: &str| {
        hosts.lines().any(|line| {
            let mut words = line.split_ascii_whitespace();
            words.next() == Some(address) && words.any(|word| word == name)
        })
    };
    assert!(has("127.0.0.1", "localhost") && has("::1", "localhost"), "{hosts}");
    assert!(has("127.0.1.1", "shop-1"), "{hosts}");
    // Anybody can read them.
    assert_eq!(say(&pod, script("a", "cat /etc/hostname").user(1000, 1000)), "shop-1\n");
    // A container's own files are not touched in a pod that did not ask for that.
    let plain = fixture.pod("plain");
    assert_eq!(say(&plain, script("a", "cat /etc/hosts 2>/dev/null || :")), before.1);
    assert_eq!((of_host("hostname"), of_host("hosts")), before);
    PASS
}

fn serve_one(listener: &TcpListener) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept()?;
    let mut text = [0; 5];
    stream.read_exact(&mut text)?;
    stream.write_all(&text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn connect(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"hello")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(format!("heard: {text}"))
}

/// A connection to oneself, both ends of it.
fn connect_to_self(address: &str) -> std::io::Result<String> {
    let listener = TcpListener::bind(address)?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    assert_eq!(server.peer_addr()?, client.local_addr()?);
    Ok("connected".to_string())
}

/// What the containers of this module run, and the process that holds namespaces.
pub fn payload(words: &[&str]) -> bool {
    let said = match words {
        ["net", "serve", address] => TcpListener::bind(address).and_then(|listener| {
            println!("ready");
            serve_one(&listener).map(|text| format!("got: {text}"))
        }),
        ["net", "connect", address] => connect(address),
        ["net", "bind", address] => TcpListener::bind(address).map(|_| "bound".to_string()),
        ["net", "self", address] => connect_to_self(address),
        ["net", "listen-abstract", name] => std::os::unix::net::SocketAddr::from_abstract_name(name)
            .and_then(|name| UnixListener::bind_addr(&name))
            .and_then(|listener| {
                println!("ready");
                listener.accept().map(|_| "accepted".to_string())
            }),
        ["net", "connect-abstract", name] => std::os::unix::net::SocketAddr::from_abstract_name(name)
            .and_then(|name| UnixStream::connect_addr(&name))
            .map(|_| "connected".to_string()),
        ["net", "hold", hostname] => {
            let new = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
            unshare(new).and_then(|()| nix::unistd::sethostname(hostname)).expect("make namespaces");
            println!("ready");
            // Nobody listens any more when the input ends.
            std::io::stdin().read_to_end(&mut Vec::new()).expect("wait for the end");
            return true;
        }
        _ => return false,
    };
    match said {
        Ok(text) => println!("{text}"),
        Err(error) => println!("{:?}", error.kind()),
    }
    true
}
