//! What the tests have in common.

pub mod fixture;
pub mod leaks;
pub mod payload;
pub mod watch;

pub use fixture::Fixture;
pub use payload::Facts;

use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::{Completion, Failed, Trial};

/// What a test returns: `?` works on any error.
pub type Outcome = Result<Completion, Failed>;

/// The test passed.
pub const PASS: Outcome = Ok(Completion::Completed);

/// Says that something is done when it is dropped, also by a panic: threads of a scope that go on until then must not
/// keep a test that has failed.
pub struct Done<'a>(pub &'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The machine cannot run the test, and why.
pub fn skip(reason: impl Into<String>) -> Outcome {
    Ok(Completion::ignored_with(reason.into()))
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
            let module = module_path!().split_once("::").map_or("", |(_, module)| module);
            vec![$($crate::support::test(module, stringify!($name), $name)),*]
        }
    };
}
