//! A page of numbers with definitions and figures, for kinds of answers that are no label maps.

use super::document::document;
use crate::figure::Figure;
use maud::{Markup, html};

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
    /// Further tables, such as groups of cases.
    pub tables: Vec<Grid>,
    /// Figures.
    pub figures: &'a [Figure],
}

/// A table of texts; the first column names the row.
pub struct Grid {
    /// What it is about.
    pub title: String,
    /// Column titles.
    pub head: Vec<String>,
    /// Rows, as wide as the head.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    fn markup(&self) -> Markup {
        html! { section {
            h2 { (self.title) }
            div.scroll { table {
                thead { tr { @for (i, name) in self.head.iter().enumerate() {
                    @if i == 0 { th { (name) } } @else { th.number { (name) } }
                } } }
                tbody { @for row in &self.rows { tr { @for (i, cell) in row.iter().enumerate() {
                    @if i == 0 { th { (cell) } } @else { td.number { (cell) } }
                } } } }
            } }
        } }
    }
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
                    @for table in &self.tables { (table.markup()) }
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
