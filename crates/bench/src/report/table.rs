//! For people.

use std::fmt::Write as _;

use super::aims::Aim;
use super::board::Board;
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
) -> String {
    let Machine {
        date,
        cpu,
        cores,
        memory_mib,
        kernel,
        busy,
    } = machine;
    let mut out = format!(
        "freehold {} on {cores} × {cpu}, {memory_mib} MiB, Linux {kernel}, {date}\n\
         {} of {} interleaved rounds{}; {:.0} % busy before the run\n",
        env!("CARGO_PKG_VERSION"),
        board.rounds,
        plan.rounds,
        if quick {
            ", quick: not for comparison"
        } else {
            ""
        },
        busy * 100.0,
    );
    let mut rows = Vec::new();
    let mut section = "";
    for series in board.sections(&Section::NAMES) {
        let name = series.id.split('.').next().unwrap_or("");
        if std::mem::replace(&mut section, name) != name {
            rows.push([String::new(), String::new(), String::new(), String::new()]);
        }
        let (median, least, most) = series.summary();
        let range = format!("({} to {})", number(least), number(most));
        rows.push([
            series.what.clone(),
            number(median),
            range,
            series.unit.to_owned(),
        ]);
    }
    put(&mut out, ["", "median", "(min to max)", "unit"], &rows);
    let verdict = |met| match met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "not measured",
    };
    let rows: Vec<_> = aims
        .iter()
        .map(|aim| {
            let measured = aim.measured.map_or("-".to_owned(), number);
            let limit = format!("< {} {}", number(aim.below), aim.unit);
            [
                aim.what.to_owned(),
                measured,
                limit,
                verdict(aim.met()).to_owned(),
            ]
        })
        .collect();
    out.push('\n');
    put(&mut out, ["aim", "measured", "limit", "met"], &rows);
    for note in board.notes() {
        // Writing to a string cannot fail.
        let _ = write!(out, "\nnote: {note}");
    }
    if !board.notes().is_empty() {
        out.push('\n');
    }
    out
}

/// Appends a table: the first column to the left, the second to the right.
fn put(out: &mut String, head: [&str; 4], rows: &[[String; 4]]) {
    let head = head.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |i: usize| all().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [a, b, c, d] in all() {
        let line = format!(
            "{a:<0$}  {b:>1$}  {c:<2$}  {d}",
            widths[0], widths[1], widths[2]
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Three significant digits, thousands apart.
fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        s if s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (i, c) in whole.chars().enumerate() {
        let left = whole.len() - i;
        if i > 0 && left.is_multiple_of(3) && out != "-" {
            out.push(',');
        }
        out.push(c);
    }
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0123, "0.012"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (123.4, "123"),
            (12_345.6, "12,346"),
            (-1_234_567.0, "-1,234,567"),
            (-123.0, "-123"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_report_shows_values_aims_and_notes() {
        let mut board = Board::default();
        board.rounds = 2;
        board.put("memory.idle", "idle", "MiB", 20.0);
        board.put("memory.idle", "idle", "MiB", 30.0);
        board.put("start.again", "again", "ms", 1.0);
        board.note("a remark".into());
        let machine = Machine {
            date: "2026-01-01T00:00:00Z".into(),
            cpu: "cpu".into(),
            cores: 2,
            memory_mib: 1,
            kernel: "6".into(),
            busy: 0.0,
        };
        let aims = super::super::aims::judge(&board);
        let text = write(&board, &aims, &machine, &Plan::new(false, None), false);
        assert!(
            text.contains("2 of 7 interleaved rounds; 0 % busy"),
            "{text}"
        );
        assert!(
            text.lines()
                .any(|l| l.starts_with("idle") && l.ends_with("(20.0 to 30.0)  MiB")),
            "{text}"
        );
        assert!(
            text.lines()
                .any(|l| l.starts_with("idle memory ") && l.ends_with("yes")),
            "{text}"
        );
        assert!(text.contains("not measured"), "{text}");
        assert!(text.ends_with("note: a remark\n"), "{text}");
    }
}
