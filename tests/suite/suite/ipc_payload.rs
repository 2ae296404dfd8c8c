//! What containers do with IPC objects in the tests of `ipc.rs`: the system calls that a program would use.
//!
//! `look` asks for `/page`, `/jobs`, and the keys 0x11, 0x12 and -19.

use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_getattr, mq_open, mq_receive, mq_send};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::stat::{Mode, fstat};
use serde::{Deserialize, Serialize};

/// What there is of the objects that the tests make.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub shm: Option<SeenShm>,
    pub mqueue: Option<SeenQueue>,
    pub sysv_shm: Option<SeenSegment>,
    pub sysv_sem: Option<SeenSemaphores>,
    pub sysv_msg: Option<SeenSysvQueue>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenShm {
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenQueue {
    pub max_messages: i64,
    pub message_size: i64,
    pub messages: i64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenSegment {
    pub size: usize,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenSemaphores {
    pub values: Vec<u16>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenSysvQueue {
    pub max_bytes: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What the calling process finds under those names and keys.
pub fn look() -> Seen {
    Seen { shm: shm(), mqueue: mqueue(), sysv_shm: segment(), sysv_sem: semaphores(), sysv_msg: queue() }
}

fn shm() -> Option<SeenShm> {
    let stat = std::fs::symlink_metadata("/dev/shm/page").ok()?;
    Some(SeenShm { size: stat.size(), mode: stat.mode() & 0o7777, uid: stat.uid(), gid: stat.gid() })
}

fn mqueue() -> Option<SeenQueue> {
    let queue = mq_open("/jobs", MQ_OFlag::O_RDONLY, Mode::empty(), None).ok()?;
    let attributes = mq_getattr(&queue).expect("the queue's attributes");
    let stat = fstat(queue.as_fd()).expect("the queue's status");
    Some(SeenQueue {
        max_messages: attributes.maxmsg(),
        message_size: attributes.msgsize(),
        messages: attributes.curmsgs(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    })
}

fn segment() -> Option<SeenSegment> {
    let id = shmget(0x11, 0, 0).ok()?;
    // SAFETY: zeroes are a valid shmid_ds, which the kernel then fills.
    let stat = unsafe {
        let mut stat: libc::shmid_ds = std::mem::zeroed();
        check(libc::shmctl(id, libc::IPC_STAT, &mut stat)).expect("IPC_STAT");
        stat
    };
    let perm = stat.shm_perm;
    Some(SeenSegment { size: stat.shm_segsz, mode: u32::from(perm.mode), uid: perm.uid, gid: perm.gid })
}

fn semaphores() -> Option<SeenSemaphores> {
    let id = semget(0x12, 0, 0).ok()?;
    // SAFETY: zeroes are a valid semid_ds, which the kernel then fills; the array has room for the whole set.
    let (stat, values) = unsafe {
        let mut stat: libc::semid_ds = std::mem::zeroed();
        check(libc::semctl(id, 0, libc::IPC_STAT, &mut stat)).expect("IPC_STAT");
        let mut values = vec![0u16; stat.sem_nsems as usize];
        check(libc::semctl(id, 0, libc::GETALL, values.as_mut_ptr())).expect("GETALL");
        (stat, values)
    };
    let perm = stat.sem_perm;
    Some(SeenSemaphores { values, mode: u32::from(perm.mode), uid: perm.uid, gid: perm.gid })
}

fn queue() -> Option<SeenSysvQueue> {
    let id = msgget(-19, 0).ok()?;
    // SAFETY: zeroes are a valid msqid_ds, which the kernel then fills.
    let stat = unsafe {
        let mut stat: libc::msqid_ds = std::mem::zeroed();
        check(libc::msgctl(id, libc::IPC_STAT, &mut stat)).expect("IPC_STAT");
        stat
    };
    let perm = stat.msg_perm;
    Some(SeenSysvQueue {
        max_bytes: stat.msg_qbytes,
        mode: u32::from(perm.mode),
        uid: perm.uid,
        gid: perm.gid,
    })
}

fn check(result: i32) -> nix::Result<i32> {
    Errno::result(result)
}

fn shmget(key: i32, size: usize, flags: i32) -> nix::Result<i32> {
    // SAFETY: only numbers are passed.
    check(unsafe { libc::shmget(key, size, flags) })
}

fn semget(key: i32, count: i32, flags: i32) -> nix::Result<i32> {
    // SAFETY: only numbers are passed.
    check(unsafe { libc::semget(key, count, flags) })
}

fn msgget(key: i32, flags: i32) -> nix::Result<i32> {
    // SAFETY: only numbers are passed.
    check(unsafe { libc::msgget(key, flags) })
}

/// The most that the calling user may do: "write", "read" or "none".
fn best(open: impl Fn(bool) -> nix::Result<()>) -> &'static str {
    let refused = |result: nix::Result<()>| match result {
        Ok(()) => false,
        Err(Errno::EACCES) => true,
        Err(errno) => panic!("neither let in nor kept out: {errno}"),
    };
    match (refused(open(true)), refused(open(false))) {
        (false, _) => "write",
        (true, false) => "read",
        (true, true) => "none",
    }
}

fn open(what: &str) -> &'static str {
    match what {
        "shm" => best(|write| {
            let opened = std::fs::OpenOptions::new().read(!write).write(write).open("/dev/shm/page");
            opened
                .map(drop)
                .map_err(|error| Errno::from_raw(error.raw_os_error().expect("a system call failed")))
        }),
        "mqueue" => best(|write| {
            let flags = if write { MQ_OFlag::O_WRONLY } else { MQ_OFlag::O_RDONLY };
            mq_open("/jobs", flags, Mode::empty(), None).map(drop)
        }),
        // The flags of the get calls ask for these rights.
        "sysv-shm" => best(|write| shmget(0x11, 0, if write { 0o200 } else { 0o400 }).map(drop)),
        "sysv-sem" => best(|write| semget(0x12, 0, if write { 0o200 } else { 0o400 }).map(drop)),
        "sysv-msg" => best(|write| msgget(-19, if write { 0o200 } else { 0o400 }).map(drop)),
        other => panic!("unknown object {other}"),
    }
}

/// Answers ten numbers of the host by the next one each.
fn add_in_mapping(name: &str) {
    let path = format!("/dev/shm/{name}");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("open the object");
    let (length, both) = (NonZeroUsize::new(16).expect("16"), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    // SAFETY: a new mapping, which stays to the end of the process; any bytes are valid AtomicU32s.
    let numbers: &[AtomicU32; 4] = unsafe {
        mmap(None, length, both, MapFlags::MAP_SHARED, &file, 0).expect("map the object").cast().as_ref()
    };
    for round in 1..=10 {
        while numbers[0].load(Ordering::Acquire) != round {
            std::thread::yield_now();
        }
        numbers[2].store(numbers[1].load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        numbers[3].store(round, Ordering::Release);
    }
}

fn open_queue(name: &str, flags: MQ_OFlag) -> MqdT {
    mq_open(name, flags, Mode::empty(), None).expect("open the queue")
}

fn receive(name: &str) -> String {
    let mut buffer = [0; 64];
    let mut priority = 0;
    let queue = open_queue(name, MQ_OFlag::O_RDONLY);
    let length = mq_receive(&queue, &mut buffer, &mut priority).expect("receive");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn send(name: &str, text: &str, priority: u32) {
    mq_send(&open_queue(name, MQ_OFlag::O_WRONLY), text.as_bytes(), priority).expect("send");
}

/// Attaches a segment for good.
fn attach(key: i32) -> *mut u8 {
    let id = shmget(key, 0, 0).expect("find the segment");
    // SAFETY: the kernel chooses the place.
    let address = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    assert!(address as isize != -1, "attach the segment: {}", Errno::last());
    address.cast()
}

/// `struct msgbuf` of msgop(2).
#[repr(C)]
struct Message {
    kind: libc::c_long,
    text: [u8; 32],
}

fn message(key: i32, text: &str) {
    let mut message = Message { kind: 1, text: [0; 32] };
    message.text[..text.len()].copy_from_slice(text.as_bytes());
    let id = msgget(key, 0).expect("find the queue");
    // SAFETY: the text is no longer than the buffer, or the line above had panicked.
    check(unsafe { libc::msgsnd(id, (&raw const message).cast(), text.len(), 0) }).expect("send");
}

fn next_message(key: i32) -> String {
    let mut message = Message { kind: 0, text: [0; 32] };
    let id = msgget(key, 0).expect("find the queue");
    // SAFETY: the kernel writes at most the length that is given.
    let length = unsafe { libc::msgrcv(id, (&raw mut message).cast(), message.text.len(), 0, 0) };
    let length = usize::try_from(length).expect("receive");
    String::from_utf8_lossy(&message.text[..length]).into_owned()
}

/// One of each kind, made by a container.
fn make() {
    let mut file = std::fs::File::create("/dev/shm/inside").expect("make an object");
    file.write_all(&[0; 77]).expect("write");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    file.set_permissions(private).expect("change the mode");
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
    let attributes = MqAttr::new(0, 3, 50, 0);
    mq_open("/inside", flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes)).expect("make a queue");
    send("/inside", "one", 0);
    let new = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    shmget(0x21, 4000, new).expect("make a segment");
    attach(0x21);
    attach(0x21);
    semget(0x22, 2, new).expect("make a set");
    msgget(0x23, new).expect("make a queue");
    message(0x23, "four");
}

/// The commands, see `ipc.rs`.
pub fn payload(words: &[&str]) -> bool {
    let ["ipc", command @ ..] = words else { return false };
    let number = |text: &str| text.parse::<i32>().expect("a number");
    match command {
        ["look"] => println!("{}", serde_json::to_string(&look()).expect("JSON")),
        ["open", what] => println!("{}", open(what)),
        ["add-in-mapping", name] => add_in_mapping(name),
        ["mq-send", name, text, priority] => send(name, text, number(priority) as u32),
        ["mq-receive", name] => println!("{}", receive(name)),
        ["mq-echo", from, to] => send(to, &format!("echo of {}", receive(from)), 0),
        ["shm-write", key, text] => {
            // SAFETY: the segment is longer than any text of the tests.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), attach(number(key)), text.len()) };
        }
        ["shm-read", key, length] => {
            // SAFETY: as above; the host zeroed it, so that every byte has a value.
            let bytes = unsafe { std::slice::from_raw_parts(attach(number(key)), number(length) as usize) };
            println!("{}", String::from_utf8_lossy(bytes));
        }
        ["msg-send", key, text] => message(number(key), text),
        ["msg-receive", key] => println!("{}", next_message(number(key))),
        ["sem-add", key, index, change] => {
            let id = semget(number(key), 0, 0).expect("find the set");
            let mut operation =
                libc::sembuf { sem_num: number(index) as u16, sem_op: number(change) as i16, sem_flg: 0 };
            // SAFETY: one operation, and its number is given.
            check(unsafe { libc::semop(id, &mut operation, 1) }).expect("change a semaphore");
        }
        ["make"] => {
            make();
            println!("ready");
            std::io::stdout().flush().expect("write");
            // Attached until the container is ended.
            loop {
                std::thread::park();
            }
        }
        other => panic!("unknown command {other:?}"),
    }
    true
}
