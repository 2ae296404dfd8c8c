//! What the tests have in common: the built library, C compilers, and the header as data.

use std::ffi::{CString, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use tempfile::TempDir;

/// What a test returns: `?` works on any error.
pub type Outcome = Result<Completion, Failed>;

/// The test passed.
pub const PASS: Outcome = Ok(Completion::Completed);

/// The machine cannot run the test, and why.
pub fn skip(reason: impl Into<String>) -> Outcome {
    let reason = reason.into();
    eprintln!("SKIPPED: {reason}");
    Ok(Completion::ignored_with(reason))
}

/// A test by its function, named `module::function`.
pub fn test(module: &str, name: &str, run: fn() -> Outcome) -> Trial {
    Trial::ignorable_test(format!("{module}::{name}"), run)
}

/// The tests of a module: `tests![a, b]` makes `pub fn tests() -> Vec<Trial>` of functions `fn a() -> Outcome`.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub fn tests() -> Vec<libtest_mimic::Trial> {
            let module = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$($crate::support::test(module, stringify!($name), $name)),*]
        }
    };
}

pub fn fail<T>(text: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::from(text.into()))
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn is_root() -> bool {
    // SAFETY: it reads a number.
    unsafe { libc::geteuid() == 0 }
}

/// Whether a program is there.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Why the machine cannot run C programs that make containers, if so.
pub fn lacks(programs: &[&str]) -> Option<String> {
    if !is_root() {
        return Some("making pods needs root".to_string());
    }
    let missing = programs.iter().find(|program| !on_path(program))?;
    Some(format!("there is no {missing}"))
}

/// Cargo puts the libraries of a package beside its test programs.
fn built(name: &str) -> Result<PathBuf, Failed> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { fail(format!("cargo has not built {}", path.display())) }
}

pub fn static_library() -> Result<PathBuf, Failed> {
    built("libpericarp_ffi.a")
}

pub fn shared_library() -> Result<PathBuf, Failed> {
    built("libpericarp_ffi.so")
}

/// The libraries that Rust's own needs in a static build, as `rustc --print native-static-libs` tells.
pub const SYSTEM_LIBRARIES: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

pub const C11: &[&str] = &["cc", "-std=c11", "-O1"];
pub const CPP17: &[&str] = &["g++", "-x", "c++", "-std=c++17", "-O1"];
pub const SANITIZED: &[&str] =
    &["cc", "-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"];

/// A program of `tests/c`.
pub fn c_source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(format!("{name}.c"))
}

/// Compiles a program of one source file and links it statically.
pub fn compile(compiler: &[&str], source: &Path, program: &Path) -> Result<(), Failed> {
    let object = program.with_extension("o");
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).args(["-g", "-Wall", "-Wextra", "-pedantic", "-Werror"]);
    command.arg("-I").arg(root().join("include")).arg("-c").arg(source).arg("-o").arg(&object);
    finish(&mut command)?;
    let mut command = Command::new(compiler[0]);
    let sanitizer = compiler.iter().filter(|argument| argument.starts_with("-fsanitize"));
    command.args(sanitizer).arg(&object).arg(static_library()?).args(SYSTEM_LIBRARIES).arg("-o").arg(program);
    finish(&mut command)
}

