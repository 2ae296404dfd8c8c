//! What must hold of amounts, requests and limits whatever they are made of, for `crate::fuzzing`.

use serde::Deserialize;

use super::*;
use crate::spec::{Limit, Resources};

/// What the bytes are read as: JSON of this.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    quantities: Vec<String>,
    shares: Vec<u64>,
    pod: KubernetesPod,
    resize: Resize,
    uid: String,
    machine: Capacity,
}

impl Default for Input {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        let machine = Capacity {
            allocatable_memory: None,
            cpu_millis: 4000,
            memory: 16 * GIB,
            swap: Some(8 * GIB),
            huge_pages: [(2 << 20, 64 << 20), (GIB, 0)].into(),
            pids: 32_768,
            page_size: 4096,
        };
        Input {
            quantities: Vec::new(),
            shares: Vec::new(),
            pod: KubernetesPod::new(),
            resize: Resize::new(),
            uid: String::new(),
            machine,
        }
    }
}

/// Bytes that are no JSON are an amount.
pub(crate) fn input(bytes: &[u8]) {
    let Ok(input) = serde_json::from_slice::<Input>(bytes) else {
        if let Ok(text) = str::from_utf8(bytes) {
            let _ = quantity(text);
        }
        return;
    };
    let quantities: Vec<Quantity> = input.quantities.iter().filter_map(|text| quantity(text)).collect();
    quantities.iter().zip(quantities.iter().skip(1)).for_each(|(a, b)| in_order(*a, *b));
    shares(input.shares);
    let driver = [CgroupDriver::Cgroupfs, CgroupDriver::Systemd];
    for (driver, class) in driver.into_iter().flat_map(|driver| CLASSES.map(|class| (driver, class))) {
        let pod = driver.pod(class, &input.uid);
        assert!(pod.starts_with(&format!("{}/", driver.class(class))), "{pod}");
        assert!(driver.container(class, &input.uid, "crio", "id").starts_with(&format!("{pod}/")), "{pod}");
    }
    pod(&input.pod, &input.machine);
    if let Ok(resized) = input.pod.resized(&input.resize)
        && input.pod.validate().is_ok()
    {
        assert_eq!(resized.qos_class(), input.pod.qos_class());
        pod(&resized, &input.machine);
    }
}

const CLASSES: [QosClass; 3] = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];

/// What is printed is the same amount, and stays as it is.
fn quantity(text: &str) -> Option<Quantity> {
    let quantity: Quantity = text.parse().ok()?;
    let printed = quantity.to_string();
    let again: Quantity = printed.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(again, quantity, "{text:?} is printed {printed}");
    assert_eq!(again.to_string(), printed, "of {text:?}");
    let json = serde_json::to_string(&quantity).expect("an amount can be written");
    assert_eq!(serde_json::from_str::<Quantity>(&json).expect("what was written can be read"), quantity);
    // Rounding is away from zero, so that nothing becomes nothing by it.
    assert_eq!(quantity.is_zero(), quantity.value() == 0);
    assert_eq!(quantity.is_negative(), quantity.milli_value() < 0);
    let milli = i128::from(quantity.milli_value());
    if milli.unsigned_abs() < i64::MAX as u128 {
        let (value, milli) = (i128::from(quantity.value()).abs(), milli.abs());
        assert!(
            (milli..milli + 1000).contains(&(value * 1000)),
            "{quantity}: {value} and {milli} thousandths"
        );
    }
    Some(quantity)
}

/// Numbers of amounts are in the order of the amounts, and a sum is in neither's way.
fn in_order(a: Quantity, b: Quantity) {
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    assert!(a.value() <= b.value() && a.milli_value() <= b.milli_value(), "{a} and {b}");
    assert!(a.plus(b) == b.plus(a), "{a} and {b}");
    if !a.is_negative() {
        assert!(a.plus(b) >= b, "{a} and {b}");
    }
}

/// Weights are in the order of the shares, and in the kernel's bounds.
fn shares(mut shares: Vec<u64>) {
    shares.sort_unstable();
    let weights: Vec<Option<u64>> = shares.iter().map(|shares| cpu_weight(*shares)).collect();
    assert!(weights.is_sorted(), "{shares:?} become {weights:?}");
    assert!(weights.iter().flatten().all(|weight| (1..=10_000).contains(weight)), "{weights:?}");
    let of_millis: Vec<u64> = shares.iter().map(|millis| cpu_shares(*millis)).collect();
    assert!(of_millis.is_sorted() && of_millis.iter().all(|shares| (2..=262_144).contains(shares)));
    for pair in shares.windows(2) {
        // The first as a request, the second as a limit.
        let high = memory_high(pair[0], pair[1], 900_000, 4096);
        assert!(
            high.is_none_or(|high| high > pair[0] && high <= pair[1] && high % 4096 == 0),
            "{pair:?}: {high:?}"
        );
        assert!(limited_swap(pair[0], pair[1], 1 << 33) <= 1 << 33, "{pair:?}");
    }
}

/// What is found valid makes limits that are valid, too, on every machine.
fn pod(pod: &KubernetesPod, machine: &Capacity) {
    let is_page = |size: &u64| *size >= 4096 && size.is_power_of_two();
    if !is_page(&machine.page_size) || !machine.huge_pages.keys().all(is_page) {
        return;
    }
    let again = serde_json::to_vec(pod).expect("a pod can be written");
    assert_eq!(&serde_json::from_slice::<KubernetesPod>(&again).expect("what was written can be read"), pod);
    let Ok(outcome) = pod.explain(machine) else { return };
    let valid = |of: &str, resources: &Resources| {
        crate::cgroup::validate(resources).unwrap_or_else(|error| panic!("{of}: {error}"));
    };
    valid("the pod", &outcome.resources);
    valid("its class", &qos_resources(outcome.qos_class, [pod]));
    let requests = pod.requests();
    assert_eq!(outcome.requests, requests);
    for container in pod.all() {
        let name = &container.name;
        let own = &outcome.containers[name];
        valid(name, &own.resources);
        // Where the pod as a whole has a limit, the kubelet has it for the request of a container without one.
        let whole = pod.has_whole();
        assert!(whole || own.resources.cpu.weight <= outcome.resources.cpu.weight, "cpu.weight of {name}");
        if let (Some(Limit::At(own)), Some(Limit::At(all))) =
            (own.resources.memory.max, outcome.resources.memory.max)
        {
            assert!(own <= all, "memory.max of {name}: {own} of {all}");
        }
        for (resource, amount) in container.resources.effective_requests() {
            assert!(amount.is_zero() || amount <= requests[&resource], "{resource} of {name}");
        }
        let score = own.oom_score_adj;
        assert!(matches!(score, -997 | 1000 | 3..=999), "oom_score_adj of {name}: {score}");
    }
    let refused = Admission::new().check(&requests, &ResourceList::new(), machine).is_err();
    let fits = requests.iter().all(|(name, amount)| {
        amount.is_zero() || machine.resources().get(name).is_some_and(|there| amount <= there)
    });
    assert_eq!(refused, !fits, "{requests:?} on {machine:?}");
}
