//! Other limits for a pod and its containers at once: in the right order, all of them or none.

use super::controller::Controller;
use super::group::Cgroup;
use super::settings::{Setting, settings};
use super::update::Journal;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Resources;
use crate::spec::kubernetes::{Reclaimed, Shrink};

/// How often the kernel is asked to reclaim: each time it stops where it finds nothing easily.
const ROUNDS: u32 = 16;
const MEMORY_MAX: &str = "memory.max";
const MEMORY_HIGH: &str = "memory.high";

/// What is to change in one cgroup.
pub(crate) struct Change<'a> {
    cgroup: &'a Cgroup,
    settings: Vec<Setting>,
    /// `memory.high` as it is when nobody resizes; what the file says unless an earlier resize was cut short.
    high: Option<String>,
}

/// Why limits were not changed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether every limit is again what it was.
    pub(crate) restored: bool,
}

impl From<Error> for Failed {
    /// Before anything was written.
    fn from(error: Error) -> Self {
        Failed { error, restored: true }
    }
}

impl<'a> Change<'a> {
    /// What is different in `new` from any of `old`. Files that `fixed` has say are left alone: somebody has asked for
    /// just that.
    pub(crate) fn new(cgroup: &'a Cgroup, old: &[&Resources], new: &Resources, fixed: &Resources) -> Self {
        Change { cgroup, settings: difference(old, new, fixed), high: None }
    }

    /// The same in a cgroup where a resize was cut short that may have left `memory.high` low: it is to be `high` unless
    /// something else is asked for.
    pub(crate) fn with_high(mut self, high: Option<String>) -> Self {
        let asked = self.settings.iter().any(|setting| setting.file == MEMORY_HIGH);
        self.settings.extend(high.iter().filter(|_| !asked).map(|high| setting_of_high(high.clone())));
        self.high = high;
        self
    }

    /// `memory.high` where it sinks for a while, together with `memory.max`, or may be low since an earlier resize: with the
    /// id of the cgroup, for [`with_high`](Self::with_high).
    pub(crate) fn high(&self) -> Result<Option<(u64, String)>> {
        if self.high.is_none() && !self.settings.iter().any(|setting| setting.file == MEMORY_MAX) {
            return Ok(None);
        }
        Ok(Some((self.cgroup.id()?, self.true_high()?)))
    }

    fn true_high(&self) -> Result<String> {
        self.high.clone().map_or_else(|| Ok(self.cgroup.dir.read(MEMORY_HIGH)?.trim().to_string()), Ok)
    }

    /// The settings that raise or lower what the cgroup has now.
    fn part<'b>(&'b self, rising: bool) -> Vec<(&'b Change<'a>, &'b Setting)> {
        self.settings.iter().filter(|s| self.rises(s) == rising).map(|setting| (self, setting)).collect()
    }

    fn rises(&self, setting: &Setting) -> bool {
        let now = self.cgroup.dir.read(&setting.file).unwrap_or_default();
        amount(&setting.value) > amount(&now)
    }

    /// The limit of memory in bytes that is less than the present one.
    fn less_memory(&self) -> Option<u64> {
        let setting = self.settings.iter().find(|setting| setting.file == MEMORY_MAX)?;
        (!self.rises(setting)).then(|| setting.value.parse().ok())?
    }

    /// Sees to it that what is in use fits a smaller limit of memory; `None` if it did at once.
    fn make_room(&self, shrink: Shrink) -> Result<Option<Reclaimed>> {
        let Some(limit) = self.less_memory() else { return Ok(None) };
        let before = self.cgroup.memory_in_use()?;
        if before <= limit {
            return Ok(None);
        }
        if shrink == Shrink::Refuse {
            return Err(too_much(self.cgroup, before, limit).because(
                "more is in use than the new limit: nothing was changed; let it shrink first, or ask for reclaim",
            ));
        }
        let mut left = before;
        for _ in 0..ROUNDS {
            let missing = (left - limit).to_string();
            // EAGAIN: less was reclaimed than that. What counts is what is in use then.
            if let Err(errno) = self.cgroup.dir.write("memory.reclaim", &missing)
                && errno != nix::errno::Errno::EAGAIN
            {
                let error = Error::system(errno, format!("write {missing} to memory.reclaim of"));
                return Err(error
                    .on(self.cgroup.path().display())
                    .because("memory.reclaim needs Linux 5.19"));
            }
            left = self.cgroup.memory_in_use()?;
            if left <= limit {
                return Ok(Some(Reclaimed::new(before, left)));
            }
        }
        Err(too_much(self.cgroup, left, limit).because(format!(
            "the kernel could reclaim {} bytes, which is not enough; no limit was changed",
            before.saturating_sub(left)
        )))
    }
}

