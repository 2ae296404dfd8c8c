//! Mounts with the options of OCI runtimes: what each does is seen from inside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::mount::{MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pericarp::spec::{Capabilities, Capability, IdMap, MountKind, PidMode, Propagation, Security};
use pericarp::{ContainerSpec, ErrorKind, Mount, PodSpec, Rootfs, Volume};

use crate::rootfs::{HostMount, bare};
use crate::stdio::Shell;
use crate::support::fixture::{facts, output, say, script};
use crate::support::{Facts, Fixture, Outcome, PASS, skip};

crate::tests![
    attributes_are_set_and_cleared_one_by_one,
    recursive_words_go_for_what_is_mounted_below,
    a_new_filesystem_takes_its_attributes_and_options,
    the_kernels_own_filesystems_take_options,
    links_are_not_followed_where_that_is_forbidden,
    other_filesystems_are_mounted_as_on_the_host,
    what_a_filesystem_cannot_do_is_told,
    files_of_proc_can_be_replaced_and_nothing_else,
    an_unbindable_mount_cannot_be_bound,
    a_shared_mount_shares_nothing_below_unasked,
    a_source_that_is_a_link_is_mounted_itself_if_asked_for,
    a_source_that_is_a_link_is_made_anew_if_asked_for,
    ids_of_a_bind_mount_are_mapped,
    ids_of_volumes_and_root_filesystems_are_mapped,
    a_filesystem_that_cannot_map_ids_is_told,
    a_tmpfs_begins_with_what_it_covers,
    a_copy_follows_no_link_and_has_bounds,
    the_root_is_shared_or_unbindable_in_the_container_only,
    the_root_gets_what_the_host_shares,
];

fn oci(destination: &str, fstype: &str, source: impl AsRef<Path>, options: &str) -> Mount {
    let options: Vec<String> = options.split(',').filter(|o| !o.is_empty()).map(str::to_string).collect();
    let source = source.as_ref().to_str().expect("UTF-8");
    Mount::from_options(destination, fstype, source, &options).expect("options")
}

fn may_mount(spec: ContainerSpec) -> ContainerSpec {
    let capabilities = Capabilities::default().with(Capability::CAP_SYS_ADMIN);
    spec.security(Security::default().capabilities(capabilities))
}

/// The words about attributes of the mount at a path, sorted.
fn words(facts: &Facts, path: &str) -> String {
    let (mut words, _, _) = facts.mount(path).unwrap_or_else(|| panic!("no mount on {path}"));
    words.sort_unstable();
    words.join(",")
}

fn attributes_are_set_and_cleared_one_by_one() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    let source = fixture.path("m");
    fs::create_dir(&source)?;
    mount(Some("none"), &source, Some("tmpfs"), flags, None::<&str>)?;
    let source = HostMount(source);
    let cases = [
        ("bind", "noatime,nodev,nosuid,rw"),
        ("bind,ro", "noatime,nodev,nosuid,ro"),
        ("bind,suid,dev", "noatime,rw"),
        ("bind,noexec,atime", "nodev,noexec,nosuid,relatime,rw"),
        ("bind,strictatime,nodiratime", "nodev,nodiratime,nosuid,rw"),
        ("bind,relatime,ro,rw", "nodev,nosuid,relatime,rw"),
        ("bind,rsuid,nosuid,remount,defaults", "noatime,nodev,nosuid,rw"),
    ];
    let seen = facts(&pod, |spec| {
        cases
            .iter()
            .enumerate()
            .fold(spec, |spec, (i, (options, _))| spec.mount(oci(&format!("/m{i}"), "", &source.0, options)))
    });
    for (i, (options, expected)) in cases.iter().enumerate() {
        assert_eq!(words(&seen, &format!("/m{i}")), *expected, "{options}");
    }
    PASS
}

