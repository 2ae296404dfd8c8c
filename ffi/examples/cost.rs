//! What the C interface costs: create, start, wait for and remove a container, in turns through Rust and through C.
//! `cargo run --release -p pericarp-ffi --example cost`, as root.

use std::ffi::CString;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use pericarp::{CgroupParent, ContainerSpec, Node, NodeOptions, PodSpec, Rootfs};
use pericarp_ffi::*;

const ROUNDS: usize = 300;

fn rust(pod: &pericarp::Pod) -> pericarp::Result<()> {
    let spec = ContainerSpec::new("c", Rootfs::overlay(["/"])).args(["true"]);
    let container = pod.create_container(&spec)?;
    container.start()?;
    container.wait()?;
    container.remove()
}

fn c(pod: *const pericarp_pod_t, json: &CString) {
    let (mut container, mut err) = (null_mut(), null_mut());
    let mut status: pericarp_exit_status_t = None.into();
    // SAFETY: all pointers are to what the header asks for.
    unsafe {
        assert_eq!(pericarp_pod_create_container(pod, json.as_ptr(), null(), &mut container, &mut err), 0);
        assert_eq!(pericarp_container_start(container, &mut err), 0);
        assert_eq!(pericarp_container_wait(container, &mut status, &mut err), 0);
        assert_eq!(pericarp_container_remove(container, &mut err), 0);
        pericarp_container_unref(container);
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() -> pericarp::Result<()> {
    let name = format!("pericarp-cost-{}", std::process::id());
    let state_dir = format!("/run/{name}");
    let options = NodeOptions::new().state_dir(&state_dir).cgroup_parent(CgroupParent::Named(name.clone()));
    let node = Node::open(&options)?;
    let pod = node.create_pod(&PodSpec::new("p"))?;

    let (state_dir, name) = (CString::new(state_dir).unwrap(), CString::new(name).unwrap());
    let options = pericarp_node_options_t {
        size: size_of::<pericarp_node_options_t>(),
        flags: 0,
        state_dir: state_dir.as_ptr(),
        cgroup_name: name.as_ptr(),
        cgroup_path: null(),
        subid_user: null(),
    };
    let (mut c_node, mut c_pod, mut err) = (null_mut(), null_mut(), null_mut());
    // SAFETY: all pointers are to what the header asks for.
    unsafe {
        assert_eq!(pericarp_node_open(&options, &mut c_node, &mut err), 0);
        assert_eq!(pericarp_node_open_pod(c_node, c"p".as_ptr(), &mut c_pod, &mut err), 0);
    }
    let json = r#"{"name": "c", "rootfs": {"overlay": {"lower": ["/"]}}, "args": ["true"]}"#;
    let json = CString::new(json).unwrap();
    let (mut by_rust, mut by_c) = (Vec::new(), Vec::new());
    for round in 0..2 * ROUNDS {
        let started = Instant::now();
        if round % 2 == 0 {
            rust(&pod)?
        } else {
            c(c_pod, &json)
        }
        if round % 2 == 0 { &mut by_rust } else { &mut by_c }.push(started.elapsed());
    }
    // SAFETY: both are given back once.
    unsafe {
        pericarp_pod_unref(c_pod);
        pericarp_node_unref(c_node);
    }
    pod.remove()?;
    node.remove()?;
    let (rust, c) = (median(by_rust), median(by_c));
    let more = (c.as_secs_f64() / rust.as_secs_f64() - 1.0) * 100.0;
    println!("median of {ROUNDS}: Rust {rust:?}, C {c:?}, {more:+.2} %");
    Ok(())
}
