//! Every problem of a dataset in one run, with its remedy.

mod case;
mod coverage;
mod finding;
mod patients;
mod survey;
mod traits;
mod unlike;
mod whole;

pub use coverage::{Coverage, coverage};
pub use finding::{Finding, FindingKind, Severity};
pub use patients::patient_leaks;
pub use survey::{Criterion, LabelTally, Survey};
pub use traits::{Intensity, LabelTraits, Traits};

use crate::Progress;
use crate::dataset::{Case, Dataset, ProblemKind};
use crate::work_queue::for_each_case;

/// Reads every case, training and test, and lists everything that is wrong, errors first, grouped by kind.
/// The list does not depend on the number of threads.
pub fn check(dataset: &Dataset, progress: Progress) -> Vec<Finding> {
    survey(dataset, progress).findings
}

/// As [`check`], with the measures of every case.
pub fn survey(dataset: &Dataset, progress: Progress) -> Survey {
    let cases: Vec<&Case> = dataset.training.iter().chain(&dataset.test).collect();
    let bytes = |index: usize| expected_bytes(cases[index]);
    let mut reports =
        for_each_case(cases.len(), bytes, progress, |index| case::examine(dataset, cases[index]));
    for report in &mut reports[dataset.training.len()..] {
        report.traits.iter_mut().for_each(|traits| traits.test = true);
    }
    let mut findings: Vec<Finding> = dataset.problems.iter().map(listed).collect();
    findings.extend(whole::examine(dataset, &reports));
    // What is broken is mended first, then compared.
    let sound = reports.iter().filter(|report| report.findings.iter().all(|f| f.severity != Severity::Error));
    let measured: Vec<(&Traits, [u8; 32])> =
        sound.filter_map(|report| Some((report.traits.as_ref()?, report.content?))).collect();
    let (traits, contents): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
    findings.extend(unlike::examine(dataset, &traits, &contents));
    let traits = reports.iter_mut().filter_map(|report| report.traits.take()).collect();
    findings.extend(reports.into_iter().flat_map(|report| report.findings));
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    Survey::new(dataset, findings, traits)
}

fn listed(problem: &crate::dataset::Problem) -> Finding {
    let kind = match problem.kind {
        ProblemKind::MissingChannel => FindingKind::MissingChannel,
        ProblemKind::MissingLabel => FindingKind::MissingLabel,
        ProblemKind::LabelWithoutImage => FindingKind::LabelWithoutImage,
        ProblemKind::UnlistedFile => FindingKind::UnlistedFile,
    };
    Finding::new(&problem.case, kind, problem.message.clone())
}

/// Memory that a case takes while it is looked at; unreadable files take none.
pub(crate) fn expected_bytes(case: &Case) -> usize {
    let of_file = |file| {
        let header = galen_io::read_header(file).ok()?;
        Some(header.geometry.voxels().saturating_mul(header.channels).saturating_mul(16))
    };
    case.images.iter().filter_map(|file| of_file(file)).sum()
}
