//! Ids that pods have for themselves, on the whole machine: those of other nodes, and those that are given.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;

use pericarp::spec::{IdMapping, IdMappings, UserMode};
use pericarp::{CgroupParent, ErrorKind, NamespaceKind, Node, NodeOptions, Pod, PodSpec};

use crate::robust::again;
use crate::support::fixture::{id_ranges, payload as inside};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    nodes_never_give_the_same_ids,
    ids_that_are_mapped_to_are_not_given,
    pods_may_be_mapped_to_the_same_ids_but_not_to_those_that_another_has_for_itself,
    ids_of_a_joined_user_namespace_are_not_given_while_somebody_is_in_it,
    ids_of_a_killed_programs_pods_come_back_without_recovery,
    ids_of_a_pod_whose_state_is_gone_come_back_when_nothing_runs_with_them,
    ids_of_an_earlier_boot_are_free,
    what_cannot_be_judged_from_here_is_kept,
    a_directory_that_others_can_write_to_is_refused,
];

/// The program that is killed.
pub fn payload(words: &[&str]) -> bool {
    let ["claims-live", state_dir, claims] = words else { return false };
    let name = Path::new(state_dir).file_name().expect("a name").to_string_lossy().into_owned();
    let options = NodeOptions::new()
        .state_dir(*state_dir)
        .cgroup_parent(CgroupParent::Named(name))
        .id_claims(*claims)
        .id_ranges(id_ranges(1));
    let node = Node::open(&options).expect("open the node");
    node.create_pod(&auto("ephemeral").ephemeral(true)).expect("create a pod");
    println!("made");
    std::thread::park();
    true
}

const FIRST: u32 = 1_048_576;

fn auto(name: &str) -> PodSpec {
    PodSpec::new(name).user(UserMode::Auto { size: None })
}

fn mapped(name: &str, host_id: u32, size: u32) -> PodSpec {
    PodSpec::new(name).user(UserMode::Mapped(IdMappings::contiguous(host_id, size)))
}

fn first(pod: &Pod) -> u32 {
    pod.id_mappings().expect("a user namespace").uid_mappings[0].host_id
}

/// Two nodes with the same so many blocks, as programs have that know nothing of one another.
fn two(blocks: u32) -> ([Fixture; 2], [Node; 2]) {
    let (a, b) = (Fixture::new(), Fixture::new());
    let open = |fixture: &Fixture| {
        let options = fixture.options.clone().id_claims(&a.options.id_claims).id_ranges(id_ranges(blocks));
        Node::open(&options).expect("open a node")
    };
    let nodes = [open(&a), open(&b)];
    // The one with the directory goes last.
    ([b, a], nodes)
}

/// The claims, without the pods that have them.
fn claims(fixtures: &[Fixture; 2]) -> Vec<String> {
    let entries = fs::read_dir(&fixtures[1].options.id_claims).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some(name.rsplit_once('.')?.0.to_string())
        })
        .collect();
    names.sort();
    names
}

/// Mutation: with the claims in each node's state directory both pods got the first block.
fn nodes_never_give_the_same_ids() -> Outcome {
    let (fixtures, [a, b]) = two(2);
    let (of_a, of_b) = (a.create_pod(&auto("web"))?, b.create_pod(&auto("web"))?);
    assert_eq!([first(&of_a), first(&of_b)], [FIRST, FIRST + 65536]);
    assert_eq!(a.create_pod(&auto("more")).unwrap_err().kind(), ErrorKind::Exhausted);
    // Recovery of one node leaves the other's alone.
    a.recover()?;
    assert_eq!(claims(&fixtures).len(), 4);
    of_b.remove()?;
    assert_eq!(first(&a.create_pod(&auto("more"))?), FIRST + 65536);
    // At once, each with a handle of its own.
    let made = std::thread::scope(|scope| {
        let make = |n: usize| {
            let claims = &fixtures[1].options.id_claims;
            let options = fixtures[n % 2].options.clone().id_claims(claims).id_ranges(id_ranges(10));
            scope.spawn(move || {
                let node = Node::open(&options).expect("open the node");
                first(&node.create_pod(&auto(&format!("p{n}"))).expect("create a pod"))
            })
        };
        let threads: Vec<_> = (0..8).map(make).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect::<Vec<u32>>()
    });
    let different: std::collections::BTreeSet<u32> = made.into_iter().collect();
    assert_eq!((different.len(), different.first()), (8, Some(&(FIRST + 2 * 65536))));
    PASS
}

