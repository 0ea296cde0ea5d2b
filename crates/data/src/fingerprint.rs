//! The fingerprint of a dataset: spacings, shapes and foreground intensities of all training cases.
//! The arithmetic is prep's; this reads the cases and keeps their order.

use crate::Progress;
use crate::check::expected_bytes;
use crate::dataset::Dataset;
use crate::description::write_json;
use crate::work_queue::{all_or_first, for_each_case, require_cases};
use galen_core::{Error, Result};
use galen_prep::{CaseStatistics, Fingerprint};
use std::path::Path;

/// Reads every complete training case, in parallel and with bounded memory. The result does not depend on the
/// number of threads.
pub fn fingerprint(dataset: &Dataset, progress: Progress) -> Result<Fingerprint> {
    require_cases(dataset.training.len(), &dataset.name)?;
    for problem in &dataset.problems {
        tracing::warn!("left out: {problem}");
    }
    let cases = &dataset.training;
    let results = for_each_case(
        cases.len(),
        |index| expected_bytes(&cases[index]),
        progress,
        |index| {
            let (image, labels) = (dataset.read_image(&cases[index])?, dataset.read_labels(&cases[index])?);
            CaseStatistics::of(&image, &labels, cases.len())
        },
    );
    let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    Fingerprint::of(all_or_first(results, &ids)?)
}

/// Reads a `dataset_fingerprint.json`, Galen's or nnU-Net's.
pub fn read_fingerprint(file: &Path) -> Result<Fingerprint> {
    let bytes = std::fs::read(file).map_err(|error| Error::system(file.display(), &error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::input(file.display(), error, "delete the file; it is made again from the images")
    })
}

/// Writes `dataset_fingerprint.json` in one step.
pub fn write_fingerprint(file: &Path, fingerprint: &Fingerprint) -> Result<()> {
    write_json(file, fingerprint)
}
