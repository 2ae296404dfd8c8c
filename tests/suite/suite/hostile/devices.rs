//! Devices, masks and terminals: what they are made of never comes from the container.
//!
//! CVE-2025-31133, CVE-2025-52565.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pericarp::spec::MountKind;
use pericarp::{ExecSpec, Mount, Rootfs};

use crate::robust::tiny;
use crate::rootfs::bare;
use crate::support::fixture::{output, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    devices_beyond_the_default_ones_cannot_be_opened,
    masks_are_not_made_of_files_of_the_root_filesystem,
    what_masks_are_made_of_cannot_be_changed,
    what_a_container_put_in_the_place_of_its_devpts_is_not_taken,
];

/// A container may make nodes (`CAP_MKNOD` is among the default capabilities), but not use them: of the kernel's log,
/// of the memory, of the machine's disks. With no device program attached (`create_guarded` in `src/cgroup/group.rs`):
/// "opened /kmsg". Nor does a node that is in the root filesystem already help.
fn devices_beyond_the_default_ones_cannot_be_opened() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let disk = std::fs::metadata("/").map(|root| std::os::unix::fs::MetadataExt::dev(&root)).unwrap_or(0);
    let (major, minor) = (libc::major(disk), libc::minor(disk));
    let text = say(
        &pod,
        script(
            "a",
            &format!(
                "mknod /kmsg c 1 11 && mknod /mem c 1 1 && mknod /disk b {major} {minor} && mknod /good c 1 5 || exit 1
                 (: >/kmsg) 2>/dev/null && echo opened /kmsg
                 for file in /mem /disk; do (: < $file) 2>/dev/null && echo opened $file; done
                 head -c 4 /good | wc -c; echo x > /dev/null && echo null; head -c 1 /dev/urandom | wc -c"
            ),
        ),
    );
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["4", "null", "1"]);
    PASS
}

/// Masks of all containers are the same file and directory: one container must not change them for others. With the
/// template writable (`furnish_template` in `src/pod/pins.rs`) it could.
fn what_masks_are_made_of_cannot_be_changed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = |name, command: &str| {
        let mut spec = script(name, command);
        spec.security.masked_paths = ["/etc/passwd", "/etc"].map(Into::into).into();
        spec.security.masked_paths.swap(0, 1);
        spec.security.masked_paths.push("/proc/version".into());
        spec
    };
    let command = "for f in /etc /proc/version; do chmod 700 $f; chown 5 $f; touch -d @0 $f; done; \
                   rm /proc/version; mkdir /etc/x; true";
    let (_, text) = output(&pod, spec("a", command))?;
    assert!(text.matches("Read-only file system").count() >= 7, "{text}");
    let look = "stat -c '%a %u' /etc /proc/version; ls -A /etc; echo x >/proc/version; cat /proc/version";
    assert_eq!(say(&pod, spec("b", look)), "755 0\n666 0\n");
    PASS
}

/// Entering a container finds its devpts by path. With `find` in `src/init/terminal.rs` neither refusing links nor
/// asking for the filesystem, the first container here gets a terminal of another devpts than that at the path.
fn what_a_container_put_in_the_place_of_its_devpts_is_not_taken() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let fake = |name: &str, make: &dyn Fn(&std::path::Path)| -> Outcome {
        let root = fixture.path(name);
        tiny::make_rootfs(&root);
        fs::create_dir(root.join("dev"))?;
        make(&root);
        let spec = tiny::container("a", &root, "pause")
            .default_mounts(false)
            .mount(Mount::of(MountKind::Devpts, "/other"));
        let container = pod.create_container(&spec)?;
        container.start()?;
        let error = container.exec(&ExecSpec::new(["/exit"]).terminal(true)).unwrap_err();
        assert!(error.to_string().contains("make a terminal for user 0"), "{error}");
        assert!(matches!(error.errno(), Some(libc::ELOOP | libc::ENODEV)), "{error}");
        container.remove()?;
        PASS
    };
    fake("link", &|root| std::os::unix::fs::symlink("/other", root.join("dev/pts")).expect("a link"))?;
    fake("file", &|root| {
        fs::create_dir(root.join("dev/pts")).expect("a directory");
        fs::write(root.join("dev/pts/ptmx"), "").expect("a file");
    })?;
    PASS
}

/// CVE-2025-31133: a null device, or an empty directory, that the image brings is not what masks are made of. With
/// `open_in_root(state.root, c"/dev/null")` in the place of the template's file in `null` of `src/init/fs.rs`, and no
/// look at the device, the masks are the image's file: "a secret" is read through them, and "x" is written to it.
fn masks_are_not_made_of_files_of_the_root_filesystem() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for kind in ["file", "link", "device"] {
        let root = fixture.path(kind);
        fs::create_dir_all(root.join("dev"))?;
        fs::create_dir_all(root.join("empty"))?;
        fs::write(root.join("empty/secret"), "a secret")?;
        for file in ["hidden", "target", "null"] {
            fs::write(root.join(file), "a secret")?;
        }
        let null = root.join("dev/null");
        match kind {
            "file" => fs::write(&null, "a secret")?,
            "link" => symlink("/target", &null)?,
            _ => mknod(&null, SFlag::S_IFCHR, Mode::from_bits_retain(0o666), makedev(1, 5))?,
        }
        let look = "wc -c </hidden; stat -c %t:%T /hidden; ls -A /below; (echo x >/hidden); cat /target";
        let mut spec = bare("a", Rootfs::directory(&root), look).default_mounts(false);
        fs::create_dir(root.join("below"))?;
        fs::write(root.join("below/file"), "")?;
        spec.security.masked_paths = ["/hidden", "/below"].map(Into::into).into();
        assert_eq!(say(&pod, spec), "0\n1:3\na secret", "{kind}");
    }
    PASS
}
