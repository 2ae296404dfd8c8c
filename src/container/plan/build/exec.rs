//! Another program in a container that there is already: no mounts, but all of its namespaces.

use super::{Build, PodContext};
use crate::container::plan::step::Step;
use crate::container::plan::{Plan, Source};
use crate::error::Result;
use crate::spec::ContainerSpec;

/// Compiles a valid specification whose process is the program to execute.
///
/// # Errors
/// As [`compile`](super::compile).
pub(crate) fn compile_exec(pod: &PodContext<'_>, container: &ContainerSpec) -> Result<Plan> {
    let mut plan = Plan::new();
    let inside = plan.source(Source::FirstProcess);
    let mut build = Build {
        plan,
        pod,
        container,
        fresh: Vec::new(),
        kernels: Vec::new(),
        proc: None,
        late_readonly: Vec::new(),
        twin: Default::default(),
        inside: Some(inside),
    };
    build.preserve();
    build.check_ordinary()?;
    build.check_ids()?;
    build.session_keyring();
    build.first_affinity()?;
    build.plan.step(Step::Setsid);
    build.process()?;
    Ok(build.plan)
}

impl Build<'_> {
    /// Comes into the root filesystem: that which was made, or that of the container which is entered.
    pub(super) fn arrive(&mut self) {
        match self.inside {
            None => {
                self.enter_mounts();
                self.root_propagation();
            }
            Some(process) => {
                let root = self.root_of_first();
                self.plan.step(Step::JoinProcess { process, namespaces: 0, root });
            }
        }
    }
}
