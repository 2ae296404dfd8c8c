//! Mount options as mount(8) and the OCI runtime-spec have them: words in a list, of which the last one counts.

use std::path::PathBuf;

use super::mount::{Mount, MountKind, Propagation};
use super::mount_attributes::{IdMap, MountAttribute, MountAttributes};
use crate::error::{Error, Result};
use crate::sys::mount::{AttributeChange, attr};

/// Words of mount(8) for the propagation, each also with an `r` before it.
const PROPAGATIONS: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("slave", Propagation::Slave),
    ("shared", Propagation::Shared),
    ("unbindable", Propagation::Unbindable),
];

/// Words about the filesystem as a whole, which a bind mount cannot change.
const SUPERBLOCK: [&str; 7] = ["sync", "dirsync", "lazytime", "mand", "iversion", "acl", "noacl"];
/// Words that say what is so without them, or that only concern the kernel's log.
const WITHOUT_EFFECT: [&str; 7] =
    ["defaults", "async", "nolazytime", "nomand", "noiversion", "silent", "loud"];

/// How a tmpfs is to be made.
const OF_NEW_TMPFS: [&str; 2] = ["mode=", "size="];

/// Every word that [`Mount::from_options`] knows, for who asks; what is not among them is an option of the filesystem.
pub(crate) fn words() -> Vec<String> {
    let attributes = MountAttribute::WORDS.iter().flat_map(|(on, off, _)| [*on, *off]);
    let propagations = PROPAGATIONS.iter().map(|(word, _)| *word);
    let twice = attributes.chain(propagations).flat_map(|word| [word.to_string(), format!("r{word}")]);
    let once = SUPERBLOCK.into_iter().chain(WITHOUT_EFFECT).chain([
        "bind",
        "rbind",
        "idmap",
        "ridmap",
        "tmpcopyup",
        "src-nofollow",
        "copy-symlink",
    ]);
    let mut words: Vec<String> = twice.chain(once.map(str::to_string)).collect();
    words.sort();
    words
}

impl Mount {
    /// A mount as the OCI runtime-spec has it (`mounts`), with the options that runc and crun know. `fstype` and
    /// `source` may be empty where they say nothing.
    ///
    /// `idmap` and `ridmap` leave [`idmap`](Self::idmap) without ranges; fill them in before the mount is used.
    ///
    /// # Errors
    /// `InvalidSpec`, which names the option, for one that means nothing for this mount.
    pub fn from_options(
        destination: impl Into<PathBuf>,
        fstype: &str,
        source: &str,
        options: &[String],
    ) -> Result<Mount> {
        let destination = destination.into();
        let field = format!("mounts[{:?}]", destination.display().to_string());
        let has = |word: &str| options.iter().any(|option| option == word);
        let is_bind = has("bind") || has("rbind") || fstype == "bind";
        let kind = if is_bind {
            MountKind::Bind { source: source.into(), recursive: has("rbind") }
        } else {
            match fstype {
                "tmpfs" => MountKind::Tmpfs { size: None, mode: None },
                "proc" => MountKind::Proc,
                "sysfs" => MountKind::Sysfs,
                // What version 1 had is version 2 here, as in runc on such a machine.
                "cgroup" | "cgroup2" => MountKind::Cgroup,
                "devpts" => MountKind::Devpts,
                "mqueue" => MountKind::Mqueue,
                "" | "none" => return Err(Error::invalid(field, "has neither a type nor the option bind")),
                other => MountKind::Filesystem {
                    fstype: other.to_string(),
                    source: (!source.is_empty()).then(|| source.into()),
                },
            }
        };
        let mut mount = Mount::of(kind, destination);
        if matches!(mount.kind, MountKind::Tmpfs { .. }) && !matches!(source, "" | "tmpfs") {
            mount.source_name = Some(source.to_string());
        }
        for option in options {
            mount.take_option(&field, option)?;
        }
        Ok(mount)
    }

