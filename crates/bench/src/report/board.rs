//! Where measurements put their numbers: one value for each round.

use super::stats::median;

/// One measured quantity.
#[derive(Debug)]
pub(crate) struct Series {
    /// Stable name, `section.what`, for scripts.
    pub(crate) id: String,
    /// For people.
    pub(crate) what: String,
    /// Of the values; empty for a ratio.
    pub(crate) unit: &'static str,
    /// One for each round that measured it.
    pub(crate) values: Vec<f64>,
}

impl Series {
    /// Median, least and greatest value.
    pub(crate) fn summary(&self) -> (f64, f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        // A series is made with its first value.
        (median(&self.values).unwrap_or(f64::NAN), least, most)
    }
}

/// All quantities, in the order they were first measured, and remarks.
#[derive(Debug, Default)]
pub(crate) struct Board {
    series: Vec<Series>,
    notes: Vec<String>,
    /// Rounds that were finished.
    pub(crate) rounds: u16,
}

impl Board {
    /// Adds this round's value of a quantity.
    pub(crate) fn put(&mut self, id: &str, what: &str, unit: &'static str, value: f64) {
        match self.series.iter_mut().find(|s| s.id == id) {
            Some(series) => series.values.push(value),
            None => self.series.push(Series {
                id: id.to_owned(),
                what: what.to_owned(),
                unit,
                values: vec![value],
            }),
        }
    }

    /// Adds this round's median and 99th percentile of samples.
    pub(crate) fn put_quantiles(
        &mut self,
        id: &str,
        what: &str,
        unit: &'static str,
        samples: &[f64],
    ) {
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(value) = super::quantile(samples, q) {
                self.put(
                    &format!("{id}.{name}"),
                    &format!("{what}, {name}"),
                    unit,
                    value,
                );
            }
        }
    }

    /// Adds a remark, once.
    pub(crate) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The quantities, those of a section together, sections in the order of their names' list.
    pub(crate) fn sections<'a>(&'a self, order: &[&str]) -> Vec<&'a Series> {
        let place = |s: &Series| {
            let section = s.id.split('.').next();
            order
                .iter()
                .position(|name| Some(*name) == section)
                .unwrap_or(order.len())
        };
        let mut all: Vec<_> = self.series.iter().collect();
        all.sort_by_key(|s| place(s));
        all
    }

    /// Whether anything of a section was measured.
    pub(crate) fn has(&self, section: &str) -> bool {
        let of = |s: &Series| s.id.split('.').next() == Some(section);
        self.series.iter().any(of)
    }

    /// Remarks.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The newest value of a quantity, if it was measured.
    pub(crate) fn latest(&self, id: &str) -> Option<f64> {
        let series = self.series.iter().find(|s| s.id == id)?;
        series.values.last().copied()
    }

    /// The median of a quantity, if it was measured.
    pub(crate) fn median(&self, id: &str) -> Option<f64> {
        self.series
            .iter()
            .find(|s| s.id == id)
            .map(|s| s.summary().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_rounds() {
        let mut board = Board::default();
        for value in [3.0, 1.0, 2.0] {
            board.put("b.x", "x", "ms", value);
        }
        board.put_quantiles("a.y", "y", "ms", &[1.0, 5.0]);
        board.put_quantiles("a.none", "none", "ms", &[]);
        assert_eq!(board.median("b.x"), Some(2.0));
        assert_eq!(board.median("a.y.p99"), Some(5.0));
        assert_eq!(board.median("a.none.p50"), None);
        let ids: Vec<_> = board
            .sections(&["a", "b"])
            .iter()
            .map(|s| s.id.as_str())
            .collect();
        assert_eq!(ids, ["a.y.p50", "a.y.p99", "b.x"]);
    }
}
