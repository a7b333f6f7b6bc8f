//! `freehold sessions tail`.

use freehold_client::{Frame, Previews, Since};

use crate::cli::TailArgs;
use crate::commands::connect::client;
use crate::commands::run::View;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Shows a session's events, then follows it until it is over or the user stops.
pub(super) async fn tail(args: TailArgs) -> Result<Exit, Failure> {
    let client = client(&args.connection)?;
    if args.no_follow {
        return past(&client, &args).await;
    }
    let previews = if args.json {
        Previews::Off
    } else {
        Previews::On
    };
    let mut history = client.stream_with_history(&args.id, previews, Since::Start);
    let mut view = View::new(!args.json);
    loop {
        let frame = tokio::select! {
            frame = history.next() => frame?,
            _ = tokio::signal::ctrl_c() => {
                view.finish()?;
                return Ok(Exit::Ok);
            }
        };
        match frame {
            None => break,
            Some(Frame::Event(event)) if args.json => terminal::print(event.raw())?,
            Some(frame) => view.frame(&frame)?,
        }
    }
    view.finish()?;
    Ok(Exit::Ok)
}

async fn past(client: &freehold_client::Client, args: &TailArgs) -> Result<Exit, Failure> {
    let mut view = View::new(false);
    let mut events = client.events(&args.id);
    while let Some(raw) = events.next().await? {
        if args.json {
            terminal::print(raw.get())?;
        } else {
            view.frame(&Frame::Event(freehold_client::Event::read(raw)?))?;
        }
    }
    view.finish()?;
    Ok(Exit::Ok)
}
