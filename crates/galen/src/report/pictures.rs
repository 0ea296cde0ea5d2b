//! Slices of the shown cases: the scan, and the scan with reference and prediction on it.

use super::page::COLOURS;
use super::slice::{Plane, View, black_and_white};
use super::table::swatch;
use super::{Picture, Report, outline};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use galen_core::{LabelMap, LabelValue, Result};
use maud::{Markup, html};

/// With a hundred structures the legend names this many per colour.
const NAMES_PER_COLOUR: usize = 4;
/// Scores over a picture; the table has all.
const CHIPS: usize = 10;

/// The section, or nothing without pictures.
pub fn section(report: &Report) -> Result<Markup> {
    if report.pictures.is_empty() {
        return Ok(html! {});
    }
    let scored = report.labels.scored();
    let mut shown = Vec::new();
    for (index, picture) in report.pictures.iter().enumerate() {
        shown.push(case_card(report, picture, index, &scored)?);
    }
    Ok(html! {
        section {
            h2 { "What it looks like" }
            (legend(report, &scored))
            @for card in &shown { (card) }
        }
    })
}

/// Switches of layers, which are also the legend.
fn legend(report: &Report, scored: &[LabelValue]) -> Markup {
    let truth = report.pictures.iter().any(|picture| picture.truth.is_some());
    let prediction = report.pictures.iter().any(|picture| picture.prediction.is_some());
    // Colours repeat after the seventh label, and so do switches.
    let groups: Vec<(usize, String)> = (0..scored.len().min(COLOURS.len()))
        .map(|colour| {
            let names = scored.iter().skip(colour).step_by(COLOURS.len()).take(NAMES_PER_COLOUR);
            (colour, names.map(|value| report.labels.name_of(value)).collect::<Vec<_>>().join(", "))
        })
        .collect();
    html! {
        div.layers {
            @if prediction { label { input #show-prediction type="checkbox" checked;
                svg.key viewBox="0 0 28 12" aria-hidden="true" { path.prediction d="M2 6H26" {} }
                "prediction (line)" } }
            @if truth { label { input #show-truth type="checkbox" checked;
                svg.key viewBox="0 0 28 12" aria-hidden="true" { path.truth d="M2 1H26V11H2Z" {} }
                "reference (filled, dashed)" } }
            span.divider {}
            @for (colour, names) in &groups {
                label { input #(format!("show-l{colour}")) type="checkbox" checked; (swatch(*colour)) (names) }
            }
        }
    }
}

fn case_card(report: &Report, picture: &Picture, index: usize, scored: &[LabelValue]) -> Result<Markup> {
    let values = picture.image.channel_f32(0);
    let window = black_and_white(picture.window, &values);
    let map = picture.truth.as_ref().or(picture.prediction.as_ref());
    let mut panels = Vec::new();
    for plane in [Plane::Axial, Plane::Coronal] {
        let Some(view) = View::of(&picture.image.geometry, plane) else { continue };
        let depth = picture.image.geometry.size[view.through];
        let slice = view.fullest(map, scored, depth);
        let png = view.png(&picture.image, &values, slice, window)?;
        let name = format!("case{index}-{}", view.name.to_lowercase());
        panels.push(panel(
            &view,
            &name,
            Pixels::Here(&png),
            html! {},
            format!("{}, slice {} of {depth}", view.name, slice + 1),
        ));
        let layers = layers(report, picture, &view, slice, scored);
        panels.push(panel(&view, &name, Pixels::Above, layers, format!("{} with outlines", view.name)));
    }
    let row = report.cases.iter().find(|row| row.case == picture.case);
    Ok(html! {
        article.case {
            h3 { (picture.case) @if !picture.note.is_empty() { span.quiet { (picture.note) } } }
            @if let (Some(row), Some(metric)) = (row, report.metrics.first()) {
                p.chips {
                    span.quiet { (metric.name) }
                    @for (label, (name, values)) in report.rows.iter().zip(&row.values).enumerate().take(CHIPS) {
                        span.chip { (swatch(label)) (name.label) " "
                            b { (metric.format(values.first().copied().unwrap_or(f64::NAN))) } }
                    }
                }
            }
            div.panels { @for panel in &panels { (panel) } }
        }
    })
}

/// Where a panel gets its grey values from.
enum Pixels<'a> {
    /// Its own PNG.
    Here(&'a [u8]),
    /// The PNG of the panel before it.
    Above,
}

/// One slice, drawn in millimetres.
fn panel(view: &View, name: &str, pixels: Pixels, layers: Markup, caption: String) -> Markup {
    let [width, height] = view.extent();
    html! {
        figure.view {
            svg viewBox=(format!("0 0 {width:.2} {height:.2}")) role="img" aria-label=(caption) {
                @match pixels {
                    Pixels::Here(png) => image id=(name) width=(round(width)) height=(round(height))
                        preserveAspectRatio="none"
                        href=(format!("data:image/png;base64,{}", STANDARD.encode(png))) {},
                    Pixels::Above => use href=(format!("#{name}")) {},
                }
                (layers)
                (lettering(view))
            }
            figcaption { (caption) }
        }
    }
}

/// Which side is which, and a scale bar.
fn lettering(view: &View) -> Markup {
    let [width, height] = view.extent();
    let size = width.max(height) * 0.042;
    let [left, right, top, bottom] = view.letters;
    let bar = scale_bar(width);
    let (x, y) = (round(size * 0.8), round(height - size * 0.8));
    html! {
        g.letters font-size=(round(size)) {
            text x=(round(size * 0.4)) y=(round(height / 2.0)) { (left) }
            text.end x=(round(width - size * 0.4)) y=(round(height / 2.0)) { (right) }
            text.middle x=(round(width / 2.0)) y=(round(size * 1.1)) { (top) }
            text.middle x=(round(width / 2.0)) y=(round(height - size * 0.5)) { (bottom) }
            path.scale d=(format!("M{x} {y}h{bar}")) {}
            text.scale-text x=(x) y=(round(height - size * 1.2)) font-size=(round(size * 0.75)) { (bar) " mm" }
        }
    }
}

fn round(millimetres: f64) -> f64 {
    (millimetres * 100.0).round() / 100.0
}

/// A round length of at most three tenths of the width, in millimetres.
fn scale_bar(width: f64) -> f64 {
    const LENGTHS: [f64; 9] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
    LENGTHS.into_iter().rev().find(|&length| length <= width * 0.3).unwrap_or(0.5)
}

/// Reference under prediction, so that a line beyond the fill is too much and a fill beyond the line is missing.
fn layers(report: &Report, picture: &Picture, view: &View, slice: usize, scored: &[LabelValue]) -> Markup {
    let draw = |map: &Option<LabelMap>, class: &str, what: &str| {
        html! { @if let Some(map) = map { @for (index, label) in scored.iter().enumerate() {
            @let data = outline::path(&view.mask(map, slice, label), view.size, view.pixel);
            @if !data.is_empty() {
                path class=(format!("{class} l{}", index % COLOURS.len())) d=(data) {
                    title { (report.labels.name_of(label)) ", " (what) }
                }
            }
        } } }
    };
    html! { (draw(&picture.truth, "truth", "reference")) (draw(&picture.prediction, "prediction", "prediction")) }
}
