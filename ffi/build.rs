//! The soname of libpericarp.so. Versions of symbols cannot be given here: rustc gives the linker a script of its own,
//! which hides everything but the functions of the header and has no versions. `install.sh` links with pericarp.map.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The number is that of the interface, not of the crate: it changes when programs must be built again.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-soname,libpericarp.so.0");
}