    fn take_option(&mut self, field: &str, option: &str) -> Result<()> {
        let is_bind = matches!(self.kind, MountKind::Bind { .. });
        let attribute = |word: &str| {
            MountAttribute::WORDS.iter().find_map(|(on, off, attribute)| {
                (word == *on || word == *off).then_some((*attribute, word == *on))
            })
        };
        let propagation = |word: &str| PROPAGATIONS.iter().find(|(known, _)| *known == word);
        let recursive = option.strip_prefix('r').unwrap_or_default();
        if let Some((attribute, on)) = attribute(option) {
            self.attributes.say(attribute, on, false);
        } else if let Some((_, kind)) = propagation(option) {
            (self.propagation, self.propagation_recursive) = (*kind, false);
        } else if let Some((attribute, on)) = attribute(recursive) {
            self.attributes.say(attribute, on, true);
        } else if let Some((_, kind)) = propagation(recursive) {
            (self.propagation, self.propagation_recursive) = (*kind, true);
        } else if WITHOUT_EFFECT.contains(&option)
            || is_bind && matches!(option, "bind" | "rbind" | "remount")
        {
            // A bind mount has its attributes when it is made: there is nothing to mount again.
        } else if matches!(option, "idmap" | "ridmap") {
            self.idmap = Some(IdMap::default().recursive(option == "ridmap"));
        } else if option == "tmpcopyup" {
            self.copy_up = true;
        } else if option == "src-nofollow" {
            self.source_nofollow = true;
        } else if option == "copy-symlink" {
            self.copy_symlink = true;
        } else if option == "remount" {
            return Err(Error::invalid(field, "option \"remount\": say the options where it is mounted"));
        } else if is_bind && OF_NEW_TMPFS.iter().any(|start| option.starts_with(start)) {
            // As mount(2), which takes no data for a bind mount: whoever writes configurations gives them to all mounts.
        } else if is_bind {
            let why = if SUPERBLOCK.contains(&option) { "belongs to the filesystem" } else { "is unknown" };
            return Err(Error::invalid(
                field,
                format!("option {option:?} {why}: a bind mount cannot have it"),
            ));
        } else {
            self.data.push(option.to_string());
        }
        Ok(())
    }

    /// What to change on a mount that has attributes already.
    pub(crate) fn change(&self) -> AttributeChange {
        let MountAttributes { set, clear, set_recursive, clear_recursive } = &self.attributes;
        let (mut set, clear) = MountAttributes::bits(set, clear);
        let (mut set_all, clear_all) = MountAttributes::bits(set_recursive, clear_recursive);
        let flags = [(self.nosuid, attr::NOSUID), (self.nodev, attr::NODEV), (self.noexec, attr::NOEXEC)];
        set |= flags.into_iter().filter(|(on, _)| *on).fold(0, |bits, (_, bit)| bits | bit);
        match (self.readonly, self.readonly_recursive) {
            (_, true) => set_all |= attr::RDONLY,
            (true, false) => set |= attr::RDONLY,
            (false, false) => {}
        }
        AttributeChange { set, clear, set_all, clear_all }
    }

    /// The attributes of a mount that is new, and has none of its own yet.
    pub(crate) fn fresh_attributes(&self) -> u64 {
        let change = self.change();
        change.set_all & !change.clear | change.set
    }

