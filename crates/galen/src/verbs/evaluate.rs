//! `galen evaluate`: label maps against a reference, and every other kind of answer (`--kind`).

mod advice;
mod columns;
mod files;
mod inputs;
mod kinds;

pub use columns::Columns;
pub use files::{coco, coco_images};

use crate::report_data;
use crate::scans::{case_name, images};
use crate::session::{Exit, Session};
use comfy_table::Table;
use galen_core::{Error, LabelValue, Labels, Result};
use galen_metrics::{Case, Evaluation, Interval, Summary, score_case};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Compare label maps with a reference: Dice, IoU, HD95, NSD, volumes, with 95 % intervals.
///
/// Writes nnU-Net's summary.json. Cases are paired by file name; every reference must have a prediction.
///
/// With --kind, measures one table or pair of files and prints every number under an id that names its convention.
///
/// Examples:
///   galen evaluate --pred preds/ --ref labelsTs/ --out summary.json --report report.html
///   galen evaluate --kind binary --input scores.csv --json         (columns label, score)
///   galen evaluate --kind survival --input cases.csv --survival s.csv   (columns time, event, risk)
///   galen evaluate --recommend task.toml                           (which metrics fit: level, tubular = true, ...)
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Folder (or one file) of predictions
    #[arg(long)]
    pred: Option<PathBuf>,
    /// Folder (or one file) of reference label maps
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<PathBuf>,
    /// summary.json to write
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// dataset.json with label names, regions and the ignore label (default: the one beside predictions or references)
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Tolerance of the normalised surface Dice, mm [default: 1]
    #[arg(long, value_name = "MM")]
    tolerance: Option<f64>,
    /// Score the predictions that are there, and list the missing ones
    #[arg(long)]
    partial: bool,
    /// Self-contained HTML report
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Name the metrics that fit a task described in a TOML file (level = "semantic", tubular = true, ...)
    #[arg(long, value_name = "TASK", conflicts_with_all = ["pred", "reference", "kind", "input", "out", "report", "labels", "tolerance", "partial"])]
    recommend: Option<PathBuf>,
    #[command(flatten)]
    kinds: kinds::Options,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    if let Some(task) = &arguments.recommend {
        arguments.kinds.refuse_without_kind()?;
        return advice::run(task, session);
    }
    let tolerance = arguments.tolerance.unwrap_or(1.0);
    if !(tolerance >= 0.0 && tolerance.is_finite()) {
        return Err(Error::input("--tolerance", "not a distance", "give millimetres, for example 1"));
    }
    if arguments.kinds.kind.is_some() {
        return kinds::run(arguments, session);
    }
    arguments.kinds.refuse_without_kind()?;
    let (Some(pred), Some(reference)) = (&arguments.pred, &arguments.reference) else {
        let remedy = "give --pred and --ref, or --kind with its input (see galen evaluate --help)";
        return Err(Error::input("galen evaluate", "predictions and reference are needed", remedy));
    };
    let Pairing { pairs, missing, extra } = pair(pred, reference)?;
    if let Some(first) = missing.first()
        && !arguments.partial
    {
        return Err(Error::input(
            pred.display(),
            format!(
                "{} of {} references have no prediction, first {first}",
                missing.len(),
                missing.len() + pairs.len()
            ),
            "predict them, or add --partial to score the others",
        ));
    }
    if pairs.is_empty() {
        return Err(Error::input(
            reference.display(),
            "no label map here has a prediction of the same name",
            "check --pred and --ref",
        ));
    }
    let labels = labels_for(arguments.labels.clone(), pred, reference, &pairs)?;
    let evaluation = evaluate(&pairs, &labels, tolerance, session)?;
    if let Some(out) = &arguments.out {
        galen_io::replace_file(out, Summary::new(&evaluation).to_json().as_bytes())?;
    }
    if let Some(file) = &arguments.report {
        let title = format!("{} against {}", pred.display(), reference.display());
        report_data::write_evaluation(file, &title, &evaluation, &labels)?;
        kinds::write_figures(file, &report_data::figures(&evaluation))?;
    }
    session.document(&Document { evaluation: &evaluation, missing: &missing, without_reference: &extra })?;
    session.say(table(&evaluation));
    for (what, cases) in [("no prediction", &missing), ("no reference, not scored", &extra)] {
        cases.iter().for_each(|case| session.say(format!("{what}: {case}")));
    }
    Ok(if missing.is_empty() { Exit::Done } else { Exit::SomeFailed })
}

/// One case: name, reference, prediction.
#[derive(Debug, Clone)]
pub struct Pair {
    /// File name without its ending.
    pub case: String,
    /// Reference label map.
    pub reference: PathBuf,
    /// Predicted label map.
    pub prediction: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    /// References without prediction.
    missing: &'a [String],
    /// Predictions without reference.
    without_reference: &'a [String],
}

/// What belongs together by name, and what stands alone.
struct Pairing {
    pairs: Vec<Pair>,
    /// References without prediction.
    missing: Vec<String>,
    /// Predictions without reference.
    extra: Vec<String>,
}

fn pair(pred: &Path, reference: &Path) -> Result<Pairing> {
    if reference.is_file() && pred.is_file() {
        let pair = Pair {
            case: case_name(reference),
            reference: reference.to_path_buf(),
            prediction: pred.to_path_buf(),
        };
        return Ok(Pairing { pairs: vec![pair], missing: Vec::new(), extra: Vec::new() });
    }
    let mut predictions = label_maps(pred)?;
    let (mut pairs, mut missing) = (Vec::new(), Vec::new());
    for (case, reference) in label_maps(reference)? {
        match predictions.remove(&case) {
            Some(prediction) => pairs.push(Pair { case, reference, prediction }),
            None => missing.push(case),
        }
    }
    Ok(Pairing { pairs, missing, extra: predictions.into_keys().collect() })
}

