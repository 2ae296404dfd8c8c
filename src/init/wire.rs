//! The plan as bytes: what the library writes and init reads. Shared by both, so that they cannot disagree.
//!
//! All numbers are little-endian. A plan is a header and a list of steps:
//!
//! ```text
//! u32 magic | u32 total length | u32 number of descriptors | u32 number of steps
//! step: u32 operation | u32 length of its fields | fields
//! ```
//!
//! A field is a number, or a string: u32 length without the NUL, the bytes, a NUL. Init hands strings to the kernel
//! in place. A slot is an index into init's table of descriptors: slot 0 is the control socket, those after it are what
//! comes with the plan, in that order, and steps that make a descriptor store it in a slot.
//!
//! Every read is checked: whatever the bytes are, decoding ends with a step or an error, never outside the plan.

/// "PCP1".
pub const MAGIC: u32 = 0x3150_4350;
/// The longest plan.
pub const MAX_PLAN: usize = 1 << 20;
/// The largest number of slots.
pub const MAX_SLOTS: usize = 4096;
/// Arguments, environment variables and program candidates together.
pub const MAX_POINTERS: usize = 40_000;
/// Arguments and variables of a hook in the container together, with the ends of both lists.
pub const MAX_HOOK_WORDS: usize = 4096;
/// The slot of the control socket.
pub const CONTROL: u32 = 0;
/// The most descriptors that one message carries: `SCM_MAX_FD` of the kernel, see unix(7).
pub const MAX_RIGHTS: usize = 253;
/// Where a slot may be missing.
pub const NO_SLOT: u32 = u32::MAX;

/// What to make at the target of a mount that does not exist.
pub const CREATE_NOTHING: u32 = 0;
pub const CREATE_DIRECTORY: u32 = 1;
pub const CREATE_FILE: u32 = 2;

/// No symbolic link may be on the way to the target.
pub const MOUNT_NO_SYMLINKS: u32 = 1;

/// The root of the copy keeps its own owner and mode.
pub const COPY_KEEP_MODE: u32 = 1;

/// Files that the template mount namespace has for init: an empty directory, and a null device.
pub const TEMPLATE_EMPTY: &core::ffi::CStr = c"/empty";
pub const TEMPLATE_NULL: &core::ffi::CStr = c"/dev/null";

/// How many bytes a message has: a number, and two more.
pub const MESSAGE: usize = 12;
/// Messages from init.
pub const MSG_READY: u32 = 1;
/// A failed step: its index, the error number with the call in the upper half.
pub const MSG_FAILED: u32 = 2;
/// A file descriptor comes along.
pub const MSG_FD: u32 = 3;
/// The message to init that ends the barrier, or the wait for hooks.
pub const MSG_START: u32 = 4;
/// Init waits for hooks.
pub const MSG_PAUSED: u32 = 5;
/// To init, in place of the plan: it is in the sealed file that is the last descriptor of this message, since it is too
/// large for one.
pub const MSG_PLAN_IN_FILE: u32 = 6;
/// To init, before the plan: descriptors, since there are too many for one message.
pub const MSG_DESCRIPTORS: u32 = 7;
/// The listener of the filter is open: its number in init.
pub const MSG_LISTENER: u32 = 40;
/// The message to init that the library has a copy of it.
pub const MSG_LISTENER_TAKEN: u32 = 41;
/// The master of a terminal comes along.
pub const MSG_TERMINAL: u32 = 60;
/// The twin of init was made, or has forked: its pidfd comes along.
pub const MSG_TWIN: u32 = 115;
/// The twin takes the place of init, which ends.
pub const MSG_TAKES_OVER: u32 = 116;

