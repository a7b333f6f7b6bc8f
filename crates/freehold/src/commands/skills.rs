//! `freehold skills`.

mod folder;

use std::path::Path;

use freehold_base::limits::MAX_SKILL;

use crate::cli::SkillCommand;
use crate::commands::connect::{client, id, text};
use crate::exit::{Exit, Failure};
use crate::terminal::{self, age, clean};

/// Most skills listed.
const MAX_LISTED: usize = 10_000;

/// Lists, uploads and deletes skills.
pub(crate) async fn skills(command: SkillCommand) -> Result<Exit, Failure> {
    match command {
        SkillCommand::List { connection, output } => {
            let skills = client(&connection)?.skills().take(MAX_LISTED).await?;
            if output.json {
                terminal::print_json(&skills)?;
                return Ok(Exit::Ok);
            }
            let rows: Vec<Vec<String>> = skills
                .iter()
                .map(|skill| {
                    vec![
                        text(skill, "/id").to_owned(),
                        text(skill, "/display_name").to_owned(),
                        text(skill, "/latest_version_id").to_owned(),
                        age(text(skill, "/updated_at")),
                    ]
                })
                .collect();
            let headings = ["ID", "NAME", "LATEST VERSION", "CHANGED"];
            terminal::print(&terminal::table(&headings, &rows, "no skills"))?;
        }
        SkillCommand::Upload {
            path,
            skill,
            display_name,
            connection,
            output,
        } => {
            let client = client(&connection)?;
            let zip = zip(&path)?.into();
            let made = match &skill {
                Some(skill) => client.create_skill_version(skill, zip).await?,
                None => client.create_skill(zip, display_name.as_deref()).await?,
            };
            if output.json {
                terminal::print_json(&made)?;
            } else {
                terminal::print(&clean(&id(&made)?))?;
            }
        }
        SkillCommand::Delete {
            id,
            connection,
            output,
        } => {
            let deleted = client(&connection)?.delete_skill(&id).await?;
            if output.json {
                terminal::print_json(&deleted)?;
            } else {
                terminal::print(&format!("deleted {}", clean(&id)))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// The archive at a path, or of the folder there.
fn zip(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = clean(&path.display().to_string());
    let failed = |error: std::io::Error| Failure::because(&format!("cannot read {shown}"), &error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return folder::pack(path);
    }
    // The server bounds it too, but need not be sent what it will refuse.
    if metadata.len() > MAX_SKILL {
        return Err(Failure::usage(format!(
            "{shown} is larger than {MAX_SKILL} bytes"
        )));
    }
    std::fs::read(path).map_err(failed)
}
