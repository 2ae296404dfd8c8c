//! Which controllers the children of a cgroup have, and why they lack the others.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::controller::{Controller, ControllerSet};
use super::dir::{Dir, SUBTREE_CONTROL};
use super::mounts::mounts;
use super::settings::Setting;
use crate::error::{Error, ErrorKind, Result};

/// What the children of a cgroup have.
#[derive(Debug, Clone)]
pub(super) struct Controls {
    enabled: ControllerSet,
    lacks: Vec<(Controller, Lack)>,
}

/// Why a controller is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lack {
    /// `cgroup.controllers` of this directory does not list it: whatever is above does not hand it down.
    Absent(PathBuf),
    /// The kernel refused to enable it in `cgroup.subtree_control` of this directory.
    Refused(PathBuf, Errno),
    /// `cgroup.subtree_control` of this directory does not list it, and it was not for us to enable it.
    NotEnabled(PathBuf),
}

impl Controls {
    /// What the children of a directory could have whose `cgroup.controllers` says `available`.
    pub(super) fn available(available: ControllerSet, dir: &Path) -> Self {
        let absent = Controller::ALL.into_iter().filter(|controller| !available.contains(*controller));
        Controls { enabled: available, lacks: absent.map(|c| (c, Lack::Absent(dir.to_path_buf()))).collect() }
    }

    /// What the children of a directory have whose `cgroup.subtree_control` says `enabled`, where `above` is what the
    /// directory itself has.
    pub(super) fn found(enabled: ControllerSet, dir: &Path, above: Option<&Controls>) -> Self {
        let why = |controller| match above.and_then(|above| above.lack(controller)) {
            Some(lack) => lack.clone(),
            None => Lack::NotEnabled(dir.to_path_buf()),
        };
        let missing = Controller::ALL.into_iter().filter(|controller| !enabled.contains(*controller));
        Controls { enabled, lacks: missing.map(|controller| (controller, why(controller))).collect() }
    }

    /// Enables for the children of `dir` all of `self`, which is what `dir` has, and returns what the children then
    /// have. A refusal is not an error yet: it becomes one when a limit needs the controller, and is told then.
    pub(super) fn enable_in(&self, dir: &Dir) -> Result<Self> {
        if self.enabled.is_empty() {
            return Ok(self.clone());
        }
        // The kernel would let cpu, pids and cpuset be enabled next to processes: the directory would become the root
        // of a threaded subtree, and no process could ever enter the cgroups below it (EOPNOTSUPP).
        let refused = match dir.has_processes_in_the_way()? {
            true => Err(Errno::EBUSY),
            false => dir.write(SUBTREE_CONTROL, &self.enabled.enable_command()),
        };
        let refused: Vec<(Controller, Errno)> = match refused {
            Ok(()) => Vec::new(),
            Err(Errno::EBUSY) => self.enabled.iter().map(|controller| (controller, Errno::EBUSY)).collect(),
            // The write enables all or none: find out which it was.
            Err(_) => self
                .enabled
                .iter()
                .filter_map(|controller| {
                    let result = dir.write(SUBTREE_CONTROL, &format!("+{controller}"));
                    result.err().map(|errno| (controller, errno))
                })
                .collect(),
        };
        let mut below = self.clone();
        for (controller, errno) in refused {
            below.enabled.remove(controller);
            below.lacks.push((controller, Lack::Refused(dir.path().to_path_buf(), errno)));
        }
        Ok(below)
    }

    /// The controllers that are there.
    pub(super) fn enabled(&self) -> ControllerSet {
        self.enabled
    }

    fn lack(&self, controller: Controller) -> Option<&Lack> {
        self.lacks.iter().find(|(which, _)| *which == controller).map(|(_, lack)| lack)
    }

    /// Fails unless the controller of every setting is there. `path` is the cgroup that the settings are for.
    pub(super) fn require(&self, settings: &[Setting], path: &Path) -> Result<()> {
        let lacks =
            |setting: &Setting| setting.controller.filter(|controller| !self.enabled.contains(*controller));
        let missing = settings.iter().find_map(|setting| Some((setting, lacks(setting)?)));
        let Some((Setting { file, value, .. }, controller)) = missing else { return Ok(()) };
        let step = format!("apply {file} {value:?} to");
        Err(match self.lack(controller) {
            Some(lack) => lack.error(controller, step),
            None => {
                Error::new(ErrorKind::Unsupported, step).because(format!("needs the controller {controller}"))
            }
        }
        .on(path.display()))
    }
}

