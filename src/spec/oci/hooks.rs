//! `hooks`.

use std::path::Path;

use oci_spec::runtime::{self as oci, Spec};

use super::wrong;
use crate::error::Result;
use crate::spec::{Hook, Hooks};

pub(super) fn import(spec: &Spec, bundle: Option<&Path>) -> Result<Hooks> {
    let mut hooks = Hooks { bundle: bundle.map(Path::to_path_buf), ..Hooks::default() };
    let Some(given) = spec.hooks() else {
        hooks.bundle = None;
        return Ok(hooks);
    };
    #[allow(deprecated, reason = "it is still in configurations")]
    let prestart = given.prestart();
    hooks.prestart = list("hooks.prestart", prestart)?;
    hooks.create_runtime = list("hooks.createRuntime", given.create_runtime())?;
    hooks.create_container = list("hooks.createContainer", given.create_container())?;
    hooks.start_container = list("hooks.startContainer", given.start_container())?;
    hooks.poststart = list("hooks.poststart", given.poststart())?;
    hooks.poststop = list("hooks.poststop", given.poststop())?;
    Ok(hooks)
}

fn list(field: &str, hooks: &Option<Vec<oci::Hook>>) -> Result<Vec<Hook>> {
    let convert = |(index, hook): (usize, &oci::Hook)| {
        let mut converted = Hook::new(hook.path());
        converted.args = hook.args().clone().unwrap_or_default();
        converted.env = hook.env().clone().unwrap_or_default();
        converted.timeout = match hook.timeout() {
            None => None,
            Some(seconds) => match u32::try_from(seconds) {
                Ok(seconds) if seconds > 0 => Some(seconds),
                _ => return Err(wrong(format!("{field}[{index}].timeout"), "must be greater than zero")),
            },
        };
        Ok(converted)
    };
    hooks.iter().flatten().enumerate().map(convert).collect()
}
