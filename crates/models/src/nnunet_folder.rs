//! A model as nnU-Net keeps it: `plans.json`, `dataset.json` and `fold_N/checkpoint_final.pth`.

use crate::bundle::{Bundle, BundleContent, BundleForm};
use crate::file;
use crate::torch_writer::{CheckpointFacts, write_checkpoint};
use galen_core::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// nnU-Net's description of the dataset, kept beside a bundle that was imported from it.
const DATASET: &str = "dataset.json";
const STOCK_TRAINER: &str = "nnUNetTrainer";

impl Bundle {
    /// Trainer class under which nnU-Net builds this model's network.
    pub fn nnunet_trainer(&self) -> &str {
        let given = self.provenance.trainer.as_str();
        if given.starts_with(STOCK_TRAINER) { given } else { STOCK_TRAINER }
    }

    /// nnU-Net's name for the model's folder: `Trainer__Plans__configuration`.
    pub fn nnunet_name(&self) -> String {
        let plans = self.plans_json["plans_name"].as_str().unwrap_or("nnUNetPlans");
        format!("{}__{plans}__{}", self.nnunet_trainer(), self.configuration)
    }

    /// nnU-Net's `dataset.json` of the model: the one it came with, else made from what the model knows.
    pub fn dataset_json(&self) -> Result<Value> {
        let kept = self.root.join(DATASET);
        if kept.is_file() {
            return file::read_json(&kept);
        }
        let channels: serde_json::Map<String, Value> =
            self.channel_names.iter().enumerate().map(|(i, name)| (i.to_string(), json!(name))).collect();
        let mut dataset = json!({
            "channel_names": channels,
            "labels": self.labels.to_json(),
            "numTraining": 0, // only nnU-Net's planner reads it, and the cases are not part of a model
            "file_ending": self.file_ending,
        });
        if let Some(order) = &self.labels.regions_class_order {
            dataset["regions_class_order"] = json!(order);
        }
        Ok(dataset)
    }

    /// Writes the folds as a folder that nnU-Net v2 reads; `out` must not exist, and appears whole or not at all.
    pub fn export_nnunet(&self, folds: &[String], out: &Path) -> Result<()> {
        file::new_folder(out, |folder| {
            let dataset = self.dataset_json()?;
            write_json(&folder.join("plans.json"), &self.plans_json)?;
            write_json(&folder.join(DATASET), &dataset)?;
            for fold in folds {
                let facts = CheckpointFacts {
                    plans: &self.plans_json,
                    dataset: &dataset,
                    configuration: &self.configuration,
                    fold,
                    trainer: self.nnunet_trainer(),
                    mirror_axes: &self.mirror_axes,
                    iterations: self.provenance.iterations,
                };
                let place = folder.join(format!("fold_{fold}"));
                std::fs::create_dir(&place).map_err(|error| Error::system(place.display(), &error))?;
                write_checkpoint(&place.join("checkpoint_final.pth"), &self.weights(fold)?, &facts)?;
            }
            Ok(())
        })
    }

    /// Writes the folds as a bundle of Galen's own form; `out` must not exist, and appears whole or not at all.
    pub fn import(&self, folds: &[String], out: &Path) -> Result<()> {
        file::new_folder(out, |folder| {
            let content = BundleContent {
                plans_json: &self.plans_json,
                configuration: &self.configuration,
                labels: &self.labels,
                channel_names: &self.channel_names,
                file_ending: &self.file_ending,
                mirror_axes: &self.mirror_axes,
                provenance: &self.provenance,
            };
            Self::write(folder, &content)?;
            for fold in folds {
                let origin = json!({ "imported_from": self.provenance.writer });
                Self::write_fold(folder, fold, &self.weights(fold)?, &origin)?;
            }
            if self.form == BundleForm::NnUnet {
                // What only nnU-Net needs of it, such as the image reader, must survive an export.
                write_json(&folder.join(DATASET), &self.dataset_json()?)?;
            }
            Ok(())
        })
    }
}

/// As nnU-Net writes JSON: four spaces.
fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer).map_err(|error| Error::bug(path.display(), error))?;
    galen_io::replace_file(path, &bytes)
}
