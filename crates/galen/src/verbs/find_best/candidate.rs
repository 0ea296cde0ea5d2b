//! Trained models that can be chosen from, and what their folds predicted for the cases they had not seen.

use crate::scans::case_name;
use galen_core::{Error, Labels, Result};
use galen_models::{Bundle, Choice};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// nnU-Net's order of configurations; where scores are equal, the first one wins.
pub const CONFIGURATIONS: [&str; 4] = ["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"];

/// One trained model.
pub struct Candidate {
    /// nnU-Net's `Trainer__Plans__configuration`, or the folder's name.
    pub name: String,
    /// Trainer class.
    pub trainer: String,
    /// Name of its plans.
    pub plans: String,
    /// Configuration.
    pub configuration: String,
    /// Configuration that its first stage has, in a cascade.
    pub previous: Option<String>,
    /// Its folder.
    pub folder: PathBuf,
    /// Name of the dataset.
    pub dataset: String,
    /// Meaning of its labels.
    pub labels: Labels,
    /// Validation label maps of the folds, by case.
    pub predictions: BTreeMap<String, PathBuf>,
    bundle: Bundle,
}

impl Candidate {
    /// The model in a folder, with the predictions of these folds.
    pub fn open(folder: &Path, folds: &[String]) -> Result<Self> {
        let bundle = Bundle::open_chosen(folder, &Choice::default())?;
        let plans = &bundle.plans_json;
        let text = |key: &str| plans[key].as_str().unwrap_or_default().to_owned();
        let previous = plans["configurations"][&bundle.configuration]["previous_stage"].as_str();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            trainer: bundle.nnunet_trainer().to_owned(),
            plans: text("plans_name"),
            configuration: bundle.configuration.clone(),
            previous: previous.map(str::to_owned),
            folder: folder.to_owned(),
            dataset: text("dataset_name"),
            labels: bundle.labels.clone(),
            predictions: predictions(folder, folds)?,
            name,
            bundle,
        })
    }

    /// `plans.json` and `dataset.json`, which nnU-Net keeps beside every folder of predictions.
    pub fn write_description(&self, out: &Path) -> Result<()> {
        galen_data::write_json(&out.join("plans.json"), &self.bundle.plans_json)?;
        galen_data::write_json(&out.join("dataset.json"), &self.bundle.dataset_json()?)
    }

    /// Files of probabilities beside the label maps, by case; every one must be there.
    pub fn probabilities(&self) -> Result<BTreeMap<String, PathBuf>> {
        let file = |(case, map): (&String, &PathBuf)| {
            let file = crate::probabilities::file_beside(map);
            if file.is_file() {
                return Ok((case.clone(), file));
            }
            let what = format!("an ensemble needs the probabilities of {case}");
            let remedy = "validate with probabilities (galen train --save-probabilities, nnUNetv2_train --val --npz), or add --no-ensembles";
            Err(Error::input(file.display(), what, remedy))
        };
        self.predictions.iter().map(file).collect()
    }
}

fn predictions(folder: &Path, folds: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for fold in folds {
        let validation = folder.join(format!("fold_{fold}")).join("validation");
        if !validation.is_dir() {
            let what = format!("fold {fold} has no validation folder");
            let remedy = "train and validate that fold, or name the folds that are there: --folds 0,1";
            return Err(Error::input(folder.display(), what, remedy));
        }
        for map in crate::scans::images(&validation)? {
            let case = case_name(&map);
            if let Some(other) = found.insert(case.clone(), map.clone()) {
                let what =
                    format!("{case} was predicted by two folds: {} and {}", other.display(), map.display());
                return Err(Error::input(folder.display(), what, "name folds that share no case"));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::input(folder.display(), "its folds predicted no case", "validate them first"));
    }
    Ok(found)
}

/// What may take part: nnU-Net's defaults are its stock trainer and plans, and all four configurations.
pub struct Wanted<'a> {
    /// Trainer classes.
    pub trainers: &'a [String],
    /// Names of plans.
    pub plans: &'a [String],
    /// Configurations.
    pub configurations: &'a [String],
}

/// Model folders of a dataset's results folder, in nnU-Net's order: trainers, configurations, plans.
pub fn folders(results: &Path, wanted: &Wanted) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for trainer in wanted.trainers {
        for configuration in wanted.configurations {
            for plans in wanted.plans {
                let folder = results.join(format!("{trainer}__{plans}__{configuration}"));
                if folder.is_dir() {
                    found.push(folder);
                }
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let entries = std::fs::read_dir(results).map_err(|error| Error::system(results.display(), &error))?;
    let mut there: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    there.retain(|name| name.split("__").count() == 3);
    there.sort();
    let what = match there.is_empty() {
        true => "holds no TRAINER__PLANS__CONFIGURATION folder".to_owned(),
        false => format!("none of its models fits what was asked for: {}", there.join(", ")),
    };
    Err(Error::input(
        results.display(),
        what,
        "choose with --config, --trainer and --plans, or give model folders",
    ))
}
