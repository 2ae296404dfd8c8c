//! What stands between a C caller and Rust: checked arguments. No panic crosses, see `wall`.

use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Problem, pericarp_error_t};
use crate::handle::Handle;
use crate::wall::{self, on_purpose};

/// The longest structure that is looked at, as for the kernel's own sized structures: a page.
const LONGEST: usize = 4096;

/// Proof that the arguments come from a caller who keeps to the header's conventions, which is what makes reading
/// through its pointers sound.
#[derive(Clone, Copy)]
pub(crate) struct Caller(PhantomData<*const ()>);

/// A place for a result, checked before any work is done.
pub(crate) struct Out<T>(*mut T);

/// A place for a structure whose first member says how long the caller takes it to be.
pub(crate) struct OutStruct<T> {
    place: *mut T,
    size: usize,
}

/// A handle in use. One that a panic passes through is poisoned.
pub(crate) struct Used<'a, T: Handle> {
    handle: &'a T,
    /// Of the caller's own panic: it may be a destructor that calls.
    was_panicking: bool,
}

/// A structure of the header that begins with `size_t size`.
///
/// # Safety
/// It is `repr(C)`, begins with a `usize`, has no padding, and every pattern of bits is a valid value.
pub(crate) unsafe trait Structure: Copy {
    /// The size of the structure in the first release that had it.
    const FIRST: usize;
}

impl<T: Handle> Deref for Used<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.handle
    }
}

impl<T: Handle> Drop for Used<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            self.handle.head().poison();
        }
    }
}

impl<T> Out<T> {
    pub(crate) fn set(self, value: T) {
        // SAFETY: `Caller::out` has checked it, and the caller promises that a `T` can be written there.
        unsafe { self.0.write(value) }
    }
}

impl<T: Structure> OutStruct<T> {
    /// Writes what both sides know, and zeroes in what only the caller knows.
    pub(crate) fn set(self, value: T) {
        let common = self.size.min(size_of::<T>());
        let skip = size_of::<usize>();
        let from = (&raw const value).cast::<u8>();
        let to = self.place.cast::<u8>();
        // SAFETY: the caller says that `size` bytes are there, and `T` has no padding. Its own `size` stays.
        unsafe {
            to.add(skip).copy_from_nonoverlapping(from.add(skip), common - skip);
            to.add(common).write_bytes(0, self.size - common);
        }
    }
}

impl Caller {
    /// # Safety
    /// Every pointer that is given to the methods of this value is NULL, or points to what the header says for the
    /// time of the call.
    pub(crate) unsafe fn trust() -> Self {
        Caller(PhantomData)
    }

    /// The body of a function that can fail.
    pub(crate) fn entry<F: FnOnce() -> Result<(), Problem>>(
        self,
        err: *mut *mut pericarp_error_t,
        body: F,
    ) -> c_int {
        let work = || {
            on_purpose::begin::<F>();
            body()
        };
        let problem = match wall::within(work) {
            Ok(Ok(())) => return 0,
            Ok(Err(problem)) => problem,
            Err(panic) => Problem::panic(&panic),
        };
        let told = wall::within(|| {
            let result = -problem.number();
            let wanted = !err.is_null() && err.is_aligned();
            (result, wanted.then(|| give(pericarp_error_t::new(problem))))
        });
        // Without words, the number says it.
        let (result, error) = told.unwrap_or((-libc::ENOTRECOVERABLE, None));
        if !err.is_null() && err.is_aligned() {
            // SAFETY: the caller promises that a pointer can be written there.
            unsafe { err.write(error.unwrap_or(std::ptr::null_mut())) }
        }
        result
    }

    /// The body of a function that cannot fail, except by a wrong handle: then the answer is `otherwise`.
    pub(crate) fn look<T: Handle, R, F: FnOnce(&T) -> R>(self, handle: *const T, otherwise: R, body: F) -> R {
        let looked = wall::within(|| {
            on_purpose::begin::<F>();
            Some(body(&*self.handle(handle, "").ok()?))
        });
        looked.ok().flatten().unwrap_or(otherwise)
    }

    /// The body of a function that cannot fail and takes no handle. If it panics, the answer is `otherwise`.
    pub(crate) fn ask<R, F: FnOnce() -> R>(self, otherwise: R, body: F) -> R {
        wall::whole(otherwise, || {
            on_purpose::begin::<F>();
            body()
        })
    }