/// The operations of init.
macro_rules! operations {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal,)*) => {
        $($(#[doc = $doc])* pub const $name: u32 = $number;)*
        /// All of them. (For tests; init has no use for it.)
        #[allow(dead_code)]
        pub const OPERATIONS: &[u32] = &[$($number,)*];
    };
}

operations! {
    /// Join a namespace: slot, `CLONE_NEW…`.
    JOIN = 1,
    /// unshare(2): flags.
    UNSHARE = 2,
    /// setsid(2).
    SETSID = 3,
    /// A new filesystem instance: slot to store it in, mount attributes, type, number of options, key, value, ….
    NEW_FILESYSTEM = 4,
    /// Attach the mount in a slot at an absolute path of the template: slot, path.
    ATTACH = 5,
    /// mount(2) in the template: source, target, type, options.
    MOUNT = 6,
    /// mkdir(2) in the template: path, mode.
    MKDIR = 7,
    /// Take a path of the template as the root of the container: path.
    SET_ROOT = 8,
    /// Attach the mount in a slot at a path below the root: slot, path, what to make, flags (`MOUNT_…`).
    MOUNT_AT = 9,
    /// A directory in the directory of a slot: slot, name, mode.
    MKDIR_AT = 10,
    /// A device node: slot, name, mode, major, minor.
    MKNOD_AT = 11,
    /// A symbolic link: slot, name, target.
    SYMLINK_AT = 12,
    /// Hide a path, with what the template has for that: slot of the filesystem that it is in or `NO_SLOT` for the
    /// root, path.
    MASK = 13,
    /// Make a path read-only: slot or `NO_SLOT` as above, path.
    READONLY = 14,
    /// mount_setattr(2): slot, 1 for recursive, set, clear, propagation.
    SET_ATTRIBUTES = 15,
    /// Make the root read-only.
    ROOT_READONLY = 16,
    /// Make the root of the container the root of the process, and let go of the template.
    PIVOT = 17,
    /// setrlimit(2): resource, soft, hard.
    RLIMIT = 18,
    /// umask(2): mask.
    UMASK = 19,
    /// Take the final identity: uid, gid, the bounding, permitted, effective, inheritable and ambient sets, number of
    /// groups, groups.
    IDENTITY = 20,
    /// PR_SET_NO_NEW_PRIVS.
    NO_NEW_PRIVILEGES = 21,
    /// Load a system call filter: flags, the program as a string.
    SECCOMP = 22,
    /// Change the working directory: path, 1 to make it when it is missing.
    CHDIR = 23,
    /// Make a directory below the root, while that can be written to: path.
    MKDIR_IN_ROOT = 24,
    /// Open a file of the template: path, flags, slot to store it in.
    OPEN = 25,
    /// Put three slots at 0, 1 and 2: slots.
    STDIO = 26,
    /// Tell that all is ready, wait for the start.
    BARRIER = 27,
    /// Enter the PID namespace that was joined, by a last fork.
    ENTER_PID = 28,
    /// Send the descriptor in a slot: slot.
    SEND_FD = 29,
    /// Execute: number of candidates, arguments and variables, and these.
    EXEC = 30,
    /// Stay as process 1 of a PID namespace and reap.
    REAP = 31,
    /// Take the name by which ps(1) shows the process: name.
    SET_NAME = 32,
    /// Attach the mount in a slot in a filesystem that init has just made: slot, slot of that, path.
    MOUNT_BELOW = 33,
    /// Own what is made from now on: user and group id of the host. No privilege is lost.
    OWN_FILES = 70,
    /// Join a user namespace for good and become its root: slot.
    ENTER_USER = 71,
    /// Put a copy of the root over itself, which can be pivoted into where the root itself is locked: path of the root.
    COPY_ROOT = 72,
    /// Make a POSIX message queue: name, mode, uid, gid, messages, bytes of a message.
    MAKE_QUEUE = 73,
    /// Undo what hooks of the creation have done to the mounts: path of the root, and of the host's files.
    TAKE_ROOT_BACK = 74,
    /// Tell that init waits for hooks, and wait until it may go on.
    PAUSE = 80,
    /// Run a program and wait for it: slot of its standard input, milliseconds that it may take or 0, path, number of
    /// arguments and variables, and these.
    RUN_HOOK = 81,
    /// See whether there is one of the candidates for execve(2): number of candidates, and these.
    FIND_PROGRAM = 82,
    /// Put files at descriptor 3 and above, where no other file of the plan stays: number of slots, and these.
    PRESERVE = 83,
    /// Let so many descriptors from 3 on stay open through execve(2).
    KEEP_OPEN = 84,
    /// Tell that all is ready, wait for a start by whoever connects to a socket: slot of that.
    BARRIER_FOR_ALL = 60,
    /// Write to a file of proc: slot of a proc, path below it, text.
    WRITE_PROC = 40,
    /// sched_setattr(2): policy, nice value, priority, flags, runtime, deadline, period.
    SCHEDULER = 41,
    /// ioprio_set(2): class and priority in one number.
    IO_PRIORITY = 42,
    /// sched_setaffinity(2): the mask as a string.
    AFFINITY = 43,
    /// personality(2): the number.
    PERSONALITY = 44,
    /// set_mempolicy(2): mode and flags, the nodes as a string of bits.
    MEMORY_POLICY = 130,
    /// Leave the session keyring of the host program for a new one without a name, where the kernel has any.
    SESSION_KEYRING = 150,
    /// Enter the time namespace that was made for children: slot of a proc.
    ENTER_TIME = 45,
    /// Load a system call filter that has a listener, and wait until the library has taken that: flags, the program as a
    /// string.
    SECCOMP_LISTENER = 46,

    /// A device node below the root: directory, name, type and mode, major, minor, uid, gid, flags (`MOUNT_…`).
    DEVICE = 50,
    /// Copy a directory below the root into the mount in a slot: slot, path, flags (`COPY_…`).
    COPY_UP = 52,
    /// Make a link like the one in a slot: slot, directory, name, flags (`MOUNT_…`).
    COPY_LINK = 54,
    /// The propagation of the root, after the pivot: 1 for recursive, `MS_…`.
    ROOT_PROPAGATION = 53,
    /// As `NEW_FILESYSTEM`; then the number of options that stand alone, and these.
    NEW_FILESYSTEM_WITH = 51,
    /// Join namespaces of a process: slot of its pidfd, `CLONE_NEW…` of all of them, slot of its root directory or
    /// `NO_SLOT` where that is the root of its mount namespace.
    JOIN_PROCESS = 61,
    /// Make a terminal: slot of the devpts or `NO_SLOT` for that at its path, slot to store it in, slot to store a mount
    /// of it in or `NO_SLOT`, its owner, width and height, or 0 and 0.
    TERMINAL = 62,
    /// Make standard input the controlling terminal.
    CONTROLLING_TERMINAL = 63,

    /// Find files as a user, and keep all other privileges: uid, gid, number of groups, groups.
    LOOK_AS = 100,
    /// Make a copy of the root, in the mount namespace of a slot, the root of the process: slot.
    ENTER_MOUNTS = 101,
    /// Let the groups be when the final identity is taken.
    KEEP_GROUPS = 90,
    /// Let the owner of the user namespace write its maps.
    SHOW = 91,
    /// Make a twin: number of steps from here on that it does, and init does not.
    TWIN = 115,
    /// In the twin: give descriptors to init, wait for a mount namespace and join it: number of steps that are left to
    /// init, number of slots, and these.
    GIVE = 116,
    /// Take descriptors from the twin: number of slots, and these.
    TAKE = 117,
    /// Give the mount namespace to the twin, and end: slot of a proc.
    HAND_OVER = 118,
}

/// The calls that a step can fail in, for messages.
macro_rules! calls {
    ($($name:ident = $number:literal: $text:literal,)*) => {
        $(pub const $name: u16 = $number;)*
        /// The name of a call in its manual page. (Init has no use for words.)
        #[allow(dead_code)]
        pub const fn call_name(call: u16) -> &'static str {
            match call {
                $($number => $text,)*
                _ => "?",
            }
        }
    };
}

