//! The two IPC objects that the containers of the quickstart meet at, as any program would use them: a System V
//! semaphore (semop(2)) that guards a number in a POSIX shared memory object (shm_open(3)).
#![allow(unsafe_code, reason = "System V semaphores and shared memory have no safe interface")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// The key of the semaphore.
pub const KEY: i32 = 0x7065_7269;
/// The name of the shared memory object.
pub const NAME: &str = "visits";
/// Its size in bytes.
pub const SIZE: u64 = 4096;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The semaphore of that key, which must be there.
pub struct Semaphore(i32);

impl Semaphore {
    pub fn open() -> io::Result<Self> {
        // SAFETY: only numbers are passed.
        check(unsafe { libc::semget(KEY, 1, 0) }).map(Semaphore)
    }

    /// Waits until the value is above zero and takes one (-1), or gives one back (1).
    fn change(&self, by: i16) -> io::Result<()> {
        let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: libc::SEM_UNDO as i16 };
        // SAFETY: the one operation is ours and outlives the call.
        check(unsafe { libc::semop(self.0, &mut operation, 1) }).map(drop)
    }

    pub fn value(&self) -> io::Result<i32> {
        // SAFETY: GETVAL takes no argument.
        check(unsafe { libc::semctl(self.0, 0, libc::GETVAL) })
    }
}

/// The number at the beginning of the shared memory object, mapped.
pub struct Counter(&'static AtomicU64);

impl Counter {
    pub fn open() -> io::Result<Self> {
        // What shm_open(3) does.
        let file = OpenOptions::new().read(true).write(true).open(format!("/dev/shm/{NAME}"))?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping where the kernel likes it; it is never unmapped.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), 8, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the start of a page is aligned, the object has 4096 bytes, and other processes may change them at
        // any time, which an atomic number allows.
        Ok(Counter(unsafe { AtomicU64::from_ptr(address.cast()) }))
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one so many times. Reading and writing are two steps: without the semaphore, counts would be lost.
    pub fn count(&self, semaphore: &Semaphore, times: u64) -> io::Result<()> {
        for _ in 0..times {
            semaphore.change(-1)?;
            self.0.store(self.get() + 1, Ordering::Relaxed);
            semaphore.change(1)?;
        }
        Ok(())
    }
}