fn recursive_words_go_for_what_is_mounted_below() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let below = HostMount::tmpfs(fixture.path("source/sub"));
    let source = fixture.path("source");
    let seen = facts(&pod, |spec| {
        spec.mount(oci("/a", "", &source, "rbind,rro,rnosuid,rnoatime"))
            .mount(oci("/b", "", &source, "rbind,ro,nosuid"))
            .mount(oci("/c", "", &source, "rbind,rro,rw"))
    });
    assert_eq!(words(&seen, "/a/sub"), "noatime,nosuid,ro");
    assert_eq!(words(&seen, "/b/sub"), "relatime,rw");
    assert!(words(&seen, "/b").contains("nosuid") && words(&seen, "/b").contains("ro"));
    assert_eq!(words(&seen, "/c/sub"), "relatime,ro");
    assert!(words(&seen, "/c").split(',').any(|word| word == "rw"));
    // The host's own mounts are as before.
    fs::write(below.0.join("file"), "")?;
    PASS
}

fn a_new_filesystem_takes_its_attributes_and_options() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let options = "nosuid,noexec,strictatime,mode=750,uid=5,gid=6,size=64k,nr_inodes=10,sync,ro";
    let seen = facts(&pod, |spec| spec.mount(oci("/t", "tmpfs", "tmpfs", options)));
    let (_, fstype, superblock) = seen.mount("/t").expect("a mount");
    assert_eq!((words(&seen, "/t").as_str(), fstype), ("noexec,nosuid,ro", "tmpfs"));
    for word in ["size=64k", "nr_inodes=10", "mode=750", "uid=5", "gid=6", "sync"] {
        assert!(superblock.contains(&word), "{word}: {superblock:?}");
    }
    // It is made read-only when all is mounted in it.
    fs::write(fixture.path("file"), "f\n")?;
    let spec = script("a", "cat /t/x/file; touch /t/y; stat -c '%a %u:%g' /t")
        .mount(oci("/t", "tmpfs", "tmpfs", options))
        .mount(oci("/t/x/file", "", fixture.path("file"), "bind"));
    let (_, text) = output(&pod, spec)?;
    assert!(text.starts_with("f\n750 5:6\n") && text.contains("Read-only"), "{text}");
    // And what the filesystem does not know is an error that names it.
    let error =
        pod.create_container(&script("b", "true").mount(oci("/t", "tmpfs", "", "sise=5"))).unwrap_err();
    assert!(error.errno() == Some(libc::EINVAL) && error.to_string().contains("sise=5"), "{error}");
    PASS
}

fn the_kernels_own_filesystems_take_options() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let devpts = "nosuid,noexec,newinstance,ptmxmode=0600,mode=0640,gid=7";
    let seen = facts(&pod, |spec| {
        spec.mount(oci("/proc", "proc", "proc", "nosuid,hidepid=2"))
            .mount(oci("/dev/pts", "devpts", "devpts", devpts))
            .mount(oci("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"))
            .mount(oci("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"))
            .mount(oci("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"))
    });
    let superblock = |path| seen.mount(path).map(|(_, fstype, options)| (fstype, options.join(",")));
    let (fstype, options) = superblock("/proc").expect("a proc");
    assert!(
        fstype == "proc" && (options.contains("hidepid=2") || options.contains("hidepid=invisible")),
        "{options}"
    );
    assert_eq!(superblock("/dev/pts"), Some(("devpts", "rw,gid=7,mode=640,ptmxmode=600".to_string())));
    assert_eq!(superblock("/sys/fs/cgroup").map(|(fstype, _)| fstype), Some("cgroup2"));
    assert_eq!(superblock("/dev/mqueue").map(|(fstype, _)| fstype), Some("mqueue"));
    // A proc that others have, too, is not changed.
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let spec = script("a", "true").mount(oci("/proc", "proc", "proc", "hidepid=2"));
    let error = shared.create_container(&spec).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidSpec && error.to_string().contains("hidepid=2"), "{error}");
    PASS
}

fn links_are_not_followed_where_that_is_forbidden() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    fs::write(fixture.path("file"), "f\n")?;
    symlink("file", fixture.path("link"))?;
    let spec = |options| script("a", "cat /m/link").mount(oci("/m", "", fixture.dir.path(), options));
    assert_eq!(say(&pod, spec("bind")), "f\n");
    let (_, text) = output(&pod, spec("bind,nosymfollow"))?;
    assert!(text.contains("Too many levels of symbolic links"), "{text}");
    PASS
}

