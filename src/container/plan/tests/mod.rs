//! Plans: what is written is what is read, no bytes can harm the reader, sizes are bounded, and the plan of an ordinary
//! container is the one that is meant.

#[cfg(test)]
mod attributes;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod mutated;
#[cfg(test)]
mod ordinary;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod steps;

use crate::init::wire::{self, Malformed, Plan, Reader};

/// A field of a step, as init reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    U32(u32),
    U64(u64),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
}

/// Reads one field after the other and remembers them.
struct Fields<'a> {
    reader: Reader<'a>,
    read: Vec<Field>,
    /// The bytes of the plan, outside of which nothing may be read.
    plan: &'a [u8],
}

impl<'a> Fields<'a> {
    fn u32(&mut self) -> Result<u32, Malformed> {
        let value = self.reader.u32()?;
        self.read.push(Field::U32(value));
        Ok(value)
    }

    fn u64(&mut self) -> Result<(), Malformed> {
        self.read.push(Field::U64(self.reader.u64()?));
        Ok(())
    }

    fn text(&mut self) -> Result<(), Malformed> {
        let text = self.reader.string()?;
        self.check_inside(text);
        assert!(!text.contains(&0));
        self.read.push(Field::Text(text.to_vec()));
        Ok(())
    }

    fn bytes(&mut self) -> Result<(), Malformed> {
        let bytes = self.reader.bytes()?;
        self.check_inside(bytes);
        self.read.push(Field::Bytes(bytes.to_vec()));
        Ok(())
    }

    /// Init hands strings to the kernel where they are: each must lie in the plan, with its NUL.
    fn check_inside(&self, part: &'a [u8]) {
        let (plan, part) = (self.plan.as_ptr_range(), part.as_ptr_range());
        assert!(plan.start <= part.start && part.end < plan.end);
        let nul = part.end as usize - plan.start as usize;
        assert_eq!(self.plan[nul], 0);
    }
}

