//! Where the library's part of the cgroup tree hangs.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// The cgroup below which the pods are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CgroupParent {
    /// A cgroup of this name below the root of the cgroup v2 mount, wherever that is mounted; it is made when it is
    /// missing. May have several components (`"machine/pericarp"`).
    Named(String),
    /// The absolute path of an existing directory in a cgroup v2 mount, for instance a subtree that systemd delegated
    /// (`Delegate=yes`). It must hold no processes of its own if limits are wanted.
    Path(PathBuf),
    /// None: pods and containers are in the cgroup of this program. They can have no limits, cannot be frozen, and have
    /// no rules for devices. For an ordinary user to whom no cgroup is delegated; see
    /// [`NodeOptions::user`](crate::NodeOptions::user).
    None,
}

impl Default for CgroupParent {
    fn default() -> Self {
        CgroupParent::Named("pericarp".to_string())
    }
}

/// Splits the name of a [`CgroupParent::Named`] into its components.
pub(super) fn components(name: &str) -> Result<Vec<&str>> {
    let components: Vec<&str> = name.split('/').collect();
    components.iter().try_for_each(|component| check_name(component))?;
    Ok(components)
}

/// Refuses what cannot be the name of one cgroup directory.
pub(super) fn check_name(name: &str) -> Result<()> {
    let why = match name {
        "" => "is empty",
        "." | ".." => "is no name of a directory of its own",
        _ if name.len() > 255 => "is longer than 255 bytes",
        _ if name.contains(['/', '\n', '\0']) => "has a slash, a newline or a NUL in it",
        _ if name.starts_with("cgroup.") => "begins like the kernel's own files (cgroup.)",
        _ => return Ok(()),
    };
    Err(Error::invalid(format_args!("cgroup name {name:?}"), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_mount() {
        assert_eq!(components("pericarp").unwrap(), ["pericarp"]);
        assert_eq!(components("machine/pericarp").unwrap(), ["machine", "pericarp"]);
        for bad in
            ["", "/", "/pericarp", "pericarp/", "a//b", "..", "a/../b", ".", "a\nb", "a\0b", "cgroup.procs"]
        {
            assert!(components(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("a/b").is_err());
        assert!(check_name(&"x".repeat(255)).is_ok());
        assert!(check_name(&"x".repeat(256)).is_err());
    }
}
