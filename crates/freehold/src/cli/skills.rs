//! Arguments of `freehold skills`.

use std::path::PathBuf;

use clap::Subcommand;

use super::args::{Connection, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum SkillCommand {
    /// List skills, newest first
    List {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Upload a skill, or a version of one, and print its id
    Upload {
        /// A folder with a SKILL.md, or a zip of one
        path: PathBuf,
        /// Add a version to this skill instead of making a new one
        #[arg(long, value_name = "ID")]
        skill: Option<String>,
        /// A name for people [default: the name in SKILL.md]
        #[arg(long, value_name = "NAME", conflicts_with = "skill")]
        display_name: Option<String>,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Delete a skill with all its versions; sessions keep what they were made with
    Delete {
        /// The skill's id, as `list` shows it
        id: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}
