//! One output of a container for several readers, who may come late.
//!
//! A pipe gives each byte to one reader, once. Somebody has to read it all the time, keep some of what was read, and
//! copy it: that is a [`Fanout`]. It has no thread of its own; the program runs it on one of its threads, or in its loop
//! of events.

mod ring;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::pipe2;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::sys;
use ring::Ring;

/// As much as a pipe can be made to hold by every user (`/proc/sys/fs/pipe-max-size`).
const MAX_BACKLOG: usize = 1 << 20;
const MIN_BACKLOG: usize = 4096;
/// Readers of one stream.
const MAX_READERS: usize = 256;
/// Bytes that are read in one go.
const CHUNK: usize = 64 << 10;
/// The source among what epoll tells of; readers count from 0.
const SOURCE: u64 = u64::MAX;

/// What becomes of a reader that does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowReader {
    /// It gets the end of the stream early when what it has not read is more than the backlog. Nobody waits for it.
    #[default]
    Detach,
    /// Everybody waits for it, and in the end the container: nothing is read until there is room again.
    Wait,
}

/// One output of a container for several readers: each byte goes to all who are attached, and the last ones are kept for
/// those who come later.
///
/// A handle: cloning it is cheap, any thread may use it. Something must let it work as long as the container writes: a
/// thread that calls [`run`](Self::run), or a loop of events that calls [`pump`](Self::pump) whenever the descriptor
/// ([`AsFd`]) is readable. With the last handle the source and all readers' pipes are closed.
///
/// ```no_run
/// # fn two_readers(pod: pericarp::Pod, spec: pericarp::ContainerSpec) -> pericarp::Result<()> {
/// use pericarp::{Fanout, SlowReader, Stdio};
///
/// let container = pod.create_container(&spec.stdout(Stdio::Pipe))?;
/// let output = Fanout::new(container.take_stdout().expect("a pipe"), 64 << 10, SlowReader::Detach)?;
/// let worker = output.clone();
/// std::thread::spawn(move || worker.run());
/// container.start()?;
/// let mut log = output.attach()?;
/// let mut another = output.attach()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Fanout(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Outside of the lock: it is waited for.
    epoll: Epoll,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Until it has ended.
    source: Option<File>,
    /// Whether epoll watches it: not while a slow reader is waited for.
    watched: bool,
    ring: Ring,
    readers: Vec<Reader>,
    next: u64,
    slow: SlowReader,
}

#[derive(Debug)]
struct Reader {
    number: u64,
    pipe: OwnedFd,
    /// The place in the stream of what it gets next.
    at: u64,
    /// Whether epoll tells when its pipe has room.
    waiting: bool,
}

