//! The page: sections in reading order, from the verdict down to the definitions.

use super::document::document;
use super::{Report, Tone, pictures, table};
use galen_core::Result;
use maud::{Markup, html};

/// Colours of labels, told apart with every common kind of colour blindness and on grey (Okabe and Ito 2008,
/// without the dark blue, which is lost on a scan).
pub const COLOURS: [&str; 7] = ["#56b4e9", "#e69f00", "#00c795", "#f26dbb", "#f0e442", "#ff7033", "#c9c3ff"];

/// The whole document.
pub fn page(report: &Report) -> Result<Markup> {
    let main = html! {
        (head(report))
        (pictures::section(report)?)
        (scores(report))
        (charts(report))
        (facts(report))
        (next(report))
        (definitions(report))
        footer { p { (report.footer) } p { "One file, no scripts, nothing loaded from elsewhere." } }
    };
    Ok(document(&report.title, &label_styles(), main))
}

/// Colours per label, and the rules that let the legend switch layers off.
fn label_styles() -> String {
    let rule = |(index, colour): (usize, &&str)| {
        format!(
            ".l{index}{{--c:{colour}}}\
             body:has(#show-l{index}:not(:checked)) .view .l{index}{{display:none}}"
        )
    };
    COLOURS.iter().enumerate().map(rule).collect()
}

fn head(report: &Report) -> Markup {
    let (class, sign) = match report.verdict.tone {
        Tone::Poor => ("poor", "✕"),
        Tone::Neutral => ("neutral", "→"),
    };
    html! {
        header {
            p.brand { "Galen" span { "segmentation report" } }
            h1 { (report.title) }
            @if !report.subtitle.is_empty() { p.subtitle { (report.subtitle) } }
            p class=(format!("verdict {class}")) {
                span.sign aria-hidden="true" { (sign) }
                span { (report.verdict.text) }
            }
            @if !report.headline.is_empty() {
                div.tiles { @for tile in &report.headline {
                    div.tile {
                        span.caption { (tile.caption) }
                        span.value { (tile.value) }
                        span.detail { (tile.detail) }
                    }
                } }
            }
            @if !report.notes.is_empty() { ul.notes { @for note in &report.notes { li { (note) } } } }
        }
    }
}

fn scores(report: &Report) -> Markup {
    html! { @if !report.rows.is_empty() { section {
        h2 { "How good it is" }
        (table::means(report))
        p.quiet { (report.intervals) }
        @if !report.figures.is_empty() { div.charts { @for figure in &report.figures { (figure.markup()) } } }
        @if !report.cases.is_empty() { (table::cases(report)) }
    } } }
}

fn charts(report: &Report) -> Markup {
    html! { @if !report.charts.is_empty() { section {
        h2 { "How it learned" }
        div.charts { @for chart in &report.charts { (chart.markup()) } }
    } } }
}

fn facts(report: &Report) -> Markup {
    html! { @if !report.facts.is_empty() { section {
        h2 { "What was run" }
        div.facts { @for (title, facts) in &report.facts { div.group {
            h3 { (title) }
            dl { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
        } } }
    } } }
}

fn next(report: &Report) -> Markup {
    html! { @if !report.next.is_empty() { section.next {
        h2 { "What to try next" }
        ol { @for step in &report.next { li { p { (step.why) } pre { code { (step.command) } } } } }
    } } }
}

fn definitions(report: &Report) -> Markup {
    html! { @if !report.metrics.is_empty() { section.definitions {
        h2 { "Definitions" }
        ol { @for (index, metric) in report.metrics.iter().enumerate() {
            li #(format!("metric-{}", index + 1)) { b { (metric.name) } ". " (metric.definition) }
        } }
    } } }
}
