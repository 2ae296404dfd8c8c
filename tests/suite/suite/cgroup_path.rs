//! Pods whose cgroup is where the specification says, and limits that change while containers run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pericarp::spec::Resources;
use pericarp::{ErrorKind, PodSpec};

use crate::support::fixture::script;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_pod_lives_at_the_path_of_its_specification,
    a_cgroup_that_is_there_is_refused,
    removing_a_pod_leaves_a_later_cgroup_of_that_path_alone,
    a_refused_update_names_the_file_and_changes_nothing,
    pod_and_containers_are_updated_together_or_not_at_all,
];

/// A place of the test's own at the top of the hierarchy, removed at its end.
struct Place {
    name: String,
    top: PathBuf,
}

impl Place {
    fn new(fixture: &Fixture) -> Place {
        let node = fixture.pod("where").cgroup_path();
        let node = node.parent().expect("the node's cgroup").to_path_buf();
        let own = node.file_name().expect("a name").to_string_lossy().into_owned();
        Place { name: format!("{own}-place"), top: node.parent().expect("the top").to_path_buf() }
    }

    fn pod(&self) -> PodSpec {
        PodSpec::new("web").cgroup(format!("/{}/a/web", self.name))
    }

    fn path(&self) -> PathBuf {
        self.top.join(&self.name).join("a/web")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.path());
        let _ = fs::remove_dir(self.top.join(&self.name).join("a"));
        let _ = fs::remove_dir(self.top.join(&self.name));
    }
}

fn a_pod_lives_at_the_path_of_its_specification() -> Outcome {
    let fixture = Fixture::new();
    let place = Place::new(&fixture);
    let pod = fixture.node.create_pod(&place.pod())?;
    assert_eq!(pod.cgroup_path(), place.path());
    let container = pod.create_container(&script("main", "exec sleep 1000"))?;
    container.start()?;
    let procs = fs::read_to_string(place.path().join("main/cgroup.procs"))?;
    assert_eq!(procs.trim(), container.pid().to_string());
    // Another handle, as another program would have it, finds the same.
    let again = fixture.reopen().open_pod("web")?;
    assert_eq!(again.container("main")?.processes()?, [container.pid()]);
    again.freeze()?;
    assert!(fs::read_to_string(place.path().join("cgroup.events"))?.contains("frozen 1"));
    again.thaw()?;
    again.remove()?;
    assert!(!place.path().exists());
    assert!(place.path().parent().is_some_and(Path::exists), "what is above stays");
    for bad in ["", "/", "../x", "a/../b", "/a/cgroup.procs"] {
        let error = fixture.node.create_pod(&PodSpec::new("bad").cgroup(bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{bad:?}: {error}");
    }
    PASS
}

fn a_cgroup_that_is_there_is_refused() -> Outcome {
    let fixture = Fixture::new();
    let place = Place::new(&fixture);
    fs::create_dir_all(place.path())?;
    let error = fixture.node.create_pod(&place.pod()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(place.path().exists(), "it is not the pod's to remove");
    fs::remove_dir(place.path())?;
    fixture.node.create_pod(&place.pod())?;
    let mut second = place.pod();
    second.name = "second".to_string();
    assert_eq!(fixture.node.create_pod(&second).unwrap_err().kind(), ErrorKind::AlreadyExists);
    PASS
}

fn removing_a_pod_leaves_a_later_cgroup_of_that_path_alone() -> Outcome {
    let fixture = Fixture::new();
    let place = Place::new(&fixture);
    let pod = fixture.node.create_pod(&place.pod())?;
    fs::remove_dir(place.path())?;
    fs::create_dir(place.path())?;
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn()?;
    fs::write(place.path().join("cgroup.procs"), sleeper.id().to_string())?;
    pod.remove()?;
    let alive = sleeper.try_wait()?.is_none();
    sleeper.kill()?;
    sleeper.wait()?;
    assert!(alive, "a process of a cgroup that is not the pod's was ended");
    assert!(place.path().exists());
    PASS
}

fn a_refused_update_names_the_file_and_changes_nothing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&script("main", "exec sleep 1000"))?;
    container.start()?;
    let json = |text: &str| serde_json::from_str::<Resources>(text).expect("resources");
    let file = pod.cgroup_path().join("main/cgroup.max.descendants");
    container.update(&json(r#"{"unified": {"cgroup.max.descendants": "3"}}"#))?;
    assert_eq!(fs::read_to_string(&file)?, "3\n");
    let both = r#"{"unified": {"cgroup.max.descendants": "2", "memory.no.such.file": "1"}}"#;
    let error = container.update(&json(both)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("memory.no.such.file"), "{error}");
    assert_eq!(fs::read_to_string(&file)?, "3\n");
    pod.update(&json(r#"{"unified": {"cgroup.max.depth": "4"}}"#))?;
    assert_eq!(fs::read_to_string(pod.cgroup_path().join("cgroup.max.depth"))?, "4\n");
    let error = pod.update(&json(r#"{"cpu": {"weight": 0}}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    PASS
}

fn pod_and_containers_are_updated_together_or_not_at_all() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for name in ["a", "b"] {
        pod.create_container(&script(name, "exec sleep 1000"))?.start()?;
    }
    let path = pod.cgroup_path();
    let now = || {
        ["cgroup.max.depth", "a/cgroup.max.depth", "b/cgroup.max.depth"]
            .map(|file| fs::read_to_string(path.join(file)).expect("a file of the cgroup"))
    };
    let depth = |depth: &str| -> Resources {
        serde_json::from_value(serde_json::json!({ "unified": { "cgroup.max.depth": depth } }))
            .expect("resources")
    };
    let both = |a, b| BTreeMap::from([("a".to_string(), a), ("b".to_string(), b)]);
    pod.update_all(&depth("7"), &both(depth("5"), depth("4")))?;
    assert_eq!(now(), ["7\n", "5\n", "4\n"]);
    // The last one is refused, when the others have been written.
    let error = pod.update_all(&depth("3"), &both(depth("2"), depth("many"))).unwrap_err();
    assert!(error.to_string().contains("write many to cgroup.max.depth"), "{error}");
    assert_eq!(now(), ["7\n", "5\n", "4\n"]);
    let unknown = BTreeMap::from([("c".to_string(), depth("1"))]);
    assert_eq!(pod.update_all(&depth("1"), &unknown).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(now(), ["7\n", "5\n", "4\n"]);
    PASS
}
