//! Plans for the node of an ordinary user.

use nix::sched::CloneFlags;

use crate::container::plan::{
    Ordinary, PROC_OF_HOST, Plan, PodContext, Source, Step, compile, compile_exec, holder, reaper,
};
use crate::error::{ErrorKind, Result};
use crate::spec::{
    Capabilities, Capability, ContainerSpec, Device, DeviceAccess, DeviceRule, DeviceRuleKind, ExecSpec,
    IdMappings, PidMode, PodSpec, Rootfs, Security, UserMode,
};

fn container(rootfs: Rootfs) -> ContainerSpec {
    ContainerSpec::new("main", rootfs).args(["true"])
}

fn plan(ids: &IdMappings, keeps_groups: bool, container: &ContainerSpec) -> Result<Plan> {
    let pod = PodSpec::new("web").ephemeral(true);
    compile(
        &PodContext { spec: &pod, ids: None, ordinary: Some(Ordinary { ids, keeps_groups, workers: true }) },
        container,
    )
}

fn text(keeps_groups: bool, size: u32, rootfs: Rootfs) -> String {
    plan(&IdMappings::contiguous(1000, size), keeps_groups, &container(rootfs)).unwrap().to_string()
}

#[test]
fn devices_come_from_the_machine_and_none_is_made() {
    let plan = plan(&IdMappings::contiguous(1000, 1), true, &container(Rootfs::directory("/r"))).unwrap();
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::MknodAt { .. } | Step::Device { .. })));
    let devices: Vec<_> = plan
        .sources
        .iter()
        .filter_map(|source| match source {
            Source::HostDevice { path, .. } => Some(path.display().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(devices, ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]);
    // Nothing else belongs to a user namespace of the pod's, since it has none.
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::EnterUser { .. } | Step::OwnFiles { .. })));
}

#[test]
fn ids_and_groups_are_those_of_the_namespace() {
    let (one, many) = (text(true, 1, Rootfs::directory("/r")), text(false, 65536, Rootfs::directory("/r")));
    assert!(one.contains("keep the groups") && !many.contains("keep the groups"), "{one}{many}");
    assert!(!one.contains("gid=5") && many.contains("gid=5"), "{one}{many}");
    let spec = container(Rootfs::directory("/r")).user(7, 0);
    let error = plan(&IdMappings::contiguous(1000, 1), true, &spec).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("user.uid")));
    plan(&IdMappings::contiguous(1000, 65536), false, &spec).unwrap();
    let groups = container(Rootfs::directory("/r")).additional_gids([7]);
    assert!(plan(&IdMappings::contiguous(1000, 1), true, &groups).is_err());
    plan(&IdMappings::contiguous(1000, 65536), false, &groups).unwrap();
}

#[test]
fn files_are_as_an_ordinary_user_may_have_them() {
    assert!(text(true, 1, Rootfs::overlay(["/a", "/b"])).contains(",userxattr"));
    let directory = text(true, 1, Rootfs::directory("/r"));
    assert!(directory.lines().any(|line| line.contains("/r") && line.contains("nodev")), "{directory}");
}

#[test]
fn what_would_reach_workers_or_take_root_is_refused() {
    let ids = IdMappings::contiguous(1000, 1);
    let refused = |spec: &ContainerSpec| plan(&ids, true, spec).unwrap_err().kind();
    let tracing = || Capabilities::default().with(Capability::CAP_SYS_PTRACE);
    let base = || container(Rootfs::directory("/r"));
    assert_eq!(
        refused(&base().security(Security::default().capabilities(tracing()))),
        ErrorKind::Unsupported
    );
    assert_eq!(refused(&base().device(Device::block("/dev/x", 8, 0))), ErrorKind::Unsupported);
    // Programs that come later, too.
    let whole = ExecSpec::new(["true"]).capabilities(tracing()).over(&base()).unwrap();
    let (pod, ordinary) =
        (PodSpec::new("web"), Some(Ordinary { ids: &ids, keeps_groups: true, workers: true }));
    let error = compile_exec(&PodContext { spec: &pod, ids: None, ordinary }, &whole).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn root_of_a_user_namespace_has_no_workers_to_be_reached() {
    let ids = IdMappings::contiguous(0, 65536);
    let tracing = Security::default().capabilities(Capabilities::default().with(Capability::CAP_SYS_PTRACE));
    let spec = container(Rootfs::directory("/r")).security(tracing);
    let pod = PodSpec::new("web");
    let ordinary = |workers| Some(Ordinary { ids: &ids, keeps_groups: false, workers });
    let context = |workers| PodContext { spec: &pod, ids: None, ordinary: ordinary(workers) };
    compile(&context(false), &spec).unwrap();
    assert_eq!(compile(&context(true), &spec).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_user_namespace_in_that_of_the_node_is_shown_the_proc_of_the_template() {
    let (inside, own) = (IdMappings::contiguous(0, 65536), IdMappings::contiguous(1, 1000));
    let pod = PodSpec::new("web").user(UserMode::Mapped(own.clone())).unmapped_mounts(true).pid(PidMode::Pod);
    let ordinary = Some(Ordinary { ids: &inside, keeps_groups: false, workers: false });
    let mut spec = container(Rootfs::directory("/r")).user(999, 0);
    spec.pid = Some(PidMode::Container);
    let plan =
        |ordinary, spec: &ContainerSpec| compile(&PodContext { spec: &pod, ids: Some(&own), ordinary }, spec);
    let shows = |plan: &Plan| {
        plan.steps.iter().any(|step| matches!(step, Step::Attach { path, .. } if path == PROC_OF_HOST))
    };
    assert!(!shows(&plan(ordinary, &spec).unwrap()) && shows(&plan(None, &spec).unwrap()));
    assert!(!shows(&reaper(&pod, false, true)) && shows(&reaper(&pod, false, false)));
    let seen = |plan: Plan| plan.steps.contains(&Step::Show);
    assert_eq!(
        [true, false].map(|ordinary| seen(holder(false, CloneFlags::empty(), ordinary))),
        [true, false]
    );
    assert!(!seen(holder(true, CloneFlags::empty(), true)));
    // Ids are the pod's, not all of the node's.
    let error = plan(ordinary, &spec.user(1000, 0)).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("user.uid")));
}

#[test]
fn rules_of_devices_hold_of_themselves_or_are_refused() {
    let ids = IdMappings::contiguous(1000, 1);
    let deny = || DeviceRule::deny(DeviceRuleKind::All, None, None, DeviceAccess::ALL);
    let base = || container(Rootfs::directory("/r")).device_rule(deny());
    plan(&ids, true, &base()).unwrap();
    let fuse = || Device::char("/dev/fuse", 10, 229).source("/dev/fuse");
    let error = plan(&ids, true, &base().device(fuse())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("/dev/fuse"), "{error}");
    let allow = |access| DeviceRule::allow(DeviceRuleKind::Char, Some(10), Some(229), access);
    plan(&ids, true, &base().device(fuse()).device_rule(allow(DeviceAccess::ALL))).unwrap();
    // Half of it is not enough, nor is a rule for others.
    for rule in [allow(DeviceAccess::READ), DeviceRule { minor: Some(230), ..allow(DeviceAccess::ALL) }] {
        plan(&ids, true, &base().device(fuse()).device_rule(rule)).unwrap_err();
    }
}