fn other_filesystems_are_mounted_as_on_the_host() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // Paths in options are the host's.
    for name in ["low", "up", "work"] {
        fs::create_dir(fixture.path(name))?;
    }
    fs::write(fixture.path("low/file"), "low\n")?;
    let at = |name: &str| fixture.path(name).display().to_string();
    let tmpfs = HostMount::tmpfs(fixture.path("upper"));
    for name in ["up", "work"] {
        fs::create_dir(tmpfs.0.join(name))?;
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={},noexec", at("low"), at("upper/up"), at("upper/work"));
    let overlay = oci("/o", "overlay", "overlay", &options);
    let ramfs = oci("/r", "ramfs", "", "mode=700,rprivate");
    let look = "cat /o/file; echo new >/o/new; stat -c %a /r; grep -c '^[^ ]* /r ramfs rw' /proc/mounts";
    assert_eq!(say(&pod, script("a", look).mount(overlay).mount(ramfs)), "low\n700\n1\n");
    assert_eq!(fs::read_to_string(tmpfs.0.join("up/new"))?, "new\n");
    PASS
}

fn what_a_filesystem_cannot_do_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let refused = |mount: Mount| pod.create_container(&script("a", "true").mount(mount)).unwrap_err();
    let error = refused(Mount::filesystem("nosuchfs", None, "/m"));
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("nosuchfs"), "{error}");
    let error = refused(Mount::filesystem("overlay", None, "/m").data("lowerdir=/no/such/directory"));
    assert!(error.to_string().contains("a overlay"), "{error}");
    for fstype in ["proc", "sysfs", "cgroup2", "devpts", "mqueue", "devtmpfs"] {
        let error = refused(Mount::filesystem(fstype, None, "/m"));
        assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    }
    PASS
}

fn files_of_proc_can_be_replaced_and_nothing_else() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("file");
    fs::write(&file, "processor : one of ours\n")?;
    let spec = script("a", "cat /proc/cpuinfo /proc/uptime")
        .mount(oci("/proc/cpuinfo", "", &file, "rbind,ro"))
        .mount(oci("/proc/uptime", "", &file, "bind,nosuid"));
    assert_eq!(say(&pod, spec), "processor : one of ours\n".repeat(2));
    for path in [
        "/proc/self/attr/current",
        "/proc/sys/kernel/hostname",
        "/proc/cpuinfo/x",
        "/proc/version",
        "/proc/sys",
    ] {
        let spec = script("a", "true").mount(oci(path, "", &file, "bind"));
        assert_eq!(pod.create_container(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec, "{path}");
    }
    let spec = script("a", "true").mount(oci("/proc/cpuinfo", "tmpfs", "", ""));
    assert_eq!(pod.create_container(&spec).unwrap_err().kind(), ErrorKind::InvalidSpec);
    // A directory does not go there, and nothing is made in a proc.
    let spec = script("a", "true").mount(oci("/proc/cpuinfo", "", fixture.dir.path(), "bind"));
    assert!(pod.create_container(&spec).is_err());
    PASS
}

fn an_unbindable_mount_cannot_be_bound() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = |options| {
        may_mount(script("a", "mkdir /n && mount --bind /m /n 2>/dev/null && echo bound || echo refused"))
            .mount(oci("/m", "", fixture.dir.path(), options))
    };
    assert_eq!(say(&pod, spec("bind,private")), "bound\n");
    assert_eq!(say(&pod, spec("bind,unbindable")), "refused\n");
    assert_eq!(say(&pod, spec("rbind,runbindable")), "refused\n");
    PASS
}

fn a_shared_mount_shares_nothing_below_unasked() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let source = HostMount::tmpfs(fixture.path("source")).propagation(MsFlags::MS_SHARED);
    let spec = |options| may_mount(script("a", "")).mount(oci("/m", "", &source.0, options));
    fs::create_dir(source.0.join("own"))?;
    {
        let mut shell = Shell::start(&pod, spec("rbind,shared"));
        shell.run("mount -t tmpfs none /m/own && echo own >/m/own/file");
        assert_eq!(fs::read_to_string(source.0.join("own/file"))?, "own\n");
        shell.container.remove()?;
        umount2(&source.0.join("own"), nix::mount::MntFlags::MNT_DETACH)?;
    }
    let _below = HostMount::tmpfs(source.0.join("own"));
    let error = pod.create_container(&spec("rbind,shared")).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidSpec && error.to_string().contains("rshared"), "{error}");
    pod.create_container(&spec("rbind,rshared"))?.remove()?;
    PASS
}

