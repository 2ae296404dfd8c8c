//! Mounts of a container: that they are there, what their flags do, and where they cannot go.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pericarp::spec::{Capabilities, Capability, MountKind, Propagation, Security};
use pericarp::{ContainerSpec, ErrorKind, Mount, Rootfs};

use crate::rootfs::{HostMount, bare};
use crate::stdio::Shell;
use crate::support::fixture::{output, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_bind_mount_is_the_hosts_directory,
    a_readonly_bind_mount_refuses_writes,
    only_a_recursive_bind_brings_what_is_mounted_below,
    readonly_goes_below_only_when_it_is_recursive,
    a_file_is_bound_over_a_file,
    missing_targets_are_made_as_what_the_source_is,
    nosuid_ignores_set_user_id_bits,
    nodev_ignores_device_nodes,
    noexec_refuses_programs,
    a_tmpfs_has_the_size_and_the_mode_that_were_asked_for,
    later_mounts_come_only_where_propagation_lets_them,
    what_the_host_gets_from_elsewhere_can_be_passed_on,
    propagation_needs_a_shared_source,
    mounts_are_made_in_the_given_order,
    a_missing_source_is_told_with_its_path,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["mounts-euid"] => println!("{}", nix::unistd::geteuid()),
        _ => return false,
    }
    true
}

fn a_bind_mount_is_the_hosts_directory() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    fs::write(fixture.path("file"), "host\n")?;
    let spec =
        script("a", "cat /m/file; echo container >/m/new").mount(Mount::bind(fixture.dir.path(), "/m"));
    assert_eq!(say(&pod, spec), "host\n");
    assert_eq!(fs::read_to_string(fixture.path("new"))?, "container\n");
    PASS
}

fn a_readonly_bind_mount_refuses_writes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    fs::write(fixture.path("file"), "host\n")?;
    let command =
        "cat /m/file; echo x >/m/file || rm /m/file || touch /m/new || mount -o remount,rw /m; true";
    let spec = script("a", command).mount(Mount::bind(fixture.dir.path(), "/m").readonly(true));
    let (_, text) = output(&pod, spec)?;
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert_eq!(fs::read_to_string(fixture.path("file"))?, "host\n");
    // The host's own mount is as writable as before.
    fs::write(fixture.path("file"), "host again\n")?;
    PASS
}

/// A directory with a tmpfs mounted below it, at `sub`, which holds a file.
pub fn source_with_mount(fixture: &Fixture) -> HostMount {
    let below = HostMount::tmpfs(fixture.path("source/sub"));
    fs::write(below.0.join("file"), "below\n").expect("write to the tmpfs");
    below
}

fn only_a_recursive_bind_brings_what_is_mounted_below() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let _below = source_with_mount(&fixture);
    let source = fixture.path("source");
    let spec = script("a", "cat /r/sub/file; ls -A /b/sub")
        .mount(Mount::bind(&source, "/b"))
        .mount(Mount::rbind(&source, "/r"));
    assert_eq!(say(&pod, spec), "below\n");
    PASS
}

fn readonly_goes_below_only_when_it_is_recursive() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let below = source_with_mount(&fixture);
    let source = fixture.path("source");
    let spec = script("a", "touch /ro/top; touch /ro/sub/one; touch /rro/top; touch /rro/sub/two; true")
        .mount(Mount::rbind(&source, "/ro").readonly(true))
        .mount(Mount::rbind(&source, "/rro").readonly_recursive(true));
    let (_, text) = output(&pod, spec)?;
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert!(below.0.join("one").exists() && !below.0.join("two").exists(), "{text}");
    PASS
}

fn a_file_is_bound_over_a_file() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("file");
    fs::write(&file, "from the host\n")?;
    let spec =
        script("a", "cat /etc/passwd; echo more >>/etc/passwd; rm /etc/passwd 2>/dev/null || echo busy")
            .mount(Mount::bind(&file, "/etc/passwd"));
    assert_eq!(say(&pod, spec), "from the host\nbusy\n");
    assert_eq!(fs::read_to_string(&file)?, "from the host\nmore\n");
    PASS
}

