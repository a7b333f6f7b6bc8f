//! `freehold tunnels`; needs an admin key or a key with the scope `tunnels`.

mod certificates;
mod token;

use serde_json::{Value, json};

use crate::cli::{Output, TunnelCommand};
use crate::commands::connect::{client, text};
use crate::exit::{Exit, Failure};
use crate::terminal::{self, age, clean};

/// Most tunnels, certificates or connections listed.
const MAX_LISTED: usize = 10_000;

/// Runs a subcommand.
pub(crate) async fn tunnels(command: TunnelCommand) -> Result<Exit, Failure> {
    match command {
        TunnelCommand::Create { name, args } => {
            let client = client(&args.connection)?;
            let made = client.create_tunnel(name.as_deref()).await?;
            if args.output.json {
                terminal::print_json(&made)?;
            } else {
                eprintln!(
                    "created; servers will be below {}",
                    clean(text(&made, "/domain"))
                );
                terminal::print(&clean(text(&made, "/id")))?;
            }
        }
        TunnelCommand::List { archived, args } => {
            let mut tunnels = client(&args.connection)?.tunnels(archived);
            show_list(&tunnels.take(MAX_LISTED).await?, args.output)?;
        }
        TunnelCommand::Show { tunnel, args } => {
            let client = client(&args.connection)?;
            let shown = client.tunnel(&tunnel).await?;
            let mut certificates = client.tunnel_certificates(&tunnel, false);
            let certificates = certificates.take(MAX_LISTED).await?;
            let mut connections = client.tunnel_connections(&tunnel);
            let connections = connections.take(MAX_LISTED).await?;
            if args.output.json {
                terminal::print_json(&json!({
                    "tunnel": shown,
                    "certificates": certificates,
                    "connections": connections,
                }))?;
            } else {
                show(&shown, &certificates, &connections)?;
            }
        }
        TunnelCommand::Archive { tunnel, args } => {
            let client = client(&args.connection)?;
            let archived = client.archive_tunnel(&tunnel).await?;
            said("archived", &tunnel, &archived, args.output)?;
        }
        TunnelCommand::Token(command) => token::token(command).await?,
        TunnelCommand::Certificates(command) => certificates::certificates(command).await?,
    }
    Ok(Exit::Ok)
}

/// The answer, or what was done to what.
fn said(verb: &str, id: &str, answer: &Value, output: Output) -> Result<(), Failure> {
    if output.json {
        return terminal::print_json(answer);
    }
    terminal::print(&format!("{verb} {}", clean(id)))
}

fn state(item: &Value) -> String {
    match text(item, "/archived_at") {
        "" => String::new(),
        _ => "archived".to_owned(),
    }
}

fn show_list(tunnels: &[Value], output: Output) -> Result<(), Failure> {
    if output.json {
        return terminal::print_json(&tunnels);
    }
    let row = |tunnel: &Value| {
        vec![
            text(tunnel, "/id").to_owned(),
            text(tunnel, "/domain").to_owned(),
            text(tunnel, "/display_name").to_owned(),
            age(text(tunnel, "/created_at")),
            state(tunnel),
        ]
    };
    let rows: Vec<_> = tunnels.iter().map(row).collect();
    let headings = ["ID", "DOMAIN", "NAME", "CREATED", ""];
    terminal::print(&terminal::table(&headings, &rows, "no tunnels"))
}

fn show(tunnel: &Value, certificates: &[Value], connections: &[Value]) -> Result<(), Failure> {
    let line = |name: &str, value: &str| format!("{name:<10} {}", clean(value));
    let status = if !tunnel["archived_at"].is_null() {
        "archived"
    } else if certificates.is_empty() {
        "needs a certificate"
    } else {
        "active"
    };
    let mut lines = vec![
        line("id", text(tunnel, "/id")),
        line("domain", text(tunnel, "/domain")),
        line("name", text(tunnel, "/display_name")),
        line("status", status),
        line("created", &age(text(tunnel, "/created_at"))),
        String::new(),
        certificates::table(certificates),
        String::new(),
    ];
    let row = |connection: &Value| {
        vec![
            text(connection, "/gateway").to_owned(),
            text(connection, "/source").to_owned(),
            age(text(connection, "/connected_at")),
            connection["streams"].to_string(),
            match connection["healthy"] == true {
                true => String::new(),
                false => "unhealthy".to_owned(),
            },
        ]
    };
    let rows: Vec<_> = connections.iter().map(row).collect();
    let headings = ["GATEWAY", "FROM", "SINCE", "STREAMS", ""];
    lines.push(terminal::table(&headings, &rows, "no gateway is connected"));
    terminal::print(&lines.join("\n"))
}