/// Makes a tree of the ids 0 and 1000, on a filesystem that can map ids; `None` where this machine has none.
fn files_of_two_users(fixture: &Fixture) -> Option<std::path::PathBuf> {
    let dir = fixture.path("files");
    fs::create_dir(&dir).ok()?;
    for (name, id) in [("zero", 0), ("thousand", 1000)] {
        fs::write(dir.join(name), name).ok()?;
        chown(dir.join(name), Some(id), Some(id)).ok()?;
    }
    Some(dir)
}

/// Mutation: with the source followed all the same, the container could not be made: "open …/link: ENOENT".
fn a_source_that_is_a_link_is_mounted_itself_if_asked_for() -> Outcome {
    let fixture = Fixture::new();
    let pods =
        [fixture.pod("web"), fixture.node.create_pod(&PodSpec::new("mapped").user(crate::userns::mapped()))?];
    fs::write(fixture.path("file"), "of the host\n")?;
    symlink("/inside", fixture.path("link"))?;
    symlink(fixture.path("file"), fixture.path("other"))?;
    symlink("nowhere", fixture.path("dangling"))?;
    let mounted = |spec: ContainerSpec, destination: &str, source: &str, options: &str| {
        spec.mount(oci(destination, "", fixture.path(source), options))
    };
    let look = "echo of the container >/inside; readlink /link; cat /link; readlink /other || cat /other; \
                readlink /dangling; cat /file; rm /link 2>/dev/null || echo mounted";
    let spec = mounted(script("a", look), "/link", "link", "bind,src-nofollow,nosuid,noexec");
    let spec = mounted(spec, "/other", "other", "bind");
    let spec = mounted(spec, "/dangling", "dangling", "rbind,src-nofollow,ro");
    // What is no link is mounted as without the word.
    let spec = mounted(spec, "/file", "file", "rbind,src-nofollow");
    let said = "/inside\nof the container\nof the host\nnowhere\nof the host\nmounted\n";
    for pod in &pods {
        assert_eq!(say(pod, spec.clone()), said);
    }
    // Followed, one of them leads to nothing.
    let error =
        pods[0].create_container(&mounted(script("b", "true"), "/d", "dangling", "bind")).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
    // The links of the host are as they were.
    assert_eq!(fs::read_link(fixture.path("link"))?, Path::new("/inside"));
    PASS
}

/// Mutation: with whatever is there taken for as good (`copy_link` of src/init/copy.rs), a container was made over "/there/other".
fn a_source_that_is_a_link_is_made_anew_if_asked_for() -> Outcome {
    let fixture = Fixture::new();
    let pods =
        [fixture.pod("web"), fixture.node.create_pod(&PodSpec::new("mapped").user(crate::userns::mapped()))?];
    fs::write(fixture.path("file"), "of the host\n")?;
    symlink("/inside", fixture.path("link"))?;
    symlink("../nowhere", fixture.path("dangling"))?;
    let root = fixture.path("root");
    fs::create_dir_all(root.join("there"))?;
    symlink("/inside", root.join("there/same"))?;
    symlink("/else", root.join("there/other"))?;
    fs::write(root.join("there/file"), "")?;
    let copied = |spec: ContainerSpec, destination: &str, source: &str, options: &str| {
        spec.mount(oci(destination, "", fixture.path(source), options))
    };
    let look = "echo of the container >/inside; for l in /link /a/b/dangling /there/same; do readlink $l; done; \
                cat /link /file; stat -c %u:%g /link /a/b; grep -c -e ' /link ' -e dangling /proc/self/mounts; \
                rm /link && echo removed";
    for pod in &pods {
        let spec = copied(bare("a", Rootfs::overlay([&root]), look), "/link", "link", "bind,copy-symlink,ro");
        let spec = copied(spec, "/a/b/dangling", "dangling", "rbind,src-nofollow,copy-symlink");
        let spec = copied(spec, "/there/same", "link", "bind,copy-symlink");
        // What is no link is mounted as without the word.
        let spec = copied(spec, "/file", "file", "bind,copy-symlink");
        let said = "/inside\n../nowhere\n/inside\nof the container\nof the host\n0:0\n0:0\n0\nremoved\n";
        assert_eq!(say(pod, spec), said);
        for destination in ["/there/other", "/there/file", "/there"] {
            let spec = bare("b", Rootfs::overlay([&root]), "true");
            let spec = copied(spec, destination, "link", "bind,copy-symlink");
            let error = pod.create_container(&spec).unwrap_err();
            assert!(error.errno() == Some(libc::EEXIST), "{error}");
            assert!(error.to_string().contains("not a link with the same content"), "{error}");
        }
    }
    PASS
}