/// The fields of an operation in the order in which init reads them; see `init/`.
fn read_fields(operation: u32, f: &mut Fields<'_>) -> Result<(), Malformed> {
    match operation {
        wire::JOIN => f.u32().and(f.u32()).map(drop),
        wire::JOIN_PROCESS => (0..3).try_for_each(|_| f.u32().map(drop)),
        wire::ENTER_MOUNTS => f.u32().map(drop),
        wire::TWIN | wire::HAND_OVER => f.u32().map(drop),
        wire::GIVE => f.u32().and_then(|_| (0..f.u32()?).try_for_each(|_| f.u32().map(drop))),
        wire::TAKE => (0..f.u32()?).try_for_each(|_| f.u32().map(drop)),
        wire::UNSHARE | wire::UMASK | wire::SEND_FD | wire::BARRIER_FOR_ALL => f.u32().map(drop),
        wire::NEW_FILESYSTEM => {
            f.u32()?;
            f.u32()?;
            f.text()?;
            for _ in 0..f.u32()? {
                f.text()?;
                f.text()?;
            }
            Ok(())
        }
        wire::OWN_FILES => f.u32().and(f.u32()).map(drop),
        wire::LOOK_AS => {
            (0..3).try_for_each(|_| f.u32().map(drop))?;
            f.bytes()
        }
        wire::ENTER_USER => f.u32().map(drop),
        wire::COPY_ROOT => f.text(),
        wire::TAKE_ROOT_BACK => f.text().and_then(|()| f.text()),
        wire::MAKE_QUEUE => f.text().and_then(|()| (0..5).try_for_each(|_| f.u32().map(drop))),
        wire::ATTACH | wire::MASK | wire::READONLY => f.u32().and_then(|_| f.text()),
        wire::MOUNT => (0..4).try_for_each(|_| f.text()),
        wire::MKDIR => f.text().and_then(|()| f.u32().map(drop)),
        wire::SET_ROOT | wire::MKDIR_IN_ROOT | wire::CHDIR | wire::SET_NAME => f.text(),
        wire::MOUNT_AT => {
            f.u32()?;
            f.text()?;
            f.u32()?;
            f.u32().map(drop)
        }
        wire::MOUNT_BELOW => {
            f.u32()?;
            f.u32()?;
            f.text()
        }
        wire::MKDIR_AT => {
            f.u32()?;
            f.text()?;
            f.u32().map(drop)
        }
        wire::MKNOD_AT => {
            f.u32()?;
            f.text()?;
            (0..3).try_for_each(|_| f.u32().map(drop))
        }
        wire::NEW_FILESYSTEM_WITH => {
            f.u32()?;
            f.u32()?;
            f.text()?;
            for _ in 0..f.u32()? {
                f.text()?;
                f.text()?;
            }
            (0..f.u32()?).try_for_each(|_| f.text())
        }
        wire::ROOT_PROPAGATION => f.u32().and_then(|_| f.u64()),
        wire::COPY_UP => f.u32().and(f.text()).and_then(|()| f.u32().map(drop)),
        wire::DEVICE => {
            f.text()?;
            f.text()?;
            (0..6).try_for_each(|_| f.u32().map(drop))
        }
        wire::COPY_LINK => f.u32().and(f.text()).and_then(|()| f.text()).and_then(|()| f.u32().map(drop)),
        wire::SYMLINK_AT => {
            f.u32()?;
            f.text()?;
            f.text()
        }
        wire::OPEN => {
            f.text()?;
            f.u32()?;
            f.u32().map(drop)
        }
        wire::SET_ATTRIBUTES => {
            f.u32()?;
            f.u32()?;
            (0..3).try_for_each(|_| f.u64())
        }
        wire::STDIO => (0..3).try_for_each(|_| f.u32().map(drop)),
        wire::RLIMIT => {
            f.u32()?;
            f.u64()?;
            f.u64()
        }
        wire::IDENTITY => {
            f.u32()?;
            f.u32()?;
            (0..5).try_for_each(|_| f.u64())?;
            f.u32()?;
            f.bytes()
        }
        wire::SECCOMP | wire::SECCOMP_LISTENER => f.u32().and_then(|_| f.bytes()),
        wire::EXEC => {
            let counts = [f.u32()?, f.u32()?, f.u32()?];
            let total = counts.iter().fold(0_u32, |sum, count| sum.saturating_add(*count));
            // As in init: more than its table holds are refused before any is read.
            if total as usize + 2 > wire::MAX_POINTERS {
                return Err(Malformed);
            }
            (0..total).try_for_each(|_| f.text())
        }
        wire::KEEP_OPEN => f.u32().map(drop),
        wire::PRESERVE => {
            for _ in 0..f.u32()? {
                f.u32()?;
            }
            Ok(())
        }
        wire::FIND_PROGRAM => {
            for _ in 0..f.u32()? {
                f.text()?;
            }
            Ok(())
        }
        wire::RUN_HOOK => {
            f.u32()?;
            f.u64()?;
            f.text()?;
            let total = f.u32()?.saturating_add(f.u32()?);
            if total as usize + 2 > wire::MAX_HOOK_WORDS {
                return Err(Malformed);
            }
            (0..total).try_for_each(|_| f.text())
        }
        wire::WRITE_PROC => {
            f.u32()?;
            f.text()?;
            f.text()
        }
        wire::SCHEDULER => {
            (0..3).try_for_each(|_| f.u32().map(drop))?;
            (0..4).try_for_each(|_| f.u64())
        }
        wire::IO_PRIORITY | wire::PERSONALITY | wire::ENTER_TIME => f.u32().map(drop),
        wire::AFFINITY => f.bytes(),
        wire::MEMORY_POLICY => {
            f.u32()?;
            f.bytes()
        }
        wire::TERMINAL => (0..6).try_for_each(|_| f.u32().map(drop)),
        wire::SETSID
        | wire::PAUSE
        | wire::ROOT_READONLY
        | wire::PIVOT
        | wire::NO_NEW_PRIVILEGES
        | wire::ENTER_PID
        | wire::BARRIER
        | wire::CONTROLLING_TERMINAL
        | wire::KEEP_GROUPS
        | wire::SESSION_KEYRING
        | wire::SHOW
        | wire::REAP => Ok(()),
        _ => Err(Malformed),
    }
}

/// A step as it was read: its operation, its fields, and whether they were all that there was.
pub(super) type ReadStep = (u32, Vec<Field>, bool);

/// Reads a whole plan as init does: the descriptors and the steps.
pub(super) fn read_plan(bytes: &[u8]) -> Result<(usize, Vec<ReadStep>), Malformed> {
    let mut plan = Plan::decode(bytes)?;
    let descriptors = plan.descriptors;
    let mut steps = Vec::new();
    while let Some(step) = plan.next_step()? {
        let mut fields = Fields { reader: step.fields, read: Vec::new(), plan: bytes };
        read_fields(step.operation, &mut fields)?;
        let all = fields.reader.is_empty();
        steps.push((step.operation, fields.read, all));
    }
    Ok((descriptors, steps))
}
