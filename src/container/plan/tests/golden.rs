//! The plan of an ordinary container, word by word: a change of it is a change of what every container is, and is to
//! be seen in a review.

use crate::container::plan::{PodContext, compile, compile_exec, reaper};
use crate::spec::{ContainerSpec, ExecSpec, PidMode, PodSpec, Rootfs};

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

fn explained(pod: &PodSpec, container: &ContainerSpec) -> String {
    without_counts(&compile(&PodContext { spec: pod }, container).unwrap().to_string())
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
    is_golden(&reaper(&pod).to_string(), "reaper.txt", include_str!("reaper.txt"));
}

#[test]
fn the_plan_of_another_program_in_a_container() {
    let container = ContainerSpec::new("a", Rootfs::overlay(["/image"])).args(["program"]).cwd("/work");
    let whole = ExecSpec::new(["other", "argument"]).user(1000, 1000).over(&container).unwrap();
    let plan = compile_exec(&PodContext { spec: &PodSpec::new("web") }, &whole).unwrap();
    is_golden(&without_counts(&plan.to_string()), "exec.txt", include_str!("exec.txt"));
}
