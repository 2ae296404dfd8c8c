//! OCI configurations.

use std::fs::{self, File};
use std::path::Path;

use pericarp::spec::Device;
use pericarp::{ErrorKind, ExitStatus, Stdio};
use serde_json::{Value, json};

use crate::api::*;
use crate::world::*;

crate::behaviours![
    a_bundle_becomes_a_pod_and_a_container,
    a_text_becomes_the_same,
    what_a_bundle_says_can_be_changed_before,
    warnings_are_told,
    what_is_not_there_or_wrong_is_refused,
    a_process_of_a_configuration_is_executed,
    limits_of_a_configuration_are_set,
    rules_for_devices_of_a_configuration_are_set,
    the_features_are_told,
];

/// A configuration whose container has the machine's programs.
fn config(script: &str) -> Value {
    let bind =
        |path: &str| json!({"destination": path, "source": path, "type": "bind", "options": ["rbind", "ro"]});
    let there = ["/bin", "/usr", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).exists());
    let mut mounts: Vec<Value> = there.map(bind).collect();
    mounts.push(json!({"destination": "/proc", "type": "proc", "source": "proc"}));
    json!({
        "ociVersion": "1.2.0",
        "hostname": "from-oci",
        "annotations": {"com.example.key": "value"},
        "com.example.unknown": {"left": "alone"},
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 7, "gid": 8, "umask": 7}, "args": ["/bin/sh", "-c", script], "cwd": "/",
            "env": ["PATH=/usr/bin:/bin", "GREETING=hello"]},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"},
            {"type": "network"}]},
    })
}

/// A directory with that configuration, whose root filesystem is a place to mount at.
fn bundle(world: &World, name: &str, config: &Value) -> Result<Box<dyn BundleApi>, libtest_mimic::Failed> {
    let path = world.path(name);
    fs::create_dir_all(path.join("rootfs"))?;
    fs::write(path.join("config.json"), config.to_string())?;
    Ok(world.api.bundle(&path)?)
}

/// Runs it, and tells what it wrote.
fn said(world: &World, pod: &dyn PodApi, bundle: &dyn BundleApi) -> Result<String, libtest_mimic::Failed> {
    let path = world.path("out");
    let container = pod.create_container_oci(bundle, "main", Stdio::fd(File::create(&path)?))?;
    assert_eq!(container.name(), "main");
    container.start()?;
    let status = container.wait()?;
    container.remove()?;
    let text = fs::read_to_string(path)?;
    assert_eq!(status, ExitStatus::Exited(0), "{text}");
    Ok(text)
}

const TELL: &str = "uname -n; id -u; id -g; umask; echo $GREETING $$";
const TOLD: &str = "from-oci\n7\n8\n0007\nhello 1\n";

fn a_bundle_becomes_a_pod_and_a_container(world: &World) -> Outcome {
    let bundle = bundle(world, "bundle", &config(TELL))?;
    assert_eq!(bundle.path(), world.path("bundle").to_string_lossy());
    assert_eq!(bundle.again().config(), config(TELL), "all of it is there");
    assert_eq!(bundle.warnings(), ["com.example.unknown is no field that is known here"]);
    let pod = world.node.create_pod_oci(&*bundle, "web")?;
    assert_eq!((pod.name(), pod.spec().hostname.as_deref()), ("web".to_string(), Some("from-oci")));
    assert_eq!(said(world, &*pod, &*bundle)?, TOLD);
    // A pod of another origin has a host name of its own.
    assert_eq!(said(world, &*world.pod("shop")?, &*bundle)?, TOLD.replace("from-oci", "shop"));
    PASS
}

fn a_text_becomes_the_same(world: &World) -> Outcome {
    let path = world.path("elsewhere");
    fs::create_dir_all(path.join("rootfs"))?;
    let bundle = world.api.parse_bundle(&config(TELL).to_string(), &path)?;
    assert_eq!((bundle.path(), bundle.config()), (path.to_string_lossy().into_owned(), config(TELL)));
    let pod = world.node.create_pod_oci(&*bundle, "web")?;
    assert_eq!(said(world, &*pod, &*bundle)?, TOLD);
    PASS
}

fn what_a_bundle_says_can_be_changed_before(world: &World) -> Outcome {
    let bundle = bundle(world, "bundle", &config(TELL))?;
    let (mut pod, mut container) = (bundle.pod_spec("web")?, bundle.container_spec()?);
    assert_eq!((pod.name.as_str(), container.name.as_str()), ("web", "main"));
    assert_eq!(container.annotations["com.example.key"], "value");
    world.saw(format!("{} {}", json!(pod), json!(container)));
    pod.hostname = Some("changed".to_string());
    container.env.insert("GREETING".to_string(), "bye".to_string());
    let pod = world.node.create_pod(&pod)?;
    let told = TOLD.replace("from-oci", "changed").replace("hello", "bye");
    assert_eq!(say(&*pod, container)?, told);
    PASS
}

