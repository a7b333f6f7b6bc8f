//! `freehold sessions export`: one JSON document with the session, its files and every event
//! exactly as the server gave it. Events are written as they come, so length costs no memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use freehold_client::Client;
use serde_json::Value;

use crate::cli::ExportArgs;
use crate::commands::connect::{client, text};
use crate::exit::{Exit, Failure};
use crate::terminal::clean_line;

/// Most files exported.
const MAX_FILES: usize = 1_000;

/// Exports a session.
pub(super) async fn export(args: ExportArgs) -> Result<Exit, Failure> {
    let client = client(&args.connection)?;
    let session = client.session(&args.id).await?;
    let files = client.session_files(&args.id).take(MAX_FILES).await?;
    match &args.output {
        Some(path) => {
            let file = File::create_new(path)
                .map_err(|e| Failure::failed(format!("cannot write {}: {e}", path.display())))?;
            write(&client, &args.id, &session, &files, BufWriter::new(file)).await?;
        }
        None => {
            let out = BufWriter::new(std::io::stdout());
            write(&client, &args.id, &session, &files, out).await?;
        }
    }
    if let Some(dir) = &args.files {
        save(&client, &files, dir).await?;
    }
    Ok(Exit::Ok)
}

async fn write(
    client: &Client,
    id: &str,
    session: &Value,
    files: &[Value],
    mut out: impl Write,
) -> Result<(), Failure> {
    let files = serde_json::to_string(files).map_err(|e| Failure::because("export", &e))?;
    write!(
        out,
        "{{\"session\":{session},\n\"files\":{files},\n\"events\":["
    )?;
    let mut events = client.events(id);
    let mut first = true;
    while let Some(event) = events.next().await? {
        out.write_all(if first { b"\n" } else { b",\n" })?;
        out.write_all(event.get().as_bytes())?;
        first = false;
    }
    out.write_all(b"\n]}\n")?;
    Ok(out.flush()?)
}

/// Saves the files that can be downloaded, by their names with their ids before them: names come
/// from agents, and two may be the same.
async fn save(client: &Client, files: &[Value], dir: &Path) -> Result<(), Failure> {
    let cannot = |path: &Path, e: std::io::Error| {
        Failure::failed(format!("cannot write {}: {e}", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|e| cannot(dir, e))?;
    for file in files.iter().filter(|f| f["downloadable"] == true) {
        let id = text(file, "/id");
        let path = dir.join(local_name(id, text(file, "/filename")));
        let mut content = client.file_content(id).await?;
        let mut out = File::create_new(&path).map_err(|e| cannot(&path, e))?;
        while let Some(piece) = content.next().await? {
            out.write_all(&piece).map_err(|e| cannot(&path, e))?;
        }
        eprintln!("saved {}", clean_line(&path.to_string_lossy(), 200));
    }
    Ok(())
}

/// A name that stays in its directory and is fit for any file system.
fn local_name(id: &str, name: &str) -> String {
    let fit = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let part = |text: &str, max: usize| -> String {
        text.chars()
            .take(max)
            .map(|c| if fit(c) { c } else { '_' })
            .collect()
    };
    format!("{}-{}", part(id, 80).replace('.', "_"), part(name, 60))
}

#[cfg(test)]
mod tests {
    use super::local_name;

    #[test]
    fn names_stay_in_their_directory() {
        for (name, local) in [
            ("report.csv", "file_1-report.csv"),
            ("../../etc/passwd", "file_1-.._.._etc_passwd"),
            ("a\u{1b}[1m\0b", "file_1-a__1m_b"),
            ("", "file_1-"),
        ] {
            assert_eq!(local_name("file_1", name), local);
        }
        assert_eq!(local_name("../x", "y"), "___x-y");
    }
}
