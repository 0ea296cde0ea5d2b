//! Fills a report from an evaluation: what the page shows, in the page's own terms.

use crate::figure::{Axis, Figure, Mark};
use crate::report::{CaseRow, Estimate, Headline, Metric, Picture, Report, Row, Step, Tone, Verdict, Window};
use galen_core::{Labels, Result};
use galen_metrics::{Evaluation, Interval, entry};
use std::collections::BTreeMap;
use std::path::Path;

/// Metrics of a page, in order; the first one ranks the cases.
const METRICS: [&str; 4] = ["dice", "nsd", "hd95", "volume_difference"];

/// Cases with pictures.
const PICTURES: usize = 3;

/// A page with everything that an evaluation says; the caller adds what it knows beside.
pub fn from_evaluation(title: &str, subtitle: &str, evaluation: &Evaluation, labels: &Labels) -> Report {
    let mean = evaluation.foreground.get("dice").copied().unwrap_or_default();
    Report {
        title: title.to_owned(),
        subtitle: subtitle.to_owned(),
        verdict: verdict(&mean, evaluation.cases.len()),
        headline: headline(evaluation),
        notes: notes(evaluation),
        labels: labels.clone(),
        pictures: Vec::new(),
        metrics: METRICS.iter().filter_map(|id| metric(id, evaluation.tolerance_mm)).collect(),
        rows: evaluation.labels.iter().map(|label| row(&label.name, &label.metrics)).collect(),
        average: Some(row("mean", &evaluation.foreground)),
        intervals: format!(
            "Mean over cases with the 95 % percentile bootstrap interval (2000 resamples of cases, seed {}).",
            evaluation.seed
        ),
        cases: evaluation.cases.iter().map(case_row).collect(),
        figures: figures(evaluation),
        charts: Vec::new(),
        facts: Vec::new(),
        next: Vec::new(),
        footer: format!("Galen {}. A research tool, not a medical device.", env!("CARGO_PKG_VERSION")),
    }
}

/// Distributions per label of the metrics of a page.
pub fn figures(evaluation: &Evaluation) -> Vec<crate::figure::Figure> {
    METRICS.iter().filter_map(|id| crate::figure::per_label(evaluation, id)).collect()
}

/// Writes the page of `galen evaluate --report`.
pub fn write_evaluation(file: &Path, title: &str, evaluation: &Evaluation, labels: &Labels) -> Result<()> {
    let mut report = from_evaluation("Evaluation", title, evaluation, labels);
    for case in worst(evaluation).into_iter().take(PICTURES) {
        let truth = galen_io::read_label_map(Path::new(&case.reference_file))?;
        let prediction = galen_io::read_label_map(Path::new(&case.prediction_file))?;
        report.pictures.push(Picture {
            case: case.id.clone(),
            note: "among the lowest mean Dice".into(),
            // Without the scan the outlines stand on the reference itself.
            image: truth.to_volume(),
            window: Window::Percentiles,
            truth: Some(truth),
            prediction: Some(prediction),
        });
    }
    report.next.push(Step {
        why: "See one case by itself".into(),
        command: "galen evaluate --pred CASE_PRED --ref CASE_REF".into(),
    });
    crate::report::write(file, &report)
}

/// Cases by mean Dice over labels, lowest first; undefined labels are left out.
pub fn worst(evaluation: &Evaluation) -> Vec<&galen_metrics::Case> {
    let mean = |case: &galen_metrics::Case| {
        let values: Vec<f64> =
            case.scores.labels.iter().filter_map(|label| label.scores.get("dice")?.value()).collect();
        if values.is_empty() { f64::INFINITY } else { values.iter().sum::<f64>() / values.len() as f64 }
    };
    let mut cases: Vec<_> = evaluation.cases.iter().collect();
    cases.sort_by(|a, b| mean(a).total_cmp(&mean(b)).then_with(|| a.id.cmp(&b.id)));
    cases
}