fn ids_that_are_mapped_to_are_not_given() -> Outcome {
    let (fixtures, [a, b]) = two(4);
    // A few in the middle of a block; a range over the border of two, for groups alone.
    let low = a.create_pod(&mapped("low", FIRST + 1000, 10))?;
    let groups = IdMappings {
        uid_mappings: vec![IdMapping::new(0, 0, 1)],
        gid_mappings: vec![IdMapping::new(0, FIRST + 3 * 65536 - 1, 2)],
    };
    let high = a.create_pod(&PodSpec::new("high").user(UserMode::Mapped(groups)))?;
    let one = b.create_pod(&auto("one"))?;
    let ids = one.id_mappings().expect("ids");
    assert_eq!((ids.uid_mappings[0].host_id, ids.gid_mappings[0].host_id), (FIRST + 65536, FIRST + 65536));
    let error = b.create_pod(&auto("two")).unwrap_err();
    assert!(error.to_string().contains("4 of the 4 blocks"), "{error}");
    low.remove()?;
    assert_eq!(first(&b.create_pod(&auto("two"))?), FIRST);
    high.remove()?;
    assert_eq!(claims(&fixtures).len(), 4);
    PASS
}

/// Mutation: without the look at claims that are alone, the pod was made with the other's ids.
fn pods_may_be_mapped_to_the_same_ids_but_not_to_those_that_another_has_for_itself() -> Outcome {
    let (fixtures, [a, b]) = two(2);
    let held = a.create_pod(&auto("held"))?;
    for (ids, fails) in [((FIRST + 65535, 2), true), ((FIRST - 5, 10), true), ((FIRST - 5, 5), false)] {
        match b.create_pod(&mapped("over", ids.0, ids.1)) {
            Ok(pod) => {
                assert!(!fails, "{ids:?}");
                // As many as like.
                let (same, other) = (
                    b.create_pod(&mapped("same", ids.0, ids.1))?,
                    a.create_pod(&mapped("same", ids.0, ids.1))?,
                );
                for pod in [pod, same, other] {
                    pod.remove()?;
                }
            }
            Err(error) => {
                assert!(fails && error.kind() == ErrorKind::AlreadyExists, "{error}");
                let text = error.to_string();
                let state = fixtures[1].options.state_dir.display().to_string();
                assert!(text.contains(held.id()) && text.contains(&state), "{text}");
                assert_eq!(b.pods()?.len(), 0);
            }
        }
    }
    assert_eq!(claims(&fixtures).len(), 2);
    held.remove()?;
    b.create_pod(&mapped("over", FIRST, 65536))?;
    PASS
}

fn ids_of_a_joined_user_namespace_are_not_given_while_somebody_is_in_it() -> Outcome {
    let (_fixtures, [a, b]) = two(2);
    let owner = a.create_pod(&auto("owner"))?;
    let namespace = owner.namespace_fd(NamespaceKind::User)?;
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let guest = b.create_pod(&PodSpec::new("guest").user(UserMode::Path(path.into())))?;
    owner.remove()?;
    assert_eq!(first(&a.create_pod(&auto("one"))?), FIRST + 65536);
    assert_eq!(a.create_pod(&auto("two")).unwrap_err().kind(), ErrorKind::Exhausted);
    guest.remove()?;
    assert_eq!(first(&a.create_pod(&auto("two"))?), FIRST);
    PASS
}

fn ids_of_a_killed_programs_pods_come_back_without_recovery() -> Outcome {
    let ([b, a], [node, _]) = two(1);
    let words = |path: &Path| path.to_string_lossy().into_owned();
    let mut command =
        again::command(&["claims-live", &words(&b.options.state_dir), &words(&a.options.id_claims)]);
    let mut program = command.stdout(Stdio::piped()).spawn()?;
    let mut made = [0; 5];
    program.stdout.take().expect("a pipe").read_exact(&mut made)?;
    assert_eq!(node.create_pod(&auto("web")).unwrap_err().kind(), ErrorKind::Exhausted);
    program.kill()?;
    program.wait()?;
    assert_eq!(first(&node.create_pod(&auto("web"))?), FIRST);
    assert_eq!(b.node.recover()?.removed.len(), 1);
    PASS
}

