//! Figures of reports: what is drawn, in the data's own units. Each renders to one SVG that stands alone (for papers)
//! and goes into a page as it is. Colours follow light and dark mode by the SVG's own style sheet.

mod classifier;
mod draw;
mod outcome;
mod shape;

use galen_core::Result;
use std::path::Path;

pub use classifier::{binary, groups, multiclass, recalibrated};
pub use draw::Scale;
pub use outcome::{bland_altman, froc, per_label, survival};
pub use shape::{density, five_numbers};

/// A plot: axes and marks.
pub struct Figure {
    /// File name without ending.
    pub name: String,
    /// Title.
    pub title: String,
    /// What to see and how it was made.
    pub caption: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// In drawing order.
    pub marks: Vec<Mark>,
}

/// An axis: numbers, or names at 0, 1, 2, ..
#[derive(Default)]
pub struct Axis {
    /// What it counts, with its unit.
    pub name: String,
    /// Fixed range; from the marks when `None`.
    pub range: Option<[f64; 2]>,
    /// Names instead of numbers.
    pub names: Vec<String>,
    /// Ticks at powers of ten; the values are logarithms to base 10.
    pub log: bool,
}

impl Axis {
    /// An axis of numbers.
    pub fn of(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An axis of numbers with a fixed range.
    pub fn within(name: &str, range: [f64; 2]) -> Self {
        Self { name: name.into(), range: Some(range), ..Self::default() }
    }

    /// An axis of names.
    pub fn named(name: &str, names: Vec<String>) -> Self {
        let last = names.len() as f64 - 0.5;
        Self { name: name.into(), range: Some([-0.5, last]), names, log: false }
    }
}

/// Something drawn. `colour` numbers the palette.
pub enum Mark {
    /// A line; breaks at values that are not finite.
    Line {
        /// In the legend; empty keeps it out.
        name: String,
        /// Corners.
        points: Vec<[f64; 2]>,
        /// Palette number.
        colour: usize,
        /// Dashed: references, not data.
        dashed: bool,
    },
    /// A band between two curves over x: `[x, low, high]`.
    Band {
        /// Corners.
        points: Vec<[f64; 3]>,
        /// Palette number.
        colour: usize,
    },
    /// Dots.
    Dots {
        /// In the legend; empty keeps it out.
        name: String,
        /// Places.
        points: Vec<[f64; 2]>,
        /// Palette number.
        colour: usize,
        /// Radius in pixels.
        radius: f64,
    },
    /// Vertical bars with caps: `[x, low, high]`.
    Whiskers {
        /// Places.
        points: Vec<[f64; 3]>,
        /// Palette number.
        colour: usize,
    },
    /// A box of five numbers (whiskers, quartiles, median) at x.
    Box {
        /// Place on the x axis.
        at: f64,
        /// Lowest within 1.5 quartile ranges, first quartile, median, third quartile, highest within.
        five: [f64; 5],
        /// Palette number.
        colour: usize,
    },
    /// The shape of a distribution around x: `[value, share of the half width]`.
    Violin {
        /// Place on the x axis.
        at: f64,
        /// Outline of one side, by value.
        shape: Vec<[f64; 2]>,
        /// Palette number.
        colour: usize,
    },
    /// A square of a map with a text in it.
    Tile {
        /// Centre.
        at: [f64; 2],
        /// From 0 (paper) to 1 (full colour).
        shade: f64,
        /// Written into it.
        text: String,
    },
}

impl Figure {
    /// As an SVG that stands alone.
    pub fn svg(&self) -> String {
        draw::svg(self).into_string()
    }

    /// Writes `NAME.svg` into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        galen_io::replace_file(&folder.join(format!("{}.svg", self.name)), self.svg().as_bytes())
    }

    /// As part of a page.
    pub fn markup(&self) -> maud::Markup {
        maud::html! {
            figure.chart {
                figcaption { (self.title) }
                (draw::svg(self))
                @if !self.caption.is_empty() { p.quiet { (self.caption) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(marks: Vec<Mark>) -> Figure {
        Figure {
            name: "f".into(),
            title: "a < b".into(),
            caption: String::new(),
            x: Axis::of("x"),
            y: Axis::within("y", [0.0, 1.0]),
            marks,
        }
    }

    #[test]
    fn a_figure_is_whole_xml_and_escapes_names() {
        let line = Mark::Line {
            name: "<x>".into(),
            points: vec![[0.0, 0.0], [1.0, f64::NAN], [2.0, 1.0]],
            colour: 0,
            dashed: false,
        };
        let svg = figure(vec![line]).svg();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>"), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains("&lt;x&gt;") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn a_figure_without_data_still_has_axes() {
        let svg = figure(Vec::new()).svg();
        assert!(svg.contains(">x<") && !svg.contains("inf") && !svg.contains("NaN"), "{svg}");
    }
}
