//! The root filesystem: directories and overlays, and that nothing of the host's is behind it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pericarp::spec::Upper;
use pericarp::{ContainerSpec, ErrorKind, Mount, Rootfs};

use crate::stdio::Shell;
use crate::support::fixture::{facts, output, payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_directory_is_the_root_and_changes_in_it_stay,
    what_is_mounted_below_a_directory_comes_along,
    a_readonly_directory_refuses_writes_also_in_what_is_mounted_below,
    mount_points_are_made_in_a_readonly_directory,
    the_topmost_layer_of_an_overlay_wins,
    changes_of_an_overlay_are_thrown_away_with_the_container,
    the_throw_away_layer_ends_at_its_size,
    a_throw_away_layer_without_a_size_takes_megabytes,
    a_persistent_layer_keeps_changes_and_deletions,
    upper_and_work_may_be_in_different_directories,
    separators_of_overlayfs_may_stand_in_paths,
    sixty_four_layers_are_an_overlay,
    a_readonly_overlay_refuses_writes,
    the_host_is_not_changed_when_its_root_is_a_layer,
    the_mount_table_has_only_what_is_the_containers,
    the_hosts_root_cannot_be_reached_by_walking_up,
    a_missing_rootfs_is_told_with_its_path,
    a_file_is_no_rootfs,
    containers_of_a_pod_do_not_see_each_others_changes,
];

/// A mount that a test made on the host; it ends with the test.
pub struct HostMount(pub PathBuf);