fn ids_of_a_bind_mount_are_mapped() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let dir = files_of_two_users(&fixture).ok_or("cannot make files")?;
    let look = "stat -c '%n %u:%g' /m/zero /m/thousand; echo x >/m/new; stat -c %u:%g /m/new";
    let mapped = Mount::bind(&dir, "/m").idmap(IdMap::new(0, 100_000, 65536));
    let spec = |mount| script("a", look).user(100_000, 100_000).mount(mount);
    let (status, text) = match output(&pod, spec(mapped)) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return skip(format!("the filesystem of {} cannot have mapped ids", dir.display()));
        }
        result => result?,
    };
    assert_eq!(text, "/m/zero 100000:100000\n/m/thousand 101000:101000\n100000:100000\n", "{status}");
    // As it is stored, and for everybody else, it is user 0.
    assert_eq!(fs::metadata(dir.join("new"))?.uid(), 0);
    fs::remove_file(dir.join("new"))?;
    // Ids outside of the mapping are nobody's, and nothing can be made by them.
    let narrow = Mount::bind(&dir, "/m").idmap(IdMap::new(0, 100_000, 1));
    let text = output(&pod, spec(narrow).user(0, 0))?.1;
    assert!(text.starts_with("/m/zero 100000:100000\n/m/thousand 65534:65534\n"), "{text}");
    assert!(text.contains("Value too large"), "{text}");
    // The option of the runtime-spec, with ranges of users and of groups, and with read-only.
    let mut oci = oci("/m", "", &dir, "rbind,ridmap,ro");
    let mut idmap = IdMap::new(0, 5000, 2000).recursive(true);
    idmap.gid_mappings[0].host_id = 7000;
    oci.idmap = Some(idmap);
    let text =
        say(&pod, script("a", "stat -c %u:%g /m/thousand; touch /m/z 2>&1 | grep -o Read-only").mount(oci));
    assert_eq!(text, "6000:8000\nRead-only\n");
    PASS
}

fn ids_of_volumes_and_root_filesystems_are_mapped() -> Outcome {
    let fixture = Fixture::new();
    let dir = files_of_two_users(&fixture).ok_or("cannot make files")?;
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::directory("d", &dir)))?;
    let idmap = || IdMap::new(0, 100_000, 65536);
    // The host's root has no id there: it can make no mount points.
    for point in ["proc", "sys", "dev", "bin", "sbin", "usr", "lib", "lib64"] {
        fs::create_dir(dir.join(point))?;
    }
    let spec = script("a", "stat -c %u /v/thousand").mount(Mount::volume("d", "/v").idmap(idmap()));
    match output(&pod, spec) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return skip(format!("the filesystem of {} cannot have mapped ids", dir.display()));
        }
        result => assert_eq!(result?.1, "101000\n"),
    }
    let spec = bare("a", Rootfs::directory(&dir), "stat -c %u /zero /thousand")
        .rootfs_idmap(idmap().recursive(true));
    assert_eq!(say(&pod, spec), "100000\n101000\n");
    let spec = bare("b", Rootfs::overlay([&dir]), "stat -c %u /zero /thousand").rootfs_idmap(idmap());
    assert_eq!(say(&pod, spec), "100000\n101000\n");
    PASS
}

