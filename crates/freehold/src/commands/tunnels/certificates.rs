//! `freehold tunnels certificates`.

use std::path::Path;

use serde_json::Value;

use super::{MAX_LISTED, said, state};
use crate::cli::TunnelCertificateCommand;
use crate::commands::connect::{client, text};
use crate::exit::Failure;
use crate::terminal::{self, age};

/// Greatest file that is read, bytes; the server takes less.
const MAX_FILE: u64 = 64 * 1024;

pub(super) async fn certificates(command: TunnelCertificateCommand) -> Result<(), Failure> {
    match command {
        TunnelCertificateCommand::Add { tunnel, file, args } => {
            let pem = read(&file)?;
            let client = client(&args.connection)?;
            let added = client.add_tunnel_certificate(&tunnel, &pem).await?;
            said("registered", text(&added, "/id"), &added, args.output)
        }
        TunnelCertificateCommand::List {
            tunnel,
            archived,
            args,
        } => {
            let client = client(&args.connection)?;
            let mut all = client.tunnel_certificates(&tunnel, archived);
            let all = all.take(MAX_LISTED).await?;
            if args.output.json {
                return terminal::print_json(&all);
            }
            terminal::print(&table(&all))
        }
        TunnelCertificateCommand::Archive {
            tunnel,
            certificate,
            args,
        } => {
            let client = client(&args.connection)?;
            let archived = client.archive_tunnel_certificate(&tunnel, &certificate);
            said("archived", &certificate, &archived.await?, args.output)
        }
    }
}

/// A private key is not sent anywhere, not even to be refused.
fn read(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let cannot = |e: std::io::Error| Failure::usage(format!("cannot read {shown}: {e}"));
    if std::fs::metadata(file).map_err(cannot)?.len() > MAX_FILE {
        return Err(Failure::usage(format!(
            "{shown} is larger than a certificate can be"
        )));
    }
    let pem = std::fs::read_to_string(file).map_err(cannot)?;
    if pem.contains("PRIVATE KEY") {
        return Err(Failure::usage(format!(
            "{shown} holds a private key, which was not sent: give the certificate alone"
        )));
    }
    Ok(pem)
}

pub(super) fn table(certificates: &[Value]) -> String {
    let row = |certificate: &Value| {
        vec![
            text(certificate, "/id").to_owned(),
            text(certificate, "/fingerprint").to_owned(),
            age(text(certificate, "/created_at")),
            text(certificate, "/expires_at").to_owned(),
            state(certificate),
        ]
    };
    let rows: Vec<_> = certificates.iter().map(row).collect();
    let headings = ["ID", "SHA-256", "CREATED", "EXPIRES", ""];
    terminal::table(&headings, &rows, "no certificates")
}