impl HostMount {
    pub fn tmpfs(path: impl Into<PathBuf>) -> HostMount {
        let path = path.into();
        fs::create_dir_all(&path).expect("make a mount point");
        mount(Some("none"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).expect("mount a tmpfs");
        HostMount(path)
    }

    /// Shared, private or slave, as mount(2) has it.
    pub fn propagation(self, flag: MsFlags) -> HostMount {
        mount(None::<&str>, &self.0, None::<&str>, flag, None::<&str>).expect("set the propagation");
        self
    }

    pub fn bind(source: &Path, path: impl Into<PathBuf>) -> HostMount {
        let path = path.into();
        fs::create_dir_all(&path).expect("make a mount point");
        mount(Some(source), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind");
        HostMount(path)
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A container whose root is that very directory; programs come from the host's directories, mounted read-only.
pub fn bare(name: &str, rootfs: Rootfs, command: &str) -> ContainerSpec {
    let spec = ContainerSpec::new(name, rootfs).args(["/bin/sh", "-c", command]);
    ["/bin", "/sbin", "/usr", "/lib", "/lib64"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .fold(spec, |spec, path| spec.mount(Mount::rbind(path, path).readonly(true)))
}

fn directory(fixture: &Fixture, name: &str) -> PathBuf {
    let path = fixture.path(name);
    fs::create_dir_all(&path).expect("make a directory");
    path
}

/// A directory with one file of each name, whose content is the word.
fn layer(fixture: &Fixture, name: &str, files: &[&str]) -> PathBuf {
    let path = directory(fixture, name);
    for file in files {
        fs::write(path.join(file), format!("{name}\n")).expect("write a file of a layer");
    }
    path
}

fn a_directory_is_the_root_and_changes_in_it_stay() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = layer(&fixture, "root", &["hello"]);
    let text = say(&pod, bare("a", Rootfs::directory(&root), "cat /hello; echo new >/new; rm /hello"));
    assert_eq!(text, "root\n");
    assert_eq!(fs::read_to_string(root.join("new"))?, "new\n");
    assert!(!root.join("hello").exists());
    // What a container needs to be mounted on was made, as the documentation says.
    for point in ["proc", "sys", "dev", "bin"] {
        assert!(root.join(point).is_dir(), "{point}");
    }
    // And nothing is mounted on the host: the directories are empty there.
    assert_eq!(fs::read_dir(root.join("proc"))?.count(), 0);
    PASS
}

fn what_is_mounted_below_a_directory_comes_along() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = directory(&fixture, "root");
    let below = HostMount::tmpfs(root.join("sub"));
    fs::write(below.0.join("file"), "in the tmpfs\n")?;
    let text = say(&pod, bare("a", Rootfs::directory(&root), "cat /sub/file; echo back >/sub/back"));
    assert_eq!(text, "in the tmpfs\n");
    assert_eq!(fs::read_to_string(below.0.join("back"))?, "back\n");
    PASS
}

fn a_readonly_directory_refuses_writes_also_in_what_is_mounted_below() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = layer(&fixture, "root", &["hello"]);
    let below = HostMount::tmpfs(root.join("sub"));
    fs::write(below.0.join("file"), "x")?;
    let command = "for f in /new /hello /sub/new /sub/file; do (echo y >$f) && echo wrote $f; done; \
                   rm /hello; mkdir /d; echo z >/dev/shm/z && cat /dev/shm/z";
    let (status, text) = output(&pod, bare("a", Rootfs::directory(&root).readonly(), command))?;
    assert!(status.success());
    assert!(!text.contains("wrote"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 6, "{text}");
    assert!(text.contains("z\n"), "what is not the root filesystem is writable: {text}");
    assert_eq!(fs::read_to_string(root.join("hello"))?, "root\n");
    assert_eq!(fs::read_to_string(below.0.join("file"))?, "x");
    PASS
}

fn mount_points_are_made_in_a_readonly_directory() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = directory(&fixture, "root");
    let file = fixture.path("file");
    fs::write(&file, "from the host\n")?;
    let spec = bare("a", Rootfs::directory(&root).readonly(), "cat /x/y/file; touch /x/y/z || pwd")
        .mount(Mount::bind(&file, "/x/y/file"))
        .cwd("/new/work");
    let (_, text) = output(&pod, spec)?;
    assert!(text.starts_with("from the host\n/new/work\n"), "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(root.join("x/y/file").is_file() && root.join("new/work").is_dir());
    PASS
}

fn the_topmost_layer_of_an_overlay_wins() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let top = layer(&fixture, "top", &["all", "only-top"]);
    let middle = layer(&fixture, "middle", &["all", "two"]);
    let low = layer(&fixture, "low", &["all", "two", "only-low"]);
    fs::create_dir(middle.join("merged"))?;
    fs::create_dir(low.join("merged"))?;
    fs::write(middle.join("merged/m"), "")?;
    fs::write(low.join("merged/l"), "")?;
    let rootfs = Rootfs::overlay([top, middle, low]);
    let text = say(&pod, bare("a", rootfs, "cat /all /two /only-top /only-low; ls /merged"));
    assert_eq!(text, "top\nmiddle\ntop\nlow\nl\nm\n");
    PASS
}

fn changes_of_an_overlay_are_thrown_away_with_the_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let low = layer(&fixture, "low", &["a", "b"]);
    let rootfs = Rootfs::overlay([&low]);
    let change = "echo changed >/a; rm /b; echo new >/c; cat /a; ls /b /c 2>/dev/null; stat -c %a /";
    for _ in 0..2 {
        assert_eq!(say(&pod, bare("a", rootfs.clone(), change)), "changed\n/c\n755\n");
    }
    let names: BTreeSet<_> = fs::read_dir(&low)?.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["a", "b"].map(Into::into).into(), "a layer was written to");
    assert_eq!(fs::read_to_string(low.join("a"))?, "low\n");
    PASS
}

fn throw_away(size: Option<u64>) -> Rootfs {
    Rootfs::Overlay { lower: vec!["/".into()], upper: Upper::Tmpfs { size }, readonly: false }
}

