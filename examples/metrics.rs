//! Serves what pods and containers use to Prometheus, on loopback: `metrics [--listen 127.0.0.1:9101]`.

#[path = "metrics/server.rs"]
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    match server::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("metrics: {error}");
            ExitCode::FAILURE
        }
    }
}