fn missing_targets_are_made_as_what_the_source_is() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (root, file) = (fixture.path("root"), fixture.path("file"));
    fs::create_dir(&root)?;
    fs::write(&file, "f\n")?;
    let spec = bare("a", Rootfs::directory(&root), "cat /x/y/file; ls -A /x/y /deep; stat -c %a /x /t/u")
        .mount(Mount::bind(&file, "/x/y/file"))
        .mount(Mount::bind(fixture.dir.path(), "/deep/er/dir"))
        .mount(Mount::tmpfs("/t/u", 1 << 16));
    assert_eq!(say(&pod, spec), "f\n/deep:\ner\n\n/x/y:\nfile\n755\n1777\n");
    assert!(
        root.join("x/y/file").is_file() && root.join("deep/er/dir").is_dir() && root.join("t/u").is_dir()
    );
    // A directory does not go over a file, nor the other way round.
    let wrong = bare("b", Rootfs::directory(&root), "").mount(Mount::bind(fixture.dir.path(), "/x/y/file"));
    assert!(pod.create_container(&wrong).unwrap_err().step().ends_with("on /x/y/file"));
    let wrong = bare("b", Rootfs::directory(&root), "").mount(Mount::bind(&file, "/deep"));
    assert!(pod.create_container(&wrong).unwrap_err().step().ends_with("on /deep"));
    PASS
}

fn nosuid_ignores_set_user_id_bits() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let program = fixture.path("suid");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    for (nosuid, euid) in [(false, "0\n"), (true, "1000\n")] {
        let spec = ContainerSpec::new("a", Rootfs::overlay(["/"]))
            .args(["/m/suid", "payload", "mounts-euid"])
            .mount(Mount::bind(fixture.dir.path(), "/m").nosuid(nosuid))
            .user(1000, 1000)
            // Otherwise these bits are of no effect in any case.
            .security(Security::default().no_new_privileges(false));
        fs::set_permissions(fixture.dir.path(), fs::Permissions::from_mode(0o755))?;
        assert_eq!(say(&pod, spec), euid, "nosuid {nosuid}");
    }
    PASS
}

fn nodev_ignores_device_nodes() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // A mount of the test's own: that of the temporary directory may be nodev itself.
    let tmpfs = HostMount::tmpfs(fixture.path("m"));
    mknod(&tmpfs.0.join("null"), SFlag::S_IFCHR, Mode::from_bits_retain(0o666), makedev(1, 3))?;
    let spec =
        |nodev| script("a", "cat /m/null && echo read").mount(Mount::bind(&tmpfs.0, "/m").nodev(nodev));
    assert_eq!(say(&pod, spec(false)), "read\n");
    let (_, text) = output(&pod, spec(true))?;
    assert!(text.contains("Permission denied"), "{text}");
    PASS
}

fn noexec_refuses_programs() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let tmpfs = HostMount::tmpfs(fixture.path("m"));
    fs::write(tmpfs.0.join("run"), "#!/bin/sh\necho ran\n")?;
    fs::set_permissions(tmpfs.0.join("run"), fs::Permissions::from_mode(0o755))?;
    let spec = |noexec| script("a", "/m/run").mount(Mount::bind(&tmpfs.0, "/m").noexec(noexec));
    assert_eq!(say(&pod, spec(false)), "ran\n");
    let (status, text) = output(&pod, spec(true))?;
    assert_eq!((status.code(), text.contains("Permission denied")), (126, true), "{text}");
    // Nor can the container's own program be one.
    let direct = spec(true).args(["/m/run"]);
    assert_eq!(pod.run(&direct).unwrap_err().kind(), ErrorKind::Exec);
    PASS
}

fn a_tmpfs_has_the_size_and_the_mode_that_were_asked_for() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let kind = MountKind::Tmpfs { size: None, mode: Some(0o2750) };
    let fill = "dd if=/dev/zero of=/t/x bs=4096 count=100 2>&1 | grep -o 'No space left'; stat -c %s /t/x";
    let spec = script("a", &format!("stat -c '%a %u' /t /m; {fill}"))
        .mount(Mount::tmpfs("/t", 64 << 10))
        .mount(Mount::of(kind, "/m").noexec(true));
    assert_eq!(say(&pod, spec), "1777 0\n2750 0\nNo space left\n65536\n");
    PASS
}

/// A container may mount in its mount namespace if it has this capability.
fn may_mount(spec: ContainerSpec) -> ContainerSpec {
    let capabilities = Capabilities::default().with(Capability::CAP_SYS_ADMIN);
    spec.security(Security::default().capabilities(capabilities))
}