/// Runs a command that must succeed without a word.
pub fn finish(command: &mut Command) -> Result<(), Failed> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return fail(format!("{command:?} {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

/// Compiles a program of `examples/c`, and gives it the peer that it may need.
pub fn example(compiler: &[&str], name: &str) -> Result<(TempDir, PathBuf), Failed> {
    let directory = tempfile::tempdir()?;
    let sources = root().join("examples/c");
    let program = directory.path().join(name);
    compile(compiler, &sources.join(format!("{name}.c")), &program)?;
    if name == "ipc" {
        compile(C11, &sources.join("ipc_peer.c"), &directory.path().join("ipc_peer"))?;
    }
    Ok((directory, program))
}

/// Runs a command for two minutes at most, and returns what it printed if it succeeded.
pub fn run(command: &mut Command) -> Result<String, Failed> {
    let (stdout, stderr) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    command.stdin(Stdio::null()).stdout(stdout.reopen()?).stderr(stderr.reopen()?);
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let deadline = Instant::now() + Duration::from_secs(120);
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let (said, complained) = (fs::read_to_string(stdout.path())?, fs::read_to_string(stderr.path())?);
    match status {
        Some(status) if status.success() => Ok(said),
        Some(status) => fail(format!("{command:?} {status}\n{said}{complained}")),
        None => fail(format!("{command:?} did not end in two minutes\n{said}{complained}")),
    }
}

/// Like [`run`], but gives all that there is.
pub fn output(command: &mut Command) -> Result<Output, Failed> {
    command.output().map_err(|error| Failed::from(format!("{command:?}: {error}")))
}

/// A function of the header.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub returns: String,
    pub parameters: Vec<Parameter>,
    pub comment: String,
}

#[derive(Debug)]
pub struct Parameter {
    pub kind: String,
    pub name: String,
    /// Whether the comment allows NULL.
    pub nullable: bool,
}

impl Parameter {
    pub fn is_pointer(&self) -> bool {
        self.kind.ends_with('*')
    }

    /// A function of the program's. Of its address nothing can be checked but whether it is NULL.
    pub fn is_callback(&self) -> bool {
        self.kind.ends_with("_callback_t")
    }

    /// What the library does not look at, and hands to a callback.
    pub fn is_handed_on(&self) -> bool {
        self.kind == "void *"
    }
}

impl Function {
    /// Whether it returns 0 or -errno.
    pub fn can_fail(&self) -> bool {
        self.parameters.last().is_some_and(|parameter| parameter.name == "err")
    }

    /// What a call with nothing but NULL and 0 returns: 0 where the comment allows NULL for every parameter, and there is
    /// something to allow it for.
    pub fn for_nothing(&self) -> i32 {
        let has_address = |parameter: &&Parameter| parameter.is_pointer() || parameter.is_callback();
        let mut addresses = self.parameters.iter().filter(has_address).filter(|p| p.name != "err").peekable();
        let all = addresses.peek().is_some() && addresses.all(|parameter| parameter.nullable);
        if all { 0 } else { -libc::EINVAL }
    }
}

/// All functions that the header declares.
pub fn functions() -> Result<Vec<Function>, Failed> {
    let header = fs::read_to_string(root().join("include/pericarp.h"))?;
    let mut functions = Vec::new();
    for part in header.split("/**").skip(1) {
        let Some((comment, rest)) = part.split_once("*/") else { return fail("a comment does not end") };
        let Some((declaration, _)) = rest.split_once(';') else { continue };
        let declaration = declaration.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some((head, parameters)) = declaration.split_once('(') else { continue };
        if head.contains(['#', '{']) || head.starts_with("typedef") {
            continue;
        }
        let (returns, name) = split_name(head);
        let comment: String =
            comment.lines().map(|line| line.trim().trim_start_matches('*').to_owned() + "\n").collect();
        let words = comment.split_whitespace().collect::<Vec<_>>().join(" ");
        let parameters =
            parameters.trim_end_matches(')').split(',').filter(|text| *text != "void").map(|text| {
                let (kind, name) = split_name(text.trim());
                let tick = format!("`{name}`");
                let may = |sentence: &str| sentence.contains(&tick) && sentence.contains("may be NULL");
                let nullable = name == "err" || words.split(". ").any(may);
                Parameter { kind, name, nullable }
            });
        functions.push(Function { name, returns, parameters: parameters.collect(), comment });
    }
    Ok(functions)
}

/// All constants that the header defines, without those that say which header it is.
pub fn constants() -> Result<Vec<String>, Failed> {
    let header = fs::read_to_string(root().join("include/pericarp.h"))?;
    let defined = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
    let names = defined.map(|(name, _)| name.to_owned()).filter(|name| !name.starts_with("PERICARP_VERSION"));
    let names: Vec<String> = names.collect();
    if names.len() > 50 { Ok(names) } else { fail(format!("the header defines only {names:?}")) }
}

/// Whether a text has that word.
pub fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut parts = text.split(word);
    let mut before = parts.next().unwrap_or_default();
    parts.any(|after| {
        let alone = !before.ends_with(is_part) && !after.starts_with(is_part);
        before = after;
        alone
    })
}

/// `const char *name` is `const char *` and `name`.
pub fn split_name(text: &str) -> (String, String) {
    let start = text.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
    (text[..start].trim().to_owned(), text[start..].to_owned())
}

/// The library, loaded.
pub struct Library(*mut c_void);

impl Library {
    pub fn load() -> Result<Self, Failed> {
        let path = CString::new(shared_library()?.to_string_lossy().into_owned())?;
        // SAFETY: the library does nothing when it is loaded, and is never unloaded.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() { fail(format!("cannot load {path:?}")) } else { Ok(Library(handle)) }
    }

    /// Calls a function with these arguments, numbers and pointers alike.
    ///
    /// # Safety
    /// The function must allow them.
    pub unsafe fn call(&self, name: &str, arguments: &[usize]) -> Result<usize, Failed> {
        type Any = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> usize;
        let symbol = CString::new(name)?;
        // SAFETY: the handle is that of a loaded library.
        let address = unsafe { libc::dlsym(self.0, symbol.as_ptr()) };
        if address.is_null() {
            return fail(format!("the library has no {name}"));
        }
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        // SAFETY: on Linux's 64-bit architectures, the first six arguments are in registers, and a function does not
        // look at those that it has no parameters for.
        Ok(unsafe {
            let function: Any = std::mem::transmute(address);
            function(all[0], all[1], all[2], all[3], all[4], all[5])
        })
    }
}