    pub(super) fn validate_options(&self, field: &str) -> Result<()> {
        self.attributes.validate(&format!("{field}.attributes"))?;
        let change = self.change();
        if change.set & change.clear & !attr::ATIME != 0
            || change.set_all & change.clear_all & !attr::ATIME != 0
        {
            return Err(Error::invalid(field, "has an attribute that is to be set and cleared"));
        }
        let from_elsewhere = matches!(self.kind, MountKind::Bind { .. } | MountKind::Volume { .. });
        let made_by_library = from_elsewhere || matches!(self.kind, MountKind::Filesystem { .. });
        let is_tmpfs = matches!(self.kind, MountKind::Tmpfs { .. });
        let propagates = match self.propagation {
            Propagation::Private => true,
            Propagation::Unbindable => made_by_library || is_tmpfs,
            // A slave of nobody is private.
            Propagation::Slave | Propagation::Shared => {
                matches!(self.kind, MountKind::Bind { .. } | MountKind::Tmpfs { .. })
            }
        };
        if !propagates {
            return Err(Error::invalid(
                field,
                "only a bind mount or a tmpfs can propagate: others share nothing with the host",
            ));
        }
        if let Some(idmap) = &self.idmap {
            if !made_by_library {
                return Err(Error::invalid(
                    field,
                    "only a bind mount, a volume or another filesystem can have ids mapped",
                ));
            }
            idmap.validate(&format!("{field}.idmap"))?;
        }
        if self.copy_up && !is_tmpfs {
            return Err(Error::invalid(field, "copyUp is for a tmpfs"));
        }
        for (key, on) in [("sourceNofollow", self.source_nofollow), ("copySymlink", self.copy_symlink)] {
            if on && !matches!(self.kind, MountKind::Bind { .. }) {
                return Err(Error::invalid(field, format!("{key} is for a bind mount")));
            }
        }
        const MAX_NAME: usize = 255;
        if let Some(name) = &self.source_name
            && (!is_tmpfs || name.is_empty() || name.len() > MAX_NAME || name.contains('\0'))
        {
            return Err(Error::invalid(
                format!("{field}.sourceName"),
                format!("is the name of a tmpfs, of 1 to {MAX_NAME} bytes"),
            ));
        }
        let takes_data = !from_elsewhere && !matches!(self.kind, MountKind::Shm | MountKind::Mqueue);
        if let (Some(option), false) = (self.data.first(), takes_data) {
            return Err(Error::invalid(
                field,
                format!("option {option:?}: it is not made here, and stays as it is"),
            ));
        }
        const MAX_DATA: usize = 4096;
        if self.data.iter().map(|option| option.len() + 1).sum::<usize>() > MAX_DATA {
            return Err(Error::invalid(field, format!("has more than {MAX_DATA} bytes of options")));
        }
        for option in &self.data {
            let key = option.split('=').next().unwrap_or_default();
            // "source" is the name of the parameter for what a filesystem is on: it has a place of its own.
            if key.is_empty() || key == "source" || option.contains('\0') {
                return Err(Error::invalid(field, format!("{option:?} is no option of a filesystem")));
            }
        }
        if let MountKind::Filesystem { fstype, source } = &self.kind {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            if fstype.is_empty() || fstype.len() > 64 || !fstype.bytes().all(known) {
                return Err(Error::invalid(field, format!("{fstype:?} is no type of a filesystem")));
            }
            // It is made by the host's side: what follows namespaces would be the host's.
            const OTHERS: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"];
            if OTHERS.contains(&fstype.as_str()) {
                return Err(Error::invalid(
                    field,
                    format!("{fstype} is a type of its own here, of the pod's namespaces"),
                ));
            }
            if fstype == "devtmpfs" {
                return Err(Error::invalid(
                    field,
                    "a devtmpfs is the host's /dev with all devices; name them in devices",
                ));
            }
            if let Some(source) = source {
                super::validate::no_nul_path(&format!("{field}.source"), source)?;
            }
        }
        Ok(())
    }
}

/// A filesystem's own options as keys with values, and keys that stand alone.
pub(crate) fn split_data(data: &[String]) -> (Vec<(String, String)>, Vec<String>) {
    let (mut pairs, mut flags) = (Vec::new(), Vec::new());
    for option in data {
        match option.split_once('=') {
            Some((key, value)) => pairs.push((key.to_string(), value.to_string())),
            None => flags.push(option.clone()),
        }
    }
    (pairs, flags)
}

