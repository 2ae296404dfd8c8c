//! The plan of an ordinary container, word by word: a change of it is a change of what every container is, and is to
//! be seen in a review.

use crate::container::plan::{PodContext, Step, compile, compile_exec, reaper};
use crate::spec::{
    ContainerSpec, ExecSpec, IdMappings, Mount, MountKind, PidMode, PodSpec, Rootfs, UserMode,
};

/// The number of instructions of a filter is tested where filters are.
fn without_counts(text: &str) -> String {
    let line = |line: &str| match line.split_once(" (") {
        Some((start, rest)) if rest.ends_with(" instructions)") => format!("{start} (N instructions)\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Compares with a file in this folder; with PERICARP_BLESS=1 in the environment writes it anew.
fn is_golden(text: &str, file: &str, golden: &str) {
    if std::env::var_os("PERICARP_BLESS").is_some() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/container/plan/tests").join(file);
        std::fs::write(path, text).unwrap();
        return;
    }
    let hint = format!("{file} differs; if that is meant, run this test with PERICARP_BLESS=1");
    for (number, (line, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, expected, "line {}: {hint}", number + 1);
    }
    assert_eq!(text, golden, "{hint}");
}

fn ids(pod: &PodSpec) -> Option<&IdMappings> {
    match &pod.namespaces.user {
        UserMode::Mapped(ids) => Some(ids),
        _ => None,
    }
}

fn explained(pod: &PodSpec, container: &ContainerSpec) -> String {
    without_counts(
        &compile(&PodContext { spec: pod, ids: ids(pod), ordinary: None }, container).unwrap().to_string(),
    )
}

#[test]
fn the_plan_of_a_default_container() {
    let container = ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program", "argument"]);
    let text = explained(&PodSpec::new("web"), &container);
    is_golden(&text, "default.txt", include_str!("default.txt"));
    // The same whenever it is made.
    assert_eq!(explained(&PodSpec::new("web"), &container), text);
}

#[test]
fn the_plan_of_a_container_in_the_pid_namespace_of_its_pod() {
    let pod = PodSpec::new("web").pid(PidMode::Pod);
    let container = ContainerSpec::new("a", Rootfs::directory("/image").readonly())
        .args(["/bin/program"])
        .cwd("/work")
        .user(1000, 1000);
    is_golden(&explained(&pod, &container), "pod_pid.txt", include_str!("pod_pid.txt"));
    is_golden(&reaper(&pod, false, false).to_string(), "reaper.txt", include_str!("reaper.txt"));
}

#[test]
fn the_plans_of_a_pod_with_a_user_namespace() {
    let pod = PodSpec::new("web").user(UserMode::Mapped(IdMappings::contiguous(131_072, 65536)));
    let container = ContainerSpec::new("a", Rootfs::overlay(["/image"]))
        .args(["program"])
        .mount(Mount::bind("/data", "/data").readonly(true));
    is_golden(&explained(&pod, &container), "user.txt", include_str!("user.txt"));
    let pod = pod.pid(PidMode::Pod);
    is_golden(&reaper(&pod, false, false).to_string(), "user_reaper.txt", include_str!("user_reaper.txt"));
}

#[test]
fn ids_that_the_pod_does_not_have_are_refused() {
    let pod = PodSpec::new("web").user(UserMode::Mapped(IdMappings::contiguous(131_072, 1000)));
    let container = |uid, gid, more: u32| {
        let mut spec = ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"]).user(uid, gid);
        spec.user.additional_gids = vec![more];
        compile(&PodContext { spec: &pod, ids: ids(&pod), ordinary: None }, &spec)
            .map_err(|error| error.subject().map(String::from))
    };
    assert!(container(999, 999, 999).is_ok());
    assert_eq!(container(1000, 0, 0).unwrap_err().as_deref(), Some("user.uid"));
    assert_eq!(container(0, 1000, 0).unwrap_err().as_deref(), Some("user.gid"));
    assert_eq!(container(0, 0, 1000).unwrap_err().as_deref(), Some("user.additionalGids"));
}

/// Also what is made inside the user namespace, and all by init itself.
#[test]
fn mounts_are_made_in_the_listed_order() {
    let listed = ["/a", "/pts", "/other", "/other/self", "/b"];
    let plan_of = |pod: &PodSpec| {
        let mut spec = ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"]);
        spec.default_mounts = false;
        let spec = spec
            .mount(Mount::tmpfs("/a", 1 << 16))
            .mount(Mount::of(MountKind::Devpts, "/pts"))
            .mount(Mount::of(MountKind::Proc, "/other"))
            .mount(Mount::bind("/data", "/other/self"))
            .mount(Mount::tmpfs("/b", 1 << 16));
        compile(&PodContext { spec: pod, ids: ids(pod), ordinary: None }, &spec).unwrap()
    };
    let plain = PodSpec::new("web");
    let user = PodSpec::new("web").user(UserMode::Mapped(IdMappings::contiguous(131_072, 1000)));
    for pod in [&plain, &user] {
        let plan = plan_of(pod);
        let made = plan.steps.iter().filter_map(|step| match step {
            Step::MountAt { path, .. } => Some(path.as_str()),
            _ => None,
        });
        assert_eq!(made.collect::<Vec<_>>(), listed, "{plan}");
    }
    let plan = plan_of(&user);
    let at = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted).unwrap();
    let twin = at(|step| matches!(step, Step::Twin { .. }));
    let (give, over) =
        (at(|step| matches!(step, Step::Give { .. })), at(|step| matches!(step, Step::HandOver { .. })));
    // The counts lead over the other one's steps, neither short of their end nor past it.
    assert_eq!(plan.steps[twin], Step::Twin { steps: (give - twin) as u32 });
    let Step::Give { slots, steps } = &plan.steps[give] else { unreachable!() };
    assert_eq!((*steps as usize, slots.len()), (over - give, 2));
    assert!(plan.steps.contains(&Step::Take(slots.clone())));
    let first = at(|step| matches!(step, Step::MountAt { .. }));
    assert!((give..over).contains(&first), "{plan}");
}

#[test]
fn the_plan_of_another_program_in_a_container() {
    let container = ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"]).cwd("/work");
    let whole = ExecSpec::new(["other", "argument"]).user(1000, 1000).over(&container).unwrap();
    let plan =
        compile_exec(&PodContext { spec: &PodSpec::new("web"), ids: None, ordinary: None }, &whole).unwrap();
    is_golden(&without_counts(&plan.to_string()), "exec.txt", include_str!("exec.txt"));
}