fn ids_of_a_pod_whose_state_is_gone_come_back_when_nothing_runs_with_them() -> Outcome {
    let ([b, _a], [of_a, of_b]) = two(1);
    let pod = of_b.create_pod(&auto("lost"))?;
    let main = pod.create_container(&inside("main", &["sleep"]))?;
    main.start()?;
    // All but what the library knows of it.
    fs::rename(b.options.state_dir.join("pods").join(pod.id()), b.options.state_dir.join("lost"))?;
    assert_eq!(of_a.create_pod(&auto("web")).unwrap_err().kind(), ErrorKind::Exhausted);
    // Also those of the other's recovery are the ids of processes.
    of_a.recover()?;
    assert_eq!(of_a.create_pod(&auto("web")).unwrap_err().kind(), ErrorKind::Exhausted);
    fs::write(pod.cgroup_path().join("cgroup.kill"), "1")?;
    main.wait()?;
    let taken = of_a.create_pod(&auto("web"))?;
    assert_eq!(first(&taken), FIRST);
    // The pod is removed as ever.
    fs::rename(b.options.state_dir.join("lost"), b.options.state_dir.join("pods").join(pod.id()))?;
    pod.remove()?;
    assert_eq!(of_b.create_pod(&auto("more")).unwrap_err().kind(), ErrorKind::Exhausted);
    PASS
}

/// Changes what a pod's claim says, where that is so.
fn rewrite(fixture: &Fixture, pod: &Pod, from: &str, to: &str) {
    let path = fixture.options.id_claims.join(pod.id());
    let text = fs::read_to_string(&path).expect("read the claim");
    assert!(text.contains(from), "no {from:?} in {text}");
    fs::write(path, text.replace(from, to)).expect("write the claim");
}

fn ids_of_an_earlier_boot_are_free() -> Outcome {
    let ([_b, a], [of_a, of_b]) = two(1);
    let pod = of_b.create_pod(&auto("web"))?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    rewrite(&a, &pod, boot.trim(), "another");
    assert_eq!(first(&of_a.create_pod(&auto("web"))?), FIRST);
    PASS
}

/// A node whose state directory is a path of another mount namespace, and claims of a later version of the library.
fn what_cannot_be_judged_from_here_is_kept() -> Outcome {
    let ([b, a], [of_a, of_b]) = two(1);
    let pod = of_b.create_pod(&auto("web"))?;
    let (namespace, state) = ("\"mountNamespace\":", b.options.state_dir.display().to_string());
    let is_free = || of_a.create_pod(&auto("web")).map(|pod| pod.remove().expect("remove a pod")).is_ok();
    // Elsewhere; the same path here leads nowhere.
    rewrite(&a, &pod, namespace, "\"mountNamespace\":9");
    rewrite(&a, &pod, &state, "/no/such");
    assert!(!is_free());
    // It leads to something else.
    rewrite(&a, &pod, "/no/such", "/run");
    assert!(!is_free());
    rewrite(&a, &pod, "\"version\":", "\"version\":9");
    assert!(!is_free());
    rewrite(&a, &pod, "\"version\":9", "\"version\":");
    // It leads to the very directory.
    rewrite(&a, &pod, "\"/run\"", &format!("{state:?}"));
    assert!(!is_free());
    fs::rename(b.options.state_dir.join("pods").join(pod.id()), b.options.state_dir.join("lost"))?;
    assert!(is_free());
    fs::rename(b.options.state_dir.join("lost"), b.options.state_dir.join("pods").join(pod.id()))?;
    pod.remove()?;
    PASS
}

fn a_directory_that_others_can_write_to_is_refused() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let place = fixture.path("open");
    fs::create_dir(&place)?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777))?;
    let node = Node::open(&fixture.options.clone().id_claims(&place))?;
    for spec in [auto("web"), mapped("web", FIRST, 1)] {
        let error = node.create_pod(&spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState, "{error}");
        assert!(error.to_string().contains(&place.display().to_string()), "{error}");
    }
    // Nor can it be made everywhere.
    let node = Node::open(&fixture.options.clone().id_claims("/proc/ids"))?;
    let error = node.create_pod(&mapped("web", FIRST, 1)).unwrap_err();
    assert!(error.to_string().contains("id_claims") && node.pods()?.is_empty(), "{error}");
    // Who has no ids needs none.
    node.create_pod(&PodSpec::new("web"))?;
    let error = Node::open(&fixture.options.clone().id_claims("ids")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    PASS
}
