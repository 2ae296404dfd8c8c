//! Nothing may be left when the tests have ended.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// What the names of nodes of any run of the suite begin with.
pub const PREFIX: &str = "pericarp-suite-";

/// What the names of nodes of this run begin with: others may run at the same time.
pub fn own() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// What the machine has of the kinds of things that pods are made of.
pub struct Snapshot {
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    state: BTreeSet<String>,
    claims: BTreeSet<String>,
    descriptors: usize,
    children: BTreeSet<String>,
}

impl Snapshot {
    pub fn take() -> Snapshot {
        Snapshot {
            mounts: mounts(),
            cgroups: cgroups(),
            state: entries("/run").into_iter().filter(|name| name.contains(&own())).collect(),
            claims: claims(),
            descriptors: entries("/proc/self/fd").len(),
            children: children(),
        }
    }

    /// What there is now and was not then, in words. Waits a little for what the kernel does later.
    pub fn leaks(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let leaks = self.look();
            if leaks.is_empty() || Instant::now() > deadline {
                return leaks;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn look(&self) -> Vec<String> {
        let now = Snapshot::take();
        let new = |what: &str, before: &BTreeSet<String>, after: &BTreeSet<String>| -> Vec<String> {
            after.difference(before).map(|entry| format!("{what} {entry}")).collect()
        };
        let mut leaks = new("mount", &self.mounts, &now.mounts);
        leaks.extend(new("cgroup", &self.cgroups, &now.cgroups));
        leaks.extend(new("in /run:", &self.state, &now.state));
        leaks.extend(new("claim of ids", &self.claims, &now.claims));
        leaks.extend(new("child process", &self.children, &now.children));
        if now.descriptors > self.descriptors {
            leaks.push(format!("{} open files instead of {}", now.descriptors, self.descriptors));
        }
        leaks
    }
}

fn entries(path: &str) -> BTreeSet<String> {
    let Ok(dir) = fs::read_dir(path) else { return BTreeSet::new() };
    dir.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Mount points with their types; the ids of mounts are left out.
fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    let others = |line: &&str| line.contains(PREFIX) && !line.contains(&own());
    table
        .lines()
        .filter(|line| !others(line))
        .map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Cgroups of the suite, two levels deep.
fn cgroups() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    table
        .lines()
        .filter(|line| line.contains(" - cgroup2 "))
        .filter_map(|line| line.split(' ').nth(4))
        .flat_map(|mount| entries(mount).into_iter().map(move |name| format!("{mount}/{name}")))
        .filter(|path| path.contains(&own()))
        .collect()
}

/// What pods of this run have in the directory where those of the machine write down which ids they have.
fn claims() -> BTreeSet<String> {
    const PLACE: &str = "/run/pericarp-ids";
    let is_own = |name: &String| {
        fs::read_to_string(format!("{PLACE}/{name}")).is_ok_and(|owner| owner.contains(&own()))
    };
    entries(PLACE).into_iter().filter(is_own).collect()
}

fn children() -> BTreeSet<String> {
    let mut children = BTreeSet::new();
    for task in entries("/proc/self/task") {
        let list = fs::read_to_string(format!("/proc/self/task/{task}/children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().map(str::to_string));
    }
    children
}
