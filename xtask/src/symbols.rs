//! ffi/pericarp.map, the versions of the shared library's symbols: every function of the header is listed in one.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, bail};

use crate::root;

const MAP: &str = "ffi/pericarp.map";

/// Lists the functions that no version has yet in the last one. What is listed stays where it is.
pub fn write(header: &str) -> Result<()> {
    let path = root().join(MAP);
    let map = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (missing, _) = difference(header, &map);
    fs::write(&path, with(&map, &missing)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Whether the map lists the functions of the header and nothing else.
pub fn check(header: &str) -> Result<()> {
    let map = fs::read_to_string(root().join(MAP)).with_context(|| format!("cannot read {MAP}"))?;
    let (missing, gone) = difference(header, &map);
    if !missing.is_empty() {
        bail!(
            "{MAP} lacks {missing:?}: begin a new version in it if the last one was released, then run `cargo xtask header`"
        );
    }
    if !gone.is_empty() {
        bail!("the header lacks {gone:?}, which {MAP} promises to programs");
    }
    Ok(())
}

/// Functions that only the header has, and those that only the map has.
fn difference(header: &str, map: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (declared, listed) = (declared(header), listed(map));
    (declared.difference(&listed).cloned().collect(), listed.difference(&declared).cloned().collect())
}

/// The functions of the header: lines at its margin that have the name and a bracket.
fn declared(header: &str) -> BTreeSet<String> {
    let lines = header.lines().filter(|line| !line.starts_with([' ', '#', '/', '*']));
    let name = |line: &str| line.split_once('(')?.0.rsplit(['*', ' ']).next().map(str::to_owned);
    lines.filter_map(name).filter(|name| name.starts_with("pericarp_")).collect()
}

fn listed(map: &str) -> BTreeSet<String> {
    let lines = map.lines().map(str::trim);
    let name =
        |line: &str| line.strip_suffix(';').filter(|name| name.starts_with("pericarp_")).map(str::to_owned);
    lines.filter_map(name).collect()
}

/// The map with more functions in its last version, where they stand sorted.
fn with(map: &str, more: &BTreeSet<String>) -> Result<String> {
    let start = map.rfind("  global:\n").context("the map has no version")? + "  global:\n".len();
    let (before, rest) = map.split_at(start);
    let end = rest.find("  local:").or_else(|| rest.find('}')).context("the last version does not end")?;
    let (own, after) = rest.split_at(end);
    let all: BTreeSet<String> = listed(own).union(more).cloned().collect();
    let lines: String = all.iter().map(|name| format!("    {name};\n")).collect();
    Ok(format!("{before}{lines}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "/**\n * pericarp_x(y)\n */\nint pericarp_b(void);\n\nconst char *pericarp_c(int a,\n    int b);\n";

    #[test]
    fn new_functions_go_to_the_last_version() {
        let map =
            "A_0 {\n  global:\n    pericarp_b;\n  local: *;\n};\nA_1 {\n  global:\n    pericarp_d;\n} A_0;\n";
        let (missing, gone) = difference(HEADER, map);
        assert_eq!((missing.len(), gone.len()), (1, 1));
        let more = with(map, &missing).unwrap();
        assert!(more.ends_with("A_1 {\n  global:\n    pericarp_c;\n    pericarp_d;\n} A_0;\n"), "{more}");
        assert!(more.starts_with("A_0 {\n  global:\n    pericarp_b;\n  local: *;\n};\n"), "{more}");
        assert!(with("", &missing).is_err());
    }
}
