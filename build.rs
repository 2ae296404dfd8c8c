//! Compiles init (`src/init`), the freestanding program that becomes a container's first process, with the compiler
//! of the library, for the target of the library. `spawn/image.rs` embeds the result.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("init");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    println!("cargo::rerun-if-changed=src/init");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        panic!("pericarp makes pods from Linux system calls: {target} is no Linux target");
    }
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let mut command = Command::new(&rustc);
    command
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=pericarp_init", "--target", &target])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cforce-unwind-tables=no", "-Cstrip=symbols"])
        // Not relocatable: nothing has to be set up before the first instruction of ours.
        .args([
            "-Crelocation-model=static",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-static",
        ])
        // Nobody would make relocated data read-only: without it there is one mapping less for each execve(2).
        .args(["-Clink-arg=-Wl,--build-id=none", "-Clink-arg=-Wl,-z,noexecstack,-z,norelro"])
        .arg("-o")
        .arg(&out)
        .arg("src/init/main.rs");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        command.arg(flag);
    }
    match command.output() {
        Err(error) => panic!("cannot run {}: {error}", rustc.display()),
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            panic!(
                "cannot compile init: {}\n{}(a C compiler is needed to link it: apt-get install gcc)",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
        }
    }
}