fn warnings_are_told(world: &World) -> Outcome {
    let mut config = config("exit 0");
    config["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_FLY"]});
    let bundle = bundle(world, "bundle", &config)?;
    let warnings = bundle.warnings();
    assert!(warnings.len() == 2 && warnings[0].contains("CAP_FLY"), "{warnings:?}");
    world.saw(&warnings[0]);
    assert_eq!(bundle.config()["process"]["capabilities"]["bounding"], json!(["CAP_CHOWN"]));
    assert_eq!(bundle.container_spec()?.security.capabilities.bounding.bits(), 1);
    PASS
}

fn what_is_not_there_or_wrong_is_refused(world: &World) -> Outcome {
    world.refused(world.api.bundle(&world.path("none")), ErrorKind::NotFound);
    for text in ["", "7", r#"{"ociVersion": 1}"#] {
        world.refused(world.api.parse_bundle(text, Path::new("/")), ErrorKind::InvalidSpec);
    }
    let mut wrong = config("exit 0");
    wrong["linux"]["intelRdt"] = json!({"closID": "x"});
    let wrong = bundle(world, "bundle", &wrong)?;
    world.refused(wrong.container_spec(), ErrorKind::InvalidSpec);
    let pod = world.pod("shop")?;
    world.refused(pod.create_container_oci(&*wrong, "main", Stdio::Null), ErrorKind::InvalidSpec);
    let mut wrong = config("exit 0");
    wrong["linux"]["cgroupsPath"] = json!("system.slice:pod:web");
    let wrong = bundle(world, "bundle", &wrong)?;
    world.refused(wrong.pod_spec("web"), ErrorKind::InvalidSpec);
    world.refused(world.node.create_pod_oci(&*wrong, "web"), ErrorKind::InvalidSpec);
    assert_eq!((world.node.pods()?.len(), pod.containers()?.len()), (1, 0), "what failed has left something");
    PASS
}

fn a_process_of_a_configuration_is_executed(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c").env("GREETING", "hello"))?;
    let process = json!({"user": {"uid": 9, "gid": 10}, "args": ["/bin/sh", "-c", "id -u; pwd; echo \"<$GREETING>\"; exit 4"],
        "cwd": "/tmp", "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": true});
    let path = world.path("out");
    let executed = container.exec_oci(&process, Stdio::fd(File::create(&path)?))?;
    assert_eq!(executed.wait()?, ExitStatus::Exited(4));
    assert_eq!(fs::read_to_string(path)?, "9\n/tmp\n<>\n");
    // A capability that nobody knows is left out.
    let mut warned = process.clone();
    warned["capabilities"] = json!({"bounding": ["CAP_FLY"]});
    assert_eq!(container.exec_oci(&warned, Stdio::Null)?.wait()?, ExitStatus::Exited(4));
    // The word is the specification's, which the model of it spells differently; what it means is not to be had here.
    let mut scheduled = process.clone();
    scheduled["scheduler"] =
        json!({"policy": "SCHED_OTHER", "nice": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    let failure = world.refused(container.exec_oci(&scheduled, Stdio::Null), ErrorKind::InvalidSpec);
    assert!(failure.message.contains("PID namespace"), "{failure}");
    let mut wrong = process.clone();
    wrong["env"] = json!(["no equals sign"]);
    world.refused(container.exec_oci(&wrong, Stdio::Null), ErrorKind::InvalidSpec);
    PASS
}

fn limits_of_a_configuration_are_set(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let wrong = json!({"network": {"classID": 7}});
    world.refused(pod.update_oci(&wrong), ErrorKind::InvalidSpec);
    world.refused(container.update_oci(&wrong), ErrorKind::InvalidSpec);
    let limits = json!({"pids": {"limit": 20}});
    if !world.node.controllers().iter().any(|name| name == "pids") {
        world.refused(pod.update_oci(&limits), ErrorKind::Unsupported);
        world.refused(container.update_oci(&limits), ErrorKind::Unsupported);
        return PASS;
    }
    container.update_oci(&limits)?;
    pod.update_oci(&json!({"pids": {"limit": 30}}))?;
    let max = |below: &str| fs::read_to_string(format!("{}{below}/pids.max", pod.cgroup_path()));
    assert_eq!((max("")?.as_str(), max("/c")?.as_str()), ("30\n", "20\n"));
    PASS
}

fn rules_for_devices_of_a_configuration_are_set(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let text = "read line; (: >/log) 2>/dev/null && exit 5; exit 6";
    let spec = script("c", text).stdin(Stdio::Pipe).device(Device::char("/log", 1, 11));
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"});
    // Without any they stay as they are.
    for (resources, code) in [(json!({"devices": []}), 6), (json!({"devices": [rule]}), 5)] {
        let container = started(&*pod, &spec)?;
        container.update_device_rules(&[])?;
        container.update_oci(&resources)?;
        drop(container.take_stdin());
        assert_eq!(container.wait()?, ExitStatus::Exited(code));
        container.remove()?;
    }
    PASS
}

fn the_features_are_told(world: &World) -> Outcome {
    let features = world.api.oci_features();
    assert_eq!(
        (&features["ociVersionMin"], &features["linux"]["cgroup"]["v2"]),
        (&json!("1.0.0"), &json!(true))
    );
    world.saw(features.to_string());
    PASS
}
