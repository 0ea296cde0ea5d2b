//! A model as one folder: all that prediction needs.
//!
//! Galen's form is `model.json` with `fold_N/weights.safetensors`; nnU-Net's results folders (`plans.json`,
//! `dataset.json`, `fold_N/checkpoint_final.pth`) are read where they lie, and zip files of either form are
//! unpacked into a temporary folder first.

use crate::file;
use crate::model_archive::unpack;
use crate::model_choice::{Choice, find, is_model, no_model};
use crate::torch_checkpoint::TorchCheckpoint;
use crate::weights::Weights;
use galen_core::{Error, Labels, Result, channel_names};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Format number that is written; older ones are read as they were, newer ones refused.
const FORMAT: u64 = 1;
const DESCRIPTION: &str = "model.json";
const WEIGHTS: &str = "weights.safetensors";
const CHECKPOINT: &str = "checkpoint_final.pth";

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// Program and version that wrote it.
    pub writer: String,
    /// Dataset it was trained on.
    pub dataset: String,
    /// Recipe or trainer class.
    pub trainer: String,
    /// Training iterations per fold, when known.
    pub iterations: Option<u64>,
    /// How the label maps that it was trained with came onto the network's grid; empty when that was not recorded.
    pub label_resampling: String,
}

/// Who wrote the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleForm {
    /// `model.json`.
    Galen,
    /// nnU-Net v2 results folder.
    NnUnet,
}

/// A model on disk, described but not loaded.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its folder.
    pub root: PathBuf,
    /// Who wrote it.
    pub form: BundleForm,
    /// nnU-Net's plans, all configurations.
    pub plans_json: Value,
    /// Configuration of the plans that the weights belong to.
    pub configuration: String,
    /// Meaning of the output.
    pub labels: Labels,
    /// Names of the image channels, in order.
    pub channel_names: Vec<String>,
    /// File ending of the dataset, such as `.nii.gz`.
    pub file_ending: String,
    /// Input channels of the network: the image's, and in a cascade one per foreground label.
    pub inputs: usize,
    /// Output channels of the network.
    pub outputs: usize,
    /// Spatial axes of the network that test-time mirroring may flip.
    pub mirror_axes: Vec<usize>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// File in each fold's folder that holds its weights.
    weights_file: String,
    /// Where an archive was unpacked to; removed with the last copy of this bundle.
    unpacked: Option<Arc<TempDir>>,
}

/// What [`Bundle::write`] puts into `model.json`.
#[derive(Debug, Clone)]
pub struct BundleContent<'a> {
    /// nnU-Net's plans.
    pub plans_json: &'a Value,
    /// Configuration of the plans.
    pub configuration: &'a str,
    /// Meaning of the output.
    pub labels: &'a Labels,
    /// Names of the image channels.
    pub channel_names: &'a [String],
    /// File ending of the dataset.
    pub file_ending: &'a str,
    /// Spatial axes that mirroring may flip.
    pub mirror_axes: &'a [usize],
    /// Where it comes from.
    pub provenance: &'a Provenance,
}

