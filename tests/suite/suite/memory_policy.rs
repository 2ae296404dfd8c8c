//! From which NUMA nodes the memory of containers comes.

use std::fs;
use std::path::Path;

use pericarp::spec::{MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, PidMode};
use pericarp::{ContainerSpec, ErrorKind, PodSpec};

use crate::exec::{said, sh};
use crate::support::fixture::{payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS, skip};

crate::tests![
    programs_have_the_policy_that_is_asked_for,
    other_programs_in_the_container_have_it_too,
    nodes_that_are_not_there_are_told_and_nothing_is_left,
];

/// Shows the policy that memory without one of its own has, see proc_pid_numa_maps(5).
const SHOW: &str = "while read place policy rest; do echo $policy; break; done < /proc/self/numa_maps";

const NO_NUMA: &str = "this kernel has no NUMA (CONFIG_NUMA)";

fn numa() -> bool {
    Path::new("/proc/self/numa_maps").exists()
}

fn with(policy: MemoryPolicy) -> ContainerSpec {
    script("a", SHOW).memory_policy(policy)
}

fn programs_have_the_policy_that_is_asked_for() -> Outcome {
    if !numa() {
        return skip(NO_NUMA);
    }
    use MemoryPolicyMode::*;
    let fixture = Fixture::new();
    let (own, shared) = (PodSpec::new("own"), PodSpec::new("shared").pid(PidMode::Pod));
    // In a PID namespace of others init forks a last time.
    for spec in [own, shared] {
        let pod = fixture.node.create_pod(&spec)?;
        assert_eq!(say(&pod, script("a", SHOW)), "default\n");
        for (policy, seen) in [
            (MemoryPolicy::new(Bind, "0"), "bind:0"),
            (MemoryPolicy::new(Bind, "0").flag(MemoryPolicyFlag::StaticNodes), "bind=static:0"),
            (
                MemoryPolicy::new(Interleave, "0").flag(MemoryPolicyFlag::RelativeNodes),
                "interleave=relative:0",
            ),
            (MemoryPolicy::new(PreferredMany, "0"), "prefer (many):0"),
            (MemoryPolicy::new(Local, ""), "local"),
            (MemoryPolicy::new(Default, ""), "default"),
            // Nodes that no machine has may be named beside some that are there.
            (MemoryPolicy::new(Bind, "0,1023"), "bind:0"),
        ] {
            let text = say(&pod, with(policy.clone()));
            // "prefer (many)" has a space in it.
            assert!(seen.starts_with(text.trim_end()) && !text.is_empty(), "{policy:?}: {text:?}");
            if !seen.contains(' ') {
                assert_eq!(text.trim_end(), seen, "{policy:?}");
            }
        }
        pod.remove()?;
    }
    // The program that asked has what it had.
    let own = fs::read_to_string("/proc/self/numa_maps")?;
    assert_eq!(own.split(' ').nth(1), Some("default"));
    PASS
}

fn other_programs_in_the_container_have_it_too() -> Outcome {
    if !numa() {
        return skip(NO_NUMA);
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let policy = MemoryPolicy::new(MemoryPolicyMode::Bind, "0");
    let container = pod.create_container(&inside("a", &["sleep"]).memory_policy(policy))?;
    container.start()?;
    assert_eq!(said(&container, sh(SHOW)), "bind:0\n");
    PASS
}

fn nodes_that_are_not_there_are_told_and_nothing_is_left() -> Outcome {
    if !numa() {
        return skip(NO_NUMA);
    }
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let policy = MemoryPolicy::new(MemoryPolicyMode::Bind, "1000-1023");
    let error = pod.create_container(&with(policy)).map(|container| container.remove()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::System, Some(libc::EINVAL)), "{error}");
    let text = error.to_string();
    assert!(text.contains("Bind from the nodes 1000-1023") && text.contains("set_mempolicy"), "{text}");
    assert!(text.contains("none of the nodes is there"), "{text}");
    assert!(pod.containers()?.is_empty());
    PASS
}
