//! The resources that are compared.

use serde_json::{Value, json};

use super::Machine;

pub struct Case {
    pub name: String,
    /// `linux.resources` of the configuration.
    pub resources: Value,
}

/// A case is named by what it asks for.
fn case(resources: Value) -> Case {
    Case { name: resources.to_string(), resources }
}

fn each(key: &str, values: impl IntoIterator<Item = Value>) -> Vec<Case> {
    values.into_iter().map(|value| case(json!({ key: value }))).collect()
}

const MIB: i64 = 1 << 20;

pub fn cpu(_: &Machine) -> Vec<Case> {
    // Those of the kubelet for 0, 10, 100, 250, 500, 1000, 2000 and 64000 thousandths of a processor, and the ends.
    let shares = [0, 2, 3, 10, 102, 256, 512, 1024, 2048, 65_536, 262_143, 262_144];
    let shares = shares.map(|shares| json!({ "shares": shares }));
    let times = [
        json!({}),
        json!({ "quota": 50_000, "period": 100_000 }),
        json!({ "quota": 50_000 }),
        json!({ "quota": 1_000, "period": 1_000 }),
        json!({ "quota": -1, "period": 50_000 }),
        json!({ "quota": -1 }),
        json!({ "quota": -2 }),
        json!({ "quota": 0, "period": 50_000 }),
        json!({ "quota": 0, "period": 0 }),
        json!({ "quota": 50_000, "period": 0 }),
        json!({ "period": 20_000 }),
        json!({ "quota": 250_000, "period": 1_000_000 }),
        // Less or more than the kernel takes.
        json!({ "quota": 999, "period": 100_000 }),
        json!({ "quota": 50_000, "period": 999 }),
        json!({ "quota": 50_000, "period": 1_000_001 }),
        json!({ "quota": 50_000, "period": 100_000, "burst": 0 }),
        json!({ "quota": 50_000, "period": 100_000, "burst": 50_000 }),
        json!({ "quota": 50_000, "period": 100_000, "burst": 50_001 }),
        json!({ "burst": 10_000 }),
        json!({ "idle": 0 }),
        json!({ "idle": 1 }),
        json!({ "idle": 2 }),
        json!({ "idle": 1, "shares": 512 }),
    ];
    each("cpu", shares.into_iter().chain(times))
}

pub fn cpusets(_: &Machine) -> Vec<Case> {
    let sets = [
        json!({ "cpus": "0" }),
        json!({ "cpus": "0", "mems": "0" }),
        json!({ "mems": "0" }),
        json!({ "cpus": "", "mems": "" }),
        // The guest has one processor and one node of memory.
        json!({ "cpus": "0-1" }),
        json!({ "mems": "0-1" }),
        json!({ "cpus": "1" }),
        json!({ "cpus": "0,0" }),
        json!({ "cpus": "x" }),
        json!({ "cpus": "5000" }),
    ];
    each("cpu", sets)
}

pub fn memory(_: &Machine) -> Vec<Case> {
    let limits = [
        json!({}),
        json!({ "limit": 64 * MIB }),
        json!({ "limit": 64 * MIB + 1 }),
        json!({ "limit": 0 }),
        json!({ "limit": -1 }),
        json!({ "limit": -2 }),
        json!({ "reservation": 32 * MIB }),
        json!({ "reservation": 0 }),
        json!({ "reservation": -1 }),
        json!({ "limit": 64 * MIB, "reservation": 32 * MIB }),
        json!({ "limit": 64 * MIB, "reservation": 128 * MIB }),
        json!({ "limit": 64 * MIB, "swap": 64 * MIB }),
        json!({ "limit": 64 * MIB, "swap": 96 * MIB }),
        json!({ "limit": 64 * MIB, "swap": 0 }),
        json!({ "limit": 64 * MIB, "swap": -1 }),
        json!({ "limit": 64 * MIB, "swap": 32 * MIB }),
        json!({ "limit": -1, "swap": -1 }),
        json!({ "limit": -1, "swap": 0 }),
        json!({ "limit": -1, "swap": 64 * MIB }),
        json!({ "limit": 0, "swap": 64 * MIB }),
        json!({ "limit": 0, "swap": 0 }),
        json!({ "swap": 64 * MIB }),
        json!({ "swap": -1 }),
        json!({ "limit": 64 * MIB, "swap": -2 }),
        json!({ "reservation": -2 }),
        json!({ "limit": 64 * MIB, "swappiness": 10 }),
        json!({ "limit": 64 * MIB, "disableOOMKiller": true }),
        json!({ "limit": 64 * MIB, "disableOOMKiller": false }),
        json!({ "limit": 64 * MIB, "kernel": 32 * MIB }),
        json!({ "limit": 64 * MIB, "useHierarchy": true }),
        json!({ "limit": 64 * MIB, "checkBeforeUpdate": true }),
    ];
    each("memory", limits)
}

pub fn pids(_: &Machine) -> Vec<Case> {
    let limits = [1, 2, 100, 0, -1, -2, 4_194_304, 4_194_305];
    each("pids", limits.map(|limit| json!({ "limit": limit })))
}