impl Bundle {
    /// Opens a folder or a zip file of either form that holds one model.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() || is_model(path) {
            return Self::open_chosen(path, &Choice::default());
        }
        Err(no_model(path, path))
    }

    /// Opens the model in, or below, a folder or zip file that fits the choice.
    pub fn open_chosen(path: &Path, choice: &Choice) -> Result<Self> {
        if !path.is_file() {
            return Self::open_folder(&find(path, choice, path)?, choice);
        }
        let unpacked = unpack(path)?;
        let root = find(unpacked.path(), choice, path)?;
        let mut bundle = Self::open_folder(&root, choice).map_err(|error| error.within(path.display()))?;
        bundle.unpacked = Some(Arc::new(unpacked));
        Ok(bundle)
    }

    fn open_folder(root: &Path, choice: &Choice) -> Result<Self> {
        let galen = root.join(DESCRIPTION).is_file();
        let bundle = if galen { Self::open_galen(root) } else { Self::open_nnunet(root, choice) }?;
        match &choice.configuration {
            Some(asked) if *asked != bundle.configuration => {
                let what = format!("its configuration is {}, not {asked}", bundle.configuration);
                Err(Error::input(root.display(), what, "choose the folder of that configuration"))
            }
            _ => Ok(bundle),
        }
    }

    fn open_galen(root: &Path) -> Result<Self> {
        let path = root.join(DESCRIPTION);
        let model = file::read_json(&path)?;
        let place = path.display();
        let bad =
            |what: String| Error::input(&place, what, "use the Galen that wrote it, or copy the file again");
        match model["format"].as_u64() {
            Some(1..=FORMAT) => {}
            Some(format) => return Err(bad(format!("format {format}, this Galen reads up to {FORMAT}"))),
            None => return Err(bad("there is no format number".into())),
        }
        let text =
            |key: &str| model[key].as_str().map(str::to_owned).ok_or_else(|| bad(format!("no text `{key}`")));
        let labels = Labels::from_json(file::object(&model, &path)?).map_err(|error| error.within(&place))?;
        let channel_names: Vec<String> = serde_json::from_value(model["channel_names"].clone())
            .map_err(|e| bad(format!("channel_names: {e}")))?;
        let mirror_axes = serde_json::from_value(model["mirror_axes"].clone());
        let provenance = serde_json::from_value(model["provenance"].clone());
        let configuration = text("configuration")?;
        let plans_json = model["plans"].clone();
        let inputs =
            inputs(&plans_json, &configuration, &labels, &channel_names).map_err(|e| e.within(&place))?;
        Ok(Self {
            root: root.to_owned(),
            form: BundleForm::Galen,
            outputs: labels.output_channels(),
            inputs,
            file_ending: text("file_ending")?,
            mirror_axes: mirror_axes.map_err(|error| bad(format!("mirror_axes: {error}")))?,
            provenance: provenance.map_err(|error| bad(format!("provenance: {error}")))?,
            plans_json,
            configuration,
            labels,
            channel_names,
            weights_file: WEIGHTS.to_owned(),
            unpacked: None,
        })
    }

    fn open_nnunet(root: &Path, choice: &Choice) -> Result<Self> {
        let dataset = file::read_json(&root.join("dataset.json"))?;
        let plans_json = file::read_json(&root.join("plans.json"))?;
        let within = |error: Error| error.within(root.display());
        let named = file::object(&dataset, &root.join("dataset.json"))?;
        let (labels, channel_names) =
            (Labels::from_json(named).map_err(within)?, channel_names(named).map_err(within)?);
        let file = choice.checkpoint.as_deref().unwrap_or(CHECKPOINT);
        let folds = folds_with(root, file)?;
        let fold = folds.first().ok_or_else(|| no_folds(root, file))?;
        let path = root.join(fold_folder(fold)).join(file);
        let checkpoint = TorchCheckpoint::open(&path)?;
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let configuration = text(checkpoint.init_argument("configuration")).ok_or_else(|| {
            Error::input(path.display(), "no configuration in init_args", "use a checkpoint of nnU-Net v2")
        })?;
        let inputs = inputs(&plans_json, &configuration, &labels, &channel_names).map_err(within)?;
        Ok(Self {
            root: root.to_owned(),
            form: BundleForm::NnUnet,
            outputs: labels.output_channels(),
            inputs,
            file_ending: dataset["file_ending"].as_str().unwrap_or_default().to_owned(),
            mirror_axes: checkpoint.mirror_axes(),
            provenance: Provenance {
                writer: "nnU-Net v2".into(),
                dataset: plans_json["dataset_name"].as_str().unwrap_or_default().to_owned(),
                trainer: text(checkpoint.field("trainer_name")).unwrap_or_default(),
                iterations: None,
                label_resampling: String::new(), // nnU-Net's checkpoints do not say
            },
            plans_json,
            configuration,
            labels,
            channel_names,
            weights_file: file.to_owned(),
            unpacked: None,
        })
    }

    /// Names of the folds with weights: numbers in order, or `all` when there is nothing else.
    pub fn folds(&self) -> Result<Vec<String>> {
        folds_with(&self.root, &self.weights_file)
    }

    /// Weights of a fold (`0`, `1`, ... or `all`).
    pub fn weights(&self, fold: &str) -> Result<Weights> {
        let path = self.root.join(fold_folder(fold)).join(&self.weights_file);
        if !path.is_file() {
            let have = self.folds()?.join(", ");
            let what = format!("there is no fold {fold}, only {have}");
            return Err(Error::input(self.root.display(), what, "pass one of these"));
        }
        match self.form {
            BundleForm::Galen => Weights::read_safetensors(&path),
            BundleForm::NnUnet => TorchCheckpoint::open(&path)?.weights(),
        }
    }

    /// Writes `model.json`; the folder is made when it is not there.
    pub fn write(root: &Path, content: &BundleContent) -> Result<()> {
        let inputs =
            inputs(content.plans_json, content.configuration, content.labels, content.channel_names)?;
        let model = json!({
            "format": FORMAT,
            "task": "segment",
            "configuration": content.configuration,
            "inputs": inputs,
            "outputs": content.labels.output_channels(),
            "channel_names": content.channel_names,
            "labels": content.labels.to_json(),
            "regions_class_order": content.labels.regions_class_order,
            "file_ending": content.file_ending,
            "mirror_axes": content.mirror_axes,
            "provenance": content.provenance,
            "plans": content.plans_json,
        });
        make_folder(root)?;
        write_json(&root.join(DESCRIPTION), &model)
    }

    /// Writes the weights of a fold, and `checkpoint.json` with what the caller wants to keep beside them.
    pub fn write_fold(root: &Path, fold: &str, weights: &Weights, checkpoint: &Value) -> Result<()> {
        let folder = root.join(fold_folder(fold));
        make_folder(&folder)?;
        weights.write_safetensors(&folder.join(WEIGHTS))?;
        write_json(&folder.join("checkpoint.json"), checkpoint)
    }
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::system(path.display(), &error))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::bug(path.display(), error))?;
    bytes.push(b'\n');
    galen_io::replace_file(path, &bytes)
}