fn the_throw_away_layer_ends_at_its_size() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut spec = script("a", "dd if=/dev/zero of=/fill bs=65536 count=64; stat -c %s /fill");
    spec.rootfs = throw_away(Some(1 << 20));
    let (_, text) = output(&pod, spec)?;
    assert!(text.contains("No space left on device"), "{text}");
    let size: u64 = text.lines().next().and_then(|line| line.parse().ok()).expect("the size of the file");
    assert!(size > 0 && size <= 1 << 20, "{size}");
    PASS
}

fn a_throw_away_layer_without_a_size_takes_megabytes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut spec = script("a", "dd if=/dev/zero of=/fill bs=65536 count=64 2>/dev/null; stat -c %s /fill");
    spec.rootfs = throw_away(None);
    assert_eq!(say(&pod, spec), "4194304\n");
    PASS
}

fn persistent(lower: PathBuf, upper: PathBuf, work: PathBuf) -> Rootfs {
    Rootfs::Overlay { lower: vec![lower], upper: Upper::Directory { upper, work }, readonly: false }
}

fn a_persistent_layer_keeps_changes_and_deletions() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let low = layer(&fixture, "low", &["keep", "delete"]);
    let (upper, work) = (directory(&fixture, "up"), directory(&fixture, "wk"));
    let rootfs = persistent(low.clone(), upper.clone(), work);
    assert_eq!(say(&pod, bare("a", rootfs.clone(), "echo new >/new; rm /delete; echo more >>/keep")), "");
    assert_eq!(fs::read_to_string(upper.join("new"))?, "new\n");
    assert!(fs::symlink_metadata(upper.join("delete"))?.file_type().is_char_device(), "no whiteout");
    assert_eq!(fs::read_to_string(low.join("keep"))?, "low\n");
    assert!(low.join("delete").exists());
    // Another container goes on where the first one ended.
    assert_eq!(
        say(&pod, bare("b", rootfs, "cat /keep /new; [ -e /delete ] || echo gone")),
        "low\nmore\nnew\ngone\n"
    );
    PASS
}

fn upper_and_work_may_be_in_different_directories() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let low = layer(&fixture, "low", &["a"]);
    let (upper, work) = (directory(&fixture, "one/deep/upper"), directory(&fixture, "two/work"));
    let rootfs = persistent(low, upper.clone(), work);
    assert_eq!(say(&pod, bare("a", rootfs, "echo b >/a; cat /a")), "b\n");
    assert_eq!(fs::read_to_string(upper.join("a"))?, "b\n");
    PASS
}

fn separators_of_overlayfs_may_stand_in_paths() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let low = layer(&fixture, "lo:w,er=a\\b c", &["a"]);
    let (upper, work) = (directory(&fixture, "up:p,er=a\\b c"), directory(&fixture, "wo:r,k=a\\b c"));
    let rootfs = persistent(low, upper.clone(), work);
    assert_eq!(say(&pod, bare("a", rootfs, "cat /a; echo b >/a")), "lo:w,er=a\\b c\n");
    assert_eq!(fs::read_to_string(upper.join("a"))?, "b\n");
    PASS
}

fn sixty_four_layers_are_an_overlay() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let layers: Vec<_> =
        (0..64).map(|i| layer(&fixture, &format!("l{i}"), &["all", &format!("own{i}")])).collect();
    let text = say(&pod, bare("a", Rootfs::overlay(layers), "cat /all /own0 /own63; ls -d /own* | wc -l"));
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["l0", "l0", "l63", "64"]);
    PASS
}

fn a_readonly_overlay_refuses_writes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut spec =
        script("a", "echo x >/new || echo x >/etc/passwd || echo y >/dev/shm/y && cat /dev/shm/y; pwd");
    spec = spec.cwd("/made/for/it");
    spec.rootfs = spec.rootfs.readonly();
    let (status, text) = output(&pod, spec)?;
    assert!(status.success(), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.starts_with("y\n/made/for/it\n"), "{text}");
    PASS
}

