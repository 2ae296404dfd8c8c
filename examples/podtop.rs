//! A live table of pods and containers: `podtop`.

#[path = "podtop/app.rs"]
mod app;

use std::process::ExitCode;

fn main() -> ExitCode {
    match app::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podtop: {error}");
            ExitCode::FAILURE
        }
    }
}
