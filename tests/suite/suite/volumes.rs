//! Volumes of a pod: what containers share, and paths below a volume that lead nowhere else.

use std::fs;
use std::os::unix::fs::symlink;

use pericarp::spec::VolumeSource;
use pericarp::{ErrorKind, Mount, PodSpec, Volume};

use crate::mounts::source_with_mount;
use crate::stdio::Shell;
use crate::support::fixture::{output, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_tmpfs_volume_is_shared_and_outlives_containers,
    a_tmpfs_volume_has_its_size_and_mode,
    a_directory_volume_is_the_hosts_directory,
    a_readonly_volume_can_be_readonly_below_as_well,
    a_sub_path_is_all_that_is_seen_of_a_volume,
];

fn a_tmpfs_volume_is_shared_and_outlives_containers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::tmpfs("data", 1 << 20)))?;
    let spec = |name, at: &str, command: &str| script(name, command).mount(Mount::volume("data", at));
    let mut a = Shell::start(&pod, spec("a", "/data", ""));
    let mut b = Shell::start(&pod, spec("b", "/other/place", "").user(1000, 1000));
    assert_eq!(a.run("echo one >/data/x"), "");
    // Anyone may write to it, as to Kubernetes' emptyDir.
    assert_eq!(b.run("cat /other/place/x; echo two >/other/place/y; stat -c %a /other/place"), "one\n777\n");
    assert_eq!(a.run("cat /data/y"), "two\n");
    a.container.remove()?;
    b.container.remove()?;
    assert_eq!(say(&pod, spec("c", "/data", "cat /data/x /data/y")), "one\ntwo\n");
    // Another pod's volume of that name is another one.
    let other = fixture.node.create_pod(&PodSpec::new("other").volume(Volume::tmpfs("data", 1 << 20)))?;
    assert_eq!(say(&other, spec("c", "/data", "ls -A /data")), "");
    PASS
}

fn a_tmpfs_volume_has_its_size_and_mode() -> Outcome {
    let fixture = Fixture::new();
    let mut volume = Volume::tmpfs("data", 0);
    volume.source = VolumeSource::Tmpfs { size: 64 << 10, mode: 0o1750 };
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(volume))?;
    let fill = "dd if=/dev/zero of=/d/x bs=4096 count=100 2>&1 | grep -o 'No space left'; stat -c %s /d/x";
    let command = format!("stat -c %a /d; {fill}; cp /bin/sh /d/sh 2>/dev/null; grep ' /d ' /proc/mounts");
    let text = say(&pod, script("a", &command).mount(Mount::volume("data", "/d")));
    assert!(text.starts_with("1750\nNo space left\n65536\n"), "{text}");
    // Programs may be in a volume; devices and set-user-id programs are of no effect.
    assert!(text.contains("nosuid,nodev") && !text.contains("noexec"), "{text}");
    PASS
}

fn a_directory_volume_is_the_hosts_directory() -> Outcome {
    let fixture = Fixture::new();
    let below = source_with_mount(&fixture);
    let pod = fixture
        .node
        .create_pod(&PodSpec::new("web").volume(Volume::directory("d", fixture.path("source"))))?;
    let spec = script("a", "cat /d/sub/file; echo x >/d/new").mount(Mount::volume("d", "/d"));
    assert_eq!(say(&pod, spec), "below\n");
    let spec = script("b", "touch /d/more").mount(Mount::volume("d", "/d").readonly(true));
    assert!(output(&pod, spec)?.1.contains("Read-only file system"));
    pod.remove()?;
    assert_eq!(fs::read_to_string(fixture.path("source/new"))?, "x\n");
    assert!(below.0.join("file").exists());
    PASS
}

fn a_readonly_volume_can_be_readonly_below_as_well() -> Outcome {
    let fixture = Fixture::new();
    let below = source_with_mount(&fixture);
    fs::create_dir(below.0.join("deep"))?;
    let pod = fixture
        .node
        .create_pod(&PodSpec::new("web").volume(Volume::directory("d", fixture.path("source"))))?;
    let spec = script("a", "touch /d/sub/one; touch /s/two; touch /s/deep/three; true")
        .mount(Mount::volume("d", "/d").readonly_recursive(true))
        .mount(Mount::volume_sub_path("d", "sub", "/s").readonly_recursive(true));
    let (_, text) = output(&pod, spec)?;
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    PASS
}

fn a_sub_path_is_all_that_is_seen_of_a_volume() -> Outcome {
    let fixture = Fixture::new();
    let source = fixture.path("source");
    fs::create_dir_all(source.join("one/two"))?;
    fs::write(source.join("one/two/file"), "f\n")?;
    fs::write(source.join("secret"), "s\n")?;
    symlink("one/two", source.join("inside"))?;
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::directory("d", &source)))?;
    let spec = script("a", "cat /x/file /y /z/file; ls -A /x /x/..| grep -c secret; echo n >/z/new")
        .mount(Mount::volume_sub_path("d", "one/two", "/x"))
        .mount(Mount::volume_sub_path("d", "one/two/file", "/y"))
        // A link that stays inside is followed, as Kubernetes does.
        .mount(Mount::volume_sub_path("d", "inside", "/z"));
    assert_eq!(say(&pod, spec), "f\nf\nf\n0\n");
    assert!(source.join("one/two/new").exists());
    let spec = script("a", "").mount(Mount::volume_sub_path("d", "missing", "/x"));
    let error = pod.create_container(&spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("missing in volume \"d\""), "{error}");
    PASS
}
