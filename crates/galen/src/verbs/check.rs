//! `galen check`: everything wrong with a dataset, in one run.

use crate::nnunet_roots;
use crate::session::{Exit, Session};
use galen_core::Result;
use galen_data::{Dataset, Finding, Severity};
use serde_json::json;
use std::path::PathBuf;

/// Every problem of a dataset, with its remedy.
///
/// Exit code 2 when there is an error among them; warnings alone are 0.
///
/// Example: galen check data/Dataset004_Hippocampus
#[derive(clap::Args)]
pub struct Arguments {
    /// Dataset folder (nnU-Net raw or MSD), or a dataset's name or number in $nnUNet_raw
    dataset: PathBuf,
    /// Show at most this many cases per kind of problem
    #[arg(long, default_value_t = 10, value_name = "N")]
    most: usize,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let dataset = Dataset::open(&nnunet_roots::dataset(&arguments.dataset)?)?;
    let progress = session.progress("check", dataset.training.len());
    let findings = galen_data::check(&dataset, &|done, total| progress.at(done, total));
    progress.finish();
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    session.document(&json!({
        "dataset": dataset.name, "cases": dataset.training.len(), "errors": errors,
        "warnings": findings.len() - errors, "findings": findings,
    }))?;
    print(&findings, arguments.most, session);
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