impl Fanout {
    /// Takes over the reading of a pipe, of a terminal ([`Terminal`](crate::Terminal); keep a duplicate to write to it)
    /// or of a socket, and keeps its last `backlog` bytes (4 KiB to 1 MiB). Nobody else may read it.
    ///
    /// # Errors
    /// `InvalidSpec` for another backlog; `System` for a file that cannot be waited for, such as a regular one.
    pub fn new(source: impl Into<OwnedFd>, backlog: usize, slow: SlowReader) -> Result<Self> {
        if !(MIN_BACKLOG..=MAX_BACKLOG).contains(&backlog) {
            let bounds = format!("{backlog} is not between {MIN_BACKLOG} and {MAX_BACKLOG} bytes");
            return Err(Error::invalid("backlog", bounds));
        }
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).step("make", "the epoll of a stream")?;
        let source = File::from(source.into());
        epoll
            .add(&source, EpollEvent::new(EpollFlags::EPOLLIN, SOURCE))
            .step("watch", "the source of a stream")?;
        let state = State {
            source: Some(source),
            watched: true,
            ring: Ring::new(backlog),
            readers: Vec::new(),
            next: 0,
            slow,
        };
        Ok(Fanout(Arc::new(Shared { epoll, state: Mutex::new(state) })))
    }

    /// A new reader, which gets all that is kept, and then what comes: the read end of a pipe. It may come after the end
    /// of the stream. Dropping the pipe detaches the reader.
    ///
    /// # Errors
    /// `Exhausted` when there are 256 readers already, or no pipe of the backlog's size can be made
    /// (`/proc/sys/fs/pipe-max-size`, `pipe-user-pages-soft`).
    pub fn attach(&self) -> Result<File> {
        self.add(|ring| ring.start())
    }

    /// The same without what is kept.
    ///
    /// # Errors
    /// Those of [`attach`](Self::attach).
    pub fn attach_from_now(&self) -> Result<File> {
        self.add(Ring::end)
    }

    fn add(&self, place: impl FnOnce(&Ring) -> u64) -> Result<File> {
        let mut state = self.lock();
        if state.readers.len() >= MAX_READERS {
            return Err(Error::new(ErrorKind::Exhausted, "attach to")
                .on("a stream")
                .because(format!("it has {MAX_READERS} readers")));
        }
        let (ours, pipe) = pipe2(OFlag::O_CLOEXEC).step("make", "a reader's pipe")?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).step("set up", "a reader's pipe")?;
        // All that is kept goes into it at once: also when nobody calls `pump` any more.
        let backlog = state.ring.limit();
        state.ring.straighten();
        fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(backlog as i32)).map_err(|errno| {
            let error = Error::system(errno, "enlarge").on(format!("a reader's pipe to {backlog} bytes"));
            match errno {
                Errno::EPERM => error
                    .of_kind(ErrorKind::Exhausted)
                    .because("fs.pipe-max-size or fs.pipe-user-pages-soft is too small"),
                _ => error,
            }
        })?;
        let number = state.next;
        state.next += 1;
        self.0.epoll.add(&pipe, EpollEvent::new(EpollFlags::empty(), number)).step("watch", "a reader")?;
        let reader = Reader { number, pipe, at: place(&state.ring), waiting: false };
        state.readers.push(reader);
        self.distribute(&mut state)?;
        Ok(File::from(ours))
    }

    /// Does what can be done at once: reads, and writes to the readers. Returns whether anything is left to be done, now
    /// or later: `false` when the stream has ended and each reader has got all.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub fn pump(&self) -> Result<bool> {
        let mut state = self.lock();
        let mut events = [EpollEvent::empty(); 16];
        let count = match self.0.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            result => result.step("watch", "a stream")?,
        };
        for event in events.iter().take(count) {
            if event.data() == SOURCE {
                self.read(&mut state)?;
            } else if event.events().contains(EpollFlags::EPOLLERR) {
                // Nobody reads that pipe any more.
                state.readers.retain(|reader| reader.number != event.data());
            }
        }
        self.distribute(&mut state)?;
        Ok(state.source.is_some() || !state.readers.is_empty())
    }

    /// Works until the stream has ended and each reader has got all, or is gone. Who attaches later is served at once.
    ///
    /// # Errors
    /// Those of [`pump`](Self::pump).
    pub fn run(&self) -> Result<()> {
        while self.pump()? {
            let mut event = [EpollEvent::empty()];
            match self.0.epoll.wait(&mut event, EpollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).step("watch", "a stream"),
            }
        }
        Ok(())
    }

    /// How many readers are attached.
    pub fn readers(&self) -> usize {
        self.lock().readers.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads once, as much as may be read.
    fn read(&self, state: &mut State) -> Result<()> {
        let room = match state.slow {
            SlowReader::Detach => CHUNK,
            SlowReader::Wait => state.room(),
        };
        let Some(source) = state.source.as_mut().filter(|_| room > 0) else { return Ok(()) };
        let mut bytes = vec![0; room.min(CHUNK)];
        match source.read(&mut bytes) {
            // A terminal that nobody has open any more says EIO.
            Ok(0) => self.end(state),
            Err(error) if error.raw_os_error() == Some(libc::EIO) => self.end(state),
            Ok(length) => {
                state.ring.push(bytes.get(..length).unwrap_or_default());
                Ok(())
            }
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(()),
                _ => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))).step("read", "a stream"),
            },
        }
    }

    fn end(&self, state: &mut State) -> Result<()> {
        self.watch_source(state, false)?;
        state.source = None;
        Ok(())
    }

    /// Writes to each reader what it has not got and has room for.
    fn distribute(&self, state: &mut State) -> Result<()> {
        let State { readers, ring, source, .. } = state;
        let mut result = Ok(());
        // Its pipe is closed with the reader: that is the end of the stream for who reads.
        readers.retain_mut(|reader| {
            let gone = !reader.fill(ring);
            let behind = reader.at < ring.end();
            if gone || (source.is_none() && !behind) {
                return false;
            }
            if behind != reader.waiting {
                let flags = if behind { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
                let mut event = EpollEvent::new(flags, reader.number);
                match self.0.epoll.modify(&reader.pipe, &mut event) {
                    Ok(()) => reader.waiting = behind,
                    Err(errno) => result = Err(errno).step("watch", "a reader"),
                }
            }
            true
        });
        result?;
        ring.trim();
        let start = ring.start();
        readers.retain(|reader| reader.at >= start);
        let watched = state.source.is_some() && (state.slow == SlowReader::Detach || state.room() > 0);
        self.watch_source(state, watched)
    }

    /// A source that is not read must not be watched at all: epoll always tells that a writer has gone.
    fn watch_source(&self, state: &mut State, watched: bool) -> Result<()> {
        let Some(source) = state.source.as_ref().filter(|_| watched != state.watched) else { return Ok(()) };
        let result = match watched {
            true => self.0.epoll.add(source, EpollEvent::new(EpollFlags::EPOLLIN, SOURCE)),
            false => self.0.epoll.delete(source),
        };
        state.watched = watched;
        result.step("watch", "the source of a stream")
    }
}

impl State {
    /// How much can be read so that no reader loses anything.
    fn room(&self) -> usize {
        let slowest = self.readers.iter().map(|reader| reader.at).min();
        slowest.map_or(CHUNK, |place| self.ring.room(place))
    }
}

impl Reader {
    /// Fills its pipe; `false` when nobody reads it.
    fn fill(&mut self, ring: &Ring) -> bool {
        loop {
            let bytes = ring.from(self.at);
            if bytes.is_empty() {
                return true;
            }
            match sys::pipe::write(&self.pipe, bytes) {
                Ok(length) => self.at += length as u64,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for Fanout {
    /// Readable whenever [`pump`](Fanout::pump) has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
