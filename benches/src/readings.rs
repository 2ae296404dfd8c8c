//! What one reading of all containers of a node costs, against opening, reading and closing the same files and nothing
//! else.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pericarp::stats::StatsOptions;
use pericarp::{CgroupParent, ContainerSpec, Node, NodeOptions, Pod, PodSpec, Rootfs};

use crate::case::{Pace, WARM_UP_ROUNDS};
use crate::contender::{Result, stopwatch};
use crate::interrupt;
use crate::stats::{paired_ratio, percentile, us};
use crate::workspace::Workspace;

pub const CASE: &str = "stats";
const PODS: usize = 50;
const CONTAINERS: usize = 20;

/// What a reading takes from the cgroup of each container, as far as the machine has it.
const FILES: [&CStr; 13] = [
    c"cpu.stat",
    c"memory.current",
    c"memory.peak",
    c"memory.swap.current",
    c"memory.stat",
    c"memory.events",
    c"io.stat",
    c"pids.current",
    c"pids.peak",
    c"cpu.pressure",
    c"memory.pressure",
    c"io.pressure",
    c"cgroup.procs",
];

/// A node with containers that run, and their end.
struct Full {
    node: Node,
    pods: Vec<Pod>,
}

impl Full {
    fn new(workspace: &Workspace) -> Result<Full> {
        let place = workspace.place(CASE)?;
        let options =
            NodeOptions::new().state_dir(place.scratch).cgroup_parent(CgroupParent::Path(place.cgroup));
        let mut full = Full { node: Node::open(&options)?, pods: Vec::new() };
        for number in 0..PODS {
            full.pods.push(full.node.create_pod(&PodSpec::new(format!("pod-{number}")))?);
            for number in 0..CONTAINERS {
                let spec =
                    ContainerSpec::new(format!("container-{number}"), Rootfs::directory(&place.rootfs))
                        .args(["/bin/busybox", "sleep", "100000"]);
                full.pods[full.pods.len() - 1].create_container(&spec)?.start()?;
            }
        }
        Ok(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        self.pods.iter().for_each(|pod| drop(pod.remove()));
        let _ = self.node.remove();
    }
}

/// Opens a file or directory below another.
fn open(at: &OwnedFd, name: &CStr, flags: i32) -> Option<OwnedFd> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::openat(at.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) };
    // SAFETY: the kernel just made it for us.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The floor: each file of each container, opened relative to its cgroup, read at once and closed.
fn read_all(pods: &[(OwnedFd, Vec<CString>)], files: &[&CStr], buffer: &mut [u8]) -> Result<()> {
    for (pod, containers) in pods {
        for name in containers {
            let cgroup = open(pod, name, libc::O_PATH | libc::O_DIRECTORY).ok_or("a cgroup is gone")?;
            for file in files {
                let file = open(&cgroup, file, libc::O_RDONLY).ok_or("a file is gone")?;
                // SAFETY: the buffer is as long as is said.
                let length =
                    unsafe { libc::read(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
                if length < 0 {
                    return Err(std::io::Error::last_os_error().into());
                }
            }
        }
    }
    Ok(())
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Rows of the table, its head included.
pub fn run(workspace: &Workspace, pace: &Pace) -> Result<Vec<Vec<String>>> {
    let full = Full::new(workspace)?;
    let mut cgroups = Vec::new();
    for pod in &full.pods {
        let names = (0..CONTAINERS).map(|number| CString::new(format!("container-{number}")));
        cgroups.push((directory(&pod.cgroup_path())?, names.collect::<std::result::Result<Vec<_>, _>>()?));
    }
    let first = full.pods[0].cgroup_path().join("container-0");
    let files: Vec<&CStr> =
        FILES.into_iter().filter(|file| first.join(file.to_string_lossy().as_ref()).exists()).collect();
    let mut buffer = vec![0; 16 << 10];
    let cgroups_only = StatsOptions::new().network(false);
    let names =
        [format!("floor: {} files each", files.len()), "pericarp, cgroups".into(), "pericarp, all".into()];
    let mut times = [const { (Vec::new(), Vec::new()) }; 3];
    for round in 0..pace.rounds + WARM_UP_ROUNDS {
        for turn in 0..names.len() {
            if interrupt::requested() {
                return Ok(Vec::new());
            }
            std::thread::sleep(pace.gap);
            let slot = (turn + round) % names.len();
            let sample = stopwatch(|| {
                let seen = match slot {
                    0 => return read_all(&cgroups, &files, &mut buffer),
                    1 => full.node.stats_with(&cgroups_only)?,
                    _ => full.node.stats()?,
                };
                let seen: usize = seen.pods.iter().map(|pod| pod.containers.len()).sum();
                if seen == PODS * CONTAINERS { Ok(()) } else { Err("containers are missing".into()) }
            })?;
            if round >= WARM_UP_ROUNDS {
                times[slot].0.push(sample.wall_ns);
                times[slot].1.push(sample.cpu_ns);
            }
        }
    }
    let head =
        ["case", "contender", "median us each", "min us each", "CPU us each", "ratio to floor", "of CPU"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let each = |time: u64| us(time / (PODS * CONTAINERS) as u64);
    for (name, (wall, cpu)) in names.into_iter().zip(&times) {
        rows.push(vec![
            format!("{CASE}: {PODS} pods with {CONTAINERS} containers each"),
            name,
            each(percentile(wall, 0.5)),
            each(percentile(wall, 0.0)),
            each(percentile(cpu, 0.5)),
            format!("{:.2}", paired_ratio(wall, &times[0].0)),
            format!("{:.2}", paired_ratio(cpu, &times[0].1)),
        ]);
    }
    Ok(rows)
}
