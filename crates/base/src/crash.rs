//! Named points at which the crash tests abort the process. Compiled to nothing without the
//! `crash-points` feature, which no shipped build has.

/// Aborts the process here if this point was armed with [`arm`] and its count has run out.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::crash::reach($name)
    };
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::Mutex;

    static ARMED: Mutex<Option<(String, u64)>> = Mutex::new(None);

    /// Arms `name` to abort on its `hit`-th passage, counted from 1.
    pub fn arm(name: &str, hit: u64) {
        *ARMED.lock().unwrap_or_else(|e| e.into_inner()) = Some((name.to_owned(), hit.max(1)));
    }

    /// Called by `crash_point!`.
    pub fn reach(name: &str) {
        let mut armed = ARMED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((wanted, left)) = armed.as_mut()
            && wanted == name
        {
            *left -= 1;
            if *left == 0 {
                std::process::abort();
            }
        }
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{arm, reach};

/// Called by `crash_point!`; nothing in this build.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn reach(_name: &str) {}
