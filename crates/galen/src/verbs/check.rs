//! `galen check`: everything wrong with a dataset, in one run.

use crate::nnunet_roots;
use crate::report::{Thumbnail, dataset_page, overlay};
use crate::session::{Exit, Session};
use galen_core::Result;
use galen_data::{Dataset, Finding, Patients, Severity, Survey};
use serde_json::json;
use std::collections::HashMap;
use std::path::PathBuf;

/// Pictures of cases that have a finding, and of others.
const PICTURES: [usize; 2] = [18, 12];

/// Every problem of a dataset, with its remedy.
///
/// Reads every case: broken files, grids that differ, masks that are no masks, duplicates and near duplicates, cases unlike
/// all others, rare labels, patients on both sides of a split. Exit code 2 when there is an error; warnings alone are 0.
///
/// Examples:
///   galen check data/Dataset004_Hippocampus
///   galen check data/Dataset004_Hippocampus --report check.html
///   galen check data/Dataset050_B --patients '^(p[0-9]+)_' --table cases.csv --by sex,site --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Dataset folder (nnU-Net raw or MSD), or a dataset's name or number in $nnUNet_raw
    dataset: PathBuf,
    /// Show at most this many cases per kind of problem
    #[arg(long, default_value_t = 10, value_name = "N")]
    most: usize,
    /// Write a page with criteria, problems, pictures and distributions
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Whose cases are whose, to find patients on both sides of a split: a regular expression whose first group is the patient, or a CSV table (case,patient)
    #[arg(long, value_name = "REGEX|CSV")]
    patients: Option<String>,
    /// CSV or TSV table of the cases, the case in the first column: who is in the dataset
    #[arg(long, value_name = "FILE", requires = "by")]
    table: Option<PathBuf>,
    /// Columns of the table to count
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,COLUMN", requires = "table")]
    by: Vec<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let dataset = Dataset::open(&nnunet_roots::dataset(&arguments.dataset)?)?;
    let progress = session.progress("check", dataset.training.len());
    let mut survey = galen_data::survey(&dataset, &|done, total| progress.at(done, total));
    progress.finish();
    if let Some(given) = &arguments.patients {
        let all: Vec<String> =
            dataset.training.iter().chain(&dataset.test).map(|case| case.id.clone()).collect();
        survey.findings.extend(galen_data::patient_leaks(&dataset, &Patients::from_argument(given, &all)?)?);
    }
    let coverage = arguments
        .table
        .as_ref()
        .map_or(Ok(Vec::new()), |file| galen_data::coverage(file, &arguments.by, &dataset))?;
    let findings = &survey.findings;
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    session.document(&json!({
        "dataset": dataset.name, "cases": dataset.training.len(), "errors": errors,
        "warnings": findings.len() - errors, "findings": findings, "criteria": survey.criteria,
        "labels": survey.labels, "imbalance": survey.imbalance, "measures": survey.cases, "report": arguments.report,
        "coverage": coverage.iter().map(|column| json!({
            "column": column.column, "missing": column.missing,
            "counts": column.counts.iter().map(|(value, n)| json!({ "value": value, "cases": n })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    }))?;
    print(findings, arguments.most, session);
    for criterion in &survey.criteria {
        session.say(format!("{}: {:.0} % ({})", criterion.name, 100.0 * criterion.share, criterion.because));
    }
    for column in &coverage {
        let counts: Vec<String> = column.counts.iter().map(|(value, n)| format!("{value} {n}")).collect();
        session.say(format!("{}: {}; {} without a value", column.column, counts.join(", "), column.missing));
    }
    if let Some(file) = &arguments.report {
        let pictures = thumbnails(&dataset, &survey, session)?;
        let page = dataset_page(&dataset.name, &survey, &coverage, &pictures).into_string();
        galen_io::replace_file(file, page.as_bytes())?;
        session.say(format!("report: {}", file.display()));
    }
    session.say(format!(
        "{}: {} training cases, {errors} errors, {} warnings",
        dataset.name,
        dataset.training.len(),
        findings.len() - errors
    ));
    Ok(if errors > 0 { Exit::Problems } else { Exit::Done })
}

/// Groups by kind, so that one cause with a hundred cases reads as one.
fn print(findings: &[Finding], most: usize, session: &Session) {
    let mut rest = findings;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|f| f.kind == first.kind && f.severity == first.severity).count();
        let (group, after) = rest.split_at(same);
        let severity = if first.severity == Severity::Error { "error" } else { "warning" };
        session.say(format!("{severity}: {} ({same})", first.kind));
        for finding in group.iter().take(most) {
            session.say(format!("  {}: {}", finding.case, finding.message));
        }
        if same > most {
            session.say(format!("  ... and {} more (--most {same} shows all)", same - most));
        }
        session.say(format!("  try: {}", first.remedy));
        rest = after;
    }
}

/// Cases with a finding, and some others, as small pictures. Those that cannot be read have none.
fn thumbnails(dataset: &Dataset, survey: &Survey, session: &Session) -> Result<Vec<Thumbnail>> {
    let mut why: HashMap<&str, Vec<String>> = HashMap::new();
    for finding in &survey.findings {
        let kind = finding.kind.to_string();
        for case in std::iter::once(&finding.case).chain(&finding.other) {
            let kinds = why.entry(case.as_str()).or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind.clone());
            }
        }
    }
    let all = || dataset.training.iter().chain(&dataset.test);
    let flagged = all().filter(|case| why.contains_key(case.id.as_str())).take(PICTURES[0]);
    let others: Vec<_> = dataset.training.iter().filter(|case| !why.contains_key(case.id.as_str())).collect();
    let step = others.len().div_ceil(PICTURES[1]).max(1);
    let chosen: Vec<_> = flagged.chain(others.into_iter().step_by(step)).collect();
    let progress = session.progress("pictures", chosen.len());
    let mut pictures = Vec::new();
    for (number, case) in chosen.iter().enumerate() {
        let image = case.images.first().and_then(|file| galen_io::read(file).ok());
        let label = case.label.as_ref().and_then(|file| galen_io::read_label_map(file).ok());
        if let Some(image) = image {
            let label = label.filter(|label| label.geometry.size == image.geometry.size);
            let svg = overlay(&case.id, &image, label.as_ref(), None, &dataset.labels)?;
            let why = why.get(case.id.as_str()).map_or(String::new(), |kinds| kinds.join(", "));
            pictures.push(Thumbnail { case: case.id.clone(), why, svg });
        }
        progress.at(number + 1, chosen.len());
    }
    progress.finish();
    Ok(pictures)
}
