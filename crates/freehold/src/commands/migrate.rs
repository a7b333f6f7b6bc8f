//! `freehold migrate`: brings a database's schema up to date, as the start of a server would.

use freehold_store::{MigrationStep, Store};
use serde_json::{Value, json};

use super::store::{failed, settings};
use crate::cli::MigrateArgs;
use crate::config;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Applies what is pending, or says what is.
pub(crate) async fn migrate(args: MigrateArgs) -> Result<Exit, Failure> {
    let settings = settings(args.store)?;
    let (dir, database) = (
        settings.data_dir.clone(),
        config::place(&settings)?.database,
    );
    let check = args.check;
    let steps = super::blocking(move || match check {
        true => Store::pending_migrations(&dir, database.as_ref()),
        false => Store::migrate(&dir, database.as_ref()),
    })
    .await?
    .map_err(failed)?;
    if args.output.json {
        let steps: Vec<Value> = steps.iter().map(shape).collect();
        let key = if check { "pending" } else { "applied" };
        terminal::print_json(&json!({ key: steps }))?;
    } else {
        show(&steps, check)?;
    }
    Ok(match check && !steps.is_empty() {
        true => Exit::Failed,
        false => Exit::Ok,
    })
}

fn show(steps: &[MigrationStep], check: bool) -> Result<(), Failure> {
    for step in steps {
        let word = match (check, step.repair) {
            (true, false) => "pending",
            (true, true) => "to repair",
            (false, false) => "applied",
            (false, true) => "repaired",
        };
        terminal::print(&format!("{word:<9}  {}", step.name))?;
    }
    if steps.is_empty() {
        terminal::print("the schema is up to date")?;
    }
    Ok(())
}

fn shape(step: &MigrationStep) -> Value {
    json!({ "version": step.version, "name": step.name, "repair": step.repair })
}
