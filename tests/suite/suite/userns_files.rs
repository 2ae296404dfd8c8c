//! Files of the machine in pods with a user namespace: whose they are inside, and what keeps them safe.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use pericarp::spec::{IdMappings, Upper, UserMode};
use pericarp::{ContainerSpec, ErrorKind, Mount, PodSpec, Rootfs, Volume};

use crate::stdio::Shell;
use crate::support::fixture::{rootfs, say, script};
use crate::support::{Fixture, Outcome, PASS};
use crate::userns::{FIRST, mapped, mighty, pod, pod_of};

crate::tests![
    files_of_the_root_filesystem_belong_to_who_they_did,
    the_upper_directory_keeps_ids_of_the_container,
    volumes_and_binds_are_idmapped_and_shared,
    unmapped_mounts_belong_to_nobody,
    what_cannot_be_idmapped_is_told,
    what_was_mounted_before_is_locked,
];

/// A root filesystem in a directory: this program, and a file of root and one of somebody.
fn directory(fixture: &Fixture) -> Rootfs {
    let root = fixture.path("root");
    fs::create_dir_all(root.join("dir")).expect("make a directory");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmod");
    for name in ["bin", "lib", "lib64", "usr"] {
        let real = Path::new("/").join(name);
        match fs::read_link(&real) {
            Ok(target) => std::os::unix::fs::symlink(target, root.join(name)).expect("make a link"),
            Err(_) if real.exists() => fs::create_dir(root.join(name)).expect("make a directory"),
            Err(_) => {}
        }
    }
    fs::write(root.join("dir/file"), "x\n").expect("write");
    fs::set_permissions(root.join("dir/file"), fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(root.join("dir/theirs"), "y\n").expect("write");
    chown(root.join("dir/theirs"), Some(1000), Some(1001)).expect("chown");
    Rootfs::directory(root)
}

fn in_directory(rootfs: Rootfs, script: &str) -> ContainerSpec {
    let spec = ContainerSpec::new("a", rootfs).args(["/bin/sh", "-c", script]);
    ["bin", "lib", "lib64", "usr"].into_iter().map(|name| Path::new("/").join(name)).fold(
        spec,
        |spec, path| {
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|stat| stat.is_dir());
            if is_directory { spec.mount(Mount::bind(&path, &path).readonly(true)) } else { spec }
        },
    )
}

fn files_of_the_root_filesystem_belong_to_who_they_did() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let rootfs = directory(&fixture);
    let look = "stat -c %u:%g /dir/file /dir/theirs /; cat /dir/file; echo n >/dir/new; mkdir /made; \
                chown 7:8 /dir/theirs; stat -c %u:%g /tmp /dir/new";
    let text = say(&pod, in_directory(rootfs, look).mount(Mount::tmpfs("/tmp", 1 << 20)));
    assert_eq!(text, "0:0\n1000:1001\n0:0\nx\n0:0\n0:0\n");
    let owner = |name: &str| {
        let stat = fs::metadata(fixture.path("root").join(name)).expect(name);
        (stat.uid(), stat.gid())
    };
    assert_eq!((owner("dir/new"), owner("made"), owner("tmp")), ((0, 0), (0, 0), (0, 0)));
    assert_eq!(owner("dir/theirs"), (7, 8));
    // Mount points that init has made are of no other user either.
    assert_eq!((owner("proc"), owner("dev"), owner("sys")), ((0, 0), (0, 0), (0, 0)));
    // An overlay with the machine's own root below: what is changed is copied up.
    let text = say(
        &pod,
        script("b", "stat -c %u:%g / /etc/passwd; echo x >>/etc/passwd; stat -c %u:%g /etc/passwd"),
    );
    assert_eq!(text, "0:0\n0:0\n0:0\n");
    PASS
}

fn the_upper_directory_keeps_ids_of_the_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let (upper, work) = (fixture.path("l/upper"), fixture.path("l/work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let rootfs = Rootfs::Overlay {
        lower: vec!["/".into()],
        upper: Upper::Directory { upper: upper.clone(), work },
        readonly: false,
    };
    let spec = |name| ContainerSpec::new(name, rootfs.clone());
    let change = "echo n >/new; chown 5:6 /new; echo x >>/etc/passwd; rm /etc/group";
    say(&pod, spec("a").args(["/bin/sh", "-c", change]));
    let stat = fs::metadata(upper.join("new"))?;
    assert_eq!((stat.uid(), stat.gid()), (5, 6));
    assert_eq!(fs::metadata(upper.join("etc/passwd"))?.uid(), 0);
    // A second pod with other ids sees the same owners.
    let other = UserMode::Mapped(IdMappings::contiguous(FIRST + 65536, 65536));
    let other = fixture.node.create_pod(&PodSpec::new("other").user(other))?;
    let look =
        spec("b").args(["/bin/sh", "-c", "stat -c %u:%g /new; ls /etc/group 2>/dev/null || echo gone"]);
    assert_eq!(say(&other, look), "5:6\ngone\n");
    PASS
}