fn later_mounts_come_only_where_propagation_lets_them() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let source = HostMount::tmpfs(fixture.path("source")).propagation(MsFlags::MS_SHARED);
    for name in ["late", "own"] {
        fs::create_dir(source.0.join(name))?;
    }
    let start = |name, propagation| {
        let mount = Mount::rbind(&source.0, "/m").propagation(propagation);
        Shell::start(&pod, may_mount(script(name, "").mount(mount)))
    };
    let mut private = start("private", Propagation::Private);
    let mut slave = start("slave", Propagation::Slave);
    let mut shared = start("shared", Propagation::Shared);
    // From the host to the containers.
    let late = HostMount::tmpfs(source.0.join("late"));
    fs::write(late.0.join("file"), "late\n")?;
    let look = "cat /m/late/file 2>/dev/null || echo nothing";
    assert_eq!(private.run(look), "nothing\n");
    assert_eq!(slave.run(look), "late\n");
    assert_eq!(shared.run(look), "late\n");
    drop(late);
    assert_eq!(slave.run(look), "nothing\n");
    // From containers to the host.
    let own = "mount -t tmpfs none /m/own && echo own >/m/own/file && cat /m/own/file";
    let file = source.0.join("own/file");
    for container in [&mut private, &mut slave] {
        assert_eq!(container.run(own), "own\n");
        assert!(!file.exists());
        assert_eq!(container.run("umount /m/own"), "");
    }
    assert_eq!(shared.run(own), "own\n");
    assert_eq!(fs::read_to_string(&file)?, "own\n");
    assert_eq!(slave.run("cat /m/own/file"), "own\n");
    assert_eq!(private.run("cat /m/own/file 2>/dev/null || echo nothing"), "nothing\n");
    drop(HostMount(source.0.join("own")));
    assert!(!file.exists());
    PASS
}

fn what_the_host_gets_from_elsewhere_can_be_passed_on() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let first = HostMount::tmpfs(fixture.path("first")).propagation(MsFlags::MS_SHARED);
    fs::create_dir(first.0.join("late"))?;
    // A slave of the first, which is not shared itself: a host in a container looks like that.
    let second = HostMount::bind(&first.0, fixture.path("second")).propagation(MsFlags::MS_SLAVE);
    let mount = Mount::rbind(&second.0, "/m").propagation(Propagation::Slave);
    let mut shell = Shell::start(&pod, script("a", "").mount(mount));
    let late = HostMount::tmpfs(first.0.join("late"));
    fs::write(late.0.join("file"), "late\n")?;
    assert_eq!(shell.run("cat /m/late/file"), "late\n");
    // But it cannot be bidirectional.
    let mount = Mount::rbind(&second.0, "/m").propagation(Propagation::Shared);
    let error = pod.create_container(&script("b", "").mount(mount)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    PASS
}

fn propagation_needs_a_shared_source() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let source = HostMount::tmpfs(fixture.path("source with space")).propagation(MsFlags::MS_PRIVATE);
    fs::create_dir(source.0.join("dir"))?;
    for propagation in [Propagation::Slave, Propagation::Shared] {
        for path in [source.0.clone(), source.0.join("dir")] {
            let mount = Mount::rbind(&path, "/m").propagation(propagation);
            let error = pod.create_container(&script("a", "").mount(mount)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSpec);
            assert!(error.to_string().contains("not on a shared mount"), "{error}");
        }
    }
    let shared = source.propagation(MsFlags::MS_SHARED);
    let mount = Mount::rbind(shared.0.join("dir"), "/m").propagation(Propagation::Slave);
    assert_eq!(say(&pod, script("a", "echo well").mount(mount)), "well\n");
    PASS
}

fn mounts_are_made_in_the_given_order() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    fs::write(fixture.path("file"), "f\n")?;
    let (tmpfs, bind) = (Mount::tmpfs("/a", 1 << 16), Mount::bind(fixture.path("file"), "/a/b/file"));
    let look = "cat /a/b/file 2>/dev/null || echo hidden";
    assert_eq!(say(&pod, script("a", look).mount(tmpfs.clone()).mount(bind.clone())), "f\n");
    assert_eq!(say(&pod, script("a", look).mount(bind).mount(tmpfs)), "hidden\n");
    PASS
}

fn a_missing_source_is_told_with_its_path() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let missing = fixture.path("missing");
    let error = pod.create_container(&script("a", "").mount(Mount::bind(&missing, "/m"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
    PASS
}