impl Lack {
    fn error(&self, controller: Controller, step: String) -> Error {
        let error = match self {
            Lack::Refused(_, errno) => Error::system(*errno, step),
            _ => Error::new(ErrorKind::Unsupported, step),
        };
        let error = match error.kind() {
            ErrorKind::PermissionDenied => error,
            _ => error.of_kind(ErrorKind::Unsupported),
        };
        error.because(match self {
            Lack::Absent(dir) => {
                let dir = dir.display();
                let origin = whereabouts(controller);
                format!("needs the controller {controller}, which {dir}/cgroup.controllers lacks ({origin})")
            }
            Lack::NotEnabled(dir) => {
                let dir = dir.display();
                format!("needs the controller {controller}, which {dir}/{SUBTREE_CONTROL} does not enable")
            }
            Lack::Refused(dir, errno) => {
                let dir = dir.display();
                let hint = match errno {
                    Errno::EBUSY => {
                        ": the directory has processes of its own, and cgroup v2 allows them only in leaves; \
                         move them into a cgroup below it"
                    }
                    Errno::EINVAL if controller == Controller::Cpu => {
                        ": with CONFIG_RT_GROUP_SCHED, real-time processes must be in the root cgroup first"
                    }
                    Errno::EOPNOTSUPP => ": the directory is in a threaded subtree",
                    _ => "",
                };
                format!(
                    "needs the controller {controller}, which {dir}/{SUBTREE_CONTROL} cannot enable{hint}"
                )
            }
        })
    }
}

/// What can be known about a controller that cgroup v2 lacks. Only asked for an error's text, and never fails.
pub(super) fn whereabouts(controller: Controller) -> String {
    let name = controller.legacy_name();
    let is_v1 = |options: &str| options.split(',').any(|option| option == name);
    let hierarchy = mounts()
        .unwrap_or_default()
        .into_iter()
        .find(|mount| mount.fstype == "cgroup" && is_v1(&mount.options))
        .map(|mount| format!("it is bound to the cgroup v1 hierarchy at {}", mount.point.display()));
    let table = || std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    hierarchy.unwrap_or_else(|| from_proc_cgroups(&table(), name).to_string())
}

/// Finds the controller in `/proc/cgroups`: `#subsys_name hierarchy num_cgroups enabled`.
fn from_proc_cgroups(table: &str, name: &str) -> &'static str {
    let line =
        table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).find_map(|fields| {
            match fields[..] {
                [subsystem, hierarchy, _, enabled] if subsystem == name => {
                    Some((hierarchy != "0", enabled == "1"))
                }
                _ => None,
            }
        });
    match line {
        None => "this kernel does not list it in /proc/cgroups",
        Some((_, false)) => "it is disabled on the kernel's command line, see cgroup_disable=",
        Some((true, true)) => "it is bound to a cgroup v1 hierarchy",
        Some((false, true)) => "the cgroup above does not hand it down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_why_a_controller_is_absent() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\nmemory\t0\t10\t0\npids\t0\t9\t1\n";
        assert_eq!(from_proc_cgroups(table, "cpuset"), "it is bound to a cgroup v1 hierarchy");
        assert!(from_proc_cgroups(table, "memory").contains("cgroup_disable"));
        assert_eq!(from_proc_cgroups(table, "pids"), "the cgroup above does not hand it down");
        assert!(from_proc_cgroups(table, "blkio").contains("does not list"));
        assert!(from_proc_cgroups("", "cpu").contains("does not list"));
    }

    fn setting(controller: Controller, file: &'static str) -> Setting {
        Setting { controller: Some(controller), file: file.into(), value: "1".to_string() }
    }

    #[test]
    fn a_missing_controller_is_named_with_the_place_where_it_ends() {
        let controls = Controls::available(ControllerSet::parse("pids hugetlb"), Path::new("/cg"));
        let pids = setting(Controller::Pids, "pids.max");
        assert!(controls.require(&[], Path::new("/cg/x/pod")).is_ok());
        assert!(controls.require(std::slice::from_ref(&pids), Path::new("/cg/x/pod")).is_ok());
        let memory = setting(Controller::Memory, "memory.max");
        let error = controls.require(&[pids, memory], Path::new("/cg/x/pod")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        let start = "apply memory.max \"1\" to /cg/x/pod: needs the controller memory, \
                     which /cg/cgroup.controllers lacks (";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn a_refusal_is_told_when_the_controller_is_needed() {
        let refused = |errno| Controls {
            enabled: ControllerSet::default(),
            lacks: vec![(Controller::Cpu, Lack::Refused("/cg/x".into(), errno))],
        };
        let cpu = [setting(Controller::Cpu, "cpu.weight")];
        let error = refused(Errno::EBUSY).require(&cpu, Path::new("/cg/x/pod")).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(Errno::EBUSY as i32)));
        assert!(
            error
                .to_string()
                .contains("/cg/x/cgroup.subtree_control cannot enable: the directory has processes")
        );
        let error = refused(Errno::EACCES).require(&cpu, Path::new("/cg/x/pod")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn an_opened_directory_inherits_the_reasons() {
        let above = Controls::available(ControllerSet::parse("cpu memory"), Path::new("/cg"));
        let found = Controls::found(ControllerSet::parse("cpu"), Path::new("/cg/x/pod"), Some(&above));
        assert_eq!(found.lack(Controller::Cpu), None);
        assert_eq!(found.lack(Controller::Memory), Some(&Lack::NotEnabled("/cg/x/pod".into())));
        assert_eq!(found.lack(Controller::Pids), Some(&Lack::Absent("/cg".into())));
    }
}
