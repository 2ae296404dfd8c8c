//! What crun and runc do otherwise than this library, each with the reason and with exactly what they do.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cases::Case;
use super::runtime::{Name, Runtime, Version};
use super::{Created, Files, at};

/// Something that a runtime does otherwise, up to a version or always.
struct Row {
    who: &'static [Name],
    /// The first version that does as this library does.
    until: Option<Version>,
    /// Which resources it is about.
    when: fn(&Value) -> bool,
    effect: Effect,
    /// Why this library does it otherwise.
    why: &'static str,
}

/// What they do.
enum Effect {
    /// The same, but with this in some files; where this library refuses, a cgroup with this alone.
    Files(fn(&Value) -> Vec<(&'static str, String)>),
    /// They refuse.
    Refuse,
}

const CRUN: &[Name] = &[Name::Crun];
const RUNC: &[Name] = &[Name::Runc];
const BOTH: &[Name] = &[Name::Crun, Name::Runc];

/// In the order in which they apply: a later row has the last word on a file.
const ROWS: &[Row] = &[
    Row {
        who: RUNC,
        until: Some(Version(1, 2, 0)),
        when: |asked| number(asked, "cpu.idle") > Some(0),
        effect: Effect::Files(|_| vec![("cpu.idle", "0".into()), ("cpu.weight", "100".into())]),
        why: "it does not know cpu.idle, nor that 2 is none",
    },
    Row {
        who: CRUN,
        until: Some(Version(1, 23, 0)),
        when: |asked| old_weight(asked).is_some() && number(asked, "cpu.idle") != Some(1),
        effect: Effect::Files(|asked| old_weight(asked).into_iter().collect()),
        why: "its formula gives 39 for the 1024 shares of one processor, where the kernel's default is 100",
    },
    Row {
        who: RUNC,
        until: Some(Version(1, 3, 2)),
        when: |asked| old_weight(asked).is_some(),
        effect: Effect::Files(|asked| old_weight(asked).into_iter().collect()),
        why: "its formula is crun's old one",
    },
    Row {
        who: CRUN,
        until: Some(Version(1, 11, 0)),
        when: |asked| at(asked, "cpu.burst").is_some(),
        effect: Effect::Files(without_burst),
        why: "it does not know cpu.burst, nor that it must not be more than the quota",
    },
    Row {
        who: RUNC,
        until: Some(Version(1, 2, 0)),
        when: |asked| at(asked, "cpu.burst").is_some(),
        effect: Effect::Files(without_burst),
        why: "it does not know cpu.burst, nor that it must not be more than the quota",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| number(asked, "memory.limit") == Some(0),
        effect: Effect::Refuse,
        why: "it lets nothing have memory and then kills it; zero is what writers of configurations leave there who \
              have no limit, and runc takes it so",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| number(asked, "memory.limit") > Some(0) && number(asked, "memory.swap") == Some(0),
        effect: Effect::Refuse,
        why: "it takes the zero for a sum that is below the limit, where it says nothing",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| number(asked, "memory.limit") == Some(-1) && number(asked, "memory.swap") == Some(0),
        effect: Effect::Files(|_| vec![("memory.swap.max", "0".into())]),
        why: "it forbids swap by a zero that says nothing",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| number(asked, "memory.limit") == Some(-1) && number(asked, "memory.swap") > Some(0),
        effect: Effect::Files(|asked| {
            // It takes the -1 from the sum, and the kernel rounds down to pages.
            let swap = number(asked, "memory.swap").unwrap_or_default() + 1;
            vec![("memory.swap.max", (swap - swap % 4096).to_string())]
        }),
        why: "it computes with -1 as with a number of bytes",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| number(asked, "memory.reservation").is_some_and(|bytes| bytes < -1),
        effect: Effect::Files(|_| vec![("memory.low", "max".into())]),
        why: "it takes any number below zero for no limit, here and nowhere else",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| at(asked, "memory.useHierarchy") == Some(&Value::Bool(true)),
        effect: Effect::Refuse,
        why: "it refuses to count by hierarchy, which cgroup v2 always does",
    },
    Row {
        who: RUNC,
        until: None,
        when: |asked| {
            let v1 = ["memory.swappiness", "memory.kernel"].iter().any(|path| at(asked, path).is_some());
            v1 || at(asked, "memory.disableOOMKiller") == Some(&Value::Bool(true))
        },
        effect: Effect::Files(|asked| {
            vec![("memory.max", number(asked, "memory.limit").unwrap_or_default().to_string())]
        }),
        why: "it leaves out silently what only cgroup v1 has",
    },
    Row {
        who: BOTH,
        until: None,
        when: |asked| at(asked, "blockIO.throttleReadBpsDevice").is_some_and(|list| list[0]["rate"] == 0),
        effect: Effect::Refuse,
        why: "they write the zero, which the kernel refuses; in cgroup v1, whose terms these are, it removes the limit",
    },
    Row {
        who: RUNC,
        until: None,
        when: |asked| at(asked, "blockIO.weightDevice").is_some(),
        effect: Effect::Files(|_| Vec::new()),
        why: "without the BFQ scheduler it leaves weights of devices out silently",
    },
    Row {
        who: RUNC,
        until: None,
        when: |asked| at(asked, "blockIO.leafWeight").is_some(),
        // 1 + (100 - 10) * 9999 / 990
        effect: Effect::Files(|_| vec![("io.weight", "default 910".into())]),
        why: "it leaves out silently what only cgroup v1 has",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| reserved(asked).is_some(),
        effect: Effect::Files(|asked| reserved(asked).unwrap_or_default()),
        why: "it bounds what is used and not what is reserved, which the specification wants",
    },
    Row {
        who: RUNC,
        until: Some(Version(1, 2, 0)),
        when: |asked| reserved(asked).is_some(),
        effect: Effect::Files(|asked| reserved(asked).unwrap_or_default()),
        why: "it bounds what is used and not what is reserved, which the specification wants",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| at(asked, "hugepageLimits").is_some_and(|pages| pages[0]["limit"] == -1),
        effect: Effect::Files(|_| Vec::new()),
        why: "it takes the -1 for the greatest number, where the specification has none below zero",
    },
    Row {
        who: CRUN,
        until: None,
        when: |asked| at(asked, "rdma").is_some(),
        effect: Effect::Files(|_| Vec::new()),
        why: "it leaves limits of adapters out silently",
    },
];

/// The rows that were about something, and whether one of them ever made a difference: if this library did what a row says
/// that it does not, the comparison alone would not tell.
#[derive(Default)]
pub struct Used(BTreeMap<(usize, Name), bool>);

impl Used {
    /// What rows say that made no difference.
    pub fn vain(&self) -> Vec<String> {
        let vain = self.0.iter().filter(|(_, difference)| !**difference);
        vain.map(|((row, name), _)| format!("{name} does nothing else, although {}", ROWS[*row].why))
            .collect()
    }
}

/// Compares, with the rows that are about this runtime and these resources. An error says what is other than expected,
/// also where a row no longer holds.
pub fn check(
    runtime: &Runtime,
    case: &Case,
    untouched: &Files,
    ours: &Created,
    theirs: &Created,
    used: &mut Used,
) -> Result<(), String> {
    let rows = ROWS.iter().enumerate().filter(|(_, row)| {
        row.who.contains(&runtime.name)
            && row.until.is_none_or(|until| runtime.version < until)
            && (row.when)(&case.resources)
    });
    let mut expected = ours.clone();
    let mut reasons = Vec::new();
    for (number, row) in rows {
        let before = expected.clone();
        reasons.push(row.why);
        match &row.effect {
            Effect::Refuse => expected = Created::Refused(row.why.to_owned()),
            Effect::Files(files) => {
                let mut all = match expected {
                    Created::Files(files) => files,
                    Created::Refused(_) => untouched.clone(),
                };
                for (file, value) in files(&case.resources) {
                    // A file of a page size that the machine does not have would hide a mistake here.
                    assert!(all.insert(file.to_owned(), value).is_some(), "there is no {file}");
                }
                expected = Created::Files(all);
            }
        }
        *used.0.entry((number, runtime.name)).or_default() |= expected != before;
    }
    let because = match reasons.is_empty() {
        true => String::new(),
        false => format!(" (expected as {reasons:?})"),
    };
    match (&expected, theirs) {
        (Created::Refused(_), Created::Refused(_)) => Ok(()),
        (Created::Refused(why), Created::Files(_)) => {
            Err(format!("it takes what is refused here: {why}{because}"))
        }
        (Created::Files(_), Created::Refused(why)) => Err(format!("it refuses: {}{because}", why.trim_end())),
        (Created::Files(expected), Created::Files(theirs)) => {
            let other = |(file, value): &(&String, &String)| theirs.get(*file) != Some(*value);
            let lines: Vec<_> = expected
                .iter()
                .filter(other)
                .map(|(file, value)| format!("{file} is {:?} and not {value:?}", theirs.get(file)))
                .collect();
            let more = theirs.keys().find(|file| !expected.contains_key(*file));
            assert!(more.is_none(), "a cgroup without limits has no {more:?}");
            if lines.is_empty() { Ok(()) } else { Err(lines.join(", ") + &because) }
        }
    }
}

fn number(asked: &Value, path: &str) -> Option<i64> {
    at(asked, path)?.as_i64()
}

/// `cpu.weight` by the formula of before 2025; none if no shares are asked for, or if a raw weight is.
fn old_weight(asked: &Value) -> Option<(&'static str, String)> {
    let shares = number(asked, "cpu.shares").filter(|shares| *shares != 0)?;
    if at(asked, "unified").is_some_and(|unified| unified.get("cpu.weight").is_some()) {
        return None;
    }
    Some(("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string()))
}

/// Files without the burst: what a cgroup has that was not told any, and the quota.
fn without_burst(asked: &Value) -> Vec<(&'static str, String)> {
    let mut files = vec![("cpu.max.burst", "0".to_owned())];
    if let (Some(quota), Some(period)) = (number(asked, "cpu.quota"), number(asked, "cpu.period")) {
        files.push(("cpu.max", format!("{quota} {period}")));
    }
    files
}

/// The files of reservations of the sizes that are asked for, untouched.
fn reserved(asked: &Value) -> Option<Vec<(&'static str, String)>> {
    let asked = at(asked, "hugepageLimits")?.as_array()?;
    let files = [("2MB", "hugetlb.2MB.rsvd.max"), ("1GB", "hugetlb.1GB.rsvd.max")];
    // Of sizes that nobody has, and limits that are none, nothing is made.
    let all = asked.iter().all(|page| {
        files.iter().any(|(size, _)| page["pageSize"] == *size) && page["limit"].as_u64().is_some()
    });
    all.then(|| {
        let is_asked = |size: &str| asked.iter().any(|page| page["pageSize"] == size);
        files.iter().filter(|(size, _)| is_asked(size)).map(|(_, file)| (*file, "max".to_owned())).collect()
    })
}
