//! Where the library's part of the cgroup tree hangs.

use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use super::mounts::open_cgroup2;
use crate::error::{Context, Error, ErrorKind, Result};

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

impl CgroupParent {
    /// The cgroup that was delegated to this user, as far as this program is in it: the topmost one that the user may write
    /// to, from this program's own upwards.
    ///
    /// Limits are for who has no processes directly in it: systemd's delegations to users are so (`user@1000.service`), and
    /// those to a program are once it has moved on to a cgroup below.
    ///
    /// The path is for [`CgroupParent::Path`].
    ///
    /// # Errors
    /// `NotFound` when this program's cgroup is none that the user may write to, with what to do.
    pub fn delegated() -> Result<PathBuf> {
        let text = std::fs::read_to_string(OWN).step("read", OWN)?;
        let own = own_path(&text).unwrap_or("/");
        let (_, mount) = open_cgroup2()?;
        let none = || {
            Error::new(ErrorKind::NotFound, "find").on("a cgroup that this user may write to").because(format!(
                "this program is in {own:?}, and the user may not make cgroups there: let systemd delegate one \
                 (systemd-run --user --scope -p Delegate=yes), or have root give the directory, its cgroup.procs and its \
                 cgroup.subtree_control to the user and the program be started in it"
            ))
        };
        topmost(&mount, Path::new(own), is_ours).ok_or_else(none)
    }
}

/// What the kernel says of this program's cgroups, see cgroups(7).
const OWN: &str = "/proc/self/cgroup";

/// The path in the hierarchy of version 2.
fn own_path(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The last of the directories from `own` upwards that are all this user's.
fn topmost(mount: &Path, own: &Path, is_ours: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    // One outside of the cgroup namespace is "/..".
    if own.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    // Without the slash that joining nothing adds.
    let below = own.ancestors().map(|above| match above.strip_prefix("/").unwrap_or(above) {
        top if top.as_os_str().is_empty() => mount.to_path_buf(),
        below => mount.join(below),
    });
    below.take_while(|directory| is_ours(directory)).last()
}

/// Whether this user may make cgroups in it, and move processes between those and it.
fn is_ours(directory: &Path) -> bool {
    let may = |path: &Path| faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok();
    may(directory) && ["cgroup.procs", "cgroup.subtree_control"].iter().all(|file| may(&directory.join(file)))
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
    fn the_delegated_cgroup_is_the_topmost_that_is_the_users() {
        let mount = Path::new("/m");
        let find = |own: &str, ours: &[&str]| {
            topmost(mount, Path::new(own), |path| ours.iter().any(|our| path == Path::new(our)))
        };
        assert_eq!(find("/a/b/c", &["/m/a/b", "/m/a/b/c"]), Some("/m/a/b".into()));
        assert_eq!(find("/a/b/c", &["/m/a/b/c", "/m/a"]), Some("/m/a/b/c".into()), "no gaps");
        assert_eq!(find("/a/b/c", &["/m/a/b"]), None, "only where the program is");
        assert_eq!(find("/", &["/m"]), Some("/m".into()));
        assert_eq!(find("/", &["/m"]).unwrap().as_os_str(), "/m");
        assert_eq!(find("/../x", &["/m/x", "/m"]), None);
        assert_eq!(own_path("1:cpu:/x\n0::/a b\n"), Some("/a b"));
    }

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
