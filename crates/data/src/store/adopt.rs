//! A store from cases that nnU-Net preprocessed: nothing is resampled again.

use super::Store;
use super::build::{Source, build};
use super::nnunet_case::NnunetCase;
use crate::Progress;
use crate::dataset::{Case, Dataset};
use galen_core::{Error, Result};
use galen_prep::{Configuration, Plans, Prepared, Undo};
use std::path::{Path, PathBuf};

impl Store {
    /// As [`Store::build`], from the cases in `preprocessed`, such as `nnUNetPlans_3d_fullres` of nnU-Net's
    /// preprocessed folder. `plans` must be those that the cases were made with.
    pub fn adopt(
        dataset: &Dataset,
        plans: &Plans,
        configuration: &str,
        preprocessed: &Path,
        folder: &Path,
        progress: Progress,
    ) -> Result<Self> {
        build(dataset, plans, configuration, folder, progress, &Preprocessed { preprocessed })
    }
}

struct Preprocessed<'a> {
    preprocessed: &'a Path,
}

impl Source for Preprocessed<'_> {
    fn label_resampling(&self) -> &'static str {
        "as nnU-Net preprocessed them; its files do not say by which rule"
    }

    fn files(&self, case: &Case) -> Result<Vec<PathBuf>> {
        Ok(NnunetCase::find(self.preprocessed, &case.id)?.files())
    }

    fn prepare(
        &self,
        dataset: &Dataset,
        plans: &Plans,
        _: &Configuration,
        case: &Case,
    ) -> Result<(Prepared, Undo)> {
        let image = case.images.first().ok_or_else(|| Error::bug(&case.id, "a case without an image"))?;
        let geometry = galen_io::read_header(image)?.geometry;
        let found = NnunetCase::find(self.preprocessed, &case.id)?;
        let (prepared, undo) = found.read(&geometry, plans.transpose_forward)?;
        if prepared.channels != dataset.channel_names.len() {
            let what = format!("{} channels, {} expected", prepared.channels, dataset.channel_names.len());
            return Err(Error::input(self.preprocessed.display(), what, "give the folder of this dataset"));
        }
        Ok((prepared, undo))
    }
}
