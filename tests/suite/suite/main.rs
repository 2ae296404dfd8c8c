//! The integration tests of pericarp: every behaviour as it is seen from inside a container, on a real kernel, as
//! root.
//!
//! The program is its own payload: started as `suite payload COMMAND …` it is what runs in the containers and tells
//! what it sees. Tests that a machine cannot run say why and count as skipped; `cargo xtask test` fails when a test ran
//! nowhere.

mod hostile;
mod robust;
mod support;

mod attributes;
mod biting;
mod biting_more;
mod callers;
mod cgroup_path;
mod cgroups;
mod classes;
mod custom_seccomp;
mod defaults;
mod detached;
mod devices;
mod differential;
mod ending;
mod errors;
mod events;
mod events_before;
mod events_limits;
mod events_stream;
mod exec;
mod failures;
mod fanout;
mod faults;
mod hooks;
mod host;
mod inherited;
mod ipc;
mod ipc_payload;
mod kubernetes;
mod lifecycle;
mod limits;
mod lsm;
mod memory;
mod memory_policy;
mod mount_namespace;
mod mounts;
mod namespaces;
mod netdev;
mod oci_mounts;
mod oom;
mod pid;
mod pods;
mod podtop_screen;
mod process;
mod programs;
mod proof;
mod recovery;
mod resizing;
mod resizing_cut;
mod rootfs;
mod rootless;
mod rootless_user;
mod seccomp;
mod security;
mod sharedhost;
mod signals;
mod stats;
mod stats_more;
mod stats_programs;
mod stdio;
mod stopping;
mod stress;
mod sysctls;
mod terminal;
mod userns;
mod userns_attributes;
mod userns_auto;
mod userns_claims;
mod userns_files;
mod userns_more;
mod userns_order;
mod volumes;
mod within;
mod within_userns;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("payload") {
        let words: Vec<&str> = args[2..].iter().map(String::as_str).collect();
        // Commands of one test module are in that module: each says whether the words are its own.
        let own: &[fn(&[&str]) -> bool] = &[
            attributes::payload,
            biting::payload,
            biting_more::payload,
            cgroups::payload,
            custom_seccomp::payload,
            defaults::payload,
            detached::payload,
            events::payload,
            events_limits::payload,
            exec::payload,
            faults::payload,
            hostile::payload,
            host::payload,
            inherited::payload,
            ipc_payload::payload,
            limits::payload,
            lsm::payload,
            memory::payload,
            oom::payload,
            mounts::payload,
            namespaces::payload,
            process::payload,
            programs::payload,
            proof::payload,
            recovery::payload,
            rootless_user::payload,
            resizing::payload,
            resizing_cut::payload,
            seccomp::payload,
            security::payload,
            sharedhost::payload,
            signals::payload,
            stats::payload,
            stats_more::payload,
            stats_programs::payload,
            stdio::payload,
            stopping::payload,
            stress::payload,
            userns::payload,
            userns_claims::payload,
            userns_order::payload,
            within::payload,
            within_userns::payload,
        ];
        if own.iter().any(|payload| payload(&words)) {
            std::process::exit(0);
        }
        support::payload::main(&words);
    }
    let tests: Vec<Trial> = [
        cgroup_path::tests(),
        attributes::tests(),
        callers::tests(),
        memory_policy::tests(),
        mount_namespace::tests(),
        biting::tests(),
        biting_more::tests(),
        cgroups::tests(),
        classes::tests(),
        custom_seccomp::tests(),
        defaults::tests(),
        detached::tests(),
        devices::tests(),
        differential::tests(),
        ending::tests(),
        errors::tests(),
        events::tests(),
        events_before::tests(),
        events_limits::tests(),
        events_stream::tests(),
        exec::tests(),
        failures::tests(),
        fanout::tests(),
        faults::tests(),
        hooks::tests(),
        hostile::tests(),
        host::tests(),
        inherited::tests(),
        ipc::tests(),
        kubernetes::tests(),
        lifecycle::tests(),
        limits::tests(),
        lsm::tests(),
        memory::tests(),
        mounts::tests(),
        namespaces::tests(),
        netdev::tests(),
        oci_mounts::tests(),
        oom::tests(),
        pid::tests(),
        podtop_screen::tests(),
        pods::tests(),
        process::tests(),
        programs::tests(),
        proof::tests(),
        recovery::tests(),
        resizing::tests(),
        resizing_cut::tests(),
        rootfs::tests(),
        rootless::tests(),
        seccomp::tests(),
        security::tests(),
        sharedhost::tests(),
        signals::tests(),
        stats::tests(),
        stats_more::tests(),
        stats_programs::tests(),
        stdio::tests(),
        stopping::tests(),
        stress::tests(),
        sysctls::tests(),
        terminal::tests(),
        userns::tests(),
        userns_attributes::tests(),
        userns_auto::tests(),
        userns_claims::tests(),
        userns_files::tests(),
        userns_more::tests(),
        userns_order::tests(),
        volumes::tests(),
        within::tests(),
        within_userns::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, tests).exit();
    }
    lsm::prepare();
    let before = support::leaks::Snapshot::take();
    let conclusion = libtest_mimic::run(&arguments, tests);
    let leaks = before.leaks();
    for leak in &leaks {
        eprintln!("LEAK: {leak}");
    }
    if !leaks.is_empty() {
        std::process::exit(101);
    }
    conclusion.exit();
}
