//! Weights to begin a training with: a checkpoint or a model that others, or an earlier training, left.
//!
//! Sources of the forms: nnunetv2 2.8.1 (`network_weights`), nnssl 2025-10 (`nnssl_adaptation_plan`, which says
//! under which names the state dict keeps encoder and stem), Galen's own bundle.

use crate::bundle::Bundle;
use crate::torch_checkpoint::TorchCheckpoint;
use crate::weights::Weights;
use galen_core::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Files of a fold's folder that hold weights, the one that is taken first.
const FOLD_FILES: [&str; 4] =
    ["checkpoint_final.pth", "weights.safetensors", "checkpoint_best.pth", "weights_best.safetensors"];

/// Who trained the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// nnU-Net, or another program that names its tensors alike.
    NnUnet,
    /// Galen.
    Galen,
    /// Self-supervised pretraining by nnssl, such as the OpenMind models: only the encoder is of use.
    SelfSupervised,
}

/// Weights of another training, not yet matched with a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretrained {
    /// File or folder they were read from.
    pub place: PathBuf,
    /// Who trained them.
    pub origin: Origin,
    /// Tensors under the names of Galen's and nnU-Net's networks.
    pub weights: Weights,
}

impl Pretrained {
    /// Reads a checkpoint (`.pth`), a weights file (`.safetensors`), the folder of a fold, or a model folder or zip
    /// file that has one fold.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let inside = FOLD_FILES.iter().map(|file| path.join(file)).find(|file| file.is_file());
            return inside.map_or_else(|| of_model(path), |file| Self::open(&file));
        }
        let ends = |ending: &str| path.extension().is_some_and(|have| have.eq_ignore_ascii_case(ending));
        if ends("safetensors") {
            let weights = Weights::read_safetensors(path)?;
            return Ok(Self { place: path.to_owned(), origin: Origin::Galen, weights });
        }
        if ends("zip") {
            return of_model(path);
        }
        of_checkpoint(path)
    }

    /// Output channels of each encoder stage, where the tensors have the names of a U-Net.
    pub fn features(&self) -> Vec<usize> {
        let first = |stage: usize| {
            let blocks = [
                format!("encoder.stages.{stage}.0.convs.0.conv.weight"),
                format!("encoder.stages.{stage}.blocks.0.conv1.conv.weight"),
            ];
            blocks
                .iter()
                .find_map(|name| self.weights.get(name))
                .and_then(|tensor| tensor.shape.first().copied())
        };
        (0..).map_while(first).collect()
    }

    /// True for an encoder of residual blocks.
    pub(crate) fn is_residual(&self) -> bool {
        self.weights.get("encoder.stages.0.blocks.0.conv1.conv.weight").is_some()
    }
}

fn of_model(path: &Path) -> Result<Pretrained> {
    let bundle = Bundle::open(path)?;
    let folds = bundle.folds()?;
    let [fold] = folds.as_slice() else {
        let what = format!("the model has {} folds ({})", folds.len(), folds.join(", "));
        let remedy = format!("give one of them, such as {}", path.join("fold_0").display());
        return Err(Error::input(path.display(), what, remedy));
    };
    let origin = match bundle.form {
        crate::BundleForm::Galen => Origin::Galen,
        crate::BundleForm::NnUnet => Origin::NnUnet,
    };
    Ok(Pretrained { place: path.to_owned(), origin, weights: bundle.weights(fold)? })
}

fn of_checkpoint(path: &Path) -> Result<Pretrained> {
    let checkpoint = TorchCheckpoint::open(path)?;
    let place = path.to_owned();
    let Some(plan) = checkpoint.field("nnssl_adaptation_plan") else {
        return Ok(Pretrained { place, origin: Origin::NnUnet, weights: checkpoint.weights()? });
    };
    let class = plan["architecture_plans"]["arch_class_name"].as_str().unwrap_or("an unnamed network");
    let known = ["ResEncL", "NoSkipResEncL", "ResidualEncoderUNet", "PlainConvUNet"];
    if !known.contains(&class) {
        let what = format!("its network is {class}; Galen has PlainConvUNet and ResidualEncoderUNet");
        return Err(Error::input(path.display(), what, "use a checkpoint of a ResEncL network"));
    }
    let key = |name: &str, usual: &str| plan[name].as_str().unwrap_or(usual).to_owned();
    let (encoder, stem) = (key("key_to_encoder", "encoder.stages"), key("key_to_stem", "encoder.stem"));
    let renamed = |name: &str| {
        // In a plain network the stem is the first stage, which the encoder's key covers.
        under(name, &encoder, "encoder.stages")
            .or_else(|| under(name, &stem, "encoder.stem"))
            .unwrap_or_else(|| name.to_owned())
    };
    let weights = checkpoint.weights()?;
    let weights = weights.iter().map(|(name, tensor)| (renamed(name), tensor.clone())).collect();
    Ok(Pretrained { place, origin: Origin::SelfSupervised, weights })
}

/// `name` with the module `from` called `to`; `None` when it is not in that module.
fn under(name: &str, from: &str, to: &str) -> Option<String> {
    let rest = name.strip_prefix(from)?;
    (rest.is_empty() || rest.starts_with('.')).then(|| format!("{to}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_renamed_whole() {
        assert_eq!(under("net.enc.0.w", "net.enc", "encoder.stages").as_deref(), Some("encoder.stages.0.w"));
        assert_eq!(under("net.encoder.w", "net.enc", "encoder.stages"), None);
    }

    #[test]
    fn a_folder_without_weights_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Pretrained::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("model.json"), "{error}");
        assert!(Pretrained::open(&folder.path().join("none.pth")).is_err());
    }
}
