//! The root filesystem.

use std::path::{Path, PathBuf};

use super::{Build, LAYERS, ROOT, UPPER, tree};
use crate::container::plan::Spread;
use crate::container::plan::step::Step;
use crate::spec::{Propagation, Rootfs, Upper};
use crate::sys::mount::{AttributeChange, attr};

impl Build<'_> {
    pub(super) fn rootfs(&mut self) {
        match &self.container.rootfs {
            Rootfs::Directory { path, readonly } => {
                let spread = match self.container.rootfs_propagation {
                    // What is mounted on the host comes, if the host has anything to share.
                    Propagation::Slave => Spread {
                        propagation: Propagation::Slave,
                        recursive: self.container.rootfs_propagation_recursive,
                        required: false,
                    },
                    // Nothing goes out to the host: the other kinds are set when the container has left it.
                    _ => Spread::PRIVATE,
                };
                let idmap = self.container.rootfs_idmap.clone();
                let slot = self.host_tree(tree(path, true, spread, idmap, self.rootfs_change()));
                if *readonly {
                    // All of it; the top mount is opened again until the mount points are made.
                    self.plan.step(Step::SetAttributes {
                        slot,
                        recursive: true,
                        set: attr::RDONLY,
                        clear: 0,
                    });
                    self.plan.step(Step::SetAttributes {
                        slot,
                        recursive: false,
                        set: 0,
                        clear: attr::RDONLY,
                    });
                }
                self.plan.step(Step::Attach { slot, path: ROOT.to_string() });
            }
            Rootfs::Overlay { lower, upper, .. } => self.overlay(lower, upper),
        }
        self.plan.step(Step::SetRoot);
    }

    /// Layers are attached in the container's own mount namespace and mounted from there: Linux 6.1 takes no layer
    /// that is not. They vanish with the template when init pivots; the overlay keeps private copies.
    fn overlay(&mut self, lower: &[PathBuf], upper: &Upper) {
        let idmap = self.container.rootfs_idmap.clone();
        let mut options = String::from("lowerdir=");
        let whole = self.whole_layers();
        for (index, layer) in lower.iter().enumerate() {
            let slot = self.host_tree(tree(
                layer,
                whole,
                Spread::PRIVATE,
                idmap.clone(),
                AttributeChange::default(),
            ));
            let path = format!("{LAYERS}/{index}");
            options += if index == 0 { "" } else { ":" };
            options += &path;
            self.plan.step(Step::Attach { slot, path });
        }
        let (upperdir, workdir) = match upper {
            Upper::Tmpfs { size } => {
                let mut tmpfs = vec![("mode", "700".to_string())];
                tmpfs.extend(size.map(|size| ("size", size.to_string())));
                let slot = self.new_filesystem("tmpfs", tmpfs, 0);
                self.plan.step(Step::Attach { slot, path: UPPER.to_string() });
                let (upper, work) = (format!("{UPPER}/upper"), format!("{UPPER}/work"));
                self.plan.step(Step::Mkdir { path: upper.clone(), mode: 0o755 });
                self.plan.step(Step::Mkdir { path: work.clone(), mode: 0o700 });
                (upper, work)
            }
            Upper::Directory { upper, work } => {
                // overlayfs wants both below one mount: take the tree at their nearest common directory.
                let common: PathBuf = upper
                    .components()
                    .zip(work.components())
                    .take_while(|(a, b)| a == b)
                    .map(|(a, _)| a)
                    .collect();
                let slot =
                    self.host_tree(tree(&common, true, Spread::PRIVATE, idmap, AttributeChange::default()));
                self.plan.step(Step::Attach { slot, path: UPPER.to_string() });
                let inside = |path: &Path| {
                    let rest = path.strip_prefix(&common).unwrap_or(path);
                    escape(&format!("{UPPER}/{}", rest.display()))
                };
                (inside(upper), inside(work))
            }
        };
        options += &format!(",upperdir={upperdir},workdir={workdir}{}", self.overlay_options());
        options += &self.label_of_overlay();
        self.plan.step(Step::MountOverlay { options });
    }

    pub(super) fn root_propagation(&mut self) {
        let (propagation, recursive) =
            (self.container.rootfs_propagation, self.container.rootfs_propagation_recursive);
        if matches!(propagation, Propagation::Shared | Propagation::Unbindable) {
            self.plan.step(Step::RootPropagation { propagation, recursive });
        }
    }

    pub(super) fn enter_root(&mut self) {
        let (Rootfs::Directory { readonly, .. } | Rootfs::Overlay { readonly, .. }) = &self.container.rootfs;
        if self.container.cwd != Path::new("/") {
            self.plan.step(Step::MkdirInRoot { path: self.container.cwd.display().to_string() });
        }
        if *readonly {
            self.plan.step(Step::RootReadonly);
        }
        if self.container.hooks.during_creation() {
            self.plan.step(Step::Pause);
        }
    }
}

/// overlayfs takes `:` and `,` in its options as separators and `\` as an escape.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}
