//! Paths in hostile directories: links there lead nowhere else. What is exchanged in the last moment is in `races`.
//!
//! CVE-2017-1002101, CVE-2018-15664, CVE-2019-18837, CVE-2021-25741, CVE-2021-30465, CVE-2024-45310.

use std::fs;
use std::os::unix::fs::symlink;

use pericarp::spec::Device;
use pericarp::{ErrorKind, Mount, PodSpec, Rootfs, Volume};

use crate::rootfs::bare;
use crate::support::fixture::{say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    links_in_the_root_filesystem_stay_inside_it,
    links_lead_no_node_out_of_the_root,
    a_sub_path_never_leads_out_of_its_volume,
];

/// CVE-2017-1002101. With no rules for the path in `open_volume` of `src/container/source/files.rs`: "absolute" leads to the `/etc`
/// of the pod's mounts, which has none (ENOENT).
fn a_sub_path_never_leads_out_of_its_volume() -> Outcome {
    let fixture = Fixture::new();
    let source = fixture.path("source");
    fs::create_dir_all(source.join("dir"))?;
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::directory("d", &source)))?;
    // A container may put such links there.
    let links = "ln -s /etc /d/absolute; ln -s ../../etc /d/dots; ln -s / /d/dir/root; ln -s /proc/self/root /d/magic; \
                 ln -s dots /d/chain; ln -s ../../../../../../../etc/passwd /d/dir/file; ln -s .. /d/up";
    say(&pod, script("a", links).mount(Mount::volume("d", "/d")));
    for path in
        ["absolute", "dots", "dir/root", "dir/root/etc", "magic", "chain", "dir/file", "up", "up/source"]
    {
        let error = pod
            .create_container(&script("b", "true").mount(Mount::volume_sub_path("d", path, "/x")))
            .expect_err(path);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::PermissionDenied, Some(libc::EXDEV)), "{path}");
        assert!(error.to_string().contains("leads out of the volume"), "{path}: {error}");
    }
    assert_eq!(pod.containers()?.len(), 0);
    PASS
}

/// With paths resolved from the root's directory without `RESOLVE_IN_ROOT` (`src/init/fs.rs`): "mount … on /absolute/one:
/// EEXIST", since the link leads into the template.
fn links_in_the_root_filesystem_stay_inside_it() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (root, outside) = (fixture.path("root"), fixture.path("outside"));
    fs::create_dir(&root)?;
    fs::create_dir(&outside)?;
    fs::write(fixture.path("file"), "f\n")?;
    symlink(&outside, root.join("absolute"))?;
    symlink("../../../../../../../../outside", root.join("dots"))?;
    symlink("absolute", root.join("chain"))?;
    // Where the absolute link leads to inside the root.
    let inside = root.join(outside.strip_prefix("/")?);
    fs::create_dir_all(&inside)?;
    fs::create_dir(root.join("outside"))?;
    let at = |path: &str| Mount::bind(fixture.path("file"), path);
    let command = format!("cat {0}/one {0}/two/deep /outside/three", outside.display());
    let spec = bare("a", Rootfs::directory(&root), &command)
        .mount(at("/absolute/one"))
        .mount(at("/chain/two/deep"))
        .mount(at("/dots/three"));
    assert_eq!(say(&pod, spec), "f\nf\nf\n");
    assert_eq!(fs::read_dir(&outside)?.count(), 0, "something was made outside the root");
    assert!(inside.join("one").is_file() && root.join("outside/three").is_file());
    // A working directory that is a link stays inside as well.
    let spec = bare("a", Rootfs::directory(&root), "pwd -P; touch here").cwd("/dots/work");
    assert_eq!(say(&pod, spec), "/outside/work\n");
    assert!(root.join("outside/work/here").exists());
    PASS
}

fn links_lead_no_node_out_of_the_root() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (root, outside) = (fixture.path("root"), fixture.path("outside"));
    fs::create_dir(&root)?;
    fs::create_dir(&outside)?;
    symlink("../../../../../../../../../../outside", root.join("up"))?;
    symlink(&outside, root.join("absolute"))?;
    symlink("/proc/self/cwd", root.join("magic"))?;
    let at = |path: &str| {
        bare("a", Rootfs::directory(&root), "stat -c %t:%T /outside/one").device(Device::char(path, 1, 3))
    };
    // Seen to fail with openat(2) in the place of openat2(2) with RESOLVE_IN_ROOT: the file was in `outside`.
    fs::create_dir(root.join("outside"))?;
    assert_eq!(say(&pod, at("/up/one")), "1:3\n");
    fs::create_dir_all(root.join(outside.strip_prefix("/")?))?;
    pod.run(&at("/absolute/two"))?;
    assert_eq!(fs::read_dir(&outside)?.count(), 0);
    assert!(pod.create_container(&at("/magic/three")).is_err());
    // Below /dev there is no link that is followed at all.
    let error = pod.create_container(&at("/dev/fd/three")).unwrap_err();
    assert_eq!(error.errno(), Some(libc::ELOOP), "{error}");
    PASS
}