#[cfg(test)]
mod tests {
    use MountAttribute::*;

    use super::*;

    fn read(fstype: &str, options: &[&str]) -> Result<Mount> {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        let mount = Mount::from_options("/m", fstype, "/source", &options)?;
        mount.validate_options("mounts[0]").map(|()| mount)
    }

    fn change(options: &[&str]) -> AttributeChange {
        let mut all = vec!["rbind"];
        all.extend(options);
        read("", &all).unwrap().change()
    }

    const NONE: AttributeChange = AttributeChange { set: 0, clear: 0, set_all: 0, clear_all: 0 };

    #[test]
    fn every_word_about_attributes_sets_or_clears_its_bit() {
        // linux/mount.h
        for (on, off, bit) in [
            ("ro", "rw", 1),
            ("nosuid", "suid", 2),
            ("nodev", "dev", 4),
            ("noexec", "exec", 8),
            ("nodiratime", "diratime", 0x80),
            ("nosymfollow", "symfollow", 0x20_0000),
        ] {
            let (ron, roff) = (format!("r{on}"), format!("r{off}"));
            assert_eq!(change(&[on]), AttributeChange { set: bit, ..NONE });
            assert_eq!(change(&[off]), AttributeChange { clear: bit, ..NONE });
            assert_eq!(change(&[&ron]), AttributeChange { set_all: bit, ..NONE });
            assert_eq!(change(&[&roff]), AttributeChange { clear_all: bit, ..NONE });
            // The last one counts.
            assert_eq!(change(&[on, off]), AttributeChange { clear: bit, ..NONE });
            assert_eq!(change(&[off, on]), AttributeChange { set: bit, ..NONE });
            assert_eq!(change(&[off, &ron]), AttributeChange { set_all: bit, ..NONE });
            assert_eq!(change(&[&ron, off]), AttributeChange { set_all: bit, clear: bit, ..NONE });
        }
        // One attribute with several values: to set one, all its bits are cleared.
        for (word, value) in [("noatime", 0x10), ("strictatime", 0x20), ("relatime", 0)] {
            assert_eq!(change(&[word]), AttributeChange { set: value, clear: 0x70, ..NONE });
            let recursive = change(&[&format!("r{word}")]);
            assert_eq!(recursive, AttributeChange { set_all: value, clear_all: 0x70, ..NONE });
        }
        assert_eq!(change(&["noatime", "strictatime"]), change(&["strictatime"]));
        for word in ["atime", "nostrictatime"] {
            assert_eq!(change(&[word]), AttributeChange { clear: 0x70, ..NONE });
        }
        for word in ["norelatime", "rnorelatime"] {
            assert_eq!(change(&[word]), NONE);
        }
        assert_eq!(change(&["ratime"]), AttributeChange { clear_all: 0x70, ..NONE });
    }

    #[test]
    fn words_about_propagation() {
        for (word, kind) in PROPAGATIONS {
            for (word, recursive) in [(word.to_string(), false), (format!("r{word}"), true)] {
                let mount = read("bind", &[&word]).unwrap();
                assert_eq!((mount.propagation, mount.propagation_recursive), (kind, recursive));
            }
        }
        assert!(read("tmpfs", &["rprivate"]).is_ok());
        assert_eq!(read("tmpfs", &["shared"]).unwrap().propagation, Propagation::Shared);
        assert!(read("tmpfs", &["unbindable"]).is_ok() && read("proc", &["shared"]).is_err());
        assert!(read("ext4", &["unbindable"]).is_ok());
    }

