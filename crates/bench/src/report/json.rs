//! For scripts.

use serde_json::{Value, json};

use super::aims::Aim;
use super::board::{Board, Series};
use super::machine::Machine;
use crate::measure::Section;
use crate::plan::Plan;

/// The whole report.
pub(super) fn write(
    board: &Board,
    aims: &[Aim],
    machine: &Machine,
    plan: &Plan,
    quick: bool,
) -> Value {
    let metric = |s: &Series| {
        let (median, least, most) = s.summary();
        json!({
            "id": s.id, "what": s.what, "unit": s.unit,
            "median": median, "min": least, "max": most, "values": s.values,
        })
    };
    let aim = |a: &Aim| {
        json!({
            "what": a.what, "id": a.id, "below": a.below, "unit": a.unit,
            "measured": a.measured, "met": a.met(),
        })
    };
    json!({
        "date": machine.date, "version": env!("CARGO_PKG_VERSION"), "quick": quick,
        "machine": {
            "cpu": machine.cpu, "cores": machine.cores, "memory_mib": machine.memory_mib,
            "kernel": machine.kernel, "busy": machine.busy,
        },
        "rounds": { "planned": plan.rounds, "finished": board.rounds },
        "metrics": board.sections(&Section::NAMES).into_iter().map(metric).collect::<Vec<_>>(),
        "aims": aims.iter().map(aim).collect::<Vec<_>>(),
        "notes": board.notes(),
    })
}
