//! What one durable write costs on this disk now; everything that waits for one is read beside it.

use anyhow::Result;

use super::Lab;

/// Writes in a round.
const WRITES: usize = 60;

pub(super) fn measure(lab: &mut Lab) -> Result<()> {
    let times = (0..WRITES)
        .map(|_| lab.disk.probe())
        .collect::<Result<Vec<_>>>()?;
    lab.put_millis("disk.fdatasync", "4 KiB overwrite + fdatasync", &times);
    let times = (0..WRITES)
        .map(|_| lab.disk.grow())
        .collect::<Result<Vec<_>>>()?;
    lab.put_millis("disk.fsync", "4 KiB append + fsync", &times);
    Ok(())
}
