//! The ways in for the fuzz targets of `fuzz/`, which are compiled with `--cfg fuzzing` only: a library as anyone else
//! builds it does not have them. Each takes any bytes, and panics when what must hold does not.

/// The reader of plans, on bytes that are no plan.
pub fn plan(bytes: &[u8]) {
    crate::container::plan::fuzzing::bytes(bytes);
}

/// The JSON of a pod and of a container, up to the plan as init reads it.
pub fn spec(json: &[u8]) {
    crate::container::plan::fuzzing::spec(json);
}

/// The compiler of system call filters, against an evaluator that takes the profile word by word.
pub fn seccomp(bytes: &[u8]) {
    crate::container::seccomp::fuzzing::profile(bytes);
}

/// The configuration of an OCI container, up to the plan as init reads it.
pub fn oci(json: &[u8]) {
    crate::container::plan::fuzzing::oci(json);
}

/// Amounts, requests and limits of Kubernetes, up to the limits of cgroups.
pub fn kubernetes(json: &[u8]) {
    crate::spec::kubernetes::fuzzing::input(json);
}
