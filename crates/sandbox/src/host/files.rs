//! Files of a sandbox, asked for through its agent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::channel::{Answered, Asked, Channel};
use crate::protocol::{Answer, Ask, CHUNK, Entries, MAX_FILES, MAX_LISTING, Problem};
use crate::{FileProblem, FileStream, Listing, SandboxError};

/// How long one file request may take: the agent does a bounded piece of work for each.
const LIMIT: Duration = Duration::from_secs(60);
/// Chunks read ahead of the consumer.
const READ_AHEAD: usize = 4;

pub(super) async fn list(channel: &Arc<Channel>, dir: &str) -> Result<Listing, SandboxError> {
    let ask = Ask::List {
        dir: dir.to_owned(),
    };
    let (answer, body) = exchange(channel, ask, Bytes::new(), MAX_LISTING).await?;
    let Answer::Listing { truncated } = answer else {
        return Err(unexpected(channel, answer));
    };
    let files: Entries = serde_json::from_slice(&body).map_err(|_| violation(channel))?;
    if files.len() > MAX_FILES || files.iter().any(|f| !plain(&f.path)) {
        return Err(violation(channel));
    }
    Ok(Listing { files, truncated })
}

/// Relative, without empty, `.` or `..` parts, so that a consumer may join it to a directory.
fn plain(path: &str) -> bool {
    let part_ok = |p: &str| !matches!(p, "" | "." | "..") && !p.contains('\0');
    path.split('/').all(part_ok)
}

pub(super) async fn read(
    channel: &Arc<Channel>,
    path: &str,
    max: u64,
) -> Result<FileStream, SandboxError> {
    let ask = Ask::Open {
        path: path.to_owned(),
        max,
    };
    let (handle, (answer, _)) = exchange_with_id(channel, ask, Bytes::new(), 0).await?;
    let Answer::Opened { size } = answer else {
        return Err(unexpected(channel, answer));
    };
    if size > max {
        return Err(violation(channel));
    }
    let (sender, chunks) = mpsc::channel(READ_AHEAD);
    tokio::spawn(pump(channel.clone(), handle, size, sender));
    Ok(FileStream { size, chunks })
}

/// Pulls chunks until the end, an error, or the consumer's departure.
async fn pump(
    channel: Arc<Channel>,
    handle: u64,
    mut left: u64,
    to: mpsc::Sender<Result<Bytes, SandboxError>>,
) {
    loop {
        let pulled = pull(&channel, handle, &mut left).await;
        let go_on = matches!(pulled, Ok((_, false)));
        let chunk = pulled.map(|(chunk, _)| chunk);
        let wanted = match chunk {
            Ok(chunk) if chunk.is_empty() => true,
            chunk => to.send(chunk).await.is_ok(),
        };
        if !go_on || !wanted {
            break;
        }
    }
    close(&channel, handle).await;
}

async fn pull(
    channel: &Arc<Channel>,
    handle: u64,
    left: &mut u64,
) -> Result<(Bytes, bool), SandboxError> {
    let (answer, body) = exchange(channel, Ask::Pull { handle }, Bytes::new(), CHUNK).await?;
    let Answer::Chunk { last } = answer else {
        return Err(unexpected(channel, answer));
    };
    // Not more than announced, and every chunk but the last brings something.
    *left = left
        .checked_sub(body.len() as u64)
        .ok_or_else(|| violation(channel))?;
    if body.is_empty() && !last {
        return Err(violation(channel));
    }
    if last && *left > 0 {
        // It shrank while it was read: half a file must not pass for a whole one.
        return Err(SandboxError::File {
            problem: FileProblem::Io,
        });
    }
    Ok((body, last))
}

pub(super) async fn write(
    channel: &Arc<Channel>,
    path: &str,
    bytes: Bytes,
) -> Result<(), SandboxError> {
    let ask = Ask::Create {
        path: path.to_owned(),
    };
    let (handle, (answer, _)) = exchange_with_id(channel, ask, Bytes::new(), 0).await?;
    done(channel, answer)?;
    let written = push_all(channel, handle, bytes).await;
    if written.is_err() {
        close(channel, handle).await;
    }
    written
}