fn a_filesystem_that_cannot_map_ids_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mount = Mount::bind("/proc/sys", "/m").idmap(IdMap::new(0, 1000, 1));
    let error = pod.create_container(&script("a", "true").mount(mount)).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(libc::EINVAL)), "{error}");
    assert!(error.to_string().contains("/proc/sys"), "{error}");
    PASS
}

/// A root filesystem with files of every kind below `data`.
fn root_with_data(fixture: &Fixture) -> std::io::Result<std::path::PathBuf> {
    let root = fixture.path("root");
    fs::create_dir_all(root.join("data/deep/er"))?;
    fs::write(root.join("data/file"), "content\n")?;
    fs::write(root.join("data/deep/er/large"), vec![7; 300_000])?;
    fs::write(root.join("data/suid"), "x")?;
    chown(root.join("data/suid"), Some(5), Some(6))?;
    fs::set_permissions(root.join("data/suid"), fs::Permissions::from_mode(0o4711))?;
    chown(root.join("data/deep"), Some(7), Some(8))?;
    symlink("/etc/passwd", root.join("data/link"))?;
    mknod(&root.join("data/pipe"), SFlag::S_IFIFO, Mode::from_bits_retain(0o600), 0)?;
    mknod(&root.join("data/null"), SFlag::S_IFCHR, Mode::from_bits_retain(0o600), makedev(1, 3))?;
    for i in 0..300 {
        fs::write(root.join(format!("data/deep/many-files-so-that-one-read-is-not-enough-{i}")), "")?;
    }
    fs::set_permissions(root.join("data"), fs::Permissions::from_mode(0o1750))?;
    chown(root.join("data"), Some(9), Some(10))?;
    Ok(root)
}

fn a_tmpfs_begins_with_what_it_covers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = root_with_data(&fixture)?;
    let look = "cd /data; cat file; stat -c '%n %F %a %u:%g' . suid deep pipe null; readlink link; \
                ls deep | wc -l; tr -d '\\007' <deep/er/large | wc -c; wc -c <deep/er/large; echo new >file; rm pipe; \
                grep -c ' /data tmpfs ' /proc/mounts";
    let tmpfs = |options| oci("/data", "tmpfs", "tmpfs", options);
    let spec = |mount| bare("a", Rootfs::directory(&root), look).mount(mount);
    let said = "content\n\
                . directory 1750 9:10\nsuid regular file 4711 5:6\ndeep directory 755 7:8\npipe fifo 600 0:0\n\
                null character special file 600 0:0\n/etc/passwd\n301\n0\n300000\n1\n";
    assert_eq!(say(&pod, spec(tmpfs("tmpcopyup"))), said);
    // What is asked for counts for the root of the tmpfs.
    let text = say(&pod, spec(tmpfs("tmpcopyup,mode=700")));
    assert!(text.contains(". directory 700 0:0\n"), "{text}");
    // Nothing is written to what is below.
    assert_eq!(fs::read_to_string(root.join("data/file"))?, "content\n");
    assert!(root.join("data/pipe").exists());
    // Read-only when the copy is there; and a place that is not there is made, and empty.
    let (_, text) = output(
        &pod,
        bare("b", Rootfs::directory(&root), "cat /data/file; touch /data/x; ls -A /none")
            .mount(tmpfs("tmpcopyup,ro"))
            .mount(oci("/none", "tmpfs", "", "tmpcopyup")),
    )?;
    assert!(text.starts_with("content\n") && text.contains("Read-only"), "{text}");
    PASS
}

