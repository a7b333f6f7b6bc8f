//! Columns.

use super::{Style, Styles, clean_line};

/// Widest cell, in characters.
const MAX_CELL: usize = 60;

/// Rows under headings, aligned; without rows, `empty`.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>], empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_owned();
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|r| r.iter().map(|c| clean_line(c, MAX_CELL)).collect())
        .collect();
    let width = |i: usize| {
        let cells = rows
            .iter()
            .filter_map(|r| r.get(i))
            .map(|c| c.chars().count());
        cells.chain([headings[i].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(c, w)| format!("{c:<w$}", w = w));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = headings.iter().map(|h| (*h).to_owned()).collect();
    let mut lines = vec![Styles::stdout().paint(Style::Dim, &line(&head))];
    lines.extend(rows.iter().map(|r| line(r)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".into(), "\u{1b}[1mx".into()],
            vec!["long".into(), String::new()],
        ];
        assert_eq!(
            table(&["ID", "NAME"], &rows, "none"),
            "ID    NAME\na     x\nlong"
        );
        assert_eq!(table(&["ID"], &[], "none"), "none");
    }
}
