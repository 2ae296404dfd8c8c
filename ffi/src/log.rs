//! What the library tells of its work, for a callback of the program.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{OnceLock, PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};

use crate::caller::{Caller, c_string};
use crate::error::{Problem, pericarp_error_t};

/// No messages.
pub const PERICARP_LOG_OFF: u32 = 0;
/// Nothing is told at this level yet: errors are what calls return.
pub const PERICARP_LOG_ERROR: u32 = 1;
/// Failures that no call returns, since another error matters more, and what `pericarp_node_recover` has found broken.
pub const PERICARP_LOG_WARN: u32 = 2;
/// Pods and containers were made, started, ended and removed.
pub const PERICARP_LOG_INFO: u32 = 3;
/// Programs were executed in containers.
pub const PERICARP_LOG_DEBUG: u32 = 4;
/// Nothing is told at this level yet.
pub const PERICARP_LOG_TRACE: u32 = 5;

/// What is called for each message: with its level, one of the `PERICARP_LOG_` constants; the part of the library that it
/// comes from ("pericarp::pod"), and the text, both valid during the call; and `data`. The text has no end of line at its
/// end, and more lines than one only where it quotes what a hook wrote.
pub type pericarp_log_callback_t = Option<
    unsafe extern "C" fn(level: u32, target: *const c_char, message: *const c_char, data: *mut c_void),
>;

/// A callback that the program has set.
struct Hook {
    callback: unsafe extern "C" fn(u32, *const c_char, *const c_char, *mut c_void),
    data: *mut c_void,
    level: LevelFilter,
}

// SAFETY: the header says that the callback is called on any thread, with this pointer.
unsafe impl Send for Hook {}
// SAFETY: likewise.
unsafe impl Sync for Hook {}

/// Read for the time of a message: who has replaced it knows that the old one is not running.
static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

thread_local! {
    /// Whether this thread is in the callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates of a Rust program are none of the library's business.
        metadata.target().starts_with("pericarp::")
    }

    fn log(&self, record: &Record<'_>) {
        // To read a lock once more can wait for a writer, who waits for this very thread.
        if !self.enabled(record.metadata()) || INSIDE.get() {
            return;
        }
        let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner);
        let Some(hook) = hook.as_ref().filter(|hook| record.level() <= hook.level) else {
            return;
        };
        let (target, message) = (c_string(record.target()), c_string(&record.args().to_string()));
        INSIDE.set(true);
        // SAFETY: the program has given it for this, and says that it does not unwind.
        unsafe { (hook.callback)(record.level() as u32, target.as_ptr(), message.as_ptr(), hook.data) };
        INSIDE.set(false);
    }

    fn flush(&self) {}
}

/// Sets what is called for messages of the library up to `level`, one of the `PERICARP_LOG_` constants, in place of what
/// was set before: the process has one. NULL as `callback`, which may be NULL, removes it. Without one the library tells
/// nothing, and it never writes anything itself. No message has arguments, environment or the sources of mounts.
///
/// The callback is called on whatever thread calls the library, on several at the same time, and before that call returns.
/// It must not unwind, longjmp(3) or end the thread, and it must not call the library: locks on a pod may be held, which
/// the call could wait for. In it this function fails, and what other functions have to tell is lost.
///
/// Ownership: `callback` and `data`, which may be NULL and is handed on as it is, stay the caller's. When the function has
/// returned, those of before are in use no more, on no thread: it waits for callbacks that are running.
/// Errors: `INVALID_ARGUMENT` for another level; `WRONG_STATE` when it is called in the callback, or when the process has
/// another logger of the Rust crate `log` that this library is linked with, as a Rust program may: messages go there.
/// Threads: any.
/// Rust: a logger of the crate `log`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_log_set(
    level: u32,
    callback: pericarp_log_callback_t,
    data: *mut c_void,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let level = filter(level)?;
        if INSIDE.get() {
            return Err(refused("it is called in the callback, which would wait for itself"));
        }
        let hook = callback.map(|callback| Hook { callback, data, level });
        if hook.is_some() && !install() {
            return Err(refused(
                "the process has another logger of the Rust crate log already: the library's messages go there",
            ));
        }
        let mut place = HOOK.write().unwrap_or_else(PoisonError::into_inner);
        // Messages that nobody wants are not even made. Removing leaves another logger's level alone.
        if hook.is_some() {
            log::set_max_level(level);
        } else if place.is_some() {
            log::set_max_level(LevelFilter::Off);
        }
        *place = hook;
        Ok(())
    })
}

