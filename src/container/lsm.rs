//! Mandatory access control: whether this machine has what a specification asks for.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::spec::ContainerSpec;

/// The AppArmor profile that confines nothing; to have that, a machine needs no AppArmor.
const UNCONFINED: &str = "unconfined";

/// The specification without the AppArmor profile `unconfined` on a machine where there is nothing else.
///
/// # Errors
/// `Unsupported` when a profile or label is asked for that this machine cannot enforce.
pub(super) fn on_this_machine<'a>(node: &Node, spec: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>> {
    let lacks = |what: &str, label: &str, why: &str| {
        Err(Error::new(ErrorKind::Unsupported, "confine the container by")
            .on(format!("{what} {label:?}"))
            .because(why.to_string()))
    };
    if let Some(label) = &spec.security.selinux_label
        && !selinux(node)?
    {
        return lacks("the SELinux label", label, "SELinux is not enabled on this machine");
    }
    match &spec.security.apparmor_profile {
        Some(profile) if !apparmor() => {
            if profile != UNCONFINED {
                return lacks("the AppArmor profile", profile, "AppArmor is not enabled on this machine");
            }
            let mut without = spec.clone();
            without.security.apparmor_profile = None;
            Ok(Cow::Owned(without))
        }
        _ => Ok(Cow::Borrowed(spec)),
    }
}

/// The parameter is there where AppArmor is built into the kernel, and `Y` where it was not turned off.
fn apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// SELinux registers its filesystem when it is enabled at boot.
fn selinux(node: &Node) -> Result<bool> {
    let filesystems = node.0.proc.read("filesystems")?;
    Ok(filesystems.lines().any(|line| line.split_ascii_whitespace().last() == Some("selinuxfs")))
}