fn label_maps(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for file in images(folder)? {
        let case = case_name(&file);
        if let Some(other) = found.insert(case.clone(), file.clone()) {
            let what = format!("{case} is there twice: {} and {}", other.display(), file.display());
            return Err(Error::input(folder.display(), what, "remove one of them"));
        }
    }
    Ok(found)
}

/// Label names: the file the user named, else a dataset.json nearby, else the values that the maps hold; those of
/// predictions count too, or a label that exists only there would go unnoticed.
pub fn labels_for(named: Option<PathBuf>, pred: &Path, reference: &Path, pairs: &[Pair]) -> Result<Labels> {
    let near = [Some(pred), reference.parent(), Some(reference)];
    let beside =
        near.into_iter().flatten().map(|folder| folder.join("dataset.json")).find(|file| file.is_file());
    if let Some(file) = named.or(beside) {
        return galen_data::read_labels_of(&file);
    }
    let values = pairs
        .par_iter()
        .flat_map(|pair| [&pair.reference, &pair.prediction])
        .map(|file| Ok(galen_io::read_label_map(file)?.histogram()))
        .collect::<Result<Vec<_>>>()?;
    let mut values: Vec<u16> =
        values.into_iter().flatten().map(|(value, _)| value).filter(|&v| v != 0).collect();
    values.sort_unstable();
    values.dedup();
    let mut entries = vec![("background".to_owned(), LabelValue::One(0))];
    entries.extend(values.into_iter().map(|value| (format!("label {value}"), LabelValue::One(value))));
    Labels::new(entries, None)
}

/// Scores pairs in parallel; the result does not depend on the number of threads.
pub fn evaluate(pairs: &[Pair], labels: &Labels, tolerance_mm: f64, session: &Session) -> Result<Evaluation> {
    let progress = session.progress("evaluate", pairs.len());
    let done = AtomicUsize::new(0);
    let score = |pair: &Pair| {
        let reference = galen_io::read_label_map(&pair.reference)?;
        let prediction = galen_io::read_label_map(&pair.prediction)?;
        let scores = score_case(&reference, &prediction, labels, tolerance_mm)
            .map_err(|error| error.within(&pair.case))?;
        progress.at(done.fetch_add(1, Ordering::Relaxed) + 1, pairs.len());
        Ok(Case {
            id: pair.case.clone(),
            reference_file: pair.reference.display().to_string(),
            prediction_file: pair.prediction.display().to_string(),
            scores,
        })
    };
    let cases = pairs.par_iter().map(score).collect::<Result<Vec<_>>>()?;
    progress.finish();
    Ok(Evaluation::new(cases, tolerance_mm, 0))
}

/// Mean and 95 % interval per label, as a table.
pub fn table(evaluation: &Evaluation) -> String {
    const COLUMNS: [(&str, &str); 5] = [
        ("dice", "Dice"),
        ("iou", "IoU"),
        ("nsd", "NSD"),
        ("hd95", "HD95, mm"),
        ("volume_difference", "volume, mm³"),
    ];
    let mut table = Table::new();
    let mut header = vec!["label".to_owned(), "n".to_owned()];
    header.extend(COLUMNS.iter().map(|(_, name)| (*name).to_owned()));
    table.set_header(header);
    let mut row = |name: &str, metrics: &BTreeMap<String, Interval>| {
        let n = metrics.get("dice").map_or(0, |interval| interval.n);
        let mut cells = vec![name.to_owned(), n.to_string()];
        cells.extend(COLUMNS.iter().map(|(id, _)| metrics.get(*id).map_or_else(String::new, interval)));
        table.add_row(cells);
    };
    for label in &evaluation.labels {
        row(&label.name, &label.metrics);
    }
    row("mean", &evaluation.foreground);
    let mut text =
        format!("{table}\nmean [95 % bootstrap interval over cases]; NSD at {} mm", evaluation.tolerance_mm);
    for line in unnamed(evaluation) {
        text.push_str(&format!("\nwarning: {line}"));
    }
    text
}

/// Cases with labels that the dataset does not name, one sentence each: they count as background, so scores cannot
/// show them.
pub fn unnamed(evaluation: &Evaluation) -> Vec<String> {
    let strange = evaluation.cases.iter().filter(|case| case.scores.unnamed != [0, 0]);
    let line = |case: &Case| {
        let [reference, prediction] = case.scores.unnamed;
        format!(
            "{}: {reference} voxels of the reference and {prediction} of the prediction have labels that dataset.json \
             does not name, and count as background",
            case.id
        )
    };
    strange.map(line).collect()
}

fn interval(interval: &Interval) -> String {
    let (Some(mean), Some(low), Some(high)) = (interval.mean, interval.low, interval.high) else {
        return "-".to_owned();
    };
    let digits = if mean.abs() < 10.0 { 3 } else { 1 };
    let left_out = match (interval.n_undefined, interval.n_infinite) {
        (0, 0) => String::new(),
        (undefined, 0) => format!(" ({undefined} undefined)"),
        (0, infinite) => format!(" ({infinite} infinite)"),
        (undefined, infinite) => format!(" ({undefined} undefined, {infinite} infinite)"),
    };
    format!("{mean:.digits$} [{low:.digits$}, {high:.digits$}]{left_out}")
}