fn filter(level: u32) -> Result<LevelFilter, Problem> {
    Ok(match level {
        PERICARP_LOG_OFF => LevelFilter::Off,
        PERICARP_LOG_ERROR => LevelFilter::Error,
        PERICARP_LOG_WARN => LevelFilter::Warn,
        PERICARP_LOG_INFO => LevelFilter::Info,
        PERICARP_LOG_DEBUG => LevelFilter::Debug,
        PERICARP_LOG_TRACE => LevelFilter::Trace,
        other => return Err(Problem::argument("level", format!("is {other}, which is more than 5"))),
    })
}

/// Makes this the logger of the process, once. False when it has another one.
fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| log::set_logger(&Logger).is_ok())
}

fn refused(why: &'static str) -> Problem {
    Problem::wrong_state("set", "the callback for logs", why)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use std::sync::{Mutex, mpsc};

    use super::*;
    use crate::error::{pericarp_error_message, pericarp_error_unref};

    /// The process has one callback.
    static TURN: Mutex<()> = Mutex::new(());

    fn set(level: u32, callback: pericarp_log_callback_t, data: *mut c_void) -> c_int {
        // SAFETY: the callbacks are those below, with what they ask for.
        unsafe { pericarp_log_set(level, callback, data, std::ptr::null_mut()) }
    }

    /// Sets it once more, in itself, and tells the library's next message.
    unsafe extern "C" fn sets_itself(_: u32, _: *const c_char, _: *const c_char, data: *mut c_void) {
        let mut err = std::ptr::null_mut();
        // SAFETY: the arguments are right, and the message is valid as long as the error.
        unsafe {
            let result = pericarp_log_set(3, None, std::ptr::null_mut(), &mut err);
            let said =
                std::ffi::CStr::from_ptr(pericarp_error_message(err)).to_str().expect("UTF-8").to_string();
            assert!(said.contains("it is called in the callback"), "{said}");
            pericarp_error_unref(err);
            (*data.cast::<AtomicI32>()).store(result, Ordering::SeqCst);
        }
        log::info!(target: "pericarp::pod", "nobody hears this");
    }

    /// Without the look at `INSIDE` in `pericarp_log_set`, it waits for ever for itself; without that in `Logger::log`, the
    /// callback calls itself until the stack overflows. (Both were tried.)
    #[test]
    fn in_the_callback_it_is_refused() {
        let _turn = TURN.lock().unwrap();
        let result = AtomicI32::new(0);
        assert_eq!(set(3, Some(sets_itself), (&raw const result).cast_mut().cast()), 0);
        log::info!(target: "pericarp::pod", "something");
        assert_eq!(result.load(Ordering::SeqCst), -libc::EBUSY);
        assert_eq!(set(3, None, std::ptr::null_mut()), 0);
    }

    struct Slow {
        entered: mpsc::Sender<()>,
        running: AtomicBool,
    }

    unsafe extern "C" fn is_slow(_: u32, _: *const c_char, _: *const c_char, data: *mut c_void) {
        // SAFETY: it is what the test has set.
        let slow = unsafe { &*data.cast::<Slow>() };
        slow.running.store(true, Ordering::SeqCst);
        slow.entered.send(()).expect("the test waits");
        std::thread::sleep(std::time::Duration::from_millis(100));
        slow.running.store(false, Ordering::SeqCst);
    }

    /// With a copy of the hook that is called without the lock, it is still running. (That was tried.)
    #[test]
    fn what_was_replaced_is_not_running_any_more() {
        let _turn = TURN.lock().unwrap();
        let (entered, receiver) = mpsc::channel();
        let slow = Slow { entered, running: AtomicBool::new(false) };
        assert_eq!(set(3, Some(is_slow), (&raw const slow).cast_mut().cast()), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| log::info!(target: "pericarp::pod", "something"));
            receiver.recv().unwrap();
            assert_eq!(set(3, None, std::ptr::null_mut()), 0);
            assert!(!slow.running.load(Ordering::SeqCst));
        });
    }

    /// Without the look at the target in `enabled`, the count is 2. (That was tried.)
    #[test]
    fn messages_of_other_crates_are_not_the_library_s() {
        unsafe extern "C" fn counts(_: u32, _: *const c_char, _: *const c_char, data: *mut c_void) {
            // SAFETY: it is what the test has set.
            unsafe { &*data.cast::<AtomicI32>() }.fetch_add(1, Ordering::SeqCst);
        }
        let _turn = TURN.lock().unwrap();
        let count = AtomicI32::new(0);
        assert_eq!(set(5, Some(counts), (&raw const count).cast_mut().cast()), 0);
        log::warn!(target: "somebody::else", "something");
        log::warn!(target: "pericarp::node", "something");
        assert_eq!(set(0, None, std::ptr::null_mut()), 0);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
