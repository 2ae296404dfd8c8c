use std::ffi::{CStr, c_int};
use std::ptr::{null, null_mut};

use super::*;
use crate::error::*;
use crate::handle::Head;
use crate::structs::*;

fn caller() -> Caller {
    // SAFETY: the tests give pointers to what they own.
    unsafe { Caller::trust() }
}

/// A handle that needs no kernel.
struct Thing {
    head: Head,
}

impl Handle for Thing {
    const MARK: u64 = 77;
    const TYPE: &'static str = "thing";

    fn head(&self) -> &Head {
        &self.head
    }

    fn head_of(this: *const Self) -> *const Head {
        // SAFETY: an address is computed and nothing read.
        unsafe { &raw const (*this).head }
    }
}

fn thing() -> *mut Thing {
    give(Thing { head: Head::new(Thing::MARK) })
}

/// The number, the code and the message of a call.
fn outcome(body: impl FnOnce() -> Result<(), Problem>) -> (c_int, c_int, String) {
    let mut err = null_mut();
    let number = caller().entry(&mut err, body);
    // SAFETY: an error that was just made, or NULL.
    unsafe {
        let text = pericarp_error_message(err);
        let text =
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_str().unwrap().to_string() };
        let code = pericarp_error_code(err);
        pericarp_error_unref(err);
        (number, code, text)
    }
}

#[test]
fn a_panic_becomes_an_error_and_poisons_the_handle() {
    let thing = thing();
    let call = |panics: bool| {
        outcome(|| {
            let _used = caller().handle(thing, "thing")?;
            assert!(!panics, "this is wrong");
            Ok(())
        })
    };
    assert_eq!(call(false), (0, 0, String::new()));
    let (number, code, text) = call(true);
    assert_eq!((number, code), (-libc::ENOTRECOVERABLE, PERICARP_ERROR_PANIC));
    assert_eq!(text, "work: panicked: this is wrong");
    let (number, code, text) = call(false);
    assert_eq!((number, code), (-libc::ENOTRECOVERABLE, PERICARP_ERROR_PANIC));
    assert!(text.contains("thing is poisoned") || text.contains("thing: is poisoned"), "{text}");
    assert_eq!(caller().look(thing, 5, |_| 6), 5, "also for those that return no number");
    caller().unrefer(thing);
}

#[test]
fn a_panic_of_the_caller_s_own_poisons_nothing() {
    struct Calls(*mut Thing);
    impl Drop for Calls {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            assert_eq!(outcome(|| caller().handle(self.0, "thing").map(drop)).0, 0);
        }
    }
    let thing = thing();
    let panicked = std::panic::catch_unwind(|| {
        let _calls = Calls(thing);
        panic!("the caller's");
    });
    assert!(panicked.is_err());
    assert_eq!(outcome(|| caller().handle(thing, "thing").map(drop)).0, 0);
    caller().unrefer(thing);
}

#[test]
fn a_panic_without_text_and_one_in_an_accessor_do_not_cross_either() {
    let (number, _, _) = outcome(|| std::panic::panic_any(7_u8));
    assert_eq!(number, -libc::ENOTRECOVERABLE);
    let thing = thing();
    assert_eq!(caller().look(thing, 5, |_| -> i32 { panic!("no") }), 5);
    caller().unrefer(thing);
}

#[test]
fn wrong_handles_are_told() {
    let other = crate::caller::give(pericarp_error_t::new(Problem::argument("x", "is wrong")));
    let is = |pointer: *const Thing, what: &str| {
        let (number, code, text) = outcome(|| caller().handle(pointer, "thing").map(drop));
        assert_eq!((number, code), (-libc::EINVAL, PERICARP_ERROR_INVALID_ARGUMENT));
        assert_eq!(text, format!("check the argument thing: {what}"));
    };
    is(null(), "is NULL");
    is(std::ptr::without_provenance(0x1001), "is not aligned");
    is(other.cast(), "is not a thing");
    caller().unrefer(other);
    caller().unrefer::<Thing>(null_mut());
    assert!(caller().refer::<Thing>(null()).is_null());
}

