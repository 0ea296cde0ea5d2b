//! Where a dataset's fingerprint, plans, splits and preprocessed cases lie: one folder, nnU-Net's file names.

use crate::nnunet_roots;
use crate::session::Session;
use galen_core::{Error, Result};
use galen_data::{Dataset, Splits, Store};
use galen_prep::{DatasetFacts, Fingerprint, Planner, Plans};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The folder of everything derived from a dataset.
pub struct Workspace {
    /// `DATASET/preprocessed`, or nnU-Net's place for it, unless the user chose another.
    pub folder: PathBuf,
}

impl Workspace {
    /// The workspace of a dataset.
    pub fn of(dataset: &Dataset, chosen: Option<&Path>) -> Self {
        let usual =
            || nnunet_roots::preprocessed(&dataset.root).unwrap_or_else(|| dataset.root.join("preprocessed"));
        Self { folder: chosen.map_or_else(usual, Path::to_path_buf) }
    }

    /// The fingerprint: read when it is there, computed and written when not.
    pub fn fingerprint(&self, dataset: &Dataset, again: bool, session: &Session) -> Result<Fingerprint> {
        let file = self.folder.join("dataset_fingerprint.json");
        if file.exists() && !again {
            let fingerprint: Fingerprint = read_json(&file)?;
            if fingerprint.spacings.len() == dataset.training.len() {
                return Ok(fingerprint);
            }
        }
        let progress = session.progress("fingerprint", dataset.training.len());
        let fingerprint = galen_data::fingerprint(dataset, &|done, total| progress.at(done, total))?;
        progress.finish();
        write_json(&file, &fingerprint)?;
        Ok(fingerprint)
    }

    /// Plans by one planner, written as `<plans name>.json`.
    pub fn plan(
        &self,
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        planner: Planner,
        gpu_memory_gb: Option<f64>,
    ) -> Result<Plans> {
        let facts = DatasetFacts {
            name: dataset.name.clone(),
            channel_names: dataset.channel_names.clone(),
            planner_classes: dataset.labels.planner_classes(),
            num_training: dataset.num_training,
            reader: dataset.reader_name()?,
        };
        let plans = galen_prep::plan(fingerprint, &facts, planner, gpu_memory_gb)?;
        write_json(&self.plans_file(&plans.plans_name), &plans)?;
        Ok(plans)
    }

    /// File of the plans of that name.
    pub fn plans_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The plans of a planner: read when they are there, else planned.
    pub fn plans(&self, dataset: &Dataset, planner: Planner, session: &Session) -> Result<Plans> {
        let file = self.plans_file(planner.plans_name());
        if file.exists() {
            return read_json(&file);
        }
        let fingerprint = self.fingerprint(dataset, false, session)?;
        self.plan(dataset, &fingerprint, planner, None)
    }

    /// The folds: `splits_final.json` here or in the dataset, else nnU-Net's own five, written here.
    pub fn splits(&self, dataset: &Dataset) -> Result<Splits> {
        let own = self.folder.join("splits_final.json");
        let given = dataset.root.join("splits_final.json");
        let ids = dataset.training_ids();
        for file in [&own, &given] {
            if file.exists() {
                return Splits::read(file, &ids);
            }
        }
        if ids.len() < 5 {
            // Too few for five folds: the fold `all` is still there.
            return Ok(Splits::none(&ids));
        }
        let splits = Splits::five_folds(&ids)?;
        splits.write(&own)?;
        Ok(splits)
    }

    /// The preprocessed cases of one configuration: what is there and current is kept. `adopted` is a folder of
    /// cases that nnU-Net preprocessed.
    pub fn store(
        &self,
        dataset: &Dataset,
        plans: &Plans,
        configuration: &str,
        adopted: Option<&Path>,
        session: &Session,
    ) -> Result<Store> {
        let folder = self.folder.join(format!("{}_{configuration}", plans.plans_name));
        let progress = session.progress("preprocess", dataset.training.len());
        let at = |done, total| progress.at(done, total);
        let store = match adopted {
            Some(source) => Store::adopt(dataset, plans, configuration, source, &folder, &at),
            None => Store::build(dataset, plans, configuration, &folder, &at),
        }?;
        progress.finish();
        Ok(store)
    }
}

/// Reads a JSON file of ours or of nnU-Net.
pub fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Error::input(file.display(), error, "make the file again, or restore it from a copy")
    })
}

/// Writes a JSON file beside its target and renames it.
pub fn write_json(file: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|error| Error::bug(file.display(), error))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::system(folder.display(), &error))?;
    }
    galen_io::replace_file(file, &bytes)
}
