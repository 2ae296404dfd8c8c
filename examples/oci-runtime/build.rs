//! Of which commit the program is, for `--version`: what builds it outside of a checkout may say so in `PERICARP_COMMIT`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=PERICARP_COMMIT");
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_string())
    };
    // Of nothing else than of this project's own checkout: the sources may be somewhere below another one.
    let ours = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|_| ours) {
        println!("cargo::rerun-if-changed={log}");
    }
    let given = std::env::var("PERICARP_COMMIT").ok();
    let commit = given.or_else(|| git(&["rev-parse", "HEAD"]).filter(|_| ours));
    println!("cargo::rustc-env=COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}
