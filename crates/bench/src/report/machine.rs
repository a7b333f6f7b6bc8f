//! What the numbers were measured on.

use std::time::Duration;

use freehold_base::{Clock as _, SystemClock};

/// Where the kernel counts what the cores did.
const STAT: &str = "/proc/stat";
/// How long the cores are watched.
const GLANCE: Duration = Duration::from_millis(500);

/// The machine, as far as it matters.
#[derive(Debug)]
pub(crate) struct Machine {
    /// RFC 3339.
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// Share of the cores' time that others used just before the run, 0 to 1.
    pub(crate) busy: f64,
}

impl Machine {
    /// Looks. What cannot be found out is `unknown` or zero.
    pub(crate) fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> Option<String> {
            let line = text.lines().find(|l| l.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let memory = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok());
        // Not the load average: it still holds the build that came before.
        let before = read(STAT);
        std::thread::sleep(GLANCE);
        Self {
            date: SystemClock.now().to_string(),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            busy: busy(&before, &read(STAT)),
        }
    }
}

/// The share of time between two readings in which cores were not idle.
fn busy(before: &str, after: &str) -> f64 {
    // "cpu user nice system idle iowait …": a core that waits for a disk is idle too.
    let times = |text: &str| -> Option<(f64, f64)> {
        let numbers = text.lines().next()?.split_whitespace().skip(1);
        let times: Vec<f64> = numbers.take(8).filter_map(|n| n.parse().ok()).collect();
        Some((times.iter().sum(), times.get(3)? + times.get(4)?))
    };
    match (times(before), times(after)) {
        (Some((all, idle)), Some((all_after, idle_after))) if all < all_after => {
            1.0 - (idle_after - idle) / (all_after - all)
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_the_share_that_was_not_idle() {
        let busy = |after| busy("cpu 10 0 10 70 10 0 0 0 0 0\ncpu0 1", after);
        assert_eq!(busy("cpu 60 0 10 110 20 0 0 0 0 0"), 0.5);
        assert_eq!(busy("cpu 10 0 10 70 10 0 0 0 0 0"), 0.0);
        assert_eq!(busy(""), 0.0);
    }
}
