//! Problems that only the whole dataset shows.

use super::case::Report;
use super::finding::{Finding, FindingKind};
use crate::dataset::Dataset;
use std::collections::{BTreeMap, BTreeSet};

/// Place of findings that concern no single case.
const PLACE: &str = "dataset.json";

/// Looks at counts, label values, dimensions and duplicates.
pub(super) fn examine(dataset: &Dataset, reports: &[Report]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(count(dataset));
    findings.extend(label_gaps(dataset));
    findings.extend(unused_labels(dataset, reports));
    findings.extend(mixed_dimensions(reports));
    findings.extend(duplicates(reports));
    findings
}

fn count(dataset: &Dataset) -> Option<Finding> {
    let (stated, found) = (dataset.description.num_training, dataset.training.len());
    let message = match stated {
        Some(stated) if stated == found => return None,
        Some(stated) => format!("numTraining is {stated}, but {found} training cases are complete"),
        None => format!("there is no numTraining; {found} training cases are complete"),
    };
    Some(Finding::new(PLACE, FindingKind::WrongCount, message))
}

fn label_gaps(dataset: &Dataset) -> Option<Finding> {
    let mut values = dataset.labels.all();
    values.extend(dataset.labels.ignore());
    let gaps: Vec<String> = (0..values.last().copied().unwrap_or(0))
        .filter(|value| !values.contains(value))
        .take(10)
        .map(|value| value.to_string())
        .collect();
    let message = format!("labels go up to {}, without {}", values.last()?, gaps.join(", "));
    (!gaps.is_empty()).then(|| Finding::new(PLACE, FindingKind::LabelsNotConsecutive, message))
}

fn unused_labels(dataset: &Dataset, reports: &[Report]) -> Vec<Finding> {
    let present: BTreeSet<u16> = reports.iter().flat_map(|report| report.values.iter().copied()).collect();
    if present.is_empty() {
        return Vec::new();
    }
    let absent = |value: &u16| !present.contains(value);
    dataset
        .labels
        .foreground()
        .into_iter()
        .filter(absent)
        .map(|value| {
            let message = format!("no mask holds label {value}");
            Finding::new(PLACE, FindingKind::UnusedLabel, message)
        })
        .collect()
}

/// Names the cases of the rarer kind.
fn mixed_dimensions(reports: &[Report]) -> Vec<Finding> {
    let (flat, deep): (Vec<&Report>, Vec<&Report>) =
        reports.iter().filter(|report| report.flat.is_some()).partition(|report| report.flat == Some(true));
    if flat.is_empty() || deep.is_empty() {
        return Vec::new();
    }
    let (rare, what, rest) = if flat.len() <= deep.len() { (flat, "2D", "3D") } else { (deep, "3D", "2D") };
    rare.iter()
        .map(|report| {
            let message = format!("is {what}, most others are {rest}");
            Finding::new(&report.id, FindingKind::MixedDimensions, message)
        })
        .collect()
}

fn duplicates(reports: &[Report]) -> Vec<Finding> {
    let mut same: BTreeMap<&[u8; 32], Vec<&str>> = BTreeMap::new();
    for report in reports {
        if let Some(content) = &report.content {
            same.entry(content).or_default().push(&report.id);
        }
    }
    let repeated = same.into_values().filter(|ids| ids.len() > 1);
    repeated
        .map(|mut ids| {
            ids.sort_unstable();
            let message = format!("holds the same image as {}", ids[1..].join(", "));
            Finding::new(ids[0], FindingKind::Duplicate, message)
        })
        .collect()
}
