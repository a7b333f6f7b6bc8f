//! From samples to what is printed.

mod aims;
mod board;
mod json;
mod machine;
mod stats;
mod table;

pub(crate) use board::Board;
pub(crate) use machine::Machine;
pub(crate) use stats::{median, quantile};

use crate::plan::Plan;

/// Prints the board.
pub(crate) fn print(board: &Board, machine: &Machine, plan: &Plan, quick: bool, as_json: bool) {
    let aims = aims::judge(board);
    if as_json {
        println!("{:#}", json::write(board, &aims, machine, plan, quick));
    } else {
        print!("{}", table::write(board, &aims, machine, plan, quick));
    }
}
