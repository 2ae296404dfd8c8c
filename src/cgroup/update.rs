//! New limits for a cgroup in which there are processes: all of them, or none.

use super::group::Cgroup;
use super::optional;
use super::settings::{Setting, settings};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{Limit, Resources};

impl Cgroup {
    /// Applies limits. Fields that are `None` keep what they have. When one is refused, those before it get back the
    /// values that they had.
    pub(crate) fn update(&self, resources: &Resources) -> Result<()> {
        update_all([(self, resources)])
    }

    fn update_in<'a>(&'a self, journal: &mut Journal<'a>, resources: &Resources) -> Result<()> {
        let settings = settings(resources);
        if let (Some(parent), false) = (self.dir.parent(), settings.is_empty()) {
            optional::enable_for(parent, &settings, self.path())?;
            let always: Vec<Setting> =
                settings.iter().filter(|setting| setting.is_always()).cloned().collect();
            parent.subtree()?.require(&always, self.path())?;
        }
        self.check_memory(resources)?;
        settings.iter().try_for_each(|setting| journal.write(self, setting))
    }

    /// What is asked for is looked at once. Who allocates at the same time is held by the kernel as ever.
    fn check_memory(&self, resources: &Resources) -> Result<()> {
        let memory = &resources.memory;
        let (true, Some(Limit::At(limit))) = (memory.check_before_update, memory.max) else { return Ok(()) };
        let used = self.memory_in_use()?;
        if used < limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::WrongState,
            format!("set memory.max to {limit} with {used} bytes in use of"),
        )
        .on(self.path().display())
        .because("checkBeforeUpdate asks for an error instead of what the kernel does, which is to kill"))
    }
}

/// The same for several cgroups in this order: when one is refused, all get back the values that they had.
pub(crate) fn update_all<'a>(changes: impl IntoIterator<Item = (&'a Cgroup, &'a Resources)>) -> Result<()> {
    let mut journal = Journal::default();
    changes
        .into_iter()
        .try_for_each(|(cgroup, resources)| cgroup.update_in(&mut journal, resources))
        .map_err(|error| journal.undo(error).0)
}

/// What has been written, with what was there before.
#[derive(Default)]
pub(super) struct Journal<'a>(Vec<(&'a Cgroup, Setting)>);

impl<'a> Journal<'a> {
    /// Writes one more setting.
    pub(super) fn write(&mut self, cgroup: &'a Cgroup, setting: &Setting) -> Result<()> {
        // What cannot be read is missing, which the write then tells in words.
        let before = cgroup.dir.read(&setting.file);
        let before = before.map(|content| Setting { value: old_value(setting, &content), ..setting.clone() });
        let written = cgroup.write_settings(std::slice::from_ref(setting));
        // A refused write may have happened all the same, and only what the kernel granted be too little.
        self.0.extend(before.ok().map(|old| (cgroup, old)));
        written
    }

    /// Puts everything back as it was, the last first. What that cannot be done for is added to the error, and whether it
    /// was done for all is told.
    pub(super) fn undo(&mut self, error: Error) -> (Error, bool) {
        let lost: Vec<String> = std::mem::take(&mut self.0)
            .into_iter()
            .rev()
            .filter(|(cgroup, old)| cgroup.dir.write(&old.file, &old.value).is_err())
            .map(|(_, old)| format!("{} is no longer {:?}", old.file, old.value))
            .collect();
        match lost.is_empty() {
            true => (error, true),
            false => {
                let lost = lost.join(", ");
                (error.and(format!("the old values could not all be put back: {lost}")), false)
            }
        }
    }
}

/// What to write so that a setting is again as `content`, what its file says, has it.
fn old_value(setting: &Setting, content: &str) -> String {
    let key = setting.value.split(' ').next().unwrap_or_default();
    let line = || content.lines().find(|line| line.split(' ').next() == Some(key)).map(str::to_string);
    match &*setting.file {
        "io.max" => line().unwrap_or_else(|| format!("{key} rbps=max wbps=max riops=max wiops=max")),
        "io.weight" => line().unwrap_or_else(|| format!("{key} default")),
        "io.latency" => line().unwrap_or_else(|| format!("{key} target=0")),
        "rdma.max" => line().unwrap_or_else(|| format!("{key} hca_handle=max hca_object=max")),
        "misc.max" => line().unwrap_or_else(|| format!("{key} max")),
        // An empty list of processors is written as an empty line.
        _ => match content.trim_end() {
            "" => "\n".to_string(),
            value => value.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_values_are_those_of_the_same_device() {
        for (file, value, content, old) in [
            ("memory.max", "4096", "max\n", "max"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpu.max", "1000 1000", "max 100000\n", "max 100000"),
            ("io.max", "8:0 rbps=1", "8:16 rbps=2 wbps=max\n8:0 rbps=7 wbps=max\n", "8:0 rbps=7 wbps=max"),
            ("io.max", "8:0 rbps=1", "", "8:0 rbps=max wbps=max riops=max wiops=max"),
            ("io.weight", "default 5", "default 100\n8:0 7\n", "default 100"),
            ("io.weight", "8:16 5", "default 100\n8:0 7\n", "8:16 default"),
            ("io.latency", "8:0 target=5", "8:16 target=2\n", "8:0 target=0"),
            ("io.latency", "8:16 target=5", "8:16 target=2\n", "8:16 target=2"),
            ("misc.max", "sev 1", "sev max\n", "sev max"),
        ] {
            let setting = Setting { controller: None, file: file.into(), value: value.to_string() };
            assert_eq!(old_value(&setting, content), old, "{file} {value}");
        }
    }
}
