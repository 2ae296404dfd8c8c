//! What is wrong with [`Resources`], found before anything is made. Pure: no I/O.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::controller::Controller;
use super::cpulist::CpuList;
use crate::error::{Error, Result};
use crate::spec::{CpuMax, IoMax, Limit, Resources};

/// `cpu.weight` and `io.weight`: `CGROUP_WEIGHT_MIN` to `CGROUP_WEIGHT_MAX`.
const WEIGHT: RangeInclusive<u64> = 1..=10_000;
/// The quota of `cpu.max` in microseconds: at least a millisecond (`min_cfs_quota_period`), at most 2^44-1 (`MAX_BW`).
const QUOTA: RangeInclusive<u64> = 1_000..=(1 << 44) - 1;
/// The period of `cpu.max` in microseconds: a millisecond to a second.
const PERIOD: RangeInclusive<u64> = 1_000..=1_000_000;
/// `pids.max`: not more than a 64-bit kernel can have tasks (`PID_MAX_LIMIT`). Zero would let nothing start.
const PIDS: RangeInclusive<u64> = 1..=4_194_304;
/// `memory.max` and `memory.high` are rounded down to pages; less than the smallest page would be zero.
const MEMORY: RangeInclusive<u64> = 4_096..=u64::MAX;
/// Files that can be written by their names.
const MAX_UNIFIED: usize = 256;
/// `io.max`: the kernel refuses zero (`ERANGE`).
const RATE: RangeInclusive<u64> = 1..=u64::MAX;

/// Checks everything that can be known without the machine. An error names the field as JSON has it
/// (`resources.cpu.max.quota`).
pub(crate) fn validate(resources: &Resources) -> Result<()> {
    let Resources { cpu, memory, pids_max, cpuset, io, hugetlb, rdma, misc, unified } = resources;
    number("cpu.weight", cpu.weight, WEIGHT)?;
    if let Some(max) = cpu.max {
        limit("cpu.max.quota", Some(max.quota), QUOTA)?;
        number("cpu.max.period", Some(max.period), PERIOD)?;
    }
    if let Some(burst) = cpu.burst {
        match cpu.max {
            Some(CpuMax { quota: Limit::At(quota), .. }) if burst <= quota => {}
            Some(CpuMax { quota: Limit::At(quota), .. }) => {
                return Err(wrong("cpu.burst", format!("is {burst}, more than the quota of {quota}")));
            }
            _ => return Err(wrong("cpu.burst", "needs a quota in cpu.max that it can save up".to_string())),
        }
    }
    limit("memory.max", memory.max, MEMORY)?;
    limit("memory.high", memory.high, MEMORY)?;
    limit("pidsMax", *pids_max, PIDS)?;
    list("cpuset.cpus", cpuset.cpus.as_deref())?;
    list("cpuset.mems", cpuset.mems.as_deref())?;
    number("io.weight", io.weight, WEIGHT)?;
    let mut devices = BTreeSet::new();
    for (index, line) in io.max.iter().enumerate() {
        let field = format!("io.max[{index}]");
        io_max(&field, line)?;
        if !devices.insert((line.major, line.minor)) {
            return Err(wrong(&field, format!("is a second line for device {}:{}", line.major, line.minor)));
        }
    }
    for (index, line) in io.device_weights.iter().enumerate() {
        number(&format!("io.deviceWeights[{index}].weight"), Some(line.weight), WEIGHT)?;
    }
    let mut devices = BTreeSet::new();
    for (index, line) in io.latency.iter().enumerate() {
        if !devices.insert((line.major, line.minor)) {
            let why = format!("is a second line for device {}:{}", line.major, line.minor);
            return Err(wrong(&format!("io.latency[{index}]"), why));
        }
    }
    for name in misc.keys() {
        if name.is_empty() || name.len() > 255 || name.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(wrong(&format!("misc[{name:?}]"), "is no name of a resource".to_string()));
        }
    }
    for size in hugetlb.keys() {
        if !is_page_size(size) {
            let field = format!("hugetlb[{size:?}]");
            return Err(wrong(
                &field,
                "is no size of pages as the kernel writes it, such as 2MB or 1GB".to_string(),
            ));
        }
    }
    for (device, max) in rdma {
        let field = format!("rdma[{device:?}]");
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(wrong(&field, "is no name of a device".to_string()));
        }
        if max.hca_handles.is_none() && max.hca_objects.is_none() {
            return Err(wrong(&field, "sets none of hcaHandles and hcaObjects".to_string()));
        }
    }
    if unified.len() > MAX_UNIFIED {
        return Err(wrong("unified", format!("has more than {MAX_UNIFIED} files")));
    }
    unified.iter().try_for_each(|(file, value)| unified_file(file, value))
}

