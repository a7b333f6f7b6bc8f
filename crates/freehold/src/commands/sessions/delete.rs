//! `freehold sessions delete`.

use super::prove::Prover;
use crate::cli::{Connection, Output, StoreArgs};
use crate::commands::connect::client;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Deletes sessions, in order; stops at the first that cannot be deleted. With `prove` the server's
/// store is looked into before and after.
pub(super) async fn delete(
    ids: &[String],
    prove: Option<StoreArgs>,
    connection: Connection,
    output: Output,
) -> Result<Exit, Failure> {
    let client = client(&connection)?;
    let prover = match prove {
        Some(store) => Some(Prover::open(store).await?),
        None => None,
    };
    let (mut deleted, mut proved) = (Vec::new(), true);
    for id in ids {
        let before = match &prover {
            Some(prover) => Some(prover.before(id).await?),
            None => None,
        };
        let mut answer = match client.delete_session(id).await {
            Ok(answer) => answer,
            Err(error) => {
                let mut failure = Failure::from(error);
                if failure.message.contains("running") {
                    failure = failure.hint("interrupt it first, or wait until it is idle");
                }
                return Err(failure);
            }
        };
        if !output.json {
            terminal::print(&format!("deleted {}", terminal::clean(id)))?;
        }
        if let (Some(prover), Some(before)) = (&prover, before) {
            let proof = prover.after(before).await?;
            proved &= proof.holds();
            answer["proof"] = proof.json();
            if !output.json {
                proof.show()?;
            }
        }
        deleted.push(answer);
    }
    if output.json {
        terminal::print_json(&deleted)?;
    }
    match proved {
        true => Ok(Exit::Ok),
        false => Err(Failure::failed("not everything is gone")),
    }
}
