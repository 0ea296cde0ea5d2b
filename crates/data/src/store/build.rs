//! Makes a store, or completes one.

use super::case_file::CaseFile;
use super::{Contents, FORMAT, Store, case_path, grid};
use crate::Progress;
use crate::check::expected_bytes;
use crate::dataset::{Case, Dataset};
use crate::description::write_json;
use crate::work_queue::{all_or_first, for_each_case, require_cases};
use galen_core::{Error, Result};
use galen_prep::resample::TieRule;
use galen_prep::{Configuration, Plans, Prepared, Undo};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};

impl Store {
    /// Preprocesses all complete training cases into `folder` and opens the result. Cases that are there and
    /// were made from the same files, plans and labels are kept.
    pub fn build(
        dataset: &Dataset,
        plans: &Plans,
        configuration: &str,
        folder: &Path,
        progress: Progress,
    ) -> Result<Self> {
        Self::build_with(dataset, plans, configuration, TieRule::default(), folder, progress)
    }

    /// As [`Store::build`], with the rule by which labels meet on the network's grid.
    pub fn build_with(
        dataset: &Dataset,
        plans: &Plans,
        configuration: &str,
        rule: TieRule,
        folder: &Path,
        progress: Progress,
    ) -> Result<Self> {
        build(dataset, plans, configuration, folder, progress, &Scans { rule })
    }
}

/// Where the cases of a store come from.
pub(super) trait Source: Sync {
    /// How label maps came onto the network's grid.
    fn label_resampling(&self) -> &'static str;

    /// Files that a case is made from; when one changes, the case is made again.
    fn files(&self, case: &Case) -> Result<Vec<PathBuf>>;

    /// A case on the network's grid, and the way back.
    fn prepare(
        &self,
        dataset: &Dataset,
        plans: &Plans,
        settings: &Configuration,
        case: &Case,
    ) -> Result<(Prepared, Undo)>;
}

/// Makes or completes a store.
pub(super) fn build(
    dataset: &Dataset,
    plans: &Plans,
    configuration: &str,
    folder: &Path,
    progress: Progress,
    source: &dyn Source,
) -> Result<Store> {
    require_cases(dataset.training.len(), &dataset.name)?;
    for problem in &dataset.problems {
        tracing::warn!("left out: {problem}");
    }
    let settings = plans.configuration(configuration)?;
    let cases = &dataset.training;
    let files = cases.iter().map(|case| source.files(case)).collect::<Result<Vec<_>>>()?;
    std::fs::create_dir_all(folder).map_err(|error| Error::system(folder.display(), &error))?;
    let _lock = lock(folder)?;
    galen_io::remove_unfinished(folder)?;
    let shared = shared_hash(dataset, plans, configuration, source.label_resampling())?;
    let inputs = files.iter().map(|files| case_hash(&shared, files)).collect::<Result<Vec<_>>>()?;
    // Preprocessing holds the image, its resampled copy and one channel in double precision.
    let bytes = |index: usize| {
        let grown = growth(&cases[index], plans, &settings);
        (expected_bytes(&cases[index]) as f64 * 2.0 * grown) as usize
    };
    let results = for_each_case(cases.len(), bytes, progress, |index| {
        let path = case_path(folder, &cases[index].id);
        if CaseFile::open(&path).is_ok_and(|there| there.header.inputs == inputs[index]) {
            return Ok(());
        }
        let case = &cases[index];
        let (prepared, undo) = source.prepare(dataset, plans, &settings, case)?;
        // nnU-Net draws these from the labels with the same numbers, so cases that it prepared get them here too.
        let values = prepared.labels.as_deref().unwrap_or_default();
        let locations = galen_prep::foreground_locations(values, prepared.size, &dataset.labels);
        let chunk = grid::chunk_for(&settings.patch_size);
        CaseFile::write(&path, &case.id, &inputs[index], chunk, &prepared, &locations, &undo)
    });
    let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    all_or_first(results, &ids)?;
    let contents = Contents {
        format: FORMAT,
        dataset: dataset.name.clone(),
        configuration: configuration.to_owned(),
        channels: dataset.channel_names.len(),
        label_resampling: source.label_resampling().to_owned(),
        cases: dataset.training_ids().into_iter().zip(inputs).collect(),
    };
    write_json(&folder.join("store.json"), &contents)?;
    Store::open(folder)
}

/// How many times as many voxels the resampled case has as the scan, 1 when it has fewer.
fn growth(case: &Case, plans: &Plans, settings: &Configuration) -> f64 {
    let Some(Ok(header)) = case.images.first().map(|file| galen_io::read_header(file)) else { return 1.0 };
    let first = 3 - settings.spacing.len();
    let ratio =
        |axis: usize| header.geometry.spacing[plans.transpose_forward[axis]] / settings.spacing[axis - first];
    (first..3).map(ratio).product::<f64>().max(1.0)
}

/// The scans themselves.
struct Scans {
    rule: TieRule,
}

impl Source for Scans {
    fn label_resampling(&self) -> &'static str {
        self.rule.name()
    }

    fn files(&self, case: &Case) -> Result<Vec<PathBuf>> {
        // A detached header stays the same when its voxels change. What cannot be read fails with its case.
        let parts = |file: &PathBuf| galen_io::files_of(file).unwrap_or_else(|_| vec![file.clone()]);
        Ok(case.images.iter().chain(&case.label).flat_map(parts).collect())
    }

    fn prepare(
        &self,
        dataset: &Dataset,
        plans: &Plans,
        settings: &Configuration,
        case: &Case,
    ) -> Result<(Prepared, Undo)> {
        let (image, labels) = (dataset.read_image(case)?, dataset.read_labels(case)?);
        if image.geometry.size != labels.geometry.size {
            let what = format!("image has {:?} voxels, mask {:?}", image.geometry.size, labels.geometry.size);
            return Err(Error::input("mask", what, "run `galen check` on the dataset"));
        }
        galen_prep::prepare_with(&image, Some(&labels), plans, settings, self.rule)
    }
}

/// One build at a time; the lock goes with the process, however it ends.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(|error| Error::system(path.display(), &error))?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => {
            let remedy = "wait for it, or choose another folder";
            Err(Error::input(folder.display(), "another run is preprocessing into it", remedy))
        }
        // File systems without locks: writing is safe all the same, only the work may be done twice.
        _ => Ok(file),
    }
}

/// Hash of what all cases share: format, plans, configuration, meaning of the labels and how they are resampled.
fn shared_hash(dataset: &Dataset, plans: &Plans, configuration: &str, rule: &str) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_le_bytes());
    for text in [serde_json::to_string(plans), serde_json::to_string(&dataset.labels)] {
        let text = text.map_err(|error| Error::bug("plans", error))?;
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(configuration);
    // Stores of before there was a choice stay valid.
    if rule == TieRule::Half.name() {
        hash.update(rule);
    }
    Ok(hash.finalize().to_vec())
}

/// Hash of one case: the shared one, and name, size and time of change of its files.
fn case_hash(shared: &[u8], files: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(shared);
    for file in files {
        let meta = std::fs::metadata(file).map_err(|error| Error::system(file.display(), &error))?;
        let changed = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update([0]);
        hash.update(meta.len().to_le_bytes());
        hash.update(changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
