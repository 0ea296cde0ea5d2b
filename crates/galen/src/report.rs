//! One self-contained HTML page: what was segmented, how well, how it was made, what to try next.
//!
//! No script and nothing loaded from elsewhere: the page can be mailed, archived and printed. Layers are
//! switched by style sheet alone. Callers fill [`Report`]; nothing here computes a metric.

mod dataset;
mod document;
mod numbers;
mod outline;
mod overlay;
mod page;
mod pictures;
mod slice;
mod strip;
mod table;

use galen_core::{Error, LabelMap, Labels, Result, Volume};
use std::path::Path;

pub use dataset::{Thumbnail, page as dataset_page};
pub use document::document;
pub use numbers::{Grid, Number, Numbers};
pub use overlay::overlay;

/// All that a page shows. Empty lists leave their section out.
pub struct Report {
    /// What this is about.
    pub title: String,
    /// One line under the title: dataset, model, date.
    pub subtitle: String,
    /// The one line to remember.
    pub verdict: Verdict,
    /// A few large numbers.
    pub headline: Vec<Headline>,
    /// Warnings and caveats, one sentence each.
    pub notes: Vec<String>,
    /// Names and values of the label maps.
    pub labels: Labels,
    /// Cases to show slices of.
    pub pictures: Vec<Picture>,
    /// Columns of the tables; the first one ranks the cases.
    pub metrics: Vec<Metric>,
    /// Means per label, one for each of [`Labels::scored`] in its order, which also decides the colours.
    pub rows: Vec<Row>,
    /// Mean over labels, set apart under them.
    pub average: Option<Row>,
    /// How intervals were made, for the caption of the table.
    pub intervals: String,
    /// Scores per case; shown with the worst case first.
    pub cases: Vec<CaseRow>,
    /// Distributions of the scores.
    pub figures: Vec<crate::figure::Figure>,
    /// Learning curves.
    pub charts: Vec<crate::figure::Figure>,
    /// What was run: titled groups of names and values.
    pub facts: Vec<(String, Vec<(String, String)>)>,
    /// What to try next.
    pub next: Vec<Step>,
    /// Last line: version, command.
    pub footer: String,
}

/// The one line to remember, and how it is meant.
pub struct Verdict {
    /// Colour and sign.
    pub tone: Tone,
    /// One sentence.
    pub text: String,
}

/// How a verdict is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Do not use.
    Poor,
    /// A number without a judgement.
    Neutral,
}

/// A large number with a caption.
pub struct Headline {
    /// The number, formatted.
    pub value: String,
    /// What it is.
    pub caption: String,
    /// Small print: interval, n.
    pub detail: String,
}

/// Slices of one case.
pub struct Picture {
    /// Case id, as in [`CaseRow`].
    pub case: String,
    /// Why this case is shown.
    pub note: String,
    /// Scan; its first channel is shown.
    pub image: Volume,
    /// Grey values to show.
    pub window: Window,
    /// Reference, when there is one.
    pub truth: Option<LabelMap>,
    /// Prediction, when there is one.
    pub prediction: Option<LabelMap>,
}

/// Which values are black and white.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Window {
    /// Values from `centre - width / 2` to `centre + width / 2`, as for CT.
    Level {
        /// Value shown mid-grey.
        centre: f64,
        /// From black to white.
        width: f64,
    },
    /// From the 0.5 to the 99.5 percentile of the scan.
    Percentiles,
}

impl Window {
    /// Window of abdominal CT.
    pub const SOFT_TISSUE: Self = Self::Level { centre: 40.0, width: 400.0 };
}

/// A metric: column of the tables and footnote.
pub struct Metric {
    /// Column title.
    pub name: String,
    /// Unit, empty when there is none.
    pub unit: String,
    /// Digits after the point.
    pub decimals: usize,
    /// Value of a perfect prediction.
    pub best: f64,
    /// Smallest and largest value; infinite where open.
    pub range: [f64; 2],
    /// Formula, convention, pitfall: the footnote, sentence by sentence.
    pub definition: String,
}

/// Means of one label, one per metric.
pub struct Row {
    /// Label.
    pub label: String,
    /// In the order of [`Report::metrics`].
    pub estimates: Vec<Estimate>,
}

/// A mean over cases with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// `None` when no case had a value.
    pub mean: Option<f64>,
    /// Lower end of the 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Cases with a finite value.
    pub n: usize,
    /// Cases without anything to measure.
    pub undefined: usize,
    /// Cases with an infinite value (a structure missed altogether).
    pub infinite: usize,
}

/// Scores of one case.
pub struct CaseRow {
    /// Case id.
    pub case: String,
    /// Per label of [`Report::rows`], per metric; NaN is undefined, infinity is infinite.
    pub values: Vec<Vec<f64>>,
}

/// Something to try.
pub struct Step {
    /// What for.
    pub why: String,
    /// Command line to copy.
    pub command: String,
}

/// The page as text.
pub fn render(report: &Report) -> Result<String> {
    for picture in &report.pictures {
        let maps = [("reference", &picture.truth), ("prediction", &picture.prediction)];
        for (name, map) in maps.into_iter().filter_map(|(name, map)| map.as_ref().map(|map| (name, map))) {
            if map.geometry.size != picture.image.geometry.size {
                let what = format!("the {name} has another grid than the scan");
                return Err(Error::input(&picture.case, what, "give the label map on the grid of the scan"));
            }
        }
    }
    Ok(page::page(report)?.into_string())
}

/// Writes the page, in one go: a reader never sees half of it.
pub fn write(path: &Path, report: &Report) -> Result<()> {
    galen_io::replace_file(path, render(report)?.as_bytes())
}

#[cfg(test)]
mod tests;