/// Folder of a fold.
fn fold_folder(fold: &str) -> String {
    format!("fold_{fold}")
}

/// Folds that have `file`; `all` only when there is no other.
fn folds_with(root: &Path, file: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(root).map_err(|error| Error::system(root.display(), &error))?;
    let mut numbers = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.path().join(file).is_file()) {
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix("fold_")).and_then(|n| n.parse::<u32>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    if numbers.is_empty() && root.join(fold_folder("all")).join(file).is_file() {
        return Ok(vec!["all".into()]);
    }
    Ok(numbers.iter().map(u32::to_string).collect())
}

fn no_folds(root: &Path, file: &str) -> Error {
    let others = ["checkpoint_best.pth", "checkpoint_latest.pth"];
    let other = others.into_iter().find(|other| folds_with(root, other).is_ok_and(|folds| !folds.is_empty()));
    let (what, remedy) = match other {
        Some(other) => (format!("no fold_N/{file}, but {other}"), format!("pass --checkpoint {other}")),
        None => (format!("no fold_N/{file}"), "train the model to its end, or copy its folds too".to_owned()),
    };
    Error::input(root.display(), what, remedy)
}

/// Input channels of the network of a configuration.
fn inputs(plans: &Value, configuration: &str, labels: &Labels, channel_names: &[String]) -> Result<usize> {
    let configurations = &plans["configurations"];
    if !configurations[configuration].is_object() {
        let what = format!("the plans have no configuration `{configuration}`");
        return Err(Error::input("plans", what, "use the plans that the model was trained with"));
    }
    let mut name = configuration;
    // Inheritance is a chain; its length is bounded by the number of configurations.
    for _ in 0..configurations.as_object().map_or(0, serde_json::Map::len) {
        let settings = &configurations[name];
        if let Some(previous) = settings.get("previous_stage") {
            let cascade = previous.is_string();
            return Ok(channel_names.len() + if cascade { labels.foreground().len() } else { 0 });
        }
        match settings["inherits_from"].as_str() {
            Some(parent) => name = parent,
            None => break,
        }
    }
    Ok(channel_names.len())
}
