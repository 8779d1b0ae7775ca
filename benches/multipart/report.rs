//! The table, and the same as JSON.

use serde::Serialize;

#[derive(Debug, Serialize)]
struct Figure {
    back_end: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure and prints its line.
    pub(crate) fn add(
        &mut self,
        back_end: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        let what = what.into();
        if self.figures.last().is_none_or(|last| last.back_end != back_end) {
            println!("{back_end}");
        }
        let digits = match value.abs() {
            value if value >= 100.0 => 0,
            value if value >= 1.0 => 2,
            _ => 4,
        };
        println!("  {what:<58} {value:>10.digits$} {unit}");
        self.figures.push(Figure { back_end, what, value, unit });
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(&self.figures).unwrap()
    }
}
