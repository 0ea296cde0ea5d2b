//! Folders of merged predictions: the label maps of all folds or of an ensemble, their scores, their post-processing.

use super::candidate::Candidate;
use crate::scans::case_name;
use galen_core::{Error, LabelMap, Labels, Result};
use galen_metrics::Summary;
use galen_metrics::postprocessing::{Determined, Pairs, determine, score};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reference and prediction of every case of a folder.
struct Folder(Vec<(PathBuf, PathBuf)>);

impl Folder {
    fn of(predictions: &Path, references: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let pair = |prediction: PathBuf| {
            let case = case_name(&prediction);
            let reference = references.get(&case).ok_or_else(|| {
                Error::input(prediction.display(), "there is no reference of this case", "give --ref")
            })?;
            Ok((reference.clone(), prediction))
        };
        Ok(Self(crate::scans::images(predictions)?.into_iter().map(pair).collect::<Result<_>>()?))
    }
}

impl Pairs for Folder {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn names(&self, case: usize) -> [String; 3] {
        let (reference, prediction) = &self.0[case];
        [case_name(prediction), reference.display().to_string(), prediction.display().to_string()]
    }

    fn read(&self, case: usize) -> Result<(LabelMap, LabelMap)> {
        let (reference, prediction) = &self.0[case];
        Ok((galen_io::read_label_map(reference)?, galen_io::read_label_map(prediction)?))
    }
}

/// A folder of merged predictions.
pub struct Merged {
    /// Where it is.
    pub folder: PathBuf,
    /// nnU-Net's `foreground_mean` Dice.
    pub dice: Option<f64>,
}

/// Collects the label maps of a model's folds and scores them.
pub fn folds(model: &Candidate, out: &Path, references: &BTreeMap<String, PathBuf>) -> Result<Merged> {
    renewed(out, |folder| {
        for file in model.predictions.values() {
            let target = folder.join(file.file_name().unwrap_or_default());
            std::fs::copy(file, &target).map_err(|error| Error::system(target.display(), &error))?;
        }
        model.write_description(folder)
    })?;
    scored(out, &model.labels, references)
}

/// Averages the probabilities of several models for every case and scores the label maps.
pub fn ensemble(models: &[&Candidate], out: &Path, references: &BTreeMap<String, PathBuf>) -> Result<Merged> {
    let files = models.iter().map(|model| model.probabilities()).collect::<Result<Vec<_>>>()?;
    let first = models[0];
    renewed(out, |folder| {
        first.predictions.par_iter().try_for_each(|(case, map)| {
            let members: Vec<PathBuf> = files.iter().map(|files| files[case].clone()).collect();
            let geometry = galen_io::read_header(map)?.geometry;
            let labels = crate::probabilities::ensemble(&members, &first.labels, geometry)
                .map_err(|error| error.within(case))?;
            galen_io::write_label_map(&folder.join(map.file_name().unwrap_or_default()), &labels)
        })?;
        first.write_description(folder)
    })?;
    scored(out, &first.labels, references)
}

fn scored(folder: &Path, labels: &Labels, references: &BTreeMap<String, PathBuf>) -> Result<Merged> {
    let summary = score(&Folder::of(folder, references)?, labels, &[])?;
    galen_io::replace_file(&folder.join("summary.json"), summary.to_json().as_bytes())?;
    Ok(Merged { folder: folder.to_owned(), dice: summary.foreground_mean.Dice })
}

/// Decides the post-processing of a folder's predictions, and writes it with its results: `postprocessing.json`,
/// `postprocessing.pkl`, `postprocessed/`.
pub fn postprocess(
    folder: &Path,
    labels: &Labels,
    references: &BTreeMap<String, PathBuf>,
) -> Result<Determined> {
    let pairs = Folder::of(folder, references)?;
    let found = determine(&pairs, labels)?;
    let out = folder.join("postprocessed");
    renewed(&out, |out| {
        pairs.0.par_iter().try_for_each(|(_, prediction)| {
            let mut map = galen_io::read_label_map(prediction)?;
            found.steps.iter().for_each(|step| step.apply(&mut map));
            galen_io::write_label_map(&out.join(prediction.file_name().unwrap_or_default()), &map)
        })
    })?;
    let after = Summary { metric_per_case: moved(&found.after, &out), ..found.after.clone() };
    galen_io::replace_file(&out.join("summary.json"), after.to_json().as_bytes())?;
    galen_io::replace_file(&folder.join("postprocessing.pkl"), &found.to_pickle())?;
    galen_io::replace_file(&folder.join("postprocessing.json"), found.to_json().as_bytes())?;
    Ok(found)
}

/// The cases with the paths of their label maps in another folder.
fn moved(summary: &Summary, folder: &Path) -> Vec<galen_metrics::summary::PerCase> {
    let mut cases = summary.metric_per_case.clone();
    for case in &mut cases {
        let name = Path::new(&case.prediction_file).file_name().unwrap_or_default();
        case.prediction_file = folder.join(name).display().to_string();
    }
    cases
}

/// Makes a folder anew: it takes the place of an older one only once it is whole.
fn renewed(out: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = |error: std::io::Error| Error::system(out.display(), &error);
    let parent = out.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    // Removed on every way out but the last.
    let beside = tempfile::Builder::new().prefix(".galen-partial-").tempdir_in(parent).map_err(failed)?;
    let inner = beside.path().join("merged");
    std::fs::create_dir(&inner).map_err(failed)?;
    fill(&inner)?;
    if out.exists() {
        std::fs::remove_dir_all(out).map_err(failed)?;
    }
    std::fs::rename(&inner, out).map_err(failed)
}
