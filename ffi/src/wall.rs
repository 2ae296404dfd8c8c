//! The wall that no panic crosses, and a way for tests to make one on its inner side.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic carries. It is never dropped: that may panic once more.
pub(crate) struct Panic(std::mem::ManuallyDrop<Box<dyn Any + Send>>);

impl Panic {
    /// What it says, if that is text.
    pub(crate) fn text(&self) -> &str {
        let said = self.0.downcast_ref::<&str>().copied();
        said.or_else(|| self.0.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
    }
}

/// Runs what may panic.
pub(crate) fn within<R>(body: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| Panic(std::mem::ManuallyDrop::new(panic)))
}

/// Runs a function of the header as a whole. If it panics, the answer is `otherwise`.
pub(crate) fn whole<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    within(body).unwrap_or(otherwise)
}

/// Panics on purpose, in builds with debug assertions and nowhere else: where the environment variable
/// `PERICARP_PANIC_IN` says so, as a test sets it for one call of a program with one thread.
#[cfg(debug_assertions)]
pub(crate) mod on_purpose {
    use std::cell::Cell;

    thread_local! {
        /// The type of the closure that is the body of the function of the header, which has its name in it.
        static BODY: Cell<&'static str> = const { Cell::new("") };
    }

    /// The body of a function begins: its closure is an `F`.
    pub(crate) fn begin<F>() {
        BODY.set(std::any::type_name::<F>());
        at(&format!("begin:{}", function()));
    }

    /// The function of the header uses a handle.
    pub(crate) fn in_use() {
        at(function());
    }

    pub(crate) fn at(place: &str) {
        if std::env::var_os("PERICARP_PANIC_IN").is_some_and(|wanted| wanted == place) {
            panic!("on purpose, in {place}");
        }
    }

    fn function() -> &'static str {
        BODY.get()
            .split("::")
            .find(|part| part.starts_with("pericarp_") && *part != "pericarp_ffi")
            .unwrap_or("")
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) mod on_purpose {
    pub(crate) fn begin<F>() {}

    pub(crate) fn in_use() {}

    pub(crate) fn at(_place: &str) {}
}
