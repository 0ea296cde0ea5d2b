//! Patients on both sides of a split.

use super::finding::{Finding, FindingKind};
use crate::dataset::Dataset;
use crate::patients::Patients;
use crate::splits::Splits;
use galen_core::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Patients with cases in both training and test, and those that the folds (`splits_final.json`, else nnU-Net's five folds of
/// cases) have in both training and validation.
pub fn patient_leaks(dataset: &Dataset, patients: &Patients) -> Result<Vec<Finding>> {
    let ids = dataset.training_ids();
    let mut findings = Vec::new();
    let training: BTreeSet<&str> = ids.iter().map(|id| patients.of(id)).collect();
    let mut shared: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in &dataset.test {
        let patient = patients.of(&case.id);
        if training.contains(patient) {
            shared.entry(patient).or_default().push(&case.id);
        }
    }
    findings.extend(shared.into_iter().map(|(patient, cases)| {
        let message = format!("patient {patient} is in training too");
        Finding::new(cases[0], FindingKind::PatientLeak, message)
    }));
    let file = dataset.root.join("splits_final.json");
    let (splits, place) = if file.is_file() {
        (Splits::read(&file, &ids)?, "splits_final.json")
    } else if let Ok(splits) = Splits::five_folds(&ids) {
        (splits, "nnU-Net's folds of cases")
    } else {
        return Ok(findings);
    };
    for (number, fold) in splits.folds.iter().enumerate() {
        let of = |cases: &[String]| -> BTreeSet<String> {
            cases.iter().map(|id| patients.of(id).to_owned()).collect()
        };
        let both: Vec<String> = of(&fold.train).intersection(&of(&fold.val)).cloned().collect();
        if !both.is_empty() {
            let named: Vec<&str> = both.iter().take(5).map(String::as_str).collect();
            let more = if both.len() > named.len() { ", ..." } else { "" };
            let message = format!(
                "fold {number} has {} patients in both training and validation: {}{more}",
                both.len(),
                named.join(", ")
            );
            findings.push(Finding::new(place, FindingKind::PatientLeak, message));
        }
    }
    Ok(findings)
}
