//! What there is of pods on a node, read from the machine and not from the library: its state directory, its cgroups
//! and its private mount namespace.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};

use crate::support::Fixture;
use crate::support::fixture::claims_beside;

/// Where to look.
pub struct Places {
    state_dir: PathBuf,
    cgroup: PathBuf,
}

impl Places {
    /// The places of a fixture's node, in which no pod may be.
    pub fn of(fixture: &Fixture) -> Places {
        let probe = fixture.pod("probe");
        let cgroup = probe.cgroup_path().parent().expect("the node's cgroup").to_path_buf();
        probe.remove().expect("remove the probe");
        let places = Places { state_dir: fixture.options.state_dir.clone(), cgroup };
        assert_eq!(places.look(), [""; 0], "something is left of nothing");
        places
    }

    /// All that there is of pods, in words.
    pub fn look(&self) -> Vec<String> {
        let mut found = Vec::new();
        for phase in ["new", "pods", "garbage", "live"] {
            let names = entries(&self.state_dir.join(phase));
            found.extend(names.into_iter().map(|id| format!("state {phase}/{id}")));
        }
        let names = self.state_dir.join("names");
        for namespace in entries(&names) {
            let names = entries(&names.join(&namespace));
            found.extend(names.into_iter().map(|name| format!("name {namespace}/{name}")));
        }
        let ids = entries(&claims_beside(&self.state_dir));
        found.extend(ids.into_iter().map(|name| format!("ids {name}")));
        for name in entries(&self.cgroup) {
            let path = self.cgroup.join(&name);
            if path.is_dir() {
                found.push(format!("cgroup {name} with {:?}", processes(&path)));
            }
        }
        found.extend(self.pins().into_iter().map(|id| format!("pins {id}")));
        found
    }

    /// What is left half made: everything that belongs to no whole pod.
    pub fn half_made(&self) -> Vec<String> {
        let whole = entries(&self.state_dir.join("pods"));
        let belongs = |line: &String| {
            let names = self.state_dir.join("names");
            whole.iter().any(|id| line.contains(id.as_str()))
                || line.strip_prefix("name ").is_some_and(|name| {
                    fs::read_link(names.join(name))
                        .is_ok_and(|id| whole.iter().any(|whole| id.as_os_str() == whole.as_str()))
                })
        };
        self.look().into_iter().filter(|line| !belongs(line)).collect()
    }

    /// The pods that have something in the node's private mount namespace.
    fn pins(&self) -> Vec<String> {
        let place = ["pins.d/pins", "pins"].map(|place| self.state_dir.join(place));
        let file = place.iter().find_map(|place| fs::File::open(place).ok()).expect("the pins namespace");
        // On a thread of its own, which ends: joining a mount namespace cannot be taken back.
        let look = move || {
            unshare(CloneFlags::CLONE_FS).expect("unshare the root directory");
            setns(&file, CloneFlags::CLONE_NEWNS).expect("join the pins namespace");
            entries(Path::new("/pods"))
        };
        std::thread::spawn(look).join().expect("look into the pins namespace")
    }
}

fn entries(path: &Path) -> Vec<String> {
    let Ok(dir) = fs::read_dir(path) else { return Vec::new() };
    dir.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// All processes of a cgroup and of those below it.
pub fn processes(cgroup: &Path) -> Vec<String> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<String> = own.lines().map(str::to_string).collect();
    for name in entries(cgroup) {
        if cgroup.join(&name).is_dir() {
            all.extend(processes(&cgroup.join(name)));
        }
    }
    all
}
