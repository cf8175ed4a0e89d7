//! The lines of the table: what was measured, what it is held against, and how it is written.

use serde::Serialize;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Tasks a second; more is better.
    #[serde(rename = "tasks/s")]
    Rate,
    /// Milliseconds; less is better.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Percent of one processor; less is better.
    #[serde(rename = "%")]
    Percent,
}

/// What a figure is to reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bar {
    /// The figure itself: at least, where more is better, else at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its ratio to the floor: at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The figure.
    pub measured: f64,
    /// What it counts.
    pub unit: Unit,
    /// What bare parts do in the same run, in the same unit.
    pub floor: Option<f64>,
    /// What those bare parts are.
    pub floor_is: Option<&'static str>,
    /// How close it comes to the floor: 1 is as fast, less is slower.
    pub ratio: Option<f64>,
    /// What it is to reach.
    pub bar: Bar,
    /// Whether it does.
    pub met: bool,
}

impl Row {
    /// A figure without a floor or a bar.
    pub fn new(what: impl Into<String>, measured: f64, unit: Unit) -> Self {
        Self {
            what: what.into(),
            measured,
            unit,
            floor: None,
            floor_is: None,
            ratio: None,
            bar: Bar::default(),
            met: true,
        }
    }

    /// Held against a floor.
    pub fn floor(mut self, is: &'static str, floor: f64) -> Self {
        let (best, other) =
            if self.unit == Unit::Rate { (self.measured, floor) } else { (floor, self.measured) };
        self.floor = Some(floor);
        self.floor_is = Some(is);
        self.ratio = Some(best / other);
        self.judge()
    }

    /// Held against a floor, where there is one.
    pub fn maybe_floor(self, is: &'static str, floor: Option<f64>) -> Self {
        match floor {
            Some(floor) => self.floor(is, floor),
            None => self,
        }
    }

    /// Held to a figure and to a ratio, as far as there is a bar, and a floor for the ratio.
    pub fn bars(mut self, value: Option<f64>, ratio: Option<f64>) -> Self {
        self.bar.value = value;
        self.bar.ratio = ratio.filter(|_| self.floor.is_some());
        self.judge()
    }

    /// Held to a figure.
    pub fn value_bar(mut self, value: f64) -> Self {
        self.bar.value = Some(value);
        self.judge()
    }

    /// Held to a ratio.
    pub fn ratio_bar(mut self, ratio: f64) -> Self {
        self.bar.ratio = Some(ratio);
        self.judge()
    }

    fn judge(mut self) -> Self {
        let value = self.bar.value.is_none_or(|bar| match self.unit {
            Unit::Rate => self.measured >= bar,
            Unit::Milliseconds | Unit::Percent => self.measured <= bar,
        });
        let ratio = self.bar.ratio.is_none_or(|bar| self.ratio.is_some_and(|ratio| ratio >= bar));
        self.met = value && ratio;
        self
    }

    fn cells(&self) -> [String; 6] {
        let ratio = |ratio: f64| format!("{ratio:.2} ×");
        let better = if self.unit == Unit::Rate { "≥" } else { "≤" };
        let bars = [
            self.bar.value.map(|bar| format!("{better} {}", self.unit.show(bar))),
            self.bar.ratio.map(|bar| format!("≥ {bar} ×")),
        ];
        let bars: Vec<_> = bars.into_iter().flatten().collect();
        let met = match (bars.is_empty(), self.met) {
            (true, _) => "",
            (false, true) => "yes",
            (false, false) => "no",
        };
        [
            self.what.clone(),
            self.unit.show(self.measured),
            self.floor.map_or_else(String::new, |floor| {
                format!("{} {}", self.unit.show(floor), self.floor_is.unwrap_or_default())
            }),
            self.ratio.map_or_else(String::new, ratio),
            bars.join(", "),
            met.to_owned(),
        ]
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Rate if value >= 10_000.0 => format!("{:.1} k/s", value / 1000.0),
            Self::Rate => format!("{value:.0} /s"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Percent => format!("{value:.2} %"),
        }
    }
}

/// The lines as a table for people; it is also one in Markdown.
pub fn table(rows: &[Row]) -> String {
    let head = ["what", "measured", "floor", "ratio", "bar", "met"].map(str::to_owned);
    let cells: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| {
        cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let padded: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut text = line(&cells[0]) + &line(&rule);
    text.extend(cells[1..].iter().map(line));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_from_the_better_side() {
        let row = |measured, unit| Row::new("x", measured, unit);
        assert!(row(60.0, Unit::Rate).value_bar(60.0).met);
        assert!(!row(59.0, Unit::Rate).value_bar(60.0).met);
        assert!(row(3.0, Unit::Milliseconds).value_bar(3.0).met);
        assert!(!row(3.1, Unit::Milliseconds).value_bar(3.0).met);
        assert!(!row(6.0, Unit::Rate).value_bar(5.0).floor("raw", 20.0).ratio_bar(0.6).met);
        assert!(row(12.0, Unit::Rate).value_bar(5.0).floor("raw", 20.0).ratio_bar(0.6).met);
        assert!(!row(12.0, Unit::Rate).ratio_bar(0.6).met, "a ratio needs a floor");
    }

    #[test]
    fn the_ratio_says_how_close_it_comes() {
        let ratio = |row: Row| row.ratio.unwrap_or_default();
        assert!((ratio(Row::new("x", 50.0, Unit::Rate).floor("raw", 100.0)) - 0.5).abs() < 1e-9);
        let slow = Row::new("x", 4.0, Unit::Milliseconds).floor("raw", 1.0);
        assert!((ratio(slow) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [
            Row::new("µ", 1.0, Unit::Percent),
            Row::new("long", 20_000.0, Unit::Rate).value_bar(1.0),
        ];
        let table = table(&rows);
        let widths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
    }
}