fn a_copy_follows_no_link_and_has_bounds() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let root = root_with_data(&fixture)?;
    let create =
        |mount: Mount| pod.create_container(&bare("a", Rootfs::directory(&root), "true").mount(mount));
    // More than fits.
    let error = create(oci("/data", "tmpfs", "", "tmpcopyup,size=64k")).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Exhausted, Some(libc::ENOSPC)), "{error}");
    assert!(error.to_string().contains("copy what is in /data"), "{error}");
    // Deeper than the bound.
    fs::create_dir_all(root.join("deep").join("d/".repeat(70)))?;
    assert_eq!(create(oci("/deep", "tmpfs", "", "tmpcopyup")).unwrap_err().errno(), Some(libc::ENAMETOOLONG));
    // Seen to fail without the check of the filesystem: the container was made, with a copy of what is masked.
    symlink("/sys/firmware", root.join("firmware"))?;
    assert_eq!(create(oci("/firmware", "tmpfs", "", "tmpcopyup")).unwrap_err().errno(), Some(libc::EPERM));
    // A link that leads outside stays inside.
    fs::create_dir(fixture.path("outside"))?;
    fs::write(fixture.path("outside/secret"), "secret")?;
    symlink(fixture.path("outside"), root.join("out"))?;
    symlink("../../../../../../../../../../etc", root.join("up"))?;
    fs::create_dir_all(root.join("etc"))?;
    let text = output(
        &pod,
        bare("b", Rootfs::directory(&root), "ls -A /up").mount(oci("/up", "tmpfs", "", "tmpcopyup")),
    )?
    .1;
    assert_eq!(text, "");
    // A mount below is not copied: the tmpfs hides it. Seen to fail without RESOLVE_NO_XDEV.
    let below = HostMount::tmpfs(root.join("data/deep/mounted"));
    fs::write(below.0.join("other"), "")?;
    let spec = bare("c", Rootfs::directory(&root), "ls -A /data/deep | grep -c mounted; cat /data/file")
        .mount(oci("/data", "tmpfs", "", "tmpcopyup"));
    assert_eq!(output(&pod, spec)?.1, "0\ncontent\n");
    PASS
}

fn the_root_is_shared_or_unbindable_in_the_container_only() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let host = HostMount::tmpfs(fixture.path("root")).propagation(MsFlags::MS_SHARED);
    let look = "mkdir -p /copy /own; mount --bind / /copy 2>/dev/null || { echo unbindable; exit; }; \
                mount -t tmpfs none /own && touch /own/file; ls -A /copy/own";
    let spec = |propagation, recursive| {
        let mut spec = may_mount(bare("a", Rootfs::directory(&host.0), look)).rootfs_propagation(propagation);
        spec.rootfs_propagation_recursive = recursive;
        spec
    };
    for recursive in [false, true] {
        assert_eq!(say(&pod, spec(Propagation::Private, recursive)), "");
        assert_eq!(say(&pod, spec(Propagation::Slave, recursive)), "");
        assert_eq!(say(&pod, spec(Propagation::Shared, recursive)), "file\n");
        assert_eq!(say(&pod, spec(Propagation::Unbindable, recursive)), "unbindable\n");
        // Nothing that they mounted came to the host, which shares the root's mount. With the root cloned as shared, the
        // kernel refuses to pivot into it (EINVAL): seen.
        assert_eq!(fs::read_dir(host.0.join("own"))?.count(), 0);
    }
    PASS
}

fn the_root_gets_what_the_host_shares() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let host = HostMount::tmpfs(fixture.path("root")).propagation(MsFlags::MS_SHARED);
    fs::create_dir(host.0.join("late"))?;
    let start = |name: &str, propagation| {
        let spec = may_mount(bare(name, Rootfs::directory(&host.0), ""));
        Shell::start(&pod, spec.rootfs_propagation(propagation))
    };
    let (mut private, mut slave) = (start("p", Propagation::Private), start("s", Propagation::Slave));
    let late = HostMount::tmpfs(host.0.join("late"));
    fs::write(late.0.join("file"), "late\n")?;
    let look = "cat /late/file 2>/dev/null || echo nothing";
    assert_eq!(private.run(look), "nothing\n");
    assert_eq!(slave.run(look), "late\n");
    assert_eq!(slave.run("mkdir /own; mount -t tmpfs none /own && touch /own/file; ls /own"), "file\n");
    assert_eq!(fs::read_dir(host.0.join("own"))?.count(), 0);
    // Where the host shares nothing there is nothing to get, which is no error: the default of container engines.
    let kind = MountKind::Tmpfs { size: Some(1 << 16), mode: None };
    let spec = script("o", "echo well").mount(Mount::of(kind, "/t")).rootfs_propagation(Propagation::Slave);
    assert_eq!(say(&pod, spec), "well\n");
    PASS
}