fn the_host_is_not_changed_when_its_root_is_a_layer() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let name = format!("/etc/pericarp-test-{}", std::process::id());
    let before = fs::metadata("/etc")?.mtime();
    assert_eq!(
        say(&pod, script("a", &format!("echo x >{name}; cat {name}; rm /etc/passwd; mkdir /etc/x"))),
        "x\n"
    );
    assert!(!Path::new(&name).exists());
    assert_eq!(fs::metadata("/etc")?.mtime(), before);
    PASS
}

fn the_mount_table_has_only_what_is_the_containers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let facts = facts(&pod, |mut spec| {
        // Masks depend on what the kernel has.
        spec.security.masked_paths.clear();
        spec.security.readonly_paths.clear();
        spec
    });
    let mut points: Vec<_> = facts.mounts.iter().filter_map(|line| line.split(' ').nth(4)).collect();
    points.sort_unstable();
    let expected =
        ["/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/payload", "/proc", "/sys", "/sys/fs/cgroup"];
    assert_eq!(points, expected, "{:#?}", facts.mounts);
    // Nothing propagates to or from the host.
    for line in &facts.mounts {
        assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
    }
    PASS
}

fn the_hosts_root_cannot_be_reached_by_walking_up() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = directory(&fixture, "root");
    fs::write(fixture.path("secret"), "of the host")?;
    let secret = fixture.path("secret").display().to_string();
    let command = format!(
        "for d in / /.. /../../../.. /proc/self/root /proc/1/root/.. /proc/self/cwd/../..; do \
             stat -c %i $d/.; cat $d{secret} 2>/dev/null; done | sort -u; ls -a /; \
         chroot /sys/../.. /bin/sh -c 'cat {secret} 2>/dev/null'"
    );
    let (_, text) = output(&pod, bare("a", Rootfs::directory(&root), &command))?;
    assert!(!text.contains("of the host"), "{text}");
    let inode = fs::metadata(&root)?.ino().to_string();
    assert_eq!(text.lines().next(), Some(&*inode), "{text}");
    // One inode for all ways up, then the listing: no old root, no work directory is left in it.
    let names: BTreeSet<&str> = text.lines().skip(1).collect();
    let mut expected: BTreeSet<&str> = [".", "..", "proc", "sys", "dev"].into();
    expected.extend(
        ["bin", "sbin", "usr", "lib", "lib64"].iter().filter(|name| Path::new("/").join(name).exists()),
    );
    assert_eq!(names, expected, "{text}");
    PASS
}

fn a_missing_rootfs_is_told_with_its_path() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let missing = fixture.path("missing");
    for rootfs in [
        Rootfs::directory(&missing),
        Rootfs::overlay([PathBuf::from("/"), missing.clone()]),
        persistent("/".into(), missing.join("upper"), missing.join("work")),
    ] {
        let error = pod.create_container(&ContainerSpec::new("a", rootfs).args(["/bin/sh"])).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, Some(libc::ENOENT)));
        assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
    }
    assert!(pod.containers()?.is_empty());
    PASS
}

fn a_file_is_no_rootfs() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("file");
    fs::write(&file, "")?;
    for rootfs in [Rootfs::directory(&file), Rootfs::overlay([&file])] {
        let error = pod.create_container(&ContainerSpec::new("a", rootfs).args(["/bin/sh"])).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOTDIR), "{error}");
    }
    PASS
}

fn containers_of_a_pod_do_not_see_each_others_changes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (mut a, mut b) = (Shell::start(&pod, payload("a", &[])), Shell::start(&pod, payload("b", &[])));
    assert_eq!(a.run("echo a >/mine; rm -f /etc/hosts; echo done"), "done\n");
    assert_eq!(b.run("ls /mine 2>/dev/null; [ -e /etc/hosts ] && echo there"), "there\n");
    assert_eq!(b.run("echo b >/mine; cat /mine"), "b\n");
    assert_eq!(a.run("cat /mine; [ -e /etc/hosts ] || echo gone"), "a\ngone\n");
    PASS
}
