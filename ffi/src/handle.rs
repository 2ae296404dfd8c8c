//! What all handles have in common, and the freeing of what callers were given.

use std::ffi::c_char;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::caller::Caller;

/// The beginning of every handle: which type it is, and whether a panic went through it.
pub(crate) struct Head {
    mark: AtomicU64,
    poisoned: AtomicBool,
}

/// A type of which callers get pointers.
pub(crate) trait Handle: Send + Sync {
    /// A number that stands at the beginning of live handles of this type only.
    const MARK: u64;
    /// The name of the C type.
    const TYPE: &'static str;

    fn head(&self) -> &Head;

    /// Where the head of a handle is.
    fn head_of(this: *const Self) -> *const Head;
}

/// Makes a handle of a type with a field `head`.
macro_rules! handle {
    ($name:ident, $mark:literal) => {
        impl $crate::handle::Handle for $name {
            const MARK: u64 = $mark;
            const TYPE: &'static str = stringify!($name);

            fn head(&self) -> &$crate::handle::Head {
                &self.head
            }

            fn head_of(this: *const Self) -> *const $crate::handle::Head {
                // SAFETY: an address is computed and nothing read; the pointer is aligned and the caller's.
                unsafe { &raw const (*this).head }
            }
        }
    };
}
pub(crate) use handle;

impl Head {
    pub(crate) fn new(mark: u64) -> Self {
        Head { mark: AtomicU64::new(mark), poisoned: AtomicBool::new(false) }
    }

    pub(crate) fn is(&self, mark: u64) -> bool {
        self.mark.load(Ordering::Relaxed) == mark
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // As long as the memory is not used again, a second unref does nothing.
        self.mark.store(0, Ordering::Relaxed);
    }
}

/// Frees a string that a function of this library has returned as `char *`.
///
/// Ownership: takes `text`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `String`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_string_free(text: *mut c_char) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.free_text(text);
}
