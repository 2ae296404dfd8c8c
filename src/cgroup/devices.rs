//! Which devices the processes of a container may use.
//!
//! cgroup v2 has no device controller with files: a BPF program that is attached to the container's cgroup decides for
//! it and for all that is below. Without rules of its own a container gets those of every OCI runtime: device nodes may
//! be made, but only those of the default `/dev` and terminals may be opened. Without any, a container with `CAP_MKNOD`
//! could make a node of the machine's disk and read it.
//!
//! Programs of the cgroups above decide, too, and all must agree: what others forbid around the node stays forbidden. So
//! the library has none at the pod, where it could not be loosened for one container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::{DeviceAccess, DeviceRule, DeviceRuleKind};
use crate::sys::bpf::{
    Instruction, attach_device_program, device_programs, load_device_program, replace_device_program,
};

/// Character devices that may be read and written: the default devices of the OCI runtime-spec, `/dev/ptmx`, and the
/// terminals of devpts. `None` is any minor number.
const ALLOWED: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// `struct bpf_cgroup_dev_ctx` of linux/bpf.h: access and type in one word, major, minor.
const ACCESS_TYPE: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;
/// `BPF_DEVCG_DEV_BLOCK`
const BLOCK: i32 = 1;
/// `BPF_DEVCG_DEV_CHAR`
const CHARACTER: i32 = 2;

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const JUMP_IF_NOT: u8 = 0x55;
const JUMP_IF_ANY_BIT: u8 = 0x45;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;

/// Registers of the program: what it returns, the context, and what it reads of that.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The access that is asked for and that no rule has allowed yet.
const REST: u8 = 3;
const MAJOR_NUMBER: u8 = 4;
const MINOR_NUMBER: u8 = 5;

const GUARD: &str = "guard the devices of cgroup";

/// A loaded program. It stays as long as a cgroup has it.
#[derive(Debug)]
pub(crate) struct DeviceGuard(Option<OwnedFd>);

impl DeviceGuard {
    /// Loads the program of these rules and the default ones.
    pub(crate) fn load(rules: &[DeviceRule]) -> Result<DeviceGuard> {
        load_device_program(&program(rules)).map(|fd| DeviceGuard(Some(fd))).map_err(|errno| {
            Error::system(errno, "load").on("the program that guards devices").because(
                "containers need CAP_BPF or CAP_SYS_ADMIN and a kernel with CONFIG_CGROUP_BPF: without it one could \
                 open the machine's disks",
            )
        })
    }

    /// That of an ordinary user, who may load no program. There is nothing to guard: who cannot make device nodes has
    /// none but those that the machine shows, with the permissions that the user has anyway.
    pub(super) fn none() -> DeviceGuard {
        DeviceGuard(None)
    }

    /// Puts a cgroup under the rules.
    pub(super) fn attach(&self, cgroup: impl AsFd, path: &Path) -> Result<()> {
        let Some(program) = &self.0 else { return Ok(()) };
        attach_device_program(program, cgroup).step(GUARD, path.display())
    }

    /// Puts a cgroup that is under rules already under these, in one step: what its processes ask for in between is decided by
    /// the old ones or by the new ones.
    pub(super) fn replace(&self, cgroup: impl AsFd, path: &Path) -> Result<()> {
        let Some(program) = &self.0 else { return Ok(()) };
        let (old, count) =
            device_programs::<1>(&cgroup).step("find the program that guards", path.display())?;
        match (old.as_slice(), count) {
            // Only where somebody has taken it away.
            (_, 0) => attach_device_program(program, cgroup).step(GUARD, path.display()),
            ([old], 1) => replace_device_program(program, cgroup, old).step(GUARD, path.display()),
            _ => Err(Error::new(ErrorKind::Unsupported, GUARD).on(path.display()).because(format!(
                "{count} programs guard it, and it is not known which of them is the library's: somebody else has \
                 attached the others (bpftool cgroup show), and all must agree anyway"
            ))),
        }
    }
}

/// The programs of a node. The kernel takes as long to check one as to make half a container, and a node's containers
/// have few sets of rules.
#[derive(Debug)]
pub(super) struct Guards {
    /// For containers without rules of their own.
    default: Arc<DeviceGuard>,
    /// The latest ones come last.
    others: Mutex<Vec<(Vec<DeviceRule>, Arc<DeviceGuard>)>>,
}