fn volumes_and_binds_are_idmapped_and_shared() -> Outcome {
    let fixture = Fixture::new();
    let (source, bound) = (fixture.path("source"), fixture.path("bound"));
    fs::create_dir_all(source.join("sub"))?;
    fs::create_dir(&bound)?;
    chown(&source, Some(1000), None)?;
    let pod = pod_of(&fixture, |spec| {
        spec.volume(Volume::directory("d", &source)).volume(Volume::tmpfs("t", 1 << 20)).hostname_files(true)
    });
    let spec = |name| {
        script(name, "")
            .mount(Mount::volume("d", "/d"))
            .mount(Mount::volume_sub_path("d", "sub", "/sub"))
            .mount(Mount::volume("t", "/t"))
            .mount(Mount::bind(&bound, "/bound"))
    };
    let mut a = Shell::start(&pod, spec("a"));
    let mut b = Shell::start(&pod, spec("b").user(1000, 1000));
    assert_eq!(
        a.run("stat -c %u:%a /d /t /etc/hosts; echo 1 >/t/x; echo 2 >/bound/y; echo 3 >/sub/z"),
        "1000:755\n0:777\n0:644\n"
    );
    assert_eq!(b.run("cat /t/x /bound/y /d/sub/z; echo 4 >/d/mine; echo 5 >/t/mine"), "1\n2\n3\n");
    assert_eq!(a.run("stat -c %u /d/mine /t/mine; cat /d/mine"), "1000\n1000\n4\n");
    assert_eq!(fs::metadata(source.join("mine"))?.uid(), 1000);
    assert_eq!(fs::metadata(bound.join("y"))?.uid(), 0);
    // The volume of another pod has that one's ids at the same time.
    let other = UserMode::Mapped(IdMappings::contiguous(FIRST + 65536, 65536));
    let other = PodSpec::new("other").user(other).volume(Volume::directory("d", &source));
    let other = fixture.node.create_pod(&other)?;
    assert_eq!(say(&other, script("c", "stat -c %u /d/mine").mount(Mount::volume("d", "/d"))), "1000\n");
    PASS
}

fn unmapped_mounts_belong_to_nobody() -> Outcome {
    let fixture = Fixture::new();
    let source = fixture.path("source");
    fs::create_dir(&source)?;
    fs::write(source.join("ours"), "o\n")?;
    fs::write(source.join("theirs"), "t\n")?;
    chown(source.join("theirs"), Some(FIRST + 5), Some(FIRST + 6))?;
    let pod = pod_of(&fixture, |spec| spec.unmapped_mounts(true).volume(Volume::directory("d", &source)));
    let look = "stat -c %u:%g /d/ours /d/theirs /etc/passwd; echo x 2>/dev/null >/d/ours || echo refused";
    let text = say(&pod, script("a", look).mount(Mount::volume("d", "/d")));
    assert_eq!(text, "65534:65534\n5:6\n65534:65534\nrefused\n");
    let error = fixture.node.create_pod(&PodSpec::new("x").unmapped_mounts(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    PASS
}

fn what_cannot_be_idmapped_is_told() -> Outcome {
    let fixture = Fixture::new();
    // A proc has no idmapped mounts on any kernel.
    let pod = pod(&fixture);
    let error = pod.create_container(&script("a", "true").mount(Mount::bind("/proc", "/host"))).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(libc::EINVAL)), "{error}");
    assert!(error.to_string().contains("/proc"), "{error}");
    let spec = PodSpec::new("v").user(mapped()).volume(Volume::directory("d", "/proc"));
    let error = fixture.node.create_pod(&spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(fixture.node.pods()?.len(), 1);
    PASS
}

/// Mutation: with volumes among the mounts that are made after the user namespace was joined (`Build::is_late`), the
/// remount and the umount of `/d` succeeded: "write mask sys root touch" were all that was refused.
fn what_was_mounted_before_is_locked() -> Outcome {
    let fixture = Fixture::new();
    let source = fixture.path("source");
    fs::create_dir(&source)?;
    let pod = pod_of(&fixture, |spec| spec.volume(Volume::directory("d", &source)));
    let loosen = "mount -o remount,bind,rw /d 2>/dev/null || echo remount; umount /d 2>/dev/null || echo umount; \
                  echo x 2>/dev/null >/d/x || echo write; umount /sys/firmware 2>/dev/null || echo mask; \
                  umount /sys 2>/dev/null || echo sys; mount -o remount,bind,rw / 2>/dev/null || echo root; \
                  touch /x 2>/dev/null || echo touch";
    let mut spec = mighty(script("a", loosen)).mount(Mount::volume("d", "/d").readonly(true));
    let Rootfs::Overlay { lower, upper, .. } = rootfs() else { unreachable!("an overlay") };
    spec.rootfs = Rootfs::Overlay { lower, upper, readonly: true };
    assert_eq!(say(&pod, spec), "remount\numount\nwrite\nmask\nsys\nroot\ntouch\n");
    assert_eq!(fs::read_dir(&source)?.count(), 0);
    PASS
}
