//! Arming a crash point, in builds for the crash tests.

#[cfg(feature = "crash-points")]
use crate::environment;
use crate::exit::Failure;

/// `FREEHOLD_CRASH_POINT=name:hit`, in builds for the crash tests.
#[cfg(feature = "crash-points")]
pub(super) fn arm() -> Result<(), Failure> {
    let Some(point) = environment::variable("FREEHOLD_CRASH_POINT")? else {
        return Ok(());
    };
    let (name, hit) = point.rsplit_once(':').unwrap_or((&point, "1"));
    let hit = hit
        .parse()
        .map_err(|_| Failure::usage("FREEHOLD_CRASH_POINT is written name:hit"))?;
    tracing::warn!(name, hit, "armed to abort; this build is for crash tests");
    freehold_base::crash::arm(name, hit);
    Ok(())
}

#[cfg(not(feature = "crash-points"))]
pub(super) fn arm() -> Result<(), Failure> {
    Ok(())
}
