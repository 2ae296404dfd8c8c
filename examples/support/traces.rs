//! Counts what pods leave on a machine, without asking the library: from `/proc` and the tree of cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What to look for.
pub struct Traces {
    state_dir: PathBuf,
    cgroup: PathBuf,
    /// Namespaces as `/proc` shows them: "net:[4026532008]".
    namespaces: BTreeSet<String>,
}

/// How much of it there is.
#[derive(PartialEq, Eq, Clone, Copy)]
pub struct Count {
    pub processes: usize,
    pub mounts: usize,
    pub cgroups: usize,
    pub namespaces: usize,
}

impl Traces {
    /// Looks at the living: `namespaces` are those of the pods, to which come those of their containers and the one
    /// that the node's line in the mount table holds.
    pub fn of(state_dir: &Path, cgroup: &Path, namespaces: BTreeSet<String>) -> Traces {
        let mut traces = Traces { state_dir: state_dir.into(), cgroup: cgroup.into(), namespaces };
        let mut found: BTreeSet<String> =
            traces.processes().iter().flat_map(|process| links(&process.join("ns"))).collect();
        found.extend(traces.mounts().iter().filter_map(|line| namespace_of(line)));
        let own = links(Path::new("/proc/self/ns"));
        traces.namespaces.extend(found.into_iter().filter(|namespace| !own.contains(namespace)));
        traces
    }

    /// How much there is while the pods are: their namespaces live without a process, where only the library can see
    /// them.
    pub fn alive(&self) -> Count {
        Count { namespaces: self.namespaces.len(), ..self.left() }
    }

    /// How much there is. A namespace is there while a process is in it, a file is open on it or a mount holds it;
    /// it can only be this program, its containers and the mount table that do.
    pub fn left(&self) -> Count {
        let processes = self.processes();
        let mut held: BTreeSet<String> = BTreeSet::new();
        for process in processes.iter().map(PathBuf::as_path).chain([Path::new("/proc/self")]) {
            held.extend(links(&process.join("ns")));
            held.extend(links(&process.join("fd")));
        }
        held.extend(mount_table().lines().filter_map(namespace_of));
        Count {
            processes: processes.len(),
            mounts: self.mounts().len(),
            cgroups: directories(&self.cgroup),
            namespaces: self.namespaces.intersection(&held).count(),
        }
    }

    /// Processes in the cgroups of the node, and children of this program: also those that are zombies.
    fn processes(&self) -> Vec<PathBuf> {
        let name = self.cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parent = format!("PPid:\t{}", std::process::id());
        let Ok(proc) = fs::read_dir("/proc") else { return Vec::new() };
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        proc.flatten()
            .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
            .map(|entry| entry.path())
            .filter(|path| {
                read(path.join("cgroup")).split(['/', '\n']).any(|part| part == name)
                    || read(path.join("status")).lines().any(|line| line == parent)
            })
            .collect()
    }

    /// Lines of the mount table that are at or below the state directory.
    fn mounts(&self) -> Vec<String> {
        let below =
            |line: &&str| line.split(' ').nth(4).is_some_and(|p| Path::new(p).starts_with(&self.state_dir));
        mount_table().lines().filter(below).map(str::to_string).collect()
    }
}

fn mount_table() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// The namespace that a line of the mount table holds: its root is "mnt:[4026532008]" then.
fn namespace_of(line: &str) -> Option<String> {
    let root = line.split(' ').nth(3)?;
    root.contains(":[").then(|| root.to_string())
}

/// Where the links in a directory lead.
fn links(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeSet::new() };
    let target = |entry: fs::DirEntry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned());
    entries.flatten().filter_map(target).collect()
}

/// The directory, if it is there, and all below it.
fn directories(path: &Path) -> usize {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    1 + entries.flatten().filter(is_directory).map(|entry| directories(&entry.path())).sum::<usize>()
}
