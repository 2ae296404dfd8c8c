//! Mandatory access control: whether this machine has what a specification asks for.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::spec::{ContainerSpec, PodSpec};

/// The AppArmor profile that confines nothing; to have that, a machine needs no AppArmor.
const UNCONFINED: &str = "unconfined";

const MOUNT_LABEL: &str = "the SELinux label of filesystems (mountLabel)";
const NO_SELINUX: &str = "SELinux is not enabled on this machine";

/// The specification without the AppArmor profile `unconfined` on a machine where there is nothing else.
///
/// # Errors
/// `Unsupported` when a profile or label is asked for that this machine cannot enforce.
pub(super) fn on_this_machine<'a>(node: &Node, spec: &'a ContainerSpec) -> Result<Cow<'a, ContainerSpec>> {
    let lacks = |what: &str, label: &str, why| Err(unsupported("confine the container by", what, label, why));
    let security = &spec.security;
    let labels = [("the SELinux label", &security.selinux_label), (MOUNT_LABEL, &security.mount_label)];
    for (what, label) in labels {
        if let Some(label) = label
            && !selinux(node)?
        {
            return lacks(what, label, NO_SELINUX);
        }
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

/// The same for the label of the pod's filesystems.
pub(crate) fn can_label(node: &Node, pod: &PodSpec) -> Result<()> {
    match &pod.mount_label {
        Some(label) if !selinux(node)? => {
            Err(unsupported("make the pod with", MOUNT_LABEL, label, NO_SELINUX))
        }
        _ => Ok(()),
    }
}

fn unsupported(action: &'static str, what: &str, label: &str, why: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, action).on(format!("{what} {label:?}")).because(why)
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
