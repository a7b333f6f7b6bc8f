//! Reading what was stored, and nothing else.

use std::io;

use bytes::Bytes;
use freehold_base::hex;
use futures_util::stream::{BoxStream, Stream, StreamExt, try_unfold};
use sha2::{Digest, Sha256};

use super::super::{BlobError, StorageCause};

struct Reading {
    pieces: BoxStream<'static, Result<Bytes, BlobError>>,
    hash: Sha256,
    expected: String,
    /// Bytes still to come.
    left: u64,
    /// Not given out until another piece follows, or all is known to be right.
    held: Option<Bytes>,
}

/// The pieces of content with a SHA-256 and a size. If it has not, the last of them is an error
/// instead.
pub(super) fn checked(
    pieces: impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static,
    hash: String,
    size: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let reading = Reading {
        pieces: pieces.boxed(),
        hash: Sha256::new(),
        expected: hash,
        left: size,
        held: None,
    };
    try_unfold(reading, |mut reading| async move {
        loop {
            let Some(piece) = reading.pieces.next().await else {
                return reading.end();
            };
            let piece = piece.map_err(io::Error::other)?;
            reading.hash.update(&piece);
            reading.left = (reading.left)
                .checked_sub(piece.len() as u64)
                .ok_or_else(damaged)?;
            if let Some(before) = reading.held.replace(piece) {
                return Ok(Some((before, reading)));
            }
        }
    })
}

impl Reading {
    fn end(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let Some(last) = self.held.take() else {
            // Nothing was, or everything has been given out.
            let right = self.expected.is_empty() || self.matches();
            return if right { Ok(None) } else { Err(damaged()) };
        };
        if !self.matches() {
            return Err(damaged());
        }
        self.expected.clear();
        Ok(Some((last, self)))
    }

    fn matches(&self) -> bool {
        self.left == 0 && hex::encode(self.hash.clone().finalize()) == self.expected
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        BlobError::Storage {
            action: "read",
            source: StorageCause::Damaged,
        },
    )
}