/// Changes the limits of a pod and of its containers. What the pod may have more of it gets first, and what it may have
/// less of last, so that it never has less than its containers may take. Memory of which there is to be less than is in
/// use is reclaimed, or refused, before anything is written. On any failure the old values are back.
///
/// Told is where memory was reclaimed: of the containers in their order, and of the pod.
pub(crate) fn resize(
    pod: &Change<'_>,
    containers: &[Change<'_>],
    shrink: Shrink,
) -> std::result::Result<(Vec<Option<Reclaimed>>, Option<Reclaimed>), Failed> {
    let reclaimed = containers.iter().map(|change| change.make_room(shrink)).collect::<Result<Vec<_>>>()?;
    let of_pod = pod.make_room(shrink)?;
    let mut steps = pod.part(true);
    steps.extend(containers.iter().flat_map(|change| change.part(false)));
    steps.extend(containers.iter().flat_map(|change| change.part(true)));
    steps.extend(pod.part(false));
    let mut journal = Journal::default();
    for (change, setting) in steps {
        if let Err(error) = write(&mut journal, change, setting) {
            let (error, restored) = journal.undo(error);
            return Err(Failed { error, restored });
        }
    }
    Ok((reclaimed, of_pod))
}

/// A limit of memory below what is in use makes the kernel kill. So what runs is first held at the new limit by
/// `memory.high`, which kills nobody, and looked at again.
fn write<'a>(journal: &mut Journal<'a>, change: &Change<'a>, setting: &Setting) -> Result<()> {
    let cgroup = change.cgroup;
    let now = cgroup.dir.read(&setting.file).unwrap_or_default();
    let limit = setting.value.parse::<u64>().ok().filter(|_| setting.file == MEMORY_MAX);
    let Some(limit) = limit.filter(|_| amount(&setting.value) < amount(&now)) else {
        return journal.write(cgroup, setting);
    };
    let before = change.true_high()?;
    journal.write(cgroup, &setting_of_high(limit.to_string()))?;
    let used = cgroup.memory_in_use()?;
    if used > limit {
        let why = "more came into use meanwhile than the new limit: no limit was changed";
        return Err(too_much(cgroup, used, limit).because(why));
    }
    journal.write(cgroup, setting)?;
    journal.write(cgroup, &setting_of_high(before))
}

fn setting_of_high(value: String) -> Setting {
    Setting { controller: Some(Controller::Memory), file: MEMORY_HIGH.into(), value }
}

fn too_much(cgroup: &Cgroup, used: u64, limit: u64) -> Error {
    let path = cgroup.path().display();
    Error::new(ErrorKind::WrongState, format!("lower memory.max to {limit} with {used} bytes in use of"))
        .on(path)
}

impl Cgroup {
    /// `memory.current`, in bytes.
    pub(super) fn memory_in_use(&self) -> Result<u64> {
        let odd = || Error::new(ErrorKind::System, "understand memory.current of").on(self.path().display());
        self.dir.read("memory.current")?.trim().parse().map_err(|_| odd())
    }
}

/// What a file's first value amounts to, for comparison: a quota by its period.
fn amount(text: &str) -> f64 {
    let mut words = text.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let value = if first == "max" { f64::INFINITY } else { first.parse().unwrap_or_default() };
    match words.next().and_then(|period| period.parse::<f64>().ok()) {
        Some(period) if period > 0.0 => value / period,
        _ => value,
    }
}

fn difference(old: &[&Resources], new: &Resources, fixed: &Resources) -> Vec<Setting> {
    let (new, fixed) = (settings(new), settings(fixed));
    let olds: Vec<Vec<Setting>> = old.iter().map(|old| settings(old)).collect();
    // What is no longer asked for is as the kernel makes it.
    let gone = |old: &&Setting| new.iter().all(|new| new.file != old.file);
    let dropped = olds.iter().flatten().filter(gone).filter_map(|old| {
        let value = match &*old.file {
            "memory.high" | "memory.max" | "memory.swap.max" | "pids.max" => "max".to_string(),
            "memory.low" | "memory.min" => "0".to_string(),
            "cpu.max" => format!("max {}", old.value.split(' ').nth(1).unwrap_or("100000")),
            _ => return None,
        };
        Some(Setting { value, ..old.clone() })
    });
    let changed = new.iter().filter(|setting| olds.iter().any(|old| !old.contains(setting))).cloned();
    let mut list: Vec<Setting> = Vec::new();
    for setting in changed.chain(dropped) {
        if fixed.iter().all(|fixed| fixed.file != setting.file) && !list.contains(&setting) {
            list.push(setting);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_what_is_different_is_written() {
        let old = resources(
            r#"{"cpu": {"weight": 5, "max": {"quota": 5000}}, "memory": {"max": 8192, "high": 4096, "oomGroup": true}}"#,
        );
        let new = resources(
            r#"{"cpu": {"weight": 5, "max": {"quota": 6000}}, "memory": {"max": 4096, "oomGroup": true}}"#,
        );
        let lines = |fixed: &str| -> Vec<String> {
            let list = difference(&[&old], &new, &resources(fixed));
            list.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
        };
        assert_eq!(lines("{}"), ["cpu.max=6000 100000", "memory.max=4096", "memory.high=max"]);
        assert_eq!(lines(r#"{"memory": {"max": 1}}"#), ["cpu.max=6000 100000", "memory.high=max"]);
        assert_eq!(difference(&[&new], &new, &Resources::default()), []);
        // It may be neither that nor this: whatever is different from one of them is written, once.
        let list = difference(&[&new, &old, &old], &old, &Resources::default());
        let list: Vec<_> = list.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect();
        assert_eq!(list, ["cpu.max=5000 100000", "memory.max=8192", "memory.high=4096"]);
    }

    #[test]
    fn amounts_are_compared_by_what_they_mean() {
        assert!(amount("max\n") > amount("18446744073709551615"));
        assert!(amount("60000 100000") > amount("50000 100000"));
        assert!(amount("60000 200000") < amount("50000 100000"));
        assert!(amount("max 100000") > amount("50000 100000"));
        assert!(amount("200") > amount("99\n"));
    }
}
