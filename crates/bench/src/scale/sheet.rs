//! One row for each quantity, one column for each engine.

use std::fmt::Write as _;

use super::engine::Engine;
use crate::report::{median, quantile};

#[derive(Debug)]
struct Row {
    part: &'static str,
    what: String,
    unit: &'static str,
    cells: [Vec<f64>; Engine::ALL.len()],
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    rows: Vec<Row>,
}

impl Sheet {
    /// Adds a value; of several the median is shown.
    pub(super) fn put(
        &mut self,
        engine: Engine,
        part: &'static str,
        what: &str,
        unit: &'static str,
        value: f64,
    ) {
        eprintln!("  {engine:?} {part}: {what}: {value:.3} {unit}");
        let same = |r: &Row| r.part == part && r.what == what;
        let at = self.rows.iter().position(same).unwrap_or_else(|| {
            let cells = Default::default();
            let what = what.to_owned();
            self.rows.push(Row {
                part,
                what,
                unit,
                cells,
            });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.cells[engine as usize].push(value);
        }
    }

    /// Adds median and 99th percentile of samples in milliseconds.
    pub(super) fn put_millis(
        &mut self,
        engine: Engine,
        part: &'static str,
        what: &str,
        samples: &[f64],
    ) {
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(value) = quantile(samples, q) {
                self.put(engine, part, &format!("{what}, {name}"), "ms", value);
            }
        }
    }

    /// A table for each part.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        let mut part = "";
        for row in &self.rows {
            if std::mem::replace(&mut part, row.part) != row.part {
                // Writing to a string cannot fail.
                let _ = write!(out, "\n| {part} | unit |");
                for engine in Engine::ALL {
                    let _ = write!(out, " {engine} |");
                }
                let _ = write!(out, "\n|---|---|{}\n", "---|".repeat(Engine::ALL.len()));
            }
            let _ = write!(out, "| {} | {} |", row.what, row.unit);
            for values in &row.cells {
                let _ = write!(out, " {} |", cell(values));
            }
            out.push('\n');
        }
        out
    }
}

fn cell(values: &[f64]) -> String {
    let Some(middle) = median(values) else {
        return "-".to_owned();
    };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        1 => number(middle),
        _ => format!("{} ({} to {})", number(middle), number(least), number(most)),
    }
}

fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_cell_for_each_engine() {
        let mut sheet = Sheet::default();
        for value in [3.0, 1.0, 200.0] {
            sheet.put(Engine::Sqlite, "one", "speed", "1/s", value);
        }
        sheet.put(Engine::Postgres, "two", "time", "ms", 0.5);
        let text = sheet.markdown();
        assert!(
            text.contains("| speed | 1/s | 3.00 (1.00 to 200) | - |"),
            "{text}"
        );
        assert!(text.contains("| time | ms | - | 0.50 |"), "{text}");
    }
}
