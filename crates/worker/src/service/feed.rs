//! A session's events for one worker: history and live stream in the order in which the official
//! runner looks at them (contract 90 E): the stream is opened first, then the whole history is
//! read, then the stream is followed; and all of it again after each break.

use std::time::Duration;

use freehold_client::{Client, ClientError, Event, Frame, Previews};
use tokio::sync::mpsc;

use super::lease::is_fatal;
use super::note::Note;

/// First wait after a break, doubled to [`MAX_WAIT`], and reset by any event of the stream.
const WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Events read ahead of the worker.
pub(super) const AHEAD: usize = 100;

/// A step of the feed.
#[derive(Debug)]
pub(super) enum Step {
    /// The history follows, from its start.
    History,
    /// Its next event.
    Past(Note),
    /// It is complete, or could not be read to its end.
    Read {
        /// Whether it is complete.
        complete: bool,
    },
    /// An event of the live stream.
    Live(Note),
    /// Trying again cannot help.
    Failed(ClientError),
}

/// Feeds until the receiver is dropped or nothing more can come.
pub(super) async fn run(client: &Client, session: &str, steps: mpsc::Sender<Step>) {
    let mut wait = WAIT;
    loop {
        match attach(client, session, &steps, &mut wait).await {
            // A clean end is a server that stops: try again as after an error.
            Ok(()) => {}
            Err(error) if is_fatal(&error) => {
                let _ = steps.send(Step::Failed(error)).await;
                return;
            }
            Err(error) => tracing::warn!(session, %error, "the event stream broke"),
        }
        if steps.is_closed() {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(MAX_WAIT);
    }
}

/// One connection. The receiver's end is noticed by the caller.
async fn attach(
    client: &Client,
    session: &str,
    steps: &mpsc::Sender<Step>,
    wait: &mut Duration,
) -> Result<(), ClientError> {
    let mut stream = client.stream(session, Previews::Off).await?;
    if steps.send(Step::History).await.is_err() {
        return Ok(());
    }
    let mut pages = client.events(session);
    let complete = loop {
        match pages.next().await {
            Ok(Some(raw)) => {
                let note = Event::read(raw).ok().and_then(|event| Note::read(&event));
                if let Some(note) = note
                    && steps.send(Step::Past(note)).await.is_err()
                {
                    return Ok(());
                }
            }
            Ok(None) => break true,
            Err(error) => {
                tracing::warn!(session, %error, "the history was not read");
                break false;
            }
        }
    };
    if steps.send(Step::Read { complete }).await.is_err() {
        return Ok(());
    }
    while let Some(frame) = stream.next().await? {
        *wait = WAIT;
        if let Frame::Event(event) = frame
            && let Some(note) = Note::read(&event)
            && steps.send(Step::Live(note)).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}
