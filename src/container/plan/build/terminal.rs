//! The terminal of a process.

use super::Build;
use crate::container::plan::Slot;
use crate::container::plan::step::{Create, Step, Target};
use crate::error::{Error, Result};

const DEVPTS: &str = "/dev/pts";

impl Build<'_> {
    /// Makes one in the container's devpts, and returns the slot that it is in. A container that is made also gets it
    /// as `/dev/console`.
    pub(super) fn terminal(&mut self) -> Result<Slot> {
        let slot = self.plan.slot();
        let user = self.container.user.uid;
        let size = self.container.console_size.unwrap_or_default();
        if self.inside.is_some() {
            self.plan.step(Step::Terminal { slot, devpts: None, console: None, user, size });
            return Ok(slot);
        }
        let devpts = self.devpts().ok_or_else(|| {
            Error::invalid("terminal", format!("needs a devpts of the container's own on {DEVPTS}"))
        })?;
        let console = self.plan.slot();
        // In a user namespace the one that was mounted is in a mount namespace of before: look for its copy.
        let devpts = self.pod.ids.is_none().then_some(devpts);
        self.plan.step(Step::Terminal { slot, devpts, console: Some(console), user, size });
        self.plan.step(Step::MountAt {
            slot: console,
            what: "the terminal".to_string(),
            path: "/dev/console".to_string(),
            create: Create::File,
            target: Target::NoSymlinks,
        });
        Ok(slot)
    }

    /// The new devpts that was mounted last where terminals are.
    fn devpts(&self) -> Option<Slot> {
        let mounted = self.plan.steps.iter().rev().find_map(|step| match step {
            Step::MountAt { slot, path, .. } if path == DEVPTS => Some(*slot),
            Step::MountBelow { slot, destination, .. } if destination == DEVPTS => Some(*slot),
            _ => None,
        })?;
        let is_devpts = |step: &Step| match step {
            Step::NewFilesystem { slot, fstype, .. } | Step::NewFilesystemWith { slot, fstype, .. } => {
                *slot == mounted && *fstype == "devpts"
            }
            _ => false,
        };
        self.plan.steps.iter().any(is_devpts).then_some(mounted)
    }
}