calls! {
    CALL_DECODE = 1: "decode the plan",
    CALL_SETNS = 2: "setns",
    CALL_UNSHARE = 3: "unshare",
    CALL_SETSID = 4: "setsid",
    CALL_FSOPEN = 5: "fsopen",
    CALL_FSCONFIG = 6: "fsconfig",
    CALL_FSMOUNT = 7: "fsmount",
    CALL_MOVE_MOUNT = 8: "move_mount",
    CALL_MOUNT = 9: "mount",
    CALL_MKDIR = 10: "mkdir",
    CALL_OPEN = 11: "open",
    CALL_OPENAT2 = 12: "openat2",
    CALL_MKNOD = 13: "mknod",
    CALL_SYMLINK = 14: "symlink",
    CALL_OPEN_TREE = 15: "open_tree",
    CALL_MOUNT_SETATTR = 16: "mount_setattr",
    CALL_FCHDIR = 17: "fchdir",
    CALL_PIVOT_ROOT = 18: "pivot_root",
    CALL_UMOUNT = 19: "umount2",
    CALL_CHDIR = 20: "chdir",
    CALL_PRLIMIT = 21: "prlimit",
    CALL_CAPBSET_DROP = 22: "prctl(PR_CAPBSET_DROP)",
    CALL_SETGROUPS = 23: "setgroups",
    CALL_SETGID = 24: "setresgid",
    CALL_SETUID = 25: "setresuid",
    CALL_CAPSET = 26: "capset",
    CALL_AMBIENT = 27: "prctl(PR_CAP_AMBIENT_RAISE)",
    CALL_NO_NEW_PRIVS = 28: "prctl(PR_SET_NO_NEW_PRIVS)",
    CALL_SECCOMP = 29: "seccomp",
    CALL_DUP = 30: "dup3",
    CALL_CLONE = 31: "clone",
    CALL_SENDMSG = 32: "sendmsg",
    CALL_RECV = 33: "recv",
    CALL_EXECVE = 34: "execve",
    CALL_FSTAT = 35: "fstat",
    CALL_FSTATFS = 36: "fstatfs",
    CALL_KEEPCAPS = 38: "prctl(PR_SET_KEEPCAPS)",
    CALL_GETCWD = 39: "getcwd",
    CALL_CLOSE_RANGE = 40: "close_range",
    CALL_SIGNALS = 41: "rt_sigprocmask",
    CALL_SETFSID = 80: "setfsuid",
    CALL_MQ_OPEN = 81: "mq_open",
    CALL_HOOK_EXEC = 90: "execve",
    CALL_HOOK_TIMEOUT = 91: "waiting for the hook",
    CALL_LSEEK = 93: "lseek",
    CALL_WAIT = 94: "wait4",
    CALL_PIPE = 95: "pipe2",
    CALL_FACCESS = 96: "faccessat2",
    CALL_FCNTL = 97: "fcntl",
    CALL_POLL = 70: "ppoll",
    CALL_ACCEPT = 71: "accept4",
    CALL_WRITE = 50: "write",
    CALL_SCHED_SETATTR = 51: "sched_setattr",
    CALL_IOPRIO_SET = 52: "ioprio_set",
    CALL_SCHED_SETAFFINITY = 53: "sched_setaffinity",
    CALL_PERSONALITY = 54: "personality",
    CALL_READ = 55: "read",
    CALL_SET_MEMPOLICY = 56: "set_mempolicy",
    CALL_KEYCTL = 150: "keyctl(KEYCTL_JOIN_SESSION_KEYRING)",

    CALL_FCHOWN = 60: "fchownat",
    CALL_UNLINK = 61: "unlinkat",
    CALL_ENTER = 72: "look at the root directory",
    CALL_TIOCSPTLCK = 73: "ioctl(TIOCSPTLCK)",
    CALL_TIOCGPTPEER = 74: "ioctl(TIOCGPTPEER)",
    CALL_TIOCSWINSZ = 75: "ioctl(TIOCSWINSZ)",
    CALL_TIOCSCTTY = 76: "ioctl(TIOCSCTTY)",
    CALL_GETDENTS = 62: "getdents64",
    CALL_SENDFILE = 63: "sendfile",
    CALL_READLINK = 64: "readlinkat",
    CALL_FCHMOD = 65: "fchmod",

    CALL_CHROOT = 100: "chroot",

    CALL_SOCKETPAIR = 115: "socketpair",
    CALL_RECVMSG = 116: "recvmsg",
}

