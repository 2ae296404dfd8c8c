//! The SELinux label of filesystems that are made for the container: all of their files have it, for as long as they are
//! mounted. Files of others keep their own labels.

use super::Build;

/// What the container has an instance of its own of, with files that it may change. The kernel labels those of proc,
/// sysfs and cgroup2 itself.
const LABELLED: [&str; 2] = ["tmpfs", "devpts"];

/// The mount option, see mount(8).
const CONTEXT: &str = "context";

impl Build<'_> {
    fn mount_label(&self) -> Option<&str> {
        self.container.security.mount_label.as_deref()
    }

    /// Adds the label to the options of a filesystem that takes one.
    pub(super) fn label(&self, fstype: &str, options: &mut Vec<(&'static str, String)>) {
        if let Some(label) = self.mount_label().filter(|_| LABELLED.contains(&fstype)) {
            options.push((CONTEXT, label.to_string()));
        }
    }

    /// The same for a filesystem of the specification's choice, unless it has a label of its own.
    pub(super) fn labelled(&self, data: &[String]) -> Vec<String> {
        let own = data.iter().any(|option| option.split_once('=').is_some_and(|(key, _)| is_label(key)));
        let label = self.mount_label().filter(|_| !own).map(|label| format!("{CONTEXT}={label}"));
        data.iter().cloned().chain(label).collect()
    }

    /// The same as one more of the options of mount(2), where the commas in a label need quotes.
    pub(super) fn label_of_overlay(&self) -> String {
        self.mount_label().map_or_else(String::new, |label| format!(",{CONTEXT}=\"{label}\""))
    }
}

/// Whether an option of a mount says what label its files have; the kernel takes one of them.
pub(super) fn is_label(key: &str) -> bool {
    matches!(key, CONTEXT | "defcontext")
}