    /// A handle.
    pub(crate) fn handle<'a, T: Handle>(self, handle: *const T, name: &str) -> Result<Used<'a, T>, Problem> {
        let used = self.any(handle, name)?;
        if used.head().is_poisoned() {
            return Err(Problem::poisoned(name));
        }
        let used = Used { handle: used, was_panicking: std::thread::panicking() };
        on_purpose::in_use();
        Ok(used)
    }

    /// A handle, poisoned or not.
    fn any<'a, T: Handle>(self, handle: *const T, name: &str) -> Result<&'a T, Problem> {
        check(handle, name)?;
        // SAFETY: it is aligned, and the caller promises that it is a handle. Only the mark of its type is read
        // before that is certain.
        let head = unsafe { &*T::head_of(handle) };
        if !head.is(T::MARK) {
            return Err(Problem::argument(name, format!("is not a {}", T::TYPE)));
        }
        // SAFETY: it is a live handle of this type; the caller keeps its reference for the time of the call.
        Ok(unsafe { &*handle })
    }

    /// One more reference, or NULL.
    pub(crate) fn refer<T: Handle>(self, handle: *const T) -> *mut T {
        wall::whole(std::ptr::null_mut(), || {
            if self.any(handle, "").is_err() {
                return std::ptr::null_mut();
            }
            on_purpose::at("ref");
            // SAFETY: handles are made by `give`, from an `Arc`.
            unsafe { Arc::increment_strong_count(handle) };
            handle.cast_mut()
        })
    }

    /// Takes a reference back.
    pub(crate) fn unrefer<T: Handle>(self, handle: *mut T) {
        wall::whole((), || {
            if self.any(handle, "").is_ok() {
                // SAFETY: handles are made by `give`, from an `Arc`, and the caller gives up its reference.
                let last = unsafe { Arc::from_raw(handle) };
                on_purpose::at("unref");
                drop(last);
            }
        });
    }

    /// A string.
    pub(crate) fn text<'a>(self, text: *const c_char, name: &str) -> Result<&'a str, Problem> {
        check(text, name)?;
        // SAFETY: the caller promises that it ends with NUL.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_str().map_err(|error| Problem::argument(name, format!("is not UTF-8: {error}")))
    }

