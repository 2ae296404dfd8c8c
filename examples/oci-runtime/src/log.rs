//! Errors and warnings: for people on standard error, and for the program that called in a file.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::options::{LogFormat, Options};

pub struct Log {
    path: Option<std::path::PathBuf>,
    format: LogFormat,
}

impl Log {
    pub fn new(options: &Options) -> Self {
        Log { path: options.log.clone(), format: options.log_format }
    }

    pub fn error(&self, error: &dyn std::error::Error) {
        let text = error.to_string();
        eprintln!("pericarp-oci: {text}");
        self.append("error", &text);
    }

    /// What went on nevertheless.
    pub fn warning(&self, text: &str) {
        eprintln!("pericarp-oci: warning: {text}");
        self.append("warning", text);
    }

    fn append(&self, level: &str, text: &str) {
        let Some(path) = &self.path else { return };
        let line = match self.format {
            LogFormat::Text => format!("time=\"{}\" level={level} msg={text:?}\n", now()),
            LogFormat::Json => {
                format!("{}\n", serde_json::json!({ "level": level, "msg": text, "time": now() }))
            }
        };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("pericarp-oci: cannot write to {}: {error}", path.display());
        }
    }
}

fn now() -> String {
    rfc3339(SystemTime::now())
}

/// A time as RFC 3339 has it, in UTC.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Days since 0000-03-01, in eras of 400 years: the leap day is the last one of a year that begins in March.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_740_787_199, "2025-02-28T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(super::rfc3339(std::time::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