/// Curves of a training from its `metrics.jsonl`.
pub fn charts(metrics: &Path) -> Vec<Figure> {
    let text = std::fs::read_to_string(metrics).unwrap_or_default();
    let epochs: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = |colour: usize, name: &str, key: &str| Mark::Line {
        name: name.into(),
        points: epochs.iter().filter_map(|e| Some([e["epoch"].as_f64()?, e[key].as_f64()?])).collect(),
        colour,
        dashed: false,
    };
    let figure = |name: &str, title: &str, y: Axis, marks: Vec<Mark>| Figure {
        name: name.into(),
        title: title.into(),
        caption: String::new(),
        x: Axis::of("epoch"),
        y,
        marks,
    };
    let losses = vec![line(0, "training", "train_loss"), line(1, "validation", "val_loss")];
    let dice = vec![line(0, "epoch", "mean_pseudo_dice"), line(1, "moving average", "ema_pseudo_dice")];
    vec![
        figure("loss", "Loss", Axis::of("loss"), losses),
        figure("pseudo-dice", "Pseudo-Dice on validation patches", Axis::within("Dice", [0.0, 1.0]), dice),
    ]
}

fn verdict(mean: &Interval, cases: usize) -> Verdict {
    let Some(dice) = mean.mean else {
        return Verdict { tone: Tone::Poor, text: "No case had anything to measure.".into() };
    };
    let range = match (mean.low, mean.high) {
        (Some(low), Some(high)) => format!(" (95 % interval {low:.3} to {high:.3})"),
        _ => String::new(),
    };
    Verdict {
        tone: Tone::Neutral,
        text: format!("Mean foreground Dice {dice:.3}{range} over {cases} cases."),
    }
}

fn headline(evaluation: &Evaluation) -> Vec<Headline> {
    let number = |id: &str, caption: &str, unit: &str, digits: usize| {
        let interval = evaluation.foreground.get(id)?;
        let detail = match (interval.low, interval.high) {
            (Some(low), Some(high)) => format!("{low:.digits$} to {high:.digits$}"),
            _ => String::new(),
        };
        Some(Headline {
            value: format!("{:.digits$}{unit}", interval.mean?),
            caption: caption.into(),
            detail,
        })
    };
    let numbers = [
        number("dice", "mean Dice", "", 3),
        number("nsd", "mean surface Dice", "", 3),
        number("hd95", "mean HD95", " mm", 1),
    ];
    numbers.into_iter().flatten().collect()
}

fn notes(evaluation: &Evaluation) -> Vec<String> {
    let infinite = evaluation.foreground.get("hd95").map_or(0, |interval| interval.n_infinite);
    let undefined = evaluation.foreground.get("dice").map_or(0, |interval| interval.n_undefined);
    let mut notes = crate::verbs::unnamed(evaluation);
    if infinite > 0 {
        notes.push(format!(
            "{infinite} structures were missed or invented altogether: their Dice of 0 counts in the mean, their \
             infinite distance cannot and is counted apart."
        ));
    }
    if undefined > 0 {
        notes.push(format!(
            "{undefined} structures are in neither reference nor prediction and are left out."
        ));
    }
    notes
}

fn metric(id: &str, tolerance_mm: f64) -> Option<Metric> {
    let entry = entry(id)?;
    let at = if id == "nsd" { format!(" at {tolerance_mm} mm") } else { String::new() };
    Some(Metric {
        name: format!("{}{at}", entry.name),
        unit: entry.unit.into(),
        decimals: if entry.range[1] <= 1.0 { 3 } else { 1 },
        best: entry.best,
        range: entry.range,
        definition: format!(
            "{}. Convention: {}. Empty masks: {}. Pitfall: {}. Source: {}.",
            entry.definition, entry.convention, entry.empty, entry.pitfall, entry.source
        ),
    })
}

fn row(name: &str, metrics: &BTreeMap<String, Interval>) -> Row {
    let estimate = |id: &&str| {
        let i = metrics.get(*id).copied().unwrap_or_default();
        Estimate {
            mean: i.mean,
            low: i.low,
            high: i.high,
            n: i.n,
            undefined: i.n_undefined,
            infinite: i.n_infinite,
        }
    };
    Row { label: name.to_owned(), estimates: METRICS.iter().map(estimate).collect() }
}

fn case_row(case: &galen_metrics::Case) -> CaseRow {
    let values = case.scores.labels.iter().map(|label| {
        METRICS.iter().map(|id| label.scores.get(*id).map_or(f64::NAN, |score| score.as_f64())).collect()
    });
    CaseRow { case: case.id.clone(), values: values.collect() }
}
