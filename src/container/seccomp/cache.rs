//! Compiled profiles, kept for the life of the host program.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use super::arch::Arch;
use super::compile::{CompileError, Program, compile};
use super::defaults;
use super::profile::Profile;
use crate::spec::Seccomp;

/// The most programs of a kind kept. Containers of one host program have few sets of capabilities and few filters; a
/// program is about 2 KiB and takes well under a millisecond to make again.
const CAPACITY: usize = 64;

type Programs<K> = Mutex<Option<HashMap<K, Arc<Program>>>>;

/// The program of the default profile on this machine, for a container with these capabilities in its bounding
/// set (a bit for each by its number). Compiled once for each set.
pub(crate) fn default_program(capabilities: u64) -> Result<Arc<Program>, CompileError> {
    static PROGRAMS: Programs<u64> = Mutex::new(None);
    let key = capabilities & defaults::relevant_capabilities();
    kept(&PROGRAMS, &key, || Ok(Profile::default_profile(key)))
}

/// The program of a filter of a specification on this machine. Compiled once for each.
pub(crate) fn custom_program(spec: &Seccomp) -> Result<Arc<Program>, CompileError> {
    static PROGRAMS: Programs<Seccomp> = Mutex::new(None);
    kept(&PROGRAMS, spec, || Profile::custom(spec))
}

fn kept<K: Clone + Eq + Hash>(
    programs: &Programs<K>,
    key: &K,
    profile: impl FnOnce() -> Result<Profile, CompileError>,
) -> Result<Arc<Program>, CompileError> {
    // The map is whole at every moment, so a panic of another thread cannot have left it in pieces.
    let lock = || programs.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = lock().get_or_insert_default().get(key) {
        return Ok(Arc::clone(program));
    }
    // Outside the lock: two threads may both compile, and get equal programs.
    let program = Arc::new(compile(&profile()?, Arch::NATIVE)?);
    let mut programs = lock();
    let programs = programs.get_or_insert_default();
    if programs.len() >= CAPACITY {
        programs.clear();
    }
    programs.insert(key.clone(), Arc::clone(&program));
    Ok(program)
}
