//! Network devices that move into a pod. Everything is done on a thread with a network namespace of its own: that of
//! the machine is left alone.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use pericarp::spec::{NamespaceMode, NetDevice};
use pericarp::{ErrorKind, PodSpec};

use crate::support::fixture::{say, script};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    a_device_moves_with_its_addresses_and_is_up,
    a_pod_that_cannot_be_made_gives_devices_back,
    what_cannot_move_is_told,
];

/// Runs ip(8) in the network namespace of this thread.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().expect("run ip");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Calls the test on a thread with a new network namespace that has devices `v0` and `v1`, ends of two pairs.
pub fn isolated(test: fn() -> Outcome) -> Outcome {
    if Command::new("ip").arg("link").output().is_err() {
        return skip("there is no ip(8)");
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        for (name, address) in [("v0", "10.9.8.7/24"), ("v1", "10.9.9.7/24")] {
            if !Command::new("ip").args(["link", "add", name, "type", "veth"]).status()?.success() {
                return skip("this kernel has no veth");
            }
            ip(&format!("addr add {address} dev {name}"));
        }
        ip("link set v0 up");
        ip("addr add fd00:9::7/64 dev v0");
        test()
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn a_device_moves_with_its_addresses_and_is_up() -> Outcome {
    isolated(|| {
        let fixture = Fixture::new();
        let spec = PodSpec::new("web")
            .net_device("v0", NetDevice::new().name("eth0"))
            .net_device("v1", NetDevice::new())
            // It is there before kernel parameters are set.
            .sysctl("net.ipv4.conf.eth0.log_martians", "1");
        let pod = fixture.node.create_pod(&spec)?;
        let names = ip("link");
        assert!(!names.contains(" v0") && !names.contains(" v1"), "{names}");
        let look = "ip addr show eth0; ip addr show v1; cat /proc/sys/net/ipv4/conf/eth0/log_martians";
        let text = say(&pod, script("a", look));
        for part in ["inet 10.9.8.7/24", "inet6 fd00:9::7/64", "inet 10.9.9.7/24"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches(",UP").count(), 2, "{text}");
        assert!(text.ends_with("\n1\n"), "{text}");
        assert_eq!(pod.spec().net_devices.len(), 2);
        // A virtual device ends with the pod.
        pod.remove()?;
        let names = ip("link");
        assert!(!names.contains(" v0") && !names.contains(" eth0"), "{names}");
        PASS
    })
}

fn a_pod_that_cannot_be_made_gives_devices_back() -> Outcome {
    isolated(|| {
        let fixture = Fixture::new();
        let both = || {
            PodSpec::new("web")
                .net_device("v0", NetDevice::new().name("eth0"))
                .net_device("v1", NetDevice::new())
        };
        let addresses = || {
            let of_v0 = ip("addr show v0");
            assert!(
                of_v0.contains(",UP") && of_v0.contains("10.9.8.7/24") && of_v0.contains("fd00:9::7/64"),
                "{of_v0}"
            );
            assert!(ip("addr show v1").contains("10.9.9.7/24"));
        };
        addresses();
        // After they have moved: no such parameter.
        let error = fixture.node.create_pod(&both().sysctl("net.ipv4.conf.eth0.no_such", "1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        addresses();
        PASS
    })
}

fn what_cannot_move_is_told() -> Outcome {
    isolated(|| {
        let fixture = Fixture::new();
        let refused = |spec: PodSpec| fixture.node.create_pod(&spec).unwrap_err();
        let error = refused(PodSpec::new("web").net_device("none", NetDevice::new()));
        assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("\"none\""), "{error}");
        // Nothing has moved when one of several is not there.
        refused(PodSpec::new("web").net_device("v0", NetDevice::new()).net_device("none", NetDevice::new()));
        assert!(ip("addr show v0").contains("10.9.8.7/24"));
        // A name that is taken in a namespace that others made.
        let other = fixture
            .node
            .create_pod(&PodSpec::new("other").net_device("v0", NetDevice::new().name("eth0")))?;
        let namespace = other.namespace_fd(pericarp::NamespaceKind::Network)?;
        let path = {
            use std::os::fd::AsRawFd;
            NamespaceMode::Path(format!("/proc/self/fd/{}", namespace.as_raw_fd()).into())
        };
        let joins = PodSpec::new("web").network(path).net_device("v1", NetDevice::new().name("eth0"));
        assert_eq!(refused(joins.clone()).kind(), ErrorKind::AlreadyExists);
        assert!(ip("addr show v1").contains("10.9.9.7/24"));
        // The first has moved by then, and comes back.
        ip("link add v2 type veth");
        let both =
            joins.clone().net_device("v1", NetDevice::new()).net_device("v2", NetDevice::new().name("eth0"));
        assert_eq!(refused(both).kind(), ErrorKind::AlreadyExists);
        assert!(ip("addr show v1").contains("10.9.9.7/24"));
        for wrong in [
            joins.clone().network(NamespaceMode::Host),
            PodSpec::new("web").net_device("lo", NetDevice::new().name("lo1")),
            PodSpec::new("web").net_device("v0", NetDevice::new().name("eth%d")),
            PodSpec::new("web").net_device("v0", NetDevice::new().name("sixteen-letters-")),
            PodSpec::new("web")
                .net_device("v0", NetDevice::new().name("x"))
                .net_device("v1", NetDevice::new().name("x")),
        ] {
            assert_eq!(refused(wrong.clone()).kind(), ErrorKind::InvalidSpec, "{wrong:?}");
        }
        PASS
    })
}
