//! A page of numbers with definitions and figures, for kinds of answers that are no label maps.

use super::document::document;
use crate::figure::Figure;
use maud::html;

/// All that such a page shows.
pub struct Numbers<'a> {
    /// What was measured.
    pub title: String,
    /// Files.
    pub subtitle: String,
    /// Settings that decide the numbers.
    pub notes: Vec<String>,
    /// Every number.
    pub rows: Vec<Number>,
    /// Figures.
    pub figures: &'a [Figure],
}

/// A number under its id.
pub struct Number {
    /// Id, which names the convention.
    pub id: String,
    /// As text.
    pub value: String,
    /// Definition, range, empty case, pitfall, source.
    pub about: String,
}

impl Numbers<'_> {
    /// The whole document.
    pub fn html(&self) -> String {
        let main = html! {
                    header {
                        p.brand { "Galen" span { "evaluation report" } }
                        h1 { (self.title) }
                        p.subtitle { (self.subtitle) }
                        @if !self.notes.is_empty() { ul.notes { @for note in &self.notes { li { (note) } } } }
                    }
                    @if !self.figures.is_empty() { section {
                        h2 { "Figures" }
                        div.charts { @for figure in self.figures { (figure.markup()) } }
                    } }
                    section {
                        h2 { "Numbers" }
                        div.scroll { table {
                            thead { tr { th { "id" } th.number { "value" } th { "definition" } } }
                            tbody { @for row in &self.rows { tr {
                                th { (row.id) } td.number { (row.value) } td.quiet { (row.about) }
                            } } }
                        } }
                    }
                    footer {
                        p { "Galen " (env!("CARGO_PKG_VERSION")) ". A research tool, not a medical device." }
                        p { "One file, no scripts, nothing loaded from elsewhere." }
                    }
        };
        document(&self.title, "", main).into_string()
    }
}
