//! What the C interface costs: create, start, wait for and remove a container, through Rust and through C in turn.
//! `cargo xtask bench cost [ROUNDS]`, as root. Fails when it is 3 % or more.

use std::ffi::CString;
use std::ptr::{null, null_mut};
use std::time::Instant;

use pericarp::{CgroupParent, ContainerSpec, Node, NodeOptions, PodSpec, Rootfs};
use pericarp_ffi::*;

const ROUNDS: usize = 1000;
/// The most that it may be, in per cent.
const BOUND: f64 = 3.0;

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

fn time(work: impl FnOnce() -> pericarp::Result<()>) -> pericarp::Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> pericarp::Result<std::process::ExitCode> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse());
    let Some(rounds) = rounds.ok().filter(|rounds| *rounds > 0) else {
        eprintln!("cost: the argument is the number of rounds");
        return Ok(std::process::ExitCode::FAILURE);
    };
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
        admission: null(),
        id_ranges: null(),
        id_claims: null(),
    };
    let (mut c_node, mut c_pod, mut err) = (null_mut(), null_mut(), null_mut());
    // SAFETY: all pointers are to what the header asks for.
    unsafe {
        assert_eq!(pericarp_node_open(&options, &mut c_node, &mut err), 0);
        assert_eq!(pericarp_node_open_pod(c_node, c"p".as_ptr(), &mut c_pod, &mut err), 0);
    }
    let json = r#"{"name": "c", "rootfs": {"overlay": {"lower": ["/"]}}, "args": ["true"]}"#;
    let json = CString::new(json).unwrap();
    let (mut by_rust, mut by_c, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let one = || time(|| rust(&pod));
        let other = || {
            time(|| {
                c(c_pod, &json);
                Ok(())
            })
        };
        // Neither is always the first of the two, and what disturbs the machine disturbs both.
        let (rust, c) = if round % 2 == 0 {
            (one()?, other()?)
        } else {
            let c = other()?;
            (one()?, c)
        };
        by_rust.push(rust);
        by_c.push(c);
        ratios.push(c / rust);
    }
    // SAFETY: both are given back once.
    unsafe {
        pericarp_pod_unref(c_pod);
        pericarp_node_unref(c_node);
    }
    pod.remove()?;
    node.remove()?;
    let (rust, c) = (median(by_rust) * 1e3, median(by_c) * 1e3);
    let more = (median(ratios) - 1.0) * 100.0;
    println!("median of {rounds} pairs: Rust {rust:.3} ms, C {c:.3} ms, median of the ratios {more:+.2} %");
    if more < BOUND {
        return Ok(std::process::ExitCode::SUCCESS);
    }
    eprintln!("cost: that is {BOUND} % or more");
    Ok(std::process::ExitCode::FAILURE)
}
