//! Keeping an idle server small.

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
