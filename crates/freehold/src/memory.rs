//! Keeping an idle process small.

use std::ops::Range;
use std::time::Duration;

/// Until then a process has started up.
const STARTED: Duration = Duration::from_millis(200);
/// Between two looks whether pages have come.
const LOOK: Duration = Duration::from_millis(500);
/// Processor time between two looks with which a process still rests. One that works would wait for
/// its pages again and again.
const RESTS: Duration = Duration::from_millis(10);
/// So few are not worth the trouble.
const FEW: i64 = 64;

/// Bounds what the C library's allocator keeps for itself: by default it may hold eight arenas per
/// core, and gives memory back late. Call before other threads start.
pub(crate) fn tune() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: `mallopt` only sets parameters of the allocator; no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024);
            libc::mallopt(libc::M_MMAP_THRESHOLD, 512 * 1024);
        }
    }
}

/// Whenever the process rests, lets go of the pages of the program and its libraries that only
/// starting, or the last burst of work, needed. They are most of what an idle process holds; the kernel
/// still has them at hand, and maps those that are used again for about a microsecond each. In a
/// runtime.
pub(crate) fn keep_small() {
    tokio::spawn(async {
        tokio::time::sleep(STARTED).await;
        let (mut seen, mut before) = (0, Used::now().time);
        loop {
            let used = Used::now();
            if used.time < before + RESTS && seen + FEW < used.faults {
                // Where it cannot be read all stays as it is.
                let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
                untouched(&maps).for_each(let_go);
                seen = Used::now().faults;
            }
            before = used.time;
            tokio::time::sleep(LOOK).await;
        }
    });
}

/// What this process has used since it began.
struct Used {
    /// How often a page that was not mapped.
    faults: i64,
    /// Of the processors.
    time: Duration,
}

impl Used {
    fn now() -> Self {
        // SAFETY: a zeroed value is valid, and the call fills it.
        let usage = unsafe {
            let mut usage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let time = |t: libc::timeval| {
            let (seconds, micros) = (t.tv_sec.unsigned_abs(), t.tv_usec.unsigned_abs());
            Duration::from_secs(seconds) + Duration::from_micros(micros)
        };
        Self {
            faults: usage.ru_minflt,
            time: time(usage.ru_utime) + time(usage.ru_stime),
        }
    }
}

/// Of `/proc/self/smaps`, private mappings of files that cannot be written to and have no page of their
/// own: neither relocated data, nor a debugger's or a packer's changes.
fn untouched(maps: &str) -> impl Iterator<Item = Range<usize>> {
    let mut mapping = None;
    maps.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        if first == "Anonymous:" {
            let nothing = words.next() == Some("0");
            return mapping.take().filter(|_| nothing);
        }
        if let Some((begin, end)) = first.split_once('-') {
            let fixed = matches!(words.next(), Some("r-xp" | "r--p"));
            let of_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            let number = |text| usize::from_str_radix(text, 16).ok();
            mapping = number(begin)
                .zip(number(end))
                .filter(|_| fixed && of_file)
                .map(|(begin, end)| begin..end);
        }
        None
    })
}

fn let_go(pages: Range<usize>) {
    // SAFETY: the pages are a file's and nobody's own, so each comes back as it was when it is used
    // again. A refusal changes nothing.
    unsafe { libc::madvise(pages.start as *mut _, pages.len(), libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_files_own_is_let_go_of() {
        let maps = "\
55d0-55d1 r--p 00000000 08:01 42    /usr/bin/freehold
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55d1-55d3 r-xp 00001000 08:01 42    /usr/bin/a name with spaces
Anonymous:             0 kB
55d3-55d4 r--p 00003000 08:01 42    /usr/bin/freehold
Anonymous:             4 kB
55d4-55d5 rw-p 00004000 08:01 42    /usr/bin/freehold
Anonymous:             0 kB
55d5-55d6 r--s 00004000 08:01 43    /var/lib/freehold/freehold.db
Anonymous:             0 kB
55d6-55d7 r--p 00000000 00:00 0
Anonymous:             0 kB
7ffc-7ffd r-xp 00000000 00:00 0     [vdso]
Anonymous:             0 kB
";
        let found: Vec<_> = untouched(maps).collect();
        assert_eq!(found, [0x55d0..0x55d1, 0x55d1..0x55d3]);
    }

    #[test]
    fn the_program_goes_on_with_its_own_pages_gone() {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let all: Vec<_> = untouched(&maps).collect();
        let here = the_program_goes_on_with_its_own_pages_gone as *const () as usize;
        assert!(all.iter().any(|pages| pages.contains(&here)));
        all.into_iter().for_each(let_go);
        // Code and constants are read again.
        assert_eq!(format!("{:?}", Some(here)), format!("Some({here})"));
    }
}
