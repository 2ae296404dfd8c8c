//! What must hold of plans whatever they are made of, for `crate::fuzzing`.

use super::tests::read_plan;
use super::{Create, PodContext, compile};
use crate::error::ErrorKind;
use crate::init::wire;
use crate::spec::oci::parse;
use crate::spec::{ContainerSpec, ExecSpec, IdMappings, PodSpec, UserMode};

/// Reading bytes ends, without a panic and without a look outside.
pub(crate) fn bytes(bytes: &[u8]) {
    let _ = read_plan(bytes);
    // Few bytes have a sound header by chance: give them one, so that the steps are looked at.
    let [descriptors, steps, rest @ ..] = bytes else { return };
    let words = [wire::MAGIC, 16 + rest.len() as u32, u32::from(*descriptors), u32::from(*steps)];
    let whole: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).chain(rest.iter().copied()).collect();
    let _ = read_plan(&whole);
}

/// A pod and a container that are found valid have a plan that init reads to its end, or an error that says that
/// the specification is at fault; and they are the same after a trip through JSON.
pub(crate) fn spec(json: &[u8]) {
    let Ok((pod, container)) = serde_json::from_slice::<(PodSpec, ContainerSpec)>(json) else { return };
    whole(&pod, &container);
}

/// Every field of a configuration is taken or refused by name, and what is taken is a specification like another.
pub(crate) fn oci(json: &[u8]) {
    let Ok(config) = str::from_utf8(json).map_err(drop).and_then(|text| parse(text).map_err(drop)) else {
        return;
    };
    let refused = |error: crate::Error| {
        assert!(matches!(error.kind(), ErrorKind::InvalidSpec | ErrorKind::Unsupported), "{error}");
        assert!(error.subject().is_some(), "{error} names no field");
    };
    if let Some(process) = config.process() {
        let _ = ExecSpec::from_oci(process).map_err(refused);
    }
    let pod = PodSpec::from_oci("pod", &config).map_err(refused);
    let container = ContainerSpec::from_oci(&config).map_err(refused);
    if let (Ok(pod), Ok(container)) = (pod, container) {
        whole(&pod, &container);
    }
}

fn whole(pod: &PodSpec, container: &ContainerSpec) {
    let again = serde_json::to_vec(&(pod, container)).expect("a specification can be written");
    let (same_pod, same_container): (PodSpec, ContainerSpec) =
        serde_json::from_slice(&again).expect("what was written can be read");
    assert_eq!((pod, container), (&same_pod, &same_container));

    if pod.validate().is_err() || container.validate().is_err() {
        return;
    }
    // What another user namespace has is known when the pod is made.
    let any = IdMappings::contiguous(100_000, 65536);
    let ids = match &pod.namespaces.user {
        UserMode::Host => None,
        UserMode::Mapped(ids) => Some(ids),
        UserMode::Auto { .. } | UserMode::Path(_) => Some(&any),
    };
    let mut plan = match compile(&PodContext { spec: pod, ids, ordinary: None }, container) {
        Ok(plan) => plan,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}"),
    };
    assert!(!plan.to_string().is_empty());
    plan.resolve_targets(|slot| Ok([Create::Directory, Create::File, Create::Link][slot.0 as usize % 3]))
        .expect("nothing is asked of the host");
    let encoded = match plan.encode() {
        Ok(encoded) => encoded,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}"),
    };
    let (descriptors, steps) = read_plan(&encoded).expect("init reads what the library writes");
    assert_eq!(descriptors, plan.sources.len());
    assert_eq!(steps.len(), plan.steps.len());
    assert!(steps.iter().all(|(_, _, all)| *all), "a step has fields that init does not read");
}
