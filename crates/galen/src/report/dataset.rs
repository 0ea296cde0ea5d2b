//! The page of `galen check --report`: what a dataset holds, how usable it is, and what to look at.

use super::document;
use crate::figure::{Axis, Figure, Mark, density, five_numbers};
use galen_data::{Coverage, Finding, Severity, Survey, Traits};
use maud::{Markup, PreEscaped, html};

/// Cases named per kind of problem.
const NAMED: usize = 12;

/// Style of the parts that no other page has.
const STYLE: &str = "
.criterion { display: grid; grid-template-columns: 220px 1fr 70px; gap: 4px 16px; align-items: center; margin-bottom: 12px; }
.criterion .bar { height: 12px; border-radius: 6px; background: var(--soft); overflow: hidden; }
.criterion .bar span { display: block; height: 100%; background: var(--accent); }
.criterion .because { grid-column: 2 / 4; color: var(--quiet); font-size: 0.9rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 14px; }
.gallery figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 8px; }
.gallery svg { width: 100%; height: 170px; display: block; background: #000; border-radius: 6px; }
.gallery figcaption { font-size: 0.82rem; color: var(--quiet); margin-top: 6px; overflow-wrap: anywhere; }
.gallery b { color: var(--ink); }
.problem { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 12px 16px; margin-bottom: 10px; }
.problem ul { margin: 6px 0; padding-left: 20px; font-size: 0.92rem; }
.problem li { overflow-wrap: anywhere; }
.error h3 { color: var(--poor); }
.figure { margin-bottom: 14px; }
.wide { overflow-x: auto; }
.wide td, .wide th { padding: 4px 12px 4px 0; text-align: left; font-variant-numeric: tabular-nums; }
";

/// A picture of a case, and why it is shown.
pub struct Thumbnail {
    /// Case.
    pub case: String,
    /// Why; empty for an example.
    pub why: String,
    /// SVG.
    pub svg: String,
}

/// The page.
pub fn page(name: &str, survey: &Survey, coverage: &[Coverage], thumbnails: &[Thumbnail]) -> Markup {
    let errors = survey.findings.iter().filter(|f| f.severity == Severity::Error).count();
    let warnings = survey.findings.len() - errors;
    let training = survey.cases.iter().filter(|one| !one.test).count();
    let unit = survey.cases.first().map_or("mm³", Traits::unit);
    let tiles = [
        (training.to_string(), "training cases", format!("{} test cases", survey.cases.len() - training)),
        (errors.to_string(), "errors", "training would fail, or learn something wrong".to_owned()),
        (warnings.to_string(), "warnings", "worth a look".to_owned()),
        (
            survey.imbalance.map_or("-".to_owned(), |ratio| format!("{ratio:.1}")),
            "imbalance ratio",
            "volume of the most frequent label over the rarest".to_owned(),
        ),
    ];
    let main = html! {
        p.brand { "Galen" span { "dataset check" } }
        h1 { (name) }
        div.tiles { @for (value, caption, detail) in &tiles {
            div.tile { span.caption { (caption) } span.value { (value) } span.detail { (detail) } }
        } }
        section {
            h2 { "Three criteria" }
            @for criterion in &survey.criteria {
                div.criterion {
                    b { (criterion.name) }
                    div.bar { span style=(format!("width:{:.1}%", 100.0 * criterion.share)) {} }
                    b { (format!("{:.0} %", 100.0 * criterion.share)) }
                    span.because { (criterion.because) }
                }
            }
        }
        section { h2 { "What to look at" } (problems(&survey.findings)) }
        @if !thumbnails.is_empty() { section {
            h2 { "Pictures" }
            div.gallery { @for one in thumbnails { figure {
                (PreEscaped(&one.svg))
                figcaption { b { (one.case) } @if !one.why.is_empty() { " " (one.why) } }
            } } }
        } }
        section { h2 { "Labels" } div.wide { table {
            tr { th { "label" } th { "value" } th { "training cases" } th { "volume, all cases" } }
            @for label in &survey.labels { tr {
                td { (label.name) } td { (label.value) } td { (label.cases) " of " (training) }
                td { (format!("{:.0} {unit}", label.volume)) }
            } }
        } } }
        @if !coverage.is_empty() { section { h2 { "Who is in it" } div.wide { table {
            tr { th { "column" } th { "values (cases)" } th { "without a value" } }
            @for column in coverage { tr {
                td { (column.column) }
                td { (column.counts.iter().map(|(value, n)| format!("{value} ({n})")).collect::<Vec<_>>().join(", ")) }
                td { (column.missing) }
            } }
        } } } }
        section { h2 { "Distributions" }
            @for figure in figures(survey) { div.figure { (figure.markup()) } }
        }
        p.quiet { "galen " (env!("CARGO_PKG_VERSION")) " check --report. Unlike the others: more than 6 deviations "
            "(1.4826 median absolute deviations) from the median; nearly the same: correlation of 0.995 or more on a coarse grid." }
    };
    document(name, STYLE, main)
}

fn problems(findings: &[Finding]) -> Markup {
    let groups: Vec<&[Finding]> =
        findings.chunk_by(|a, b| a.kind == b.kind && a.severity == b.severity).collect();
    html! {
        @if groups.is_empty() { p { "Nothing was found." } }
        @for group in groups {
            @let error = group[0].severity == Severity::Error;
            div class=(if error { "problem error" } else { "problem" }) {
                h3 { (if error { "Error: " } else { "Warning: " }) (group[0].kind.to_string()) " (" (group.len()) ")" }
                ul { @for finding in group.iter().take(NAMED) { li { b { (finding.case) } ": " (finding.message) } } }
                @if group.len() > NAMED { p.quiet { "and " (group.len() - NAMED) " more" } }
                p.quiet { "Try: " (group[0].remedy) }
            }
        }
    }
}

/// Volumes per label, spacing, and spread of the grey values.
fn figures(survey: &Survey) -> Vec<Figure> {
    let unit = survey.cases.first().map_or("mm³", Traits::unit);
    let shapes = |groups: &[Vec<f64>]| {
        let mut marks = Vec::new();
        for (colour, values) in groups.iter().enumerate().filter(|(_, values)| !values.is_empty()) {
            let at = colour as f64;
            if values.len() > 2 {
                marks.push(Mark::Violin { at, shape: density(values), colour });
            }
            marks.extend(five_numbers(values).map(|five| Mark::Box { at, five, colour }));
        }
        marks
    };
    let mut figures = Vec::new();
    let logarithm = |value: f64| (value > 0.0).then(|| value.log10());
    let volumes: Vec<Vec<f64>> = survey
        .labels
        .iter()
        .map(|label| {
            let own =
                survey.cases.iter().flat_map(|one| one.labels.iter().filter(|l| l.value == label.value));
            own.filter_map(|l| logarithm(l.volume)).collect()
        })
        .collect();
    if volumes.iter().any(|values| !values.is_empty()) {
        let names = survey.labels.iter().map(|label| label.name.clone()).collect();
        figures.push(Figure {
            name: "volumes".into(),
            title: "Volume per case".into(),
            caption: "Each training case that shows the label: box of quartiles, shape of the distribution."
                .into(),
            x: Axis::named("", names),
            y: Axis { log: true, ..Axis::of(unit) },
            marks: shapes(&volumes),
        });
    }
    let of_cases =
        |get: &dyn Fn(&Traits) -> Option<f64>| survey.cases.iter().filter_map(get).collect::<Vec<f64>>();
    // A 2D image has no z.
    let first = usize::from(survey.cases.iter().all(|one| one.size[0] == 1));
    let spacing: Vec<Vec<f64>> = (first..3).map(|axis| of_cases(&|one| Some(one.spacing[axis]))).collect();
    let sizes: Vec<Vec<f64>> = (first..3).map(|axis| of_cases(&|one| Some(one.size[axis] as f64))).collect();
    for (name, title, unit, values) in
        [("spacing", "Spacing", "mm", spacing), ("size", "Size", "voxels", sizes)]
    {
        figures.push(Figure {
            name: name.into(),
            title: title.into(),
            caption: "All cases, training and test.".into(),
            x: Axis::named("", ["z", "y", "x"][first..].iter().map(|&axis| axis.to_owned()).collect()),
            y: Axis::of(unit),
            marks: shapes(&values),
        });
    }
    let channels = survey.cases.iter().map(|one| one.channels.len()).max().unwrap_or(0);
    let spread: Vec<Vec<f64>> =
        (0..channels).map(|c| of_cases(&|one| logarithm(one.channels.get(c)?.deviation))).collect();
    figures.push(Figure {
        name: "grey-values".into(),
        title: "Spread of the grey values".into(),
        caption: "Standard deviation of a channel, one value per case.".into(),
        x: Axis::named("", (0..channels).map(|c| format!("channel {c}")).collect()),
        y: Axis { log: true, ..Axis::of("standard deviation") },
        marks: shapes(&spread),
    });
    figures
}
