//! `freehold tunnels token`: the token alone on standard output, so that a script can take it.

use serde_json::Value;

use crate::cli::{Output, TunnelTokenCommand};
use crate::commands::connect::{client, text};
use crate::exit::Failure;
use crate::terminal::{self, clean};

pub(super) async fn token(command: TunnelTokenCommand) -> Result<(), Failure> {
    match command {
        TunnelTokenCommand::Reveal { tunnel, args } => {
            let client = client(&args.connection)?;
            show(&client.reveal_tunnel_token(&tunnel).await?, args.output)
        }
        TunnelTokenCommand::Rotate {
            tunnel,
            reason,
            args,
        } => {
            let client = client(&args.connection)?;
            let token = client.rotate_tunnel_token(&tunnel, reason.as_deref());
            show(&token.await?, args.output)
        }
    }
}

fn show(token: &Value, output: Output) -> Result<(), Failure> {
    if output.json {
        return terminal::print_json(token);
    }
    terminal::print(&clean(text(token, "/tunnel_token")))
}
