//! What hostile root filesystems, volumes, images and programs try: at least one test for each rule that the CVEs of
//! container runtimes teach. README.md says which test belongs to which, and what happens without the protection.

mod bounds;
mod devices;
pub mod entering;
mod keys;
mod paths;
mod privileges;
mod procfs;
mod races;
mod swap;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let all = [
        bounds::tests(),
        devices::tests(),
        entering::tests(),
        keys::tests(),
        paths::tests(),
        privileges::tests(),
        procfs::tests(),
        races::tests(),
    ];
    all.into_iter().flatten().collect()
}

/// Commands for this program in containers, and in processes of their own on the host.
pub fn payload(words: &[&str]) -> bool {
    let own = [entering::payload, keys::payload, privileges::payload, procfs::payload, races::payload];
    own.iter().any(|payload| payload(words))
}
