//! Compiled default profiles, kept for the life of the host program.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::arch::Arch;
use super::compile::{CompileError, Program, compile};
use super::defaults;
use super::profile::Profile;

/// The most programs kept. Containers of one host program have few sets of capabilities; a program is about
/// 2 KiB and takes well under a millisecond to make again.
const CAPACITY: usize = 64;

/// The program of the default profile on this machine, for a container with these capabilities in its bounding
/// set (a bit for each by its number). Compiled once for each set.
pub(crate) fn default_program(capabilities: u64) -> Result<Arc<Program>, CompileError> {
    static PROGRAMS: Mutex<Option<HashMap<u64, Arc<Program>>>> = Mutex::new(None);
    let key = capabilities & defaults::relevant_capabilities();
    // The map is whole at every moment, so a panic of another thread cannot have left it in pieces.
    let lock = || PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = lock().get_or_insert_default().get(&key) {
        return Ok(Arc::clone(program));
    }
    // Outside the lock: two threads may both compile, and get equal programs.
    let program = Arc::new(compile(&Profile::default_profile(key), Arch::NATIVE)?);
    let mut programs = lock();
    let programs = programs.get_or_insert_default();
    if programs.len() >= CAPACITY {
        programs.clear();
    }
    programs.insert(key, Arc::clone(&program));
    Ok(program)
}
