//! Network devices that move into a pod.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What becomes of a network device in a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct NetDevice {
    /// Its name there; the same as on the host when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl NetDevice {
    /// One that keeps its name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name in the pod.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// Devices of one pod.
const MAX_DEVICES: usize = 256;

pub(super) fn validate(devices: &BTreeMap<String, NetDevice>) -> Result<()> {
    if devices.len() > MAX_DEVICES {
        return Err(Error::invalid("netDevices", format!("are more than {MAX_DEVICES}")));
    }
    let mut names = std::collections::BTreeSet::new();
    for (host, device) in devices {
        let field = format!("netDevices[{host:?}]");
        let name = device.name.as_deref().unwrap_or(host);
        for name in [host, name] {
            // As the kernel has it (IFNAMSIZ); '%' makes a pattern of a name.
            let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
            if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.contains(wrong) {
                return Err(Error::invalid(field, format!("{name:?} is no name of a network device")));
            }
        }
        if [host, name].contains(&"lo") {
            return Err(Error::invalid(
                field,
                "every network namespace has a lo of its own, which cannot move",
            ));
        }
        if !names.insert(name) {
            return Err(Error::invalid(field, format!("a second device is to be named {name:?}")));
        }
    }
    Ok(())
}
