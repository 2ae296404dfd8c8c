//! Tests of the C interface as C programs see it: through the header, and linked with the built library.
//!
//! Most need root and a C compiler. What a machine cannot run says why and counts as skipped; `cargo xtask test`
//! installs the tools, and fails when a test ran nowhere.

mod arguments;
mod covered;
mod examples;
mod garbage;
mod go;
mod header;
mod hosts;
mod installed;
mod layout;
mod methods;
mod objects;
mod panics;
mod support;

fn main() {
    let tests = [
        header::tests(),
        methods::tests(),
        covered::tests(),
        arguments::tests(),
        garbage::tests(),
        panics::tests(),
        examples::tests(),
        installed::tests(),
        go::tests(),
        hosts::tests(),
    ];
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit();
}
