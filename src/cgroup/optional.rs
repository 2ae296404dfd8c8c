//! Controllers that are enabled only where a limit asks for them.
//!
//! Every controller makes every cgroup dearer to make and to remove. Huge pages, RDMA adapters and the resources of
//! `misc` are limited for few containers: their controllers are enabled on the way down to those.

use std::path::Path;

use super::controller::{Controller, ControllerSet};
use super::dir::{Dir, SUBTREE_CONTROL};
use super::lack::Controls;
use super::settings::Setting;
use crate::error::Result;

/// Enables what the settings of the cgroup `path`, which is to be a child of `dir`, ask for.
pub(super) fn enable_for(dir: &Dir, settings: &[Setting], path: &Path) -> Result<()> {
    for setting in settings {
        if let Some(controller) = setting.controller.filter(|c| !Controller::ALWAYS.contains(c)) {
            enable(dir, controller)?.require(std::slice::from_ref(setting), path)?;
        }
    }
    Ok(())
}

/// Enables a controller for the children of a directory, from the top of the library's tree down, and says what the
/// children then have of it.
fn enable(dir: &Dir, controller: Controller) -> Result<Controls> {
    let mut wanted = ControllerSet::default();
    wanted.insert(controller);
    if ControllerSet::parse(&dir.read(SUBTREE_CONTROL)?).contains(controller) {
        return Ok(Controls::available(wanted, dir.path()));
    }
    let own = match dir.parent() {
        Some(parent) => enable(parent, controller)?,
        None => {
            let listed = ControllerSet::parse(&dir.read("cgroup.controllers")?).contains(controller);
            Controls::available(if listed { wanted } else { ControllerSet::default() }, dir.path())
        }
    };
    own.enable_in(dir)
}
