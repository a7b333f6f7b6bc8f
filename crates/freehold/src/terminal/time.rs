//! Times for people.

use freehold_base::{Clock, SystemClock, Timestamp};

/// How long ago an RFC 3339 time was, roughly.
pub(crate) fn age(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => format!("{} ago", seconds(SystemClock.now().seconds_since(time))),
        Err(_) => "?".to_owned(),
    }
}

/// A duration, roughly.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3_600.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rough_durations() {
        let shown = [0.34, 42.0, 120.0, 7_200.0, 864_000.0].map(seconds);
        assert_eq!(shown, ["0.3 s", "42 s", "2 min", "2 h", "10 days"]);
        assert_eq!(age("nonsense"), "?");
    }
}