async fn push_all(
    channel: &Arc<Channel>,
    handle: u64,
    mut bytes: Bytes,
) -> Result<(), SandboxError> {
    while !bytes.is_empty() {
        let chunk = bytes.split_to(bytes.len().min(CHUNK));
        let (answer, _) = exchange(channel, Ask::Push { handle }, chunk, 0).await?;
        done(channel, answer)?;
    }
    let (answer, _) = exchange(channel, Ask::Commit { handle }, Bytes::new(), 0).await?;
    done(channel, answer)
}

pub(super) async fn delete(channel: &Arc<Channel>, path: &str) -> Result<(), SandboxError> {
    let ask = Ask::Delete {
        path: path.to_owned(),
    };
    let (answer, _) = exchange(channel, ask, Bytes::new(), 0).await?;
    done(channel, answer)
}

/// Has the agent stop all others, or let them go on.
pub(super) async fn still(channel: &Arc<Channel>, on: bool) -> Result<(), SandboxError> {
    let (answer, _) = exchange(channel, Ask::Still { on }, Bytes::new(), 0).await?;
    done(channel, answer)
}

/// Bytes and inodes in use, as the agent says.
pub(super) async fn usage(channel: &Arc<Channel>) -> Result<(u64, u64), SandboxError> {
    match exchange(channel, Ask::Usage, Bytes::new(), 0).await? {
        (Answer::Usage { bytes, inodes }, _) => Ok((bytes, inodes)),
        (answer, _) => Err(unexpected(channel, answer)),
    }
}

/// Lets the agent forget a handle. If that fails the sandbox is gone, and the handle with it.
async fn close(channel: &Arc<Channel>, handle: u64) {
    let _ = exchange(channel, Ask::Close { handle }, Bytes::new(), 0).await;
}

fn done(channel: &Channel, answer: Answer) -> Result<(), SandboxError> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(channel, other)),
    }
}

pub(super) async fn exchange(
    channel: &Arc<Channel>,
    ask: Ask,
    body: Bytes,
    max_body: usize,
) -> Result<Answered, SandboxError> {
    Ok(exchange_with_id(channel, ask, body, max_body).await?.1)
}

pub(super) async fn exchange_with_id(
    channel: &Arc<Channel>,
    ask: Ask,
    body: Bytes,
    max_body: usize,
) -> Result<(u64, Answered), SandboxError> {
    let asked = channel.ask(ask, body, max_body).await?;
    Ok((asked.id, in_time(channel, asked).await?))
}

/// The answer to what takes the agent little time.
pub(super) async fn in_time(channel: &Channel, mut asked: Asked) -> Result<Answered, SandboxError> {
    match tokio::time::timeout(LIMIT, asked.answered()).await {
        Ok(answered) => answered,
        Err(_) => {
            channel.fail("its agent did not answer in time");
            Err(channel.lost_error())
        }
    }
}

/// An answer that is an error, or one that makes no sense and ends the sandbox.
pub(super) fn unexpected(channel: &Channel, answer: Answer) -> SandboxError {
    match answer {
        Answer::Failed {
            problem: Problem::File(problem),
        } => SandboxError::File { problem },
        Answer::Failed {
            problem: Problem::Busy,
        } => SandboxError::Busy("it has reached its limit of processes".to_owned()),
        _ => violation(channel),
    }
}

pub(super) fn violation(channel: &Channel) -> SandboxError {
    channel.fail("its agent broke the protocol: an answer that does not fit");
    channel.lost_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_pass() {
        assert!(plain("a/b.txt") && plain("..a") && plain("a b"));
        for bad in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a/", "a\0b"] {
            assert!(!plain(bad), "{bad:?}");
        }
    }
}