/// The place of a call when a hook exited with a code, which is added; and when a signal killed it, likewise.
pub const HOOK_EXITED: u16 = 0x4000;
pub const HOOK_SIGNALED: u16 = 0x4100;

/// Reads fields one after the other.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// The bytes are no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(Malformed),
        }
    }

    /// The next number.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        match self.take(4)? {
            &[a, b, c, d] => Ok(u32::from_le_bytes([a, b, c, d])),
            _ => Err(Malformed),
        }
    }

    /// The next long number.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        let low = self.u32()?;
        let high = self.u32()?;
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    /// The next bytes, which are followed by a NUL that is not part of them.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        let with_nul = self.take(length.checked_add(1).ok_or(Malformed)?)?;
        match with_nul.split_last() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// The next string: bytes without a NUL among them. The NUL behind it can be relied on.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = self.bytes()?;
        if bytes.contains(&0) { Err(Malformed) } else { Ok(bytes) }
    }
}

/// A plan whose header is sound.
pub struct Plan<'a> {
    /// How many descriptors there are, with the control socket.
    pub descriptors: usize,
    /// The steps.
    pub steps: Reader<'a>,
    /// How many steps there are.
    pub count: u32,
}

/// One step.
pub struct Step<'a> {
    /// One of the operations of this module.
    pub operation: u32,
    /// Its fields.
    pub fields: Reader<'a>,
}

impl<'a> Plan<'a> {
    /// Checks the header.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u32()? != MAGIC || reader.u32()? as usize != bytes.len() || bytes.len() > MAX_PLAN {
            return Err(Malformed);
        }
        let descriptors = reader.u32()? as usize;
        let count = reader.u32()?;
        if descriptors == 0 || descriptors > MAX_SLOTS {
            return Err(Malformed);
        }
        Ok(Plan { descriptors, steps: reader, count })
    }

    /// The next step; `None` after the last.
    pub fn next_step(&mut self) -> Result<Option<Step<'a>>, Malformed> {
        if self.count == 0 {
            return if self.steps.is_empty() { Ok(None) } else { Err(Malformed) };
        }
        self.count -= 1;
        let operation = self.steps.u32()?;
        let length = self.steps.u32()? as usize;
        let fields = Reader::new(self.steps.take(length)?);
        Ok(Some(Step { operation, fields }))
    }
}
