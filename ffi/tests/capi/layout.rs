//! The structures of the header, with where their fields are.

use std::fs;

use libtest_mimic::Failed;

use crate::support::*;

/// A structure that a caller fills.
#[derive(Debug)]
pub struct Structure {
    pub name: String,
    pub fields: Vec<Field>,
    pub size: usize,
}

#[derive(Debug)]
pub struct Field {
    pub kind: String,
    pub name: String,
    pub offset: usize,
    pub size: usize,
}

/// How long a field of that type is, which is also what it is aligned to.
fn size_of(kind: &str) -> Option<usize> {
    match kind {
        "size_t" | "uint64_t" | "int64_t" => Some(8),
        "uint32_t" | "int32_t" | "int" => Some(4),
        "uint16_t" => Some(2),
        "char" => Some(1),
        pointer if pointer.ends_with('*') => Some(8),
        _ => None,
    }
}

/// All structures that the header defines.
pub fn structures() -> Result<Vec<Structure>, Failed> {
    let header = fs::read_to_string(root().join("include/pericarp.h"))?;
    let mut structures = Vec::new();
    for part in header.split("\ntypedef struct {\n").skip(1) {
        let Some((body, rest)) = part.split_once("\n} ") else { return fail("a structure does not end") };
        let name = rest.split(';').next().unwrap_or_default().to_owned();
        let (mut fields, mut offset) = (Vec::new(), 0_usize);
        for line in body.lines().map(str::trim).filter(|line| line.ends_with(';')) {
            // A comment's line may end so, too.
            if line.starts_with('*') {
                continue;
            }
            let (kind, field) = split_name(line.trim_end_matches(';').split('[').next().unwrap_or_default());
            let count = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let count = count.map_or(Ok(1), |(count, _)| count.parse::<usize>())?;
            let Some(size) = size_of(&kind) else { return fail(format!("{name} has a field {line}")) };
            offset = offset.next_multiple_of(size);
            fields.push(Field { kind, name: field, offset, size });
            offset += size * count;
        }
        structures.push(Structure { name, fields, size: offset.next_multiple_of(8) });
    }
    Ok(structures)
}
