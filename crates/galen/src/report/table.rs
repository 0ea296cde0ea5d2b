//! The tables: means with intervals per label, and every case with the worst first.

use super::strip::strip;
use super::{CaseRow, Estimate, Metric, Report, Row};
use maud::{Markup, html};

impl CaseRow {
    /// A score; NaN where the row is too short.
    fn value(&self, label: usize, metric: usize) -> f64 {
        self.values.get(label).and_then(|scores| scores.get(metric)).copied().unwrap_or(f64::NAN)
    }
}

impl Metric {
    /// A value with the digits and the sign of this metric.
    pub fn format(&self, value: f64) -> String {
        let decimals = self.decimals;
        if value.is_nan() {
            "–".into()
        } else if value.is_infinite() {
            if value > 0.0 { "∞".into() } else { "−∞".into() }
        } else if self.range[0] < 0.0 {
            let text = format!("{value:+.decimals$}");
            let zero = text.trim_start_matches(['+', '-']).chars().all(|c| c == '0' || c == '.');
            if zero { text[1..].into() } else { text.replace('-', "−") }
        } else {
            format!("{value:.decimals$}")
        }
    }

    /// How far a value is from perfect; undefined counts as nothing.
    fn distance(&self, value: f64) -> Option<f64> {
        (!value.is_nan()).then(|| (value - self.best).abs())
    }

    fn title(&self) -> Markup {
        html! { (self.name) @if !self.unit.is_empty() { span.unit { " " (self.unit) } } }
    }
}

/// Worst first: by the mean distance from perfect of the first metric. Cases without any value come last.
pub fn worst_first(report: &Report) -> Vec<&CaseRow> {
    let badness = |case: &&CaseRow| -> f64 {
        let Some(metric) = report.metrics.first() else { return 0.0 };
        let distances: Vec<f64> =
            case.values.iter().filter_map(|label| label.first().and_then(|&v| metric.distance(v))).collect();
        if distances.is_empty() { -1.0 } else { distances.iter().sum::<f64>() / distances.len() as f64 }
    };
    let mut cases: Vec<&CaseRow> = report.cases.iter().collect();
    cases.sort_by(|a, b| badness(b).total_cmp(&badness(a)).then_with(|| a.case.cmp(&b.case)));
    cases
}

/// Means per label.
pub fn means(report: &Report) -> Markup {
    let range = report.metrics.first().map(|metric| metric.range).filter(|range| range[1].is_finite());
    html! {
        div.scroll { table.means {
            thead { tr {
                th { "Structure" }
                @for (index, metric) in report.metrics.iter().enumerate() {
                    th.number { (metric.title()) sup { a href=(format!("#metric-{}", index + 1)) { (index + 1) } } }
                }
                @if let (Some(range), Some(metric)) = (range, report.metrics.first()) {
                    th.strip-head {
                        (metric.name) " of the single cases"
                        span.ends { span { (range[0]) } span { (range[1]) } }
                    }
                }
            } }
            tbody {
                @for (index, row) in report.rows.iter().enumerate() { (means_row(report, row, Some(index), range)) }
            }
            @if let Some(average) = &report.average { tfoot { (means_row(report, average, None, range)) } }
        } }
    }
}

fn means_row(report: &Report, row: &Row, index: Option<usize>, range: Option<[f64; 2]>) -> Markup {
    let first = |case: &CaseRow| index.and_then(|label| case.values.get(label)?.first().copied());
    let values: Vec<f64> = report.cases.iter().filter_map(first).collect();
    html! {
        tr {
            th scope="row" { @if let Some(index) = index { (swatch(index)) } (row.label) }
            @for (metric, estimate) in report.metrics.iter().zip(&row.estimates) {
                td.number data-name=(format!("{} {}", metric.name, metric.unit)) { (cell(metric, estimate)) }
            }
            @if let Some(range) = range {
                td.strip-cell { @if index.is_some() {
                    @let interval = row.estimates.first().map_or([None; 3], |e| [e.mean, e.low, e.high]);
                    (strip(&values, range, interval))
                } }
            }
        }
    }
}

fn cell(metric: &Metric, estimate: &Estimate) -> Markup {
    html! {
        span.value { (estimate.mean.map_or("–".into(), |mean| metric.format(mean))) }
        @if let (Some(low), Some(high)) = (estimate.low, estimate.high) {
            span.interval { (metric.format(low)) " to " (metric.format(high)) }
        }
        span.count {
            "n " (estimate.n)
            @if estimate.undefined > 0 { ", " b { (estimate.undefined) " undefined" } }
            @if estimate.infinite > 0 { ", " b { (estimate.infinite) " infinite" } }
        }
    }
}

/// Colour of a label in the pictures.
pub fn swatch(index: usize) -> Markup {
    html! { span class=(format!("swatch l{}", index % super::page::COLOURS.len())) {} }
}

/// Every case, worst first.
pub fn cases(report: &Report) -> Markup {
    let several = report.rows.len();
    html! {
        details.cases {
            summary { "All " (report.cases.len()) " cases, worst first" }
            div.scroll { table.per-case {
                thead { tr {
                    th { "Case" } th { "Structure" }
                    @for metric in &report.metrics { th.number { (metric.title()) } }
                } }
                @for case in worst_first(report) {
                    tbody { @for (index, row) in report.rows.iter().enumerate() {
                        tr {
                            @if index == 0 { th scope="rowgroup" rowspan=(several) { (case.case) } }
                            td.structure { (swatch(index)) (row.label) }
                            @for (column, metric) in report.metrics.iter().enumerate() {
                                (score(metric, case.value(index, column)))
                            }
                        }
                    } }
                }
            } }
            p.quiet {
                "– undefined: nothing to measure, the structure is in neither map. "
                "∞ infinite: it is in one map only."
            }
        }
    }
}

/// A score; those on a closed range from zero carry a bar.
fn score(metric: &Metric, value: f64) -> Markup {
    let [low, high] = metric.range;
    let bar = (low == 0.0 && high.is_finite() && value.is_finite())
        .then(|| format!("--share:{:.3}", (value / high).clamp(0.0, 1.0)));
    html! { td.number.bar[bar.is_some()] style=[bar] { (metric.format(value)) } }
}