    /// A string that may be NULL.
    pub(crate) fn optional_text<'a>(
        self,
        text: *const c_char,
        name: &str,
    ) -> Result<Option<&'a str>, Problem> {
        if text.is_null() { Ok(None) } else { self.text(text, name).map(Some) }
    }

    /// An array.
    pub(crate) fn array<'a, T>(self, first: *const T, count: usize, name: &str) -> Result<&'a [T], Problem> {
        check(first, name)?;
        if count > isize::MAX as usize / size_of::<T>() {
            return Err(Problem::argument(name, "has more elements than there is memory"));
        }
        // SAFETY: it is aligned, and the caller promises that so many elements are there.
        Ok(unsafe { std::slice::from_raw_parts(first, count) })
    }

    /// A structure that begins with its size.
    pub(crate) fn structure<T: Structure>(self, place: *const T, name: &str) -> Result<T, Problem> {
        let size = self.size(place, name)?;
        let bytes = place.cast::<u8>();
        for at in size_of::<T>()..size {
            // SAFETY: the caller says that `size` bytes are there.
            if unsafe { bytes.add(at).read() } != 0 {
                return Err(Problem::too_big(name, "has fields that this library does not know"));
            }
        }
        let mut copy = MaybeUninit::<T>::zeroed();
        let common = size.min(size_of::<T>());
        // SAFETY: so many bytes are there on both sides, and every pattern of bits is a valid `T`.
        unsafe {
            copy.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes, common);
            Ok(copy.assume_init())
        }
    }

    fn size<T: Structure>(self, place: *const T, name: &str) -> Result<usize, Problem> {
        check(place, name)?;
        // SAFETY: it is aligned, and begins with its size.
        let size = unsafe { place.cast::<usize>().read() };
        if size < T::FIRST {
            let least = T::FIRST;
            return Err(Problem::argument(name, format!("has size {size}, but it must be {least} or more")));
        }
        if size > LONGEST {
            return Err(Problem::too_big(name, format!("has size {size}, which is more than {LONGEST}")));
        }
        Ok(size)
    }

    /// A place for a result.
    pub(crate) fn out<T>(self, place: *mut T, name: &str) -> Result<Out<T>, Problem> {
        check(place, name)?;
        Ok(Out(place))
    }

    /// A place for a structure that begins with its size.
    pub(crate) fn out_structure<T: Structure>(
        self,
        place: *mut T,
        name: &str,
    ) -> Result<OutStruct<T>, Problem> {
        Ok(OutStruct { place, size: self.size(place, name)? })
    }

    /// Copies what fits to a caller's array, which may be NULL if it has no room.
    pub(crate) fn fill<T: Copy>(
        self,
        place: *mut T,
        room: usize,
        values: &[T],
        name: &str,
    ) -> Result<(), Problem> {
        if room == 0 {
            return Ok(());
        }
        check(place, name)?;
        let count = room.min(values.len());
        // SAFETY: it is aligned, the caller promises room for so many, and it is not memory of ours.
        unsafe { place.copy_from_nonoverlapping(values.as_ptr(), count) };
        Ok(())
    }

    /// Frees a string that was given to the caller.
    pub(crate) fn free_text(self, text: *mut c_char) {
        if !text.is_null() {
            wall::whole((), || {
                // SAFETY: the caller got it from `text_for_caller`, and gives it up.
                let text = unsafe { CString::from_raw(text) };
                on_purpose::at("free_text");
                drop(text);
            });
        }
    }

    /// Frees an array of handles that `handles_for_caller` has made, with the references in it.
    pub(crate) fn free_handles<T: Handle>(self, handles: *mut *mut T) {
        if handles.is_null() || !handles.is_aligned() {
            return;
        }
        wall::whole((), || {
            let mut count = 0;
            loop {
                // SAFETY: the array ends with NULL.
                let handle = unsafe { handles.add(count).read() };
                count += 1;
                if handle.is_null() {
                    break;
                }
                self.unrefer(handle);
            }
            on_purpose::at("free_handles");
            // SAFETY: a boxed slice of that length was given to the caller, who gives it up.
            drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(handles, count)) });
        });
    }
}

fn check<T>(pointer: *const T, name: &str) -> Result<(), Problem> {
    if pointer.is_null() {
        return Err(Problem::argument(name, "is NULL"));
    }
    if !pointer.is_aligned() {
        return Err(Problem::argument(name, "is not aligned"));
    }
    Ok(())
}

/// A handle with one reference, which is the caller's.
pub(crate) fn give<T: Handle>(handle: T) -> *mut T {
    Arc::into_raw(Arc::new(handle)).cast_mut()
}

/// An array of handles that ends with NULL.
pub(crate) fn handles_for_caller<T: Handle>(handles: impl IntoIterator<Item = T>) -> *mut *mut T {
    let end = std::iter::once(std::ptr::null_mut());
    let array: Box<[*mut T]> = handles.into_iter().map(give).chain(end).collect();
    Box::into_raw(array).cast()
}

/// A string that the caller frees.
pub(crate) fn text_for_caller(text: &str) -> *mut c_char {
    c_string(text).into_raw()
}

/// A copy of a caller's descriptor, close-on-exec and not in the place of a standard stream.
pub(crate) fn duplicate(fd: c_int, name: &str) -> Result<OwnedFd, Problem> {
    if fd < 0 {
        return Err(Problem::argument(name, format!("is {fd}, which is no descriptor")));
    }
    // SAFETY: the number is used for this one call, which says so when it is no open file.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    copy.map_err(|error| Problem::system(error, "duplicate", name))
}

/// A C string. A NUL in the middle, which no name or path can have, becomes U+FFFD.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default())
}

/// Refuses flags that this library does not know.
pub(crate) fn known_flags(flags: u64, known: u64, name: &str) -> Result<(), Problem> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(Problem::argument(name, format!("has unknown flags {unknown:#x}"))),
    }
}

/// The size up to and with the last field of a structure's first release.
macro_rules! first_size {
    ($type:ty, $last:ident: $field:ty) => {
        $crate::caller::end_of::<$field>(std::mem::offset_of!($type, $last))
    };
}
pub(crate) use first_size;

pub(crate) const fn end_of<T>(offset: usize) -> usize {
    offset + size_of::<T>()
}

#[cfg(test)]
#[path = "caller_tests.rs"]
mod tests;
