//! Where the SELinux label of filesystems is among their options.

use crate::container::plan::{PodContext, Source, compile};
use crate::spec::*;

const LABEL: &str = "a:b:c:s0:c1,c2";

/// The words of the plan, and the options of filesystems that the library makes.
fn plan(change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> (String, Vec<String>) {
    let container = change(ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"]));
    container.validate().unwrap();
    let plan = compile(&PodContext { spec: &PodSpec::new("web"), ids: None, ordinary: None }, &container);
    let plan = plan.unwrap();
    let data = plan.sources.iter().filter_map(|source| match source {
        Source::Filesystem { data, .. } => Some(data.clone()),
        _ => None,
    });
    (plan.to_string(), data.flatten().collect())
}

fn labelled() -> Security {
    Security::default().mount_label(LABEL)
}

#[test]
fn what_is_made_for_the_container_has_it() {
    let mounts = |spec: ContainerSpec| {
        let mut tmpfs = Mount::tmpfs("/more", 4096);
        tmpfs.data.push("nr_inodes=5".into());
        spec.mount(Mount::tmpfs("/work", 4096)).mount(tmpfs).mount(Mount::filesystem("ramfs", None, "/fs"))
    };
    let (text, data) = plan(|spec| mounts(spec).security(labelled()));
    let lines = |word: &str| text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>();
    let all_with = |word: &str, label: &str| lines(word).iter().all(|line| line.contains(label));
    // The layer that is written to, /dev, and the two of the specification.
    assert_eq!((lines("make a tmpfs").len(), lines("make a devpts").len()), (4, 1), "{text}");
    assert!(all_with("make a tmpfs", ", context=a:b:c:s0:c1,c2"), "{text}");
    assert!(all_with("make a devpts", ", context=a:b:c:s0:c1,c2"), "{text}");
    // The commas of an option of mount(2) are in quotes.
    assert!(all_with("mount the overlay", ",context=\"a:b:c:s0:c1,c2\""), "{text}");
    assert_eq!(data, ["context=a:b:c:s0:c1,c2"]);
    for kernels in ["make a proc", "make a sysfs", "make a cgroup2"] {
        let lines = lines(kernels);
        assert!(lines.len() == 1 && !lines[0].contains("context"), "{text}");
    }
    let (plain, data) = plan(mounts);
    assert!(!plain.contains("context") && data.is_empty(), "{plain}");
}

#[test]
fn what_the_twin_makes_in_a_user_namespace_has_it() {
    let ids = IdMappings {
        uid_mappings: vec![IdMapping { container_id: 0, host_id: 1 << 16, size: 1 << 16 }],
        gid_mappings: vec![IdMapping { container_id: 0, host_id: 1 << 16, size: 1 << 16 }],
    };
    let spec = PodSpec::new("web").user(UserMode::Mapped(ids.clone()));
    let mut own = Mount::of(MountKind::Devpts, "/own");
    own.data.push("context=d:e:f".into());
    let container = ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"]);
    let container = container.mount(own).security(labelled());
    container.validate().unwrap();
    let context = PodContext { spec: &spec, ids: Some(&ids), ordinary: None };
    let text = compile(&context, &container).unwrap().to_string();
    let twins = text.lines().skip_while(|line| !line.contains("make a twin"));
    let twins: Vec<_> = twins.take_while(|line| !line.contains("give init the filesystems")).collect();
    let lines = |word: &str| twins.iter().filter(|line| line.contains(word)).collect::<Vec<_>>();
    let terminals = lines("make a devpts");
    assert_eq!(terminals.len(), 2, "{text}");
    assert!(terminals[0].contains(", context=a:b:c:s0:c1,c2"), "{text}");
    assert!(terminals[1].contains("context=d:e:f") && !terminals[1].contains(LABEL), "{text}");
    let procs = lines("make a proc");
    assert!(!procs.is_empty() && procs.iter().all(|line| !line.contains("context")), "{text}");
}

#[test]
fn a_mount_with_a_label_of_its_own_keeps_that() {
    for own in ["context=d:e:f", "defcontext=d:e:f"] {
        let (text, data) = plan(|spec| {
            let mut mounts = [Mount::tmpfs("/work", 4096), Mount::filesystem("ramfs", None, "/fs")];
            mounts.iter_mut().for_each(|mount| mount.data.push(own.into()));
            let [tmpfs, filesystem] = mounts;
            spec.mount(tmpfs).mount(filesystem).security(labelled())
        });
        let line = text.lines().find(|line| line.contains(own)).unwrap();
        assert!(!line.contains(LABEL), "{line}");
        assert_eq!(data, [own]);
    }
}

#[test]
fn a_label_that_is_more_than_one_option_is_refused() {
    for wrong in ["", "a\",upperdir=/", "a\nb", &"x".repeat(256)] {
        let spec = ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"]);
        let error = spec.security(Security::default().mount_label(wrong)).validate().unwrap_err();
        assert!(error.to_string().contains("security.mountLabel"), "{error}");
        let error = PodSpec::new("web").mount_label(wrong).validate().unwrap_err();
        assert!(error.to_string().contains("mountLabel"), "{error}");
    }
    let longest = "x".repeat(255);
    PodSpec::new("web").mount_label(longest).validate().unwrap();
}
