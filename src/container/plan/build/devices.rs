//! What is in `/dev`, and device nodes elsewhere.

use std::path::Path;

use super::Build;
use crate::container::plan::step::{Create, Step, Target};
use crate::container::plan::{Slot, Source};
use crate::error::Result;
use crate::sys::mount::attr;

/// The device nodes of every container (OCI runtime-spec, "Default Devices").
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The links in `/dev` (OCI runtime-spec, "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The directories in `/dev` that other filesystems are mounted on.
const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

impl Build<'_> {
    /// A fresh `/dev` with nothing in it but what every container may have.
    pub(super) fn dev(&mut self) {
        let options = vec![("mode", "755".to_string()), ("size", "65536k".to_string())];
        let slot = self.new_filesystem("tmpfs", options, attr::NOSUID | attr::NOEXEC);
        self.mount_at(slot, "a tmpfs".to_string(), "/dev".to_string(), Create::Directory, Target::NoSymlinks);
        self.furnish_dev(slot);
    }

    pub(super) fn furnish_dev(&mut self, slot: Slot) {
        for (name, major, minor) in DEVICES {
            match self.pod.ordinary {
                None => self.plan.step(Step::MknodAt { slot, name, major, minor }),
                Some(_) => self.bind_device(name, major, minor),
            }
        }
        for (name, target) in LINKS {
            self.plan.step(Step::SymlinkAt { slot, name, target });
        }
        for name in DIRECTORIES {
            self.plan.step(Step::MkdirAt { slot, name, mode: 0o755 });
            self.fresh.push((format!("/dev/{name}"), slot, name));
        }
    }

    /// The devices of the specification, when everything is mounted that they could be in; then nothing is written to a
    /// read-only tmpfs any more.
    pub(super) fn devices(&mut self) -> Result<()> {
        for device in &self.container.devices {
            // What looks like a device of the kernel must be where it seems to be.
            let below_dev = device.path.starts_with(Path::new("/dev"));
            let target = if below_dev { Target::NoSymlinks } else { Target::Anywhere };
            self.check_device(device)?;
            let Some(path) = device.source.clone() else {
                let device = self.device_of_host(device)?;
                self.plan.step(Step::Device { device, target });
                continue;
            };
            let what = path.display().to_string();
            let (kind, major, minor) = (device.kind, device.major, device.minor);
            let slot = self.plan.source(Source::HostDevice { path, kind, major, minor });
            self.mount_at(slot, what, device.path.display().to_string(), Create::File, target);
        }
        for (slot, path) in std::mem::take(&mut self.late_readonly) {
            self.plan.step(Step::MountReadonly { slot, path });
        }
        Ok(())
    }
}