    #[test]
    fn types_of_the_runtime_spec() {
        let kind = |fstype, options: &[&str]| read(fstype, options).unwrap().kind;
        assert_eq!(read("tmpfs", &[]).unwrap().source_name.as_deref(), Some("/source"));
        assert_eq!(read("bind", &["mode=755", "size=5", "ro"]).unwrap(), read("bind", &["ro"]).unwrap());
        assert_eq!(kind("none", &["bind"]), MountKind::Bind { source: "/source".into(), recursive: false });
        assert_eq!(kind("bind", &["rbind"]), MountKind::Bind { source: "/source".into(), recursive: true });
        assert_eq!(kind("tmpfs", &[]), MountKind::Tmpfs { size: None, mode: None });
        for (fstype, expected) in [
            ("proc", MountKind::Proc),
            ("sysfs", MountKind::Sysfs),
            ("cgroup", MountKind::Cgroup),
            ("cgroup2", MountKind::Cgroup),
            ("devpts", MountKind::Devpts),
            ("mqueue", MountKind::Mqueue),
        ] {
            assert_eq!(kind(fstype, &["nosuid", "noexec", "nodev", "relatime", "ro"]), expected);
        }
        let ext4 = MountKind::Filesystem { fstype: "ext4".into(), source: Some("/source".into()) };
        assert_eq!(kind("ext4", &[]), ext4);
        for fstype in ["", "none", "devtmpfs", "a b"] {
            assert!(read(fstype, &[]).is_err(), "{fstype}");
        }
    }

    #[test]
    fn what_is_left_is_for_the_filesystem() {
        let mount = read("tmpfs", &["mode=755", "size=65536k", "sync", "nosuid", "defaults"]).unwrap();
        assert_eq!(mount.data, ["mode=755", "size=65536k", "sync"]);
        assert_eq!(mount.fresh_attributes(), 2);
        let (pairs, flags) = split_data(&mount.data);
        assert_eq!(pairs.len(), 2);
        assert_eq!(flags, ["sync"]);
        assert!(read("tmpfs", &["tmpcopyup"]).unwrap().copy_up);
        assert!(read("bind", &["src-nofollow"]).unwrap().source_nofollow);
        assert!(read("bind", &["copy-symlink"]).unwrap().copy_symlink);
        for (fstype, option) in [
            ("bind", "sync"),
            ("bind", "uid=5"),
            ("proc", "shared"),
            ("bind", "tmpcopyup"),
            ("tmpfs", "src-nofollow"),
            ("tmpfs", "copy-symlink"),
            ("bind", "idmap"),
            ("tmpfs", "idmap"),
            ("tmpfs", "remount"),
            ("tmpfs", "=5"),
            ("tmpfs", ""),
            ("ext4", "source=/dev/sda"),
            ("mqueue", "mode=5"),
        ] {
            assert!(read(fstype, &[option]).is_err(), "{fstype} {option}");
        }
        let error = read("bind", &["nosuchoption"]).unwrap_err().to_string();
        assert!(error.contains("nosuchoption") && error.contains("/m"), "{error}");
        assert_eq!(read("bind", &["bind", "remount", "ro"]).unwrap().change().set, 1);
        let mut mapped = Mount::from_options("/m", "bind", "/s", &["ridmap".to_string()]).unwrap();
        assert!(mapped.idmap.as_ref().is_some_and(|idmap| idmap.recursive));
        mapped.idmap = Some(IdMap::new(0, 1000, 1));
        assert!(mapped.validate_options("m").is_ok());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let mount = |set: &[MountAttribute], clear: &[MountAttribute]| {
            let mut mount = Mount::bind("/a", "/b");
            mount.attributes.set = set.iter().copied().collect();
            mount.attributes.clear = clear.iter().copied().collect();
            mount
        };
        assert!(mount(&[Noatime, Nosuid], &[Readonly]).validate_options("m").is_ok());
        for wrong in [
            mount(&[Nosuid], &[Nosuid]),
            mount(&[Noatime, Strictatime], &[]),
            mount(&[], &[Nosuid]).nosuid(true),
            mount(&[], &[Readonly]).readonly(true),
        ] {
            assert!(wrong.validate_options("m").is_err(), "{wrong:?}");
        }
    }
}
