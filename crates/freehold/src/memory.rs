//! Keeping an idle process small.

use std::time::Duration;

/// Until then a process has started up.
const STARTED: Duration = Duration::from_millis(200);
/// Between two looks whether pages have come.
const LOOK: Duration = Duration::from_secs(1);
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

/// Now and then lets go of the pages of the program and its libraries that only starting, or the last
/// burst of work, needed. They are most of what an idle process holds; the kernel still has them at
/// hand, and maps those that are used again for about a microsecond each. In a runtime.
pub(crate) fn keep_small() {
    tokio::spawn(async {
        tokio::time::sleep(STARTED).await;
        let mut seen = 0;
        loop {
            if seen + FEW < faults() {
                let_go();
                seen = faults();
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}

/// How often this process needed a page that was not mapped.
fn faults() -> i64 {
    // SAFETY: a zeroed value is valid, and the call fills it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_minflt
}

fn let_go() {
    // SAFETY: the callback keeps nothing of what it is given, and changes none of it.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of), std::ptr::null_mut()) };
}

/// Of one object: its read-only segments. Their pages are the file's, so nothing is lost with them; what
/// was written at start, relocated data for one, is in the others.
unsafe extern "C" fn let_go_of(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the C library passes a valid description, whose headers are an array of that length.
    let (base, headers) = unsafe {
        let object = &*object;
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into());
        (object.dlpi_addr, headers)
    };
    let page = rustix::param::page_size() as u64;
    for segment in headers {
        let read_only = segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_W == 0;
        if !read_only {
            continue;
        }
        let begin = (base + segment.p_vaddr) & !(page - 1);
        let length = base + segment.p_vaddr + segment.p_memsz - begin;
        // SAFETY: the range is this mapping's, which is private, of a file and never written to: a page
        // that is used again comes back as it was. A refusal changes nothing.
        unsafe { libc::madvise(begin as *mut _, length as usize, libc::MADV_DONTNEED) };
    }
    0
}
