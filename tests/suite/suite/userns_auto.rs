//! Ids that pods get from the node's ranges.

use std::collections::BTreeSet;
use std::fs;

use pericarp::spec::UserMode;
use pericarp::{ErrorKind, IdRanges, Node, Pod, PodSpec};

use crate::support::fixture::{id_ranges, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    pods_get_ids_that_no_other_has,
    ids_that_are_all_taken_are_told,
    ids_come_back_with_recovery,
    without_a_range_there_is_an_error_that_says_what_to_do,
    programs_that_take_ids_at_once_get_different_ones,
];

fn auto(name: &str) -> PodSpec {
    PodSpec::new(name).user(UserMode::Auto { size: None })
}

/// The node with so many blocks of ids.
fn node_with_blocks(fixture: &Fixture, count: u32) -> Node {
    Node::open(&fixture.options.clone().id_ranges(id_ranges(count))).expect("open the node again")
}

fn first(pod: &Pod) -> u32 {
    let ids = pod.id_mappings().expect("a user namespace");
    assert_eq!(ids.uid_mappings, ids.gid_mappings);
    assert_eq!((ids.uid_mappings.len(), ids.uid_mappings[0].container_id), (1, 0));
    assert_eq!(ids.uid_mappings[0].host_id % 65536, 0);
    ids.uid_mappings[0].host_id
}

fn taken(fixture: &Fixture) -> usize {
    let names = fs::read_dir(&fixture.options.id_claims).into_iter().flatten().flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with("auto.")).count()
}

fn pods_get_ids_that_no_other_has() -> Outcome {
    let fixture = Fixture::new();
    let node = node_with_blocks(&fixture, 4);
    let a = node.create_pod(&auto("a"))?;
    let b = node.create_pod(&auto("b").ephemeral(true))?;
    let double = PodSpec::new("c").user(UserMode::Auto { size: Some(131_072) });
    let c = node.create_pod(&double)?;
    let firsts = BTreeSet::from([first(&a), first(&b), first(&c), first(&c) + 65536]);
    assert_eq!(firsts.len(), 4);
    for pod in [&a, &b] {
        let text = say(pod, script("x", "cat /proc/self/uid_map"));
        let words: Vec<String> = text.split_ascii_whitespace().map(str::to_string).collect();
        assert_eq!(words, ["0".to_string(), first(pod).to_string(), "65536".to_string()]);
    }
    let words = say(&c, script("x", "cat /proc/self/gid_map"));
    assert!(words.trim_end().ends_with(" 131072"), "{words}");
    // Another handle finds the same, and what it was asked for.
    let again = fixture.reopen().open_pod("a")?;
    assert_eq!(again.id_mappings(), a.id_mappings());
    assert_eq!(again.spec().namespaces.user, UserMode::Auto { size: None });
    assert_eq!(taken(&fixture), 6);
    for pod in [a, b, c] {
        pod.remove()?;
    }
    assert_eq!(taken(&fixture), 0);
    PASS
}

fn ids_that_are_all_taken_are_told() -> Outcome {
    let fixture = Fixture::new();
    let node = node_with_blocks(&fixture, 2);
    let (a, b) = (node.create_pod(&auto("a"))?, node.create_pod(&auto("b"))?);
    let error = node.create_pod(&auto("c")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("2 of the 2 blocks of the given ranges are taken"), "{error}");
    assert_eq!((node.pods()?.len(), taken(&fixture)), (2, 4));
    let double = PodSpec::new("c").user(UserMode::Auto { size: Some(131_072) });
    let ids = first(&a);
    a.remove()?;
    assert_eq!(node.create_pod(&double).unwrap_err().kind(), ErrorKind::Exhausted);
    assert_eq!(first(&node.create_pod(&auto("c"))?), ids);
    drop(b);
    PASS
}

fn ids_come_back_with_recovery() -> Outcome {
    let fixture = Fixture::new();
    let node = node_with_blocks(&fixture, 3);
    let (a, b) = (node.create_pod(&auto("a"))?, node.create_pod(&auto("b"))?);
    let ephemeral = node.create_pod(&auto("e").ephemeral(true))?;
    // What a program leaves that dies while it takes ids, or gives them back.
    let dead = "00000000-0000-4000-8000-000000000000";
    let claims = &fixture.options.id_claims;
    std::os::unix::fs::symlink(dead, claims.join(format!("auto.uid.999948288.65536.{dead}")))?;
    fs::write(claims.join(format!(".{dead}.new")), "{")?;
    let rest = || {
        fs::read_dir(claims)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains(dead))
    };
    assert_eq!(rest().count(), 2);
    // A pod that is damaged is removed, and its ids come back.
    fs::write(fixture.options.state_dir.join("pods").join(b.id()).join("state.json"), "")?;
    let recovery = node.recover()?;
    assert_eq!((recovery.adopted, recovery.removed), (vec![a.id().to_string()], vec![b.id().to_string()]));
    assert_eq!((taken(&fixture), rest().count()), (4, 0));
    assert_eq!(first(&a), first(&fixture.reopen().open_pod("a")?));
    let c = node.create_pod(&auto("c"))?;
    assert!(![first(&a), first(&ephemeral)].contains(&first(&c)));
    ephemeral.remove()?;
    PASS
}

fn without_a_range_there_is_an_error_that_says_what_to_do() -> Outcome {
    let fixture = Fixture::new();
    let nobody = IdRanges::User("no-user-of-this-name".to_string());
    let node = Node::open(&fixture.options.clone().id_ranges(nobody))?;
    let error = node.create_pod(&auto("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let text = error.to_string();
    assert!(text.contains("no-user-of-this-name") && text.contains("/etc/subuid"), "{text}");
    assert_eq!((node.pods()?.len(), taken(&fixture)), (0, 0));
    PASS
}

fn programs_that_take_ids_at_once_get_different_ones() -> Outcome {
    let fixture = Fixture::new();
    // Each with a handle of its own, as programs have.
    let pods: Vec<Pod> = std::thread::scope(|scope| {
        let make = |name: String| {
            let fixture = &fixture;
            scope.spawn(move || node_with_blocks(fixture, 8).create_pod(&auto(&name)).expect("create a pod"))
        };
        let threads: Vec<_> = (0..8).map(|n| make(format!("p{n}"))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    assert_eq!(pods.iter().map(first).collect::<BTreeSet<_>>().len(), 8);
    PASS
}