pub fn block_io(machine: &Machine) -> Vec<Case> {
    let [(major, minor), (major2, minor2)] = machine.devices;
    let rate = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let two = json!([
        { "major": major, "minor": minor, "rate": 1_048_576 },
        { "major": major2, "minor": minor2, "rate": 2_097_152 },
    ]);
    let weights = [0, 1, 10, 11, 100, 500, 999, 1000, 1001].map(|weight| json!({ "weight": weight }));
    let throttles = [
        json!({ "throttleReadBpsDevice": rate(2_097_152) }),
        json!({ "throttleWriteBpsDevice": rate(2_097_152) }),
        json!({ "throttleReadIOPSDevice": rate(120) }),
        json!({ "throttleWriteIOPSDevice": rate(120) }),
        json!({ "throttleReadBpsDevice": rate(0) }),
        json!({ "throttleReadBpsDevice": two, "throttleWriteIOPSDevice": rate(50) }),
        json!({
            "throttleReadBpsDevice": rate(1 << 20),
            "throttleWriteBpsDevice": rate(2 << 20),
            "throttleReadIOPSDevice": rate(100),
            "throttleWriteIOPSDevice": rate(200),
        }),
        json!({ "throttleReadBpsDevice": [{ "major": 4000, "minor": 7, "rate": 1 }] }),
        json!({ "weight": 100, "throttleReadBpsDevice": rate(1 << 20) }),
        json!({ "weightDevice": [{ "major": major, "minor": minor, "weight": 500 }] }),
        json!({ "weight": 100, "leafWeight": 100 }),
    ];
    each("blockIO", weights.into_iter().chain(throttles))
}

pub fn huge_pages(_: &Machine) -> Vec<Case> {
    let pages = [
        json!([{ "pageSize": "2MB", "limit": 4 * MIB }]),
        json!([{ "pageSize": "2MB", "limit": 0 }]),
        json!([{ "pageSize": "2MB", "limit": -1 }]),
        json!([{ "pageSize": "2MB", "limit": 3 * MIB }]),
        json!([{ "pageSize": "2MB", "limit": 4 * MIB }, { "pageSize": "1GB", "limit": 1024 * MIB }]),
        json!([{ "pageSize": "3MB", "limit": 3 * MIB }]),
        json!([{ "pageSize": "2M", "limit": 4 * MIB }]),
    ];
    each("hugepageLimits", pages)
}

pub fn rdma(_: &Machine) -> Vec<Case> {
    let limits = [
        json!({ "mlx5_0": { "hcaHandles": 2, "hcaObjects": 100 } }),
        json!({ "mlx5_0": { "hcaHandles": 2 } }),
    ];
    each("rdma", limits)
}

pub fn unified(machine: &Machine) -> Vec<Case> {
    let (major, minor) = machine.devices[0];
    let files = [
        json!({ "memory.high": "33554432" }),
        json!({ "memory.min": "8388608", "memory.low": "16777216" }),
        json!({ "memory.oom.group": "1" }),
        json!({ "memory.high": "max" }),
        json!({ "memory.max": "32M" }),
        json!({ "memory.swap.high": "1048576" }),
        json!({ "pids.max": "33" }),
        json!({ "cpu.weight": "79" }),
        json!({ "cpu.weight": "10001" }),
        json!({ "cpu.max": "30000 60000" }),
        json!({ "cpuset.cpus": "0", "cpuset.mems": "0" }),
        json!({ "io.max": format!("{major}:{minor} rbps=1048576 wiops=50") }),
        json!({ "hugetlb.2MB.max": "2097152" }),
        json!({ "hugetlb.2MB.rsvd.max": "2097152" }),
        json!({ "cgroup.max.depth": "3" }),
        json!({ "cgroup.max.descendants": "7" }),
        json!({ "memory.nonsense": "1" }),
        json!({ "nonsense.max": "1" }),
        json!({ "../escape": "1" }),
        json!({ "memory.high": "word" }),
    ];
    each("unified", files)
}

pub fn together(machine: &Machine) -> Vec<Case> {
    let (major, minor) = machine.devices[0];
    let all = json!({
        "cpu": { "shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0", "mems": "0" },
        "memory": { "limit": 256 * MIB, "reservation": 64 * MIB, "swap": 320 * MIB },
        "pids": { "limit": 321 },
        "blockIO": {
            "weight": 300,
            "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 4 * MIB }],
            "throttleWriteIOPSDevice": [{ "major": major, "minor": minor, "rate": 77 }],
        },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 2 * MIB }],
    });
    let with = |unified: Value| {
        let mut all = all.clone();
        all["unified"] = unified;
        all
    };
    [
        json!({}),
        // What the kubelet asks for of a Burstable container with 500m and 256Mi.
        json!({
            "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
            "memory": { "limit": 256 * MIB, "swap": 256 * MIB },
            "unified": { "memory.oom.group": "1", "memory.high": "241590272" },
        }),
        all.clone(),
        with(json!({ "memory.oom.group": "1", "memory.high": "134217728" })),
        // What is raw wins over what is not.
        with(json!({ "memory.max": "134217728" })),
        with(json!({ "pids.max": "max" })),
        with(json!({ "cpu.weight": "33" })),
        with(json!({ "cpu.max": "max 50000" })),
        with(json!({ "memory.swap.max": "0" })),
    ]
    .map(case)
    .into()
}
