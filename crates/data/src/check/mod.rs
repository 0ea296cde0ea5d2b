//! Every problem of a dataset in one run, with its remedy.

mod case;
mod finding;
mod whole;

pub use finding::{Finding, FindingKind, Severity};

use crate::Progress;
use crate::dataset::{Case, Dataset, ProblemKind};
use crate::work_queue::for_each_case;

/// Reads every case, training and test, and lists everything that is wrong, errors first, grouped by kind.
/// The list does not depend on the number of threads.
pub fn check(dataset: &Dataset, progress: Progress) -> Vec<Finding> {
    let cases: Vec<&Case> = dataset.training.iter().chain(&dataset.test).collect();
    let bytes = |index: usize| expected_bytes(cases[index]);
    let reports = for_each_case(cases.len(), bytes, progress, |index| case::examine(dataset, cases[index]));
    let mut findings: Vec<Finding> = dataset.problems.iter().map(listed).collect();
    findings.extend(whole::examine(dataset, &reports));
    findings.extend(reports.into_iter().flat_map(|report| report.findings));
    findings.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    findings
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