impl Guards {
    /// Each is a descriptor of the host program.
    const CAPACITY: usize = 8;

    pub(super) fn new(default: DeviceGuard) -> Self {
        Guards { default: Arc::new(default), others: Mutex::default() }
    }

    pub(super) fn get(&self, rules: &[DeviceRule]) -> Result<Arc<DeviceGuard>> {
        // An ordinary user has none for rules either: see `plan::build::ordinary`, which has checked them.
        if rules.is_empty() || self.default.0.is_none() {
            return Ok(Arc::clone(&self.default));
        }
        // The list is whole at every moment, so a panic of another thread cannot have left it in pieces.
        let lock = || self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, guard)) = lock().iter().find(|(others, _)| others == rules) {
            return Ok(Arc::clone(guard));
        }
        // Outside the lock: two threads may both load one.
        let guard = Arc::new(DeviceGuard::load(rules)?);
        let mut others = lock();
        if others.len() >= Self::CAPACITY {
            others.remove(0);
        }
        others.push((rules.to_vec(), Arc::clone(&guard)));
        Ok(guard)
    }
}

/// What every container may do, whatever its rules say.
fn default_rules() -> impl DoubleEndedIterator<Item = DeviceRule> {
    // To make a node is not to open it.
    let nodes = DeviceRule::allow(DeviceRuleKind::All, None, None, DeviceAccess::MKNOD);
    let open = DeviceAccess::READ.and(DeviceAccess::WRITE);
    let devices = ALLOWED
        .into_iter()
        .map(move |(major, minor)| DeviceRule::allow(DeviceRuleKind::Char, Some(major), minor, open));
    std::iter::once(nodes).chain(devices)
}

