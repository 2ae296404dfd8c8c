//! The cgroup of a pod or of a container.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::controller::Controller;
use super::devices::DeviceGuard;
use super::dir::{Dir, SUBTREE_CONTROL};
use super::settings::{Setting, settings};
use super::{events, optional, remove};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Resources;

/// How long [`Cgroup::freeze`] waits: a process freezes on its way back to user space, and one in uninterruptible
/// sleep may be long on it.
const FREEZING: Duration = Duration::from_secs(10);

/// An open cgroup of the library's tree. Dropping it closes the descriptor and does nothing else.
#[derive(Debug)]
pub(crate) struct Cgroup {
    pub(super) dir: Arc<Dir>,
}

impl Cgroup {
    /// Makes `<dir>/<name>` and applies the limits, before any process can be in it. A limit whose controller is
    /// missing is found before anything is made; after any other error the cgroup is removed again.
    ///
    /// Without limits this is mkdirat(2) and openat(2).
    pub(super) fn create(dir: &Arc<Dir>, name: &str, resources: &Resources) -> Result<Cgroup> {
        let settings = settings(resources);
        if !settings.is_empty() {
            optional::enable_for(dir, &settings, &dir.path().join(name))?;
            let always: Vec<Setting> =
                settings.iter().filter(|setting| setting.is_always()).cloned().collect();
            dir.subtree()?.require(&always, &dir.path().join(name))?;
        }
        let cgroup = Cgroup { dir: Arc::new(dir.make_child(name)?) };
        cgroup.or_undo(|cgroup| cgroup.write_settings(&settings))
    }

    /// Enables for children every controller that the cgroup has. What fails removes the cgroup again.
    pub(super) fn with_controllers(self) -> Result<Cgroup> {
        self.or_undo(|cgroup| {
            let Some(parent) = cgroup.dir.parent() else { return Ok(()) };
            let controls = parent.subtree()?;
            if !controls.enabled().is_empty() {
                let command = controls.enabled().enable_command();
                let step = || format!("write {command} to {SUBTREE_CONTROL} of");
                cgroup
                    .dir
                    .write(SUBTREE_CONTROL, &command)
                    .map_err(|errno| Error::system(errno, step()).on(cgroup.path().display()))?;
            }
            cgroup.dir.set_subtree(Arc::clone(controls));
            Ok(())
        })
    }

    pub(super) fn or_undo(self, step: impl FnOnce(&Cgroup) -> Result<()>) -> Result<Cgroup> {
        match step(&self) {
            Ok(()) => Ok(self),
            Err(error) => {
                // The first error is the one to report.
                let _ = self.dir.unlink();
                Err(error)
            }
        }
    }

    /// Opens `<dir>/<name>`; None when there is none.
    pub(super) fn open(dir: &Arc<Dir>, name: &str) -> Result<Option<Cgroup>> {
        Ok(dir.open_child(name)?.map(|child| Cgroup { dir: Arc::new(child) }))
    }

    /// Makes a cgroup in this one, for processes of this pod, and puts it under the rules for devices before any process
    /// can be in it. An error of kind `AlreadyExists` when there is one of that name.
    pub(crate) fn create_guarded(
        &self,
        name: &str,
        resources: &Resources,
        guard: &DeviceGuard,
    ) -> Result<Cgroup> {
        Cgroup::create(&self.dir, name, resources)?.or_undo(|cgroup| guard.attach(cgroup, cgroup.path()))
    }

    /// Puts it under other rules for devices, with what runs in it.
    pub(crate) fn guard_anew(&self, guard: &DeviceGuard) -> Result<()> {
        guard.replace(self, self.path())
    }

    /// Opens a cgroup in this one; None when there is none of that name.
    pub(crate) fn open_child(&self, name: &str) -> Result<Option<Cgroup>> {
        Cgroup::open(&self.dir, name)
    }

    /// Where it is, for messages: nothing may be opened by this path.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The cgroup id: the inode number of the directory, never used twice within a boot.
    pub(crate) fn id(&self) -> Result<u64> {
        self.dir.id()
    }

    pub(super) fn write_settings(&self, settings: &[Setting]) -> Result<()> {
        settings.iter().try_for_each(|setting| self.write_setting(setting))
    }

