//! The installed library: header, pkg-config file, shared and static library, as install.sh and cargo-c put them there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::support::*;

pub fn tests() -> Vec<Trial> {
    let test = |name, run| test("installed", name, run);
    vec![
        test("the_installed_library_exports_versions_of_the_header", exports_versions),
        test("pod_runs_as_a_user_would_build_it", pod_runs_as_a_user_would_build_it),
        test("libraries_may_stand_before_the_file", libraries_may_stand_before_the_file),
        test("programs_run_with_either_shared_library", programs_run_with_either_shared_library),
        test("pod_runs_with_the_installed_static_library", pod_runs_with_the_static_library),
        test("cargo_c_installs_the_same", cargo_c_installs_the_same),
    ]
}

/// Installs the library into a directory of its own.
pub fn install() -> Result<TempDir, Failed> {
    let directory = tempfile::tempdir()?;
    let mut install = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"));
    finish(install.arg("--prefix").arg(directory.path()).arg("--library").arg(static_library()?))?;
    Ok(directory)
}

/// A compiler with warnings as errors, and the words of a shell that stand for the flags of the library and the file.
fn build(compiler: &str, words: &str, installed: &Path, program: &Path) -> Result<(), Failed> {
    let script = format!("{compiler} -Wall -Wextra -pedantic -Werror -o \"$0\" {words}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(program).arg(root().join("examples/c/pod.c"));
    finish(shell.env("PKG_CONFIG_PATH", installed.join("lib/pkgconfig")))
}

/// Runs the quickstart with the shared library of a directory.
fn runs(program: &Path, libraries: &Path) -> Result<(), Failed> {
    let said = run(Command::new(program).env("LD_LIBRARY_PATH", libraries))?;
    if said.ends_with("removed     all of it\n") { Ok(()) } else { fail(said) }
}

fn exports_versions() -> Outcome {
    if let Some(program) = ["cc", "nm"].into_iter().find(|program| !on_path(program)) {
        return skip(format!("there is no {program}"));
    }
    let directory = install()?;
    let library = directory.path().join("lib/libpericarp.so");
    let symbols = output(Command::new("nm").args(["-D", "--defined-only"]).arg(library))?;
    let symbols = String::from_utf8(symbols.stdout)?;
    let stray = |line: &&str| !line.contains(" T pericarp_") && !line.ends_with(" A PERICARP_0");
    if let Some(stray) = symbols.lines().find(stray) {
        return fail(format!("the installed library exports {stray}"));
    }
    let versioned = symbols.lines().filter(|line| line.ends_with("@@PERICARP_0")).count();
    if versioned != functions()?.len() {
        return fail(format!("{versioned} symbols have a version"));
    }
    PASS
}

/// `cc pod.c $(pkg-config --cflags --libs pericarp)`.
fn pod_runs_as_a_user_would_build_it() -> Outcome {
    built_and_run("\"$1\" $(pkg-config --cflags --libs pericarp)")
}

/// `cc $(pkg-config --cflags --libs pericarp) pod.c`, also where the compiler passes --as-needed.
fn libraries_may_stand_before_the_file() -> Outcome {
    built_and_run("-Wl,--as-needed $(pkg-config --cflags --libs pericarp) \"$1\"")
}

fn built_and_run(words: &str) -> Outcome {
    if let Some(reason) = lacks(&["cc", "g++", "busybox", "perl", "pkg-config"]) {
        return skip(reason);
    }
    let directory = install()?;
    let here = directory.path();
    let program = here.join("pod");
    for compiler in ["cc -std=c11", "g++ -x c++ -std=c++17"] {
        // What follows the file is no C++.
        let words =
            words.replace("\"$1\"", if compiler.contains("++") { "\"$1\" -x none" } else { "\"$1\"" });
        build(compiler, &words, here, &program)?;
        runs(&program, &here.join("lib"))?;
    }
    PASS
}

/// Cargo's shared library, as an installation has it.
fn cargo_s_library() -> Result<TempDir, Failed> {
    let directory = tempfile::tempdir()?;
    fs::copy(shared_library()?, directory.path().join("libpericarp.so.0"))?;
    std::os::unix::fs::symlink("libpericarp.so.0", directory.path().join("libpericarp.so"))?;
    Ok(directory)
}

/// Symbols have versions in the library of install.sh, and none in that of cargo.
fn programs_run_with_either_shared_library() -> Outcome {
    if let Some(reason) = lacks(&["cc", "busybox", "perl", "pkg-config"]) {
        return skip(reason);
    }
    let (installed, cargo_s) = (install()?, cargo_s_library()?);
    let libraries: [PathBuf; 2] = [installed.path().join("lib"), cargo_s.path().to_owned()];
    for linked in &libraries {
        let program = installed.path().join("pod");
        let words = format!("\"$1\" $(pkg-config --cflags pericarp) -L{} -lpericarp", linked.display());
        build("cc -std=c11", &words, installed.path(), &program)?;
        for library in &libraries {
            runs(&program, library)?;
        }
    }
    PASS
}

fn pod_runs_with_the_static_library() -> Outcome {
    if let Some(reason) = lacks(&["cc", "busybox", "perl", "pkg-config"]) {
        return skip(reason);
    }
    let directory = install()?;
    let here = directory.path();
    fs::remove_file(here.join("lib/libpericarp.so"))?;
    let program = here.join("pod");
    build("cc -std=c11", "\"$1\" $(pkg-config --cflags --libs --static pericarp)", here, &program)?;
    runs(&program, Path::new("/none"))?;
    PASS
}

/// With what `cargo xtask test` provides, see its `tools.rs`. In its `pericarp.pc` the flags stand after the file.
fn cargo_c_installs_the_same() -> Outcome {
    if let Some(reason) = lacks(&["cc", "g++", "busybox", "perl", "pkg-config", "readelf", "cargo-cinstall"])
    {
        return skip(reason);
    }
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    let mut install = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    install.args(["cinstall", "--offline", "--package", "pericarp-ffi", "--prefix"]).arg(here);
    install.arg("--libdir").arg(here.join("lib")).current_dir(root());
    // What is installed counts here, and not how fast it is.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    finish(install.arg("--target-dir").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cargo-c")))?;
    if fs::read(here.join("include/pericarp.h"))? != fs::read(root().join("include/pericarp.h"))? {
        return fail("the installed header is not the committed one");
    }
    let names = |path: PathBuf| -> Result<Vec<String>, Failed> {
        let names = fs::read_dir(path)?.flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    };
    let ours = self::install()?;
    let (by_cargo_c, by_us) = (names(here.join("lib"))?, names(ours.path().join("lib"))?);
    if by_cargo_c != by_us {
        return fail(format!("cargo-c installs {by_cargo_c:?}, and install.sh {by_us:?}"));
    }
    let dynamic = output(Command::new("readelf").arg("-dW").arg(here.join("lib/libpericarp.so")))?;
    let dynamic = String::from_utf8(dynamic.stdout)?;
    if !dynamic.contains("soname: [libpericarp.so.0]") {
        return fail(dynamic);
    }
    let program = here.join("pod");
    for compiler in ["cc -std=c11", "g++ -x c++ -std=c++17"] {
        let file = if compiler.contains("++") { "\"$1\" -x none" } else { "\"$1\"" };
        build(compiler, &format!("{file} $(pkg-config --cflags --libs pericarp)"), here, &program)?;
        runs(&program, &here.join("lib"))?;
    }
    fs::remove_file(here.join("lib/libpericarp.so"))?;
    build("cc -std=c11", "\"$1\" $(pkg-config --cflags --libs --static pericarp)", here, &program)?;
    runs(&program, Path::new("/none"))?;
    PASS
}
