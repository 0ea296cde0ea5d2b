//! All that a look at every case shows: problems, measures, and the three criteria of a usable dataset.
//!
//! Source of the criteria: the survey's conditions for taking a dataset into the platform (completeness of annotation,
//! usability of format, task adaptability); how they are measured is ours and stands in each answer.

use super::finding::{Finding, FindingKind, Severity};
use super::traits::Traits;
use crate::dataset::Dataset;
use serde::Serialize;
use std::collections::BTreeSet;

/// Cases that a label needs so that every one of five folds can show it in validation.
const FOLDS: usize = 5;

/// What [`survey()`](super::survey()) found.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// Problems, errors first.
    pub findings: Vec<Finding>,
    /// Measures of every case that could be read, training before test, by case.
    pub cases: Vec<Traits>,
    /// Completeness of annotation, usability of format, task adaptability.
    pub criteria: Vec<Criterion>,
    /// Cases and volumes per label.
    pub labels: Vec<LabelTally>,
    /// Volume of the most frequent label over that of the rarest, over all cases; `None` with fewer than two labels.
    pub imbalance: Option<f64>,
}

/// One criterion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Criterion {
    /// Its name.
    pub name: &'static str,
    /// Part of what is wanted that is there, 0 to 1.
    pub share: f64,
    /// What was counted.
    pub because: String,
}

/// A label over all training cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelTally {
    /// Value.
    pub value: u16,
    /// Name.
    pub name: String,
    /// Training cases that show it.
    pub cases: usize,
    /// Sum over all cases, mm³ (mm² of 2D images).
    pub volume: f64,
}

impl Survey {
    pub(super) fn new(dataset: &Dataset, findings: Vec<Finding>, cases: Vec<Traits>) -> Self {
        let training = || cases.iter().filter(|one| !one.test);
        let entries = dataset.labels.entries.iter().filter(|(name, _)| name != "ignore");
        let labels: Vec<LabelTally> = entries
            .filter_map(|(name, label)| match label.values() {
                [value] if *value > 0 => Some((name, *value)),
                _ => None,
            })
            .map(|(name, value)| {
                let own = training().filter_map(|one| one.labels.iter().find(|label| label.value == value));
                let volumes: Vec<f64> = own.map(|label| label.volume).collect();
                LabelTally { value, name: name.clone(), cases: volumes.len(), volume: volumes.iter().sum() }
            })
            .collect();
        let present = || labels.iter().map(|label| label.volume).filter(|volume| *volume > 0.0);
        let imbalance = (present().count() > 1)
            .then(|| present().fold(0.0, f64::max) / present().fold(f64::INFINITY, f64::min));
        let criteria = criteria(dataset, &findings, &cases, &labels);
        Self { findings, cases, criteria, labels, imbalance }
    }
}

fn criteria(
    dataset: &Dataset,
    findings: &[Finding],
    cases: &[Traits],
    labels: &[LabelTally],
) -> Vec<Criterion> {
    use FindingKind as Kind;
    let cases_with = |kinds: &[Kind], errors: bool| -> BTreeSet<&str> {
        let fits = |finding: &&Finding| {
            kinds.contains(&finding.kind) && (!errors || finding.severity == Severity::Error)
        };
        findings.iter().filter(fits).map(|finding| finding.case.as_str()).collect()
    };
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };

    let unlabelled = cases_with(&[Kind::MissingLabel], false).len();
    let bad_masks =
        cases_with(&[Kind::EmptyMask, Kind::UnexpectedLabels, Kind::GreyMask, Kind::FractionalLabels], false);
    let all = dataset.training.len() + unlabelled;
    let good = dataset.training.iter().filter(|case| !bad_masks.contains(case.id.as_str())).count();
    let annotation = Criterion {
        name: "completeness of annotation",
        share: share(good, all),
        because: format!(
            "{good} of {all} training images have a mask with known labels and a foreground; {unlabelled} have none, {} are \
             empty or hold other values",
            bad_masks.len()
        ),
    };

    let formats = [
        Kind::Unreadable,
        Kind::MissingChannel,
        Kind::ChannelCount,
        Kind::SizeMismatch,
        Kind::SpacingMismatch,
        Kind::DirectionMismatch,
        Kind::OriginMismatch,
        Kind::NotFinite,
        Kind::MixedDimensions,
    ];
    let broken = cases_with(&formats, true);
    let listed =
        dataset.training.len() + dataset.test.len() + cases_with(&[Kind::MissingChannel], false).len();
    let whole = listed - broken.len().min(listed);
    let format = Criterion {
        name: "usability of format",
        share: share(whole, listed),
        because: format!(
            "{whole} of {listed} cases can be read, with all channels on one grid and finite values"
        ),
    };

    let enough = labels.iter().filter(|label| label.cases >= FOLDS).count();
    let shown = cases.iter().filter(|one| !one.test).count();
    let task = Criterion {
        name: "task adaptability",
        share: share(enough, labels.len()),
        because: format!(
            "{enough} of {} labels are in at least {FOLDS} of {shown} training cases, as five folds need",
            labels.len()
        ),
    };
    vec![annotation, format, task]
}