    fn write_setting(&self, setting: &Setting) -> Result<()> {
        let Setting { file, value, .. } = setting;
        if let Err(errno) = self.dir.write(file, value) {
            let error = Error::system(errno, format!("write {value} to {file} of")).on(self.path().display());
            return Err(match errno {
                Errno::ENOENT if !self.dir.is_gone() => {
                    error.of_kind(ErrorKind::Unsupported).because(setting.missing_file())
                }
                Errno::ENODEV if *file == *"io.max" => error.of_kind(ErrorKind::NotFound).because(
                    "there is no such block device; partitions and character devices cannot be limited",
                ),
                Errno::EOPNOTSUPP if *file == *"io.weight" => error.because(
                    "the kernel weighs no devices of that number: write \"MAJOR:MINOR enable=1\" to io.cost.qos of the \
                     root cgroup first",
                ),
                Errno::EINVAL | Errno::ERANGE if setting.controller == Some(Controller::Cpuset) => error
                    .of_kind(ErrorKind::Unsupported)
                    .because("it names some that this machine does not have"),
                _ => error,
            });
        }
        let Some(effective) = setting.effective_file() else { return Ok(()) };
        let granted = self.dir.read(effective)?;
        if setting.is_granted(&granted) {
            return Ok(());
        }
        let path = self.path().display();
        Err(Error::new(ErrorKind::Unsupported, format!("write {value} to {file} of")).on(path).because(
            format!(
                "{effective} grants only {:?}: the others are offline or not the parent's",
                granted.trim_end()
            ),
        ))
    }

    /// Sends `SIGKILL` to every process in it and below it, without a race against forks. That the cgroup is gone is
    /// no error.
    pub(crate) fn kill(&self) -> Result<()> {
        remove::kill(&self.dir)
    }

    /// Waits until no live process is in it or below it. False after `timeout`; without one it waits forever. Not
    /// busy: it sleeps in poll(2).
    pub(crate) fn wait_empty(&self, timeout: Option<Duration>) -> Result<bool> {
        events::wait(&self.dir, remove::is_empty, timeout)
    }

    /// The processes in it and below it, in ascending order. Zero stands for a process in a PID namespace that the
    /// caller cannot see into.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        remove::processes(&self.dir)
    }

    /// The same, each opened by `open`, and how many there were. A pid that is still listed when it has been opened, and
    /// whose process is still there after that, has been that process' all the time: no other process is touched.
    pub(crate) fn open_processes<T>(
        &self,
        mut open: impl FnMut(i32) -> Result<T>,
    ) -> Result<(Vec<(i32, T)>, usize)> {
        let listed = self.processes()?;
        let opened = listed.iter().map(|pid| Ok((*pid, open(*pid)?)));
        let mut opened = opened.collect::<Result<Vec<_>>>()?;
        let after = self.processes()?;
        opened.retain(|(pid, _)| after.binary_search(pid).is_ok());
        Ok((opened, listed.len()))
    }

    /// Stops every process in it and below it, and returns when all of them have stopped. If that takes longer than
    /// 10 seconds they are let go again, and it is an error. Frozen processes can be killed.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.set_frozen("1")?;
        let frozen = events::wait(&self.dir, |state| state.is_some_and(|state| state.frozen), Some(FREEZING));
        if matches!(frozen, Ok(true)) {
            return Ok(());
        }
        self.set_frozen("0")?;
        frozen?;
        Err(Error::new(ErrorKind::System, "freeze cgroup")
            .on(self.path().display())
            .because(format!("some processes have not stopped after {} s", FREEZING.as_secs())))
    }

    /// Whether what is in it stands still, and whatever entered it would: it or a cgroup above is frozen.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        let Some(file) = events::open(&self.dir)? else { return Ok(false) };
        Ok(events::read(&file, &self.dir)?.is_some_and(|state| state.frozen))
    }

    /// Lets every process run again, unless a cgroup above is frozen.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.set_frozen("0")
    }

    fn set_frozen(&self, value: &str) -> Result<()> {
        self.dir.write("cgroup.freeze", value).map_err(|errno| {
            Error::system(errno, format!("write {value} to cgroup.freeze of")).on(self.path().display())
        })
    }

    /// Kills everything in it, waits until that is gone (10 seconds at most; then the error names the processes that
    /// remain), and removes it with all cgroups below it. That the cgroup is gone is no error.
    pub(crate) fn remove_tree(&self) -> Result<()> {
        remove::remove_tree(&self.dir)
    }
}

impl AsFd for Cgroup {
    /// The directory, opened with `O_PATH`: good for `CLONE_INTO_CGROUP`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