fn is_page_size(text: &str) -> bool {
    let digits = text.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
    !digits.is_empty() && digits.len() + 2 == text.len() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// A file that may be written by its name: one of a controller, or a bound of the kernel's own. What the library itself
/// works with is not for others to write.
fn unified_file(file: &str, value: &str) -> Result<()> {
    const OWN: [&str; 2] = ["cgroup.max.depth", "cgroup.max.descendants"];
    let field = format!("unified[{file:?}]");
    if Controller::of_file(file).is_none() && !OWN.contains(&file) {
        return Err(wrong(
            &field,
            "is no file of the controllers cpu, memory, pids, io, cpuset, hugetlb, rdma and misc, nor \
             cgroup.max.depth or cgroup.max.descendants"
                .to_string(),
        ));
    }
    if file.contains('/') || file.len() > 255 || file.contains('\0') {
        return Err(wrong(&field, "is no name of a file".to_string()));
    }
    if value.trim().is_empty() || value.contains('\0') || value.len() > 4096 {
        return Err(wrong(&field, "must be 1 to 4096 bytes without NUL".to_string()));
    }
    Ok(())
}

fn wrong(field: &str, why: String) -> Error {
    Error::invalid(format_args!("resources.{field}"), why)
}

fn number(field: &str, value: Option<u64>, range: RangeInclusive<u64>) -> Result<()> {
    match value {
        Some(value) if !range.contains(&value) => Err(wrong(
            field,
            match *range.end() {
                u64::MAX => format!("is {value}, must be at least {}", range.start()),
                end => format!("is {value}, must be from {} to {end}", range.start()),
            },
        )),
        _ => Ok(()),
    }
}

fn limit(field: &str, value: Option<Limit>, range: RangeInclusive<u64>) -> Result<()> {
    match value {
        Some(Limit::At(value)) => number(field, Some(value), range),
        Some(Limit::Max(_)) | None => Ok(()),
    }
}

fn list(field: &str, value: Option<&str>) -> Result<()> {
    match value.map(CpuList::parse) {
        Some(Err(why)) => Err(wrong(field, why)),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn io_max(field: &str, line: &IoMax) -> Result<()> {
    let keys = [("rbps", line.rbps), ("wbps", line.wbps), ("riops", line.riops), ("wiops", line.wiops)];
    if keys.iter().all(|(_, value)| value.is_none()) {
        return Err(wrong(field, "sets none of rbps, wbps, riops and wiops".to_string()));
    }
    keys.into_iter().try_for_each(|(key, value)| limit(&format!("{field}.{key}"), value, RATE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// The error's text for resources given in JSON, or nothing when they are right.
    fn check(json: &str) -> Option<String> {
        let error = validate(&serde_json::from_str(json).unwrap()).err()?;
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        Some(error.to_string().replace("check the specification resources.", ""))
    }

    #[test]
    fn takes_what_is_right() {
        for good in [
            "{}",
            r#"{"cpu": {"weight": 1, "max": {"quota": 1000, "period": 1000}}}"#,
            r#"{"cpu": {"weight": 10000, "max": {"quota": "max", "period": 1000000}}}"#,
            r#"{"cpu": {"max": {"quota": 17592186044415}}}"#,
            r#"{"memory": {"max": 4096, "high": "max", "low": 0, "min": 0, "swapMax": 0, "oomGroup": true}}"#,
            r#"{"cpu": {"max": {"quota": 5000}, "burst": 5000, "idle": true}}"#,
            r#"{"hugetlb": {"2MB": 0, "1GB": "max", "64KB": 65536}, "rdma": {"mlx5_0": {"hcaHandles": 1}}}"#,
            r#"{"unified": {"memory.zswap.max": "0", "cgroup.max.depth": "1", "misc.max": "a 1\nb 2"}}"#,
            r#"{"io": {"deviceWeights": [{"major": 8, "minor": 0, "weight": 1}]}}"#,
            r#"{"pidsMax": 1}"#,
            r#"{"pidsMax": "max"}"#,
            r#"{"pidsMax": 4194304}"#,
            r#"{"cpuset": {"cpus": "0-3,8", "mems": "0"}}"#,
            r#"{"io": {"weight": 1, "max": [{"major": 8, "minor": 0, "rbps": 1},
                {"major": 8, "minor": 16, "wiops": "max"}]}}"#,
        ] {
            assert_eq!(check(good), None, "{good}");
        }
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        for (bad, text) in [
            (r#"{"cpu": {"weight": 0}}"#, "cpu.weight: is 0, must be from 1 to 10000"),
            (r#"{"cpu": {"weight": 10001}}"#, "cpu.weight: is 10001, must be from 1 to 10000"),
            (
                r#"{"cpu": {"max": {"quota": 999}}}"#,
                "cpu.max.quota: is 999, must be from 1000 to 17592186044415",
            ),
            (
                r#"{"cpu": {"max": {"quota": 17592186044416}}}"#,
                "cpu.max.quota: is 17592186044416, must be from 1000 to 17592186044415",
            ),
            (
                r#"{"cpu": {"max": {"quota": "max", "period": 999}}}"#,
                "cpu.max.period: is 999, must be from 1000 to 1000000",
            ),
            (
                r#"{"cpu": {"max": {"quota": 5000, "period": 1000001}}}"#,
                "cpu.max.period: is 1000001, must be from 1000 to 1000000",
            ),
            (r#"{"cpu": {"burst": 1}}"#, "cpu.burst: needs a quota in cpu.max that it can save up"),
            (
                r#"{"cpu": {"max": {"quota": 5000}, "burst": 5001}}"#,
                "cpu.burst: is 5001, more than the quota of 5000",
            ),
            (
                r#"{"hugetlb": {"2mb": 0}}"#,
                "hugetlb[\"2mb\"]: is no size of pages as the kernel writes it, such as 2MB or 1GB",
            ),
            (r#"{"rdma": {"a": {}}}"#, "rdma[\"a\"]: sets none of hcaHandles and hcaObjects"),
            (
                r#"{"unified": {"cgroup.procs": "1"}}"#,
                "unified[\"cgroup.procs\"]: is no file of the controllers cpu, memory, pids, io, cpuset, hugetlb, \
                 rdma and misc, nor cgroup.max.depth or cgroup.max.descendants",
            ),
            (
                r#"{"unified": {"memory./../cgroup.procs": "1"}}"#,
                "unified[\"memory./../cgroup.procs\"]: is no name of a file",
            ),
            (
                r#"{"unified": {"memory.max": " "}}"#,
                "unified[\"memory.max\"]: must be 1 to 4096 bytes without NUL",
            ),
            (
                r#"{"io": {"deviceWeights": [{"major": 8, "minor": 0, "weight": 0}]}}"#,
                "io.deviceWeights[0].weight: is 0, must be from 1 to 10000",
            ),
            (r#"{"memory": {"max": 0}}"#, "memory.max: is 0, must be at least 4096"),
            (r#"{"memory": {"high": 4095}}"#, "memory.high: is 4095, must be at least 4096"),
            (r#"{"pidsMax": 0}"#, "pidsMax: is 0, must be from 1 to 4194304"),
            (r#"{"pidsMax": 4194305}"#, "pidsMax: is 4194305, must be from 1 to 4194304"),
            (r#"{"cpuset": {"cpus": ""}}"#, r#"cpuset.cpus: "" is neither a number nor a range such as 0-3"#),
            (
                r#"{"cpuset": {"cpus": "0\n1"}}"#,
                r#"cpuset.cpus: "0\n1" is neither a number nor a range such as 0-3"#,
            ),
            (r#"{"cpuset": {"mems": "0,3-1"}}"#, r#"cpuset.mems: "3-1" ends before it begins"#),
            (r#"{"io": {"weight": 0}}"#, "io.weight: is 0, must be from 1 to 10000"),
            (
                r#"{"io": {"max": [{"major": 8, "minor": 0}]}}"#,
                "io.max[0]: sets none of rbps, wbps, riops and wiops",
            ),
            (
                r#"{"io": {"max": [{"major": 8, "minor": 0, "rbps": 1, "riops": 0}]}}"#,
                "io.max[0].riops: is 0, must be at least 1",
            ),
            (
                r#"{"io": {"max": [{"major": 8, "minor": 0, "rbps": 1}, {"major": 8, "minor": 0, "wbps": 1}]}}"#,
                "io.max[1]: is a second line for device 8:0",
            ),
        ] {
            assert_eq!(check(bad).as_deref(), Some(text), "{bad}");
        }
    }
}