/// From the last rule to the first: each takes what it allows from the access that is asked for, until nothing is left,
/// or denies.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let op = |code, to: u8, from: u8, offset, immediate| Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    };
    let mut program = vec![
        op(LOAD_WORD, KIND, CONTEXT, ACCESS_TYPE, 0),
        op(LOAD_WORD, MAJOR_NUMBER, CONTEXT, MAJOR, 0),
        op(LOAD_WORD, MINOR_NUMBER, CONTEXT, MINOR, 0),
        op(MOVE, REST, KIND, 0, 0),
        op(SHIFT_RIGHT, REST, 0, 0, 16),
        op(AND, KIND, 0, 0, 0xffff),
    ];
    let all: Vec<DeviceRule> = rules.iter().cloned().chain(default_rules()).collect();
    for rule in all.iter().rev() {
        let start = program.len();
        let kind = match rule.kind {
            DeviceRuleKind::All => None,
            DeviceRuleKind::Char => Some(CHARACTER),
            DeviceRuleKind::Block => Some(BLOCK),
        };
        let numbers = [
            (KIND, kind),
            (MAJOR_NUMBER, rule.major.map(|major| major as i32)),
            (MINOR_NUMBER, rule.minor.map(|minor| minor as i32)),
        ];
        for (register, value) in numbers.into_iter().filter_map(|(register, value)| Some((register, value?)))
        {
            program.push(op(JUMP_IF_NOT, register, 0, 0, value));
        }
        let conditions = start..program.len();
        if rule.allow {
            program.extend([
                op(AND, REST, 0, 0, !rule.access.bits()),
                op(JUMP_IF_NOT, REST, 0, 2, 0),
                op(MOVE_VALUE, RESULT, 0, 0, 1),
            ]);
        } else {
            program.extend([
                op(JUMP_IF_ANY_BIT, REST, 0, 1, rule.access.bits()),
                op(JUMP, 0, 0, 2, 0),
                op(MOVE_VALUE, RESULT, 0, 0, 0),
            ]);
        }
        program.push(op(EXIT, 0, 0, 0, 0));
        let next = program.len();
        for condition in conditions {
            program[condition].offset = (next - condition - 1) as i16;
        }
    }
    program.extend([op(MOVE_VALUE, RESULT, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    const READ: u32 = 2;
    const WRITE: u32 = 4;
    const MKNOD: u32 = 1;

    /// What the kernel's interpreter would say; only what the programs use.
    fn run(program: &[Instruction], access: u32, kind: u32, major: u32, minor: u32) -> i64 {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 6];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 0xf), usize::from(pair >> 4));
            let immediate = i64::from(immediate);
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                MOVE => registers[to] = registers[from],
                MOVE_VALUE => registers[to] = immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                AND => registers[to] &= immediate,
                JUMP => at += offset as usize,
                JUMP_IF_NOT if registers[to] != immediate => at += offset as usize,
                JUMP_IF_ANY_BIT if registers[to] & immediate != 0 => at += offset as usize,
                JUMP_IF_NOT | JUMP_IF_ANY_BIT => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_the_default_devices_can_be_opened() {
        let (block, character) = (1, 2);
        let program = program(&[]);
        let run = |access, kind, major, minor| run(&program, access, kind, major, minor);
        for major in 0..300 {
            for minor in 0..300 {
                let allowed = major == 136
                    || major == 1 && [3, 5, 7, 8, 9].contains(&minor)
                    || major == 5 && [0, 2].contains(&minor);
                for access in [READ, WRITE, READ | WRITE, READ | WRITE | MKNOD] {
                    assert_eq!(run(access, character, major, minor), i64::from(allowed), "c {major}:{minor}");
                    assert_eq!(run(access, block, major, minor), 0, "b {major}:{minor}");
                }
                assert_eq!(run(MKNOD, block, major, minor), 1, "mknod b {major}:{minor}");
                assert_eq!(run(MKNOD, character, major, minor), 1, "mknod c {major}:{minor}");
            }
        }
    }

    /// What the rules mean, said another way: for each access alone, forwards, the last one that fits.
    fn meaning(rules: &[DeviceRule], access: u32, kind: u32, major: u32, minor: u32) -> bool {
        [READ, WRITE, MKNOD].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let mut allowed = false;
            for rule in rules.iter().cloned().chain(default_rules()) {
                let kinds = match rule.kind {
                    DeviceRuleKind::All => true,
                    DeviceRuleKind::Block => kind == 1,
                    DeviceRuleKind::Char => kind == 2,
                };
                let numbers = rule.major.is_none_or(|m| m == major) && rule.minor.is_none_or(|m| m == minor);
                if kinds && numbers && rule.access.bits() as u32 & bit != 0 {
                    allowed = rule.allow;
                }
            }
            allowed
        })
    }

    fn any_rule() -> impl Strategy<Value = DeviceRule> {
        let kinds = vec![DeviceRuleKind::All, DeviceRuleKind::Char, DeviceRuleKind::Block];
        let access = prop::sample::select(vec!["r", "w", "m", "rw", "rm", "wm", "rwm"]);
        let numbers = (of(0..4u32), of(0..4u32));
        (any::<bool>(), prop::sample::select(kinds), numbers, access).prop_map(
            |(allow, kind, (major, minor), access)| DeviceRule {
                allow,
                kind,
                major,
                minor,
                access: access.parse().unwrap(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_program_does_what_its_rules_say(rules in prop::collection::vec(any_rule(), 0..12)) {
            let program = program(&rules);
            for access in 1..8 {
                for kind in [1, 2] {
                    for (major, minor) in (0..5).flat_map(|major| (0..5).map(move |minor| (major, minor))) {
                        let expected = meaning(&rules, access, kind, major, minor);
                        let ran = run(&program, access, kind, major, minor);
                        prop_assert_eq!(ran, i64::from(expected), "{} {} {}:{}", access, kind, major, minor);
                    }
                }
            }
        }
    }

    /// As root only: the verifier takes the longest program that there can be.
    #[test]
    fn the_kernel_takes_the_longest_program() {
        let rule = DeviceRule::deny(DeviceRuleKind::Char, Some(7), Some(7), DeviceAccess::READ);
        match DeviceGuard::load(&vec![rule; 512]) {
            Err(error) if !nix::unistd::geteuid().is_root() => eprintln!("skipped, not root: {error}"),
            result => drop(result.unwrap()),
        }
    }
}