#[test]
fn references_are_counted() {
    let first = thing();
    let second = caller().refer(first);
    assert_eq!(first, second);
    caller().unrefer(first);
    assert!(caller().handle(second, "thing").is_ok());
    caller().unrefer(second);
}

#[test]
fn lists_end_with_null_and_free_their_handles() {
    let things = || (0..3).map(|_| Thing { head: Head::new(Thing::MARK) });
    let list = handles_for_caller(things());
    // SAFETY: the list has three elements and NULL.
    unsafe {
        assert!((0..3).all(|at| caller().handle(list.add(at).read(), "thing").is_ok()));
        assert!(list.add(3).read().is_null());
    }
    caller().free_handles(list);
    caller().free_handles(handles_for_caller(things().take(0)));
    caller().free_handles::<Thing>(null_mut());
}

#[test]
fn strings_are_checked() {
    assert_eq!(outcome(|| caller().text(null(), "name").map(drop)).2, "check the argument name: is NULL");
    let (number, _, text) = outcome(|| caller().text(c"\xff".as_ptr(), "name").map(drop));
    assert_eq!(number, -libc::EINVAL);
    assert!(text.starts_with("check the argument name: is not UTF-8"), "{text}");
    assert_eq!(c_string("a\0b").to_str().unwrap(), "a\u{fffd}b");
}

/// An exit status as a later release may have it.
#[repr(C)]
struct Longer {
    known: pericarp_exit_status_t,
    tail: [u64; 2],
}

fn longer(size: usize) -> Longer {
    let status = pericarp_exit_status_t { size, how: 9, code: 9, signal: 9, core_dumped: 9 };
    Longer { known: status, tail: [0; 2] }
}

#[test]
fn sizes_of_structures_go_both_ways() {
    let read = |given: &Longer| {
        let place = (&raw const *given).cast::<pericarp_exit_status_t>();
        outcome(|| caller().structure(place, "status").map(drop)).0
    };
    let exact = size_of::<pericarp_exit_status_t>();
    assert_eq!(read(&longer(exact)), 0);
    assert_eq!(read(&longer(size_of::<Longer>())), 0, "an unknown tail of zeroes");
    assert_eq!(read(&longer(0)), -libc::EINVAL);
    assert_eq!(read(&longer(exact - 1)), -libc::EINVAL);
    assert_eq!(read(&longer(usize::MAX)), -libc::E2BIG);
    assert_eq!(read(&longer(4097)), -libc::E2BIG);
    let mut tail = longer(size_of::<Longer>());
    tail.tail[1] = 1 << 56;
    assert_eq!(read(&tail), -libc::E2BIG, "one byte of an unknown tail");

    let mut out = longer(size_of::<Longer>());
    out.tail = [u64::MAX; 2];
    let place = (&raw mut out).cast::<pericarp_exit_status_t>();
    caller().out_structure(place, "status").ok().unwrap().set(Some(pericarp::ExitStatus::Exited(3)).into());
    assert_eq!((out.known.size, out.known.how, out.known.code), (size_of::<Longer>(), PERICARP_EXIT_CODE, 3));
    assert_eq!((out.known.signal, out.known.core_dumped, out.tail), (0, 0, [0; 2]));
}

#[test]
fn without_a_place_for_the_error_the_number_is_all() {
    assert_eq!(caller().entry(null_mut(), || Err(Problem::argument("x", "is wrong"))), -libc::EINVAL);
}

#[test]
fn the_kind_decides_where_no_system_call_failed() {
    let json = crate::json::read::<pericarp::PodSpec>(r#"{"name":"a","colour":1}"#);
    let (number, code, text) = outcome(|| json.map(drop));
    assert_eq!((number, code), (-libc::EINVAL, PERICARP_ERROR_INVALID_SPEC));
    assert!(text.contains("colour"), "{text}");
}
