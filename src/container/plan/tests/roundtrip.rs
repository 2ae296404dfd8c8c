//! What the library writes is what init reads: every field of every operation, and nothing besides.

use proptest::collection::vec;
use proptest::prelude::*;

use super::steps::{any_step, expected};
use super::{read_plan, steps};
use crate::container::plan::{Plan, Source, Step};
use crate::init::wire;

/// A plan with that many sources, whatever they are.
pub(super) fn plan(sources: usize, steps: Vec<Step>) -> Plan {
    Plan { sources: vec![Source::Control; sources], steps, made: 0, mapped: Vec::new() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn init_reads_what_was_written(
        descriptors in 1_usize..50,
        steps in vec(any_step(), 0..40),
    ) {
        let bytes = plan(descriptors, steps.clone()).encode().unwrap();
        let (read_descriptors, read_steps) = read_plan(&bytes).unwrap();
        prop_assert_eq!(read_descriptors, descriptors);
        prop_assert_eq!(read_steps.len(), steps.len());
        for ((operation, fields, all), step) in read_steps.into_iter().zip(&steps) {
            prop_assert_eq!((operation, fields), expected(step), "{}", step);
            prop_assert!(all, "{}: there are fields that init does not read", step);
        }
    }

    /// A step that is cut short is refused, wherever: init never takes one field for another.
    #[test]
    fn a_step_without_its_end_is_refused(step in any_step(), cut in any::<prop::sample::Index>()) {
        let whole = plan(1, vec![step]).encode().unwrap();
        const START: usize = 16 + 8;
        prop_assume!(whole.len() > START);
        let end = START + cut.index(whole.len() - START);
        let mut bytes = whole[..end].to_vec();
        let length = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[20..24].copy_from_slice(&(length - START as u32).to_le_bytes());
        prop_assert!(read_plan(&bytes).is_err());
    }
}

#[test]
fn operations_have_numbers_of_their_own() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..5000 {
        let step = steps::any_step().new_tree(&mut runner).unwrap().current();
        let name = match &step {
            // One step of the kernel's for several of ours, or the other way round.
            Step::Join { .. } | Step::JoinTime { .. } => "join".into(),
            Step::Unshare(_) | Step::UnshareTime => "unshare".into(),
            Step::WriteProc { .. } | Step::SetSysctl { .. } => "write".into(),
            step => format!("{step:?}").split([' ', '(', '{']).next().unwrap().to_string(),
        };
        // These are another in words only.
        if let Step::MountReadonly { .. } | Step::Propagate { .. } = step {
            continue;
        }
        let other = seen.insert(expected(&step).0, name.clone());
        assert!(other.is_none_or(|other| other == name), "{name}");
    }
    // Every operation was met.
    let mut all = wire::OPERATIONS.to_vec();
    all.sort_unstable();
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), all);
}
