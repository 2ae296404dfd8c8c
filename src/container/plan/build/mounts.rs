//! Mounts below the root, and what is hidden of them.

use std::path::Path;

use super::Build;
use crate::container::plan::step::{Create, Step, Target};
use crate::container::plan::{Slot, Source, Spread};
use crate::error::{Error, Result};
use crate::spec::{CgroupNamespace, Mount, MountKind, NamespaceMode, PidMode, Propagation};
use crate::sys::mount::{AttributeChange, attr};

impl Build<'_> {
    pub(super) fn mounts(&mut self) -> Result<()> {
        let container = self.container;
        let mut rest: Vec<&Mount> = container.mounts.iter().collect();
        if container.default_mounts {
            for default in default_mounts() {
                // A mount of the specification takes the place of the default one with its destination.
                match rest.iter().position(|mount| same_path(&mount.destination, &default.destination)) {
                    Some(at) => {
                        let mount = rest.remove(at);
                        self.mount(mount)?;
                    }
                    None if default.destination == Path::new("/dev") => self.dev(),
                    None => self.mount(&default)?,
                }
            }
        }
        rest.into_iter().try_for_each(|mount| self.mount(mount))?;
        if self.pod.spec.hostname_files {
            for name in ["hostname", "hosts"] {
                let slot = self.plan.source(Source::EtcFile(name));
                self.mount_at(
                    slot,
                    format!("the pod's {name}"),
                    format!("/etc/{name}"),
                    Create::File,
                    Target::Anywhere,
                );
            }
        }
        Ok(())
    }

    pub(super) fn mount_at(
        &mut self,
        slot: Slot,
        what: String,
        path: String,
        create: Create,
        target: Target,
    ) {
        if target == Target::NoSymlinks
            && let Some((_, base, below)) = self.fresh.iter().find(|(place, ..)| *place == path)
        {
            let (base, below) = (*base, below.to_string());
            self.plan.step(Step::MountBelow { slot, what, base, path: below, destination: path });
            return;
        }
        self.plan.step(Step::MountAt { slot, what, path, create, target });
    }

    fn mount(&mut self, mount: &Mount) -> Result<()> {
        self.check_propagation(mount)?;
        let path = mount.destination.display().to_string();
        let mut attributes = mount.fresh_attributes();
        let is_tmpfs = matches!(mount.kind, MountKind::Tmpfs { .. });
        let late_readonly = is_tmpfs && attributes & attr::RDONLY != 0;
        if late_readonly {
            attributes &= !attr::RDONLY;
        }
        let idmap = mount.idmap.clone();
        let mut target = Target::NoSymlinks;
        let mut create = Create::Directory;
        let host_ipc = self.pod.spec.namespaces.ipc == NamespaceMode::Host;
        let (slot, what) = match &mount.kind {
            MountKind::Bind { source, recursive } => {
                // A file of the kernel's own is where it says, without links on the way.
                if !mount.destination.starts_with("/proc") {
                    target = Target::Anywhere;
                }
                create = Create::LikeSource;
                let slot = self.host_tree(Source::Tree {
                    path: source.clone(),
                    follow: !mount.source_nofollow,
                    copy_link: mount.copy_symlink,
                    recursive: *recursive,
                    change: mount.change(),
                    spread: Spread {
                        propagation: mount.propagation,
                        recursive: mount.propagation_recursive,
                        required: true,
                    },
                    idmap,
                });
                (slot, source.display().to_string())
            }
            MountKind::Tmpfs { size, mode } => {
                target = Target::Anywhere;
                let mut options = vec![("mode", format!("{:o}", mode.unwrap_or(0o1777)))];
                options.extend(size.map(|size| ("size", size.to_string())));
                let mut data = self.options_of_host(mount)?;
                data.extend(mount.source_name.iter().map(|name| format!("source={name}")));
                (self.new_filesystem_with("tmpfs", options, attributes, &data), "a tmpfs".to_string())
            }
            MountKind::Volume { name, sub_path } => {
                target = Target::Anywhere;
                create = Create::LikeSource;
                if !self.pod.spec.volumes.iter().any(|volume| volume.name == *name) {
                    return Err(Error::invalid(
                        format!("mounts[{:?}]", mount.destination.display().to_string()),
                        format!("the pod has no volume {name:?}"),
                    ));
                }
                let source = Source::Volume {
                    name: name.clone(),
                    sub_path: sub_path.clone(),
                    change: mount.change(),
                    propagation: mount.propagation,
                    idmap,
                };
                (self.plan.source(source), format!("volume {name:?}"))
            }
            MountKind::Filesystem { fstype, source } => {
                target = Target::Anywhere;
                create = Create::LikeSource;
                let slot = self.host_tree(Source::Filesystem {
                    fstype: fstype.clone(),
                    source: source.clone(),
                    data: self.labelled(&mount.data),
                    attributes,
                    propagation: mount.propagation,
                    idmap,
                });
                (slot, fstype.clone())
            }
            MountKind::Proc => (self.proc(attributes, &mount.data)?, "proc".to_string()),
            MountKind::Sysfs => {
                let slot = self.new_filesystem_with("sysfs", Vec::new(), attributes, &mount.data);
                self.fresh.push((format!("{path}/fs/cgroup"), slot, "fs/cgroup"));
                (slot, "sysfs".to_string())
            }
            MountKind::Cgroup if self.container.cgroup_namespace == CgroupNamespace::Host => {
                if let Some(option) = mount.data.first() {
                    return Err(Error::invalid(
                        format!("mounts[{path:?}]"),
                        format!("option {option:?}: the host's cgroups stay as they are"),
                    ));
                }
                (self.plan.source(Source::HostCgroups { attributes }), "the host's cgroups".to_string())
            }
            MountKind::Cgroup => {
                let slot = self.new_filesystem_with("cgroup2", Vec::new(), attributes, &mount.data);
                (slot, "cgroup2".to_string())
            }
            MountKind::Devpts => {
                let mut options = vec![("ptmxmode", "0666".to_string()), ("mode", "0620".to_string())];
                if self.has_gid(5) {
                    options.push(("gid", "5".to_string()));
                }
                // What is in it belongs to root inside, and the group of terminals is one inside.
                let slot = self
                    .inside(|build| build.new_filesystem_with("devpts", options, attributes, &mount.data));
                (slot, "devpts".to_string())
            }
            MountKind::Shm if host_ipc => {
                (self.plan.source(host_tree("/dev/shm", attributes)), "the host's /dev/shm".to_string())
            }
            // The queues of the namespace that init is in, whether or not the host has them mounted anywhere.
            MountKind::Mqueue if host_ipc => {
                (self.new_filesystem("mqueue", Vec::new(), attributes), "the host's queues".to_string())
            }
            MountKind::Shm => (self.plan.source(Source::PodShm { attributes }), "the pod's shm".to_string()),
            MountKind::Mqueue => {
                (self.plan.source(Source::PodMqueue { attributes }), "the pod's mqueue".to_string())
            }
        };
        if mount.copy_up {
            let with_mode = |option: &String| option.starts_with("mode=");
            let keep_mode = matches!(mount.kind, MountKind::Tmpfs { mode: Some(_), .. })
                || mount.data.iter().any(with_mode);
            self.plan.step(Step::CopyUp { slot, path: path.clone(), keep_mode });
        }
        if is_tmpfs && mount.propagation != Propagation::Private {
            self.plan.step(Step::Propagate { slot, propagation: mount.propagation, path: path.clone() });
        }
        self.mount_at(slot, what, path.clone(), create, target);
        if let Some(place) =
            ["/proc", "/sys"].map(Path::new).into_iter().find(|place| same_path(&mount.destination, place))
        {
            self.kernels.push((place, slot));
        }
        if is_tmpfs && same_path(&mount.destination, Path::new("/dev")) {
            self.furnish_dev(slot);
        }
        if late_readonly {
            self.late_readonly.push((slot, path));
        }
        Ok(())
    }

    fn proc(&mut self, attributes: u64, data: &[String]) -> Result<Slot> {
        let mode = self.pod.pid_mode(self.container);
        if let (Some(option), PidMode::Pod | PidMode::Target(_)) = (data.first(), mode) {
            return Err(Error::invalid(
                "mounts[\"/proc\"]",
                format!(
                    "option {option:?}: the proc of a PID namespace that others have, too, stays as it is"
                ),
            ));
        }
        Ok(match mode {
            PidMode::Container => {
                self.twin.makes_proc = true;
                self.inside(|build| build.new_filesystem_with("proc", Vec::new(), attributes, data))
            }
            // Of the host's processes: only the host's privileges are enough for that.
            PidMode::Host => self.new_filesystem_with("proc", Vec::new(), attributes, data),
            // Nothing mounts a proc of a PID namespace from outside it before Linux 6.17: take the one that is there.
            PidMode::Pod => self.plan.source(Source::PodProc { attributes }),
            PidMode::Target(name) => self.plan.source(Source::TargetProc { name: name.clone(), attributes }),
            PidMode::Path(path) => self.plan.source(Source::ProcAt { path: path.clone(), attributes }),
        })
    }

    /// Hides what is to be hidden.
    pub(super) fn hide(&mut self) {
        let security = &self.container.security;
        for path in &security.masked_paths {
            let (base, below) = self.place(path);
            self.plan.step(Step::Mask { base, path: below, destination: path.display().to_string() });
        }
        for path in &security.readonly_paths {
            let (base, below) = self.place(path);
            self.plan.step(Step::Readonly { base, path: below, destination: path.display().to_string() });
        }
    }

    /// Where to look for what is hidden: in the very proc or sysfs that was mounted. The directory that it was mounted
    /// on is the root filesystem's, which others may have too: exchanged for another one it takes the mount with it,
    /// and what is found at the path is not the kernel's.
    fn place(&self, path: &Path) -> (Option<Slot>, String) {
        let below = |(place, slot): &(&'static Path, Slot)| {
            let rest = path.strip_prefix(place).ok().filter(|rest| !rest.as_os_str().is_empty())?;
            Some((Some(*slot), rest.display().to_string()))
        };
        // What was mounted last covers what was there before.
        self.kernels.iter().rev().find_map(below).unwrap_or_else(|| (None, path.display().to_string()))
    }
}

/// The mounts of every container, in the order in which they are made.
fn default_mounts() -> Vec<Mount> {
    let locked = |kind, path: &str| Mount::of(kind, path).nosuid(true).nodev(true).noexec(true);
    vec![
        locked(MountKind::Proc, "/proc"),
        locked(MountKind::Sysfs, "/sys").readonly(true),
        locked(MountKind::Cgroup, "/sys/fs/cgroup").readonly(true),
        Mount::of(MountKind::Tmpfs { size: None, mode: None }, "/dev"),
        Mount::of(MountKind::Devpts, "/dev/pts").nosuid(true).noexec(true),
        locked(MountKind::Shm, "/dev/shm"),
        locked(MountKind::Mqueue, "/dev/mqueue"),
    ]
}

fn host_tree(path: &str, attributes: u64) -> Source {
    Source::Tree {
        path: path.into(),
        follow: true,
        copy_link: false,
        recursive: false,
        change: AttributeChange { set: attributes, ..AttributeChange::default() },
        spread: Spread::PRIVATE,
        idmap: None,
    }
}

fn same_path(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}
