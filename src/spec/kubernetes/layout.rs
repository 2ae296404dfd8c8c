//! Where the kubelet has the cgroups of pods and containers, by the names of its two drivers.

use super::QosClass;

/// How cgroups are named: `cgroupDriver` of the kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CgroupDriver {
    /// Plain directories: `kubepods/burstable/podUID`.
    Cgroupfs,
    /// Slices of systemd, each with the names of those above it: `kubepods-burstable-podUID.slice`.
    Systemd,
}

impl CgroupDriver {
    /// The path of the cgroup of all pods of a class, from the top of the hierarchy. For
    /// [`PodSpec::cgroup`](crate::PodSpec::cgroup) that of a [pod](Self::pod) is wanted.
    pub fn class(self, class: QosClass) -> String {
        let name = class_name(class);
        match (self, name) {
            (CgroupDriver::Cgroupfs, None) => "/kubepods".to_string(),
            (CgroupDriver::Cgroupfs, Some(name)) => format!("/kubepods/{name}"),
            (CgroupDriver::Systemd, None) => "/kubepods.slice".to_string(),
            (CgroupDriver::Systemd, Some(name)) => format!("/kubepods.slice/kubepods-{name}.slice"),
        }
    }

    /// The path of a pod's cgroup, by its uid: what [`PodSpec::cgroup`](crate::PodSpec::cgroup) takes.
    pub fn pod(self, class: QosClass, uid: &str) -> String {
        let above = self.class(class);
        match self {
            CgroupDriver::Cgroupfs => format!("{above}/pod{uid}"),
            CgroupDriver::Systemd => {
                // A hyphen is a slash in the name of a slice.
                let uid = uid.replace('-', "_");
                let prefix =
                    class_name(class).map_or("kubepods".to_string(), |name| format!("kubepods-{name}"));
                format!("{above}/{prefix}-pod{uid}.slice")
            }
        }
    }

    /// The path of a container's cgroup as a runtime of the kubelet names it, by its id. `runtime` is the prefix that
    /// the runtime gives to scopes of systemd: `cri-containerd` or `crio`. Containers of this library have their own
    /// names below the pod instead.
    pub fn container(self, class: QosClass, uid: &str, runtime: &str, id: &str) -> String {
        let pod = self.pod(class, uid);
        match self {
            CgroupDriver::Cgroupfs => format!("{pod}/{id}"),
            CgroupDriver::Systemd => format!("{pod}/{runtime}-{id}.scope"),
        }
    }
}

/// Guaranteed pods are at the top.
fn class_name(class: QosClass) -> Option<&'static str> {
    match class {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some("burstable"),
        QosClass::BestEffort => Some("besteffort"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_are_those_of_the_kubelet() {
        use QosClass::*;
        let uid = "1a2b-3c";
        for (driver, class, path) in [
            (CgroupDriver::Cgroupfs, Guaranteed, "/kubepods/pod1a2b-3c/c1"),
            (CgroupDriver::Cgroupfs, Burstable, "/kubepods/burstable/pod1a2b-3c/c1"),
            (CgroupDriver::Cgroupfs, BestEffort, "/kubepods/besteffort/pod1a2b-3c/c1"),
            (
                CgroupDriver::Systemd,
                Guaranteed,
                "/kubepods.slice/kubepods-pod1a2b_3c.slice/cri-containerd-c1.scope",
            ),
            (
                CgroupDriver::Systemd,
                Burstable,
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1a2b_3c.slice/cri-containerd-c1.scope",
            ),
            (
                CgroupDriver::Systemd,
                BestEffort,
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1a2b_3c.slice/cri-containerd-c1.scope",
            ),
        ] {
            assert_eq!(driver.container(class, uid, "cri-containerd", "c1"), path);
            assert!(path.starts_with(&driver.pod(class, uid)) && path.starts_with(&driver.class(class)));
            assert!(crate::cgroup::check_path(&driver.pod(class, uid)).is_ok());
        }
    }
}
