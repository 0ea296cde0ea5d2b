//! Writes checkpoints that nnU-Net v2 loads: `torch.save`'s zip, with every name that a strict load asks for.

use crate::pickle_writer::{Object, pickle};
use crate::state_dict::state_dict_names;
use crate::weights::Weights;
use galen_core::{Error, Result};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::io::{Seek, Write};
use std::path::Path;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Folder inside the archive; PyTorch names it after the file.
const STEM: &str = "checkpoint_final";
/// PyTorch's alignment of tensors, so that the file can be mapped.
const ALIGNMENT: u16 = 64;
/// nnU-Net's iterations per epoch.
const ITERATIONS_PER_EPOCH: u64 = 250;

/// What a checkpoint holds beside the weights.
#[derive(Debug)]
pub(crate) struct CheckpointFacts<'a> {
    /// nnU-Net's plans.
    pub(crate) plans: &'a Json,
    /// nnU-Net's `dataset.json`.
    pub(crate) dataset: &'a Json,
    /// Configuration of the plans.
    pub(crate) configuration: &'a str,
    /// Fold: a number or `all`.
    pub(crate) fold: &'a str,
    /// Trainer class that builds the network.
    pub(crate) trainer: &'a str,
    /// Spatial axes that mirroring may flip.
    pub(crate) mirror_axes: &'a [usize],
    /// Iterations of training, when known.
    pub(crate) iterations: Option<u64>,
}

/// Writes a checkpoint to a file that does not exist yet.
pub(crate) fn write_checkpoint(path: &Path, weights: &Weights, facts: &CheckpointFacts) -> Result<()> {
    let file = std::fs::File::create_new(path).map_err(|error| Error::system(path.display(), &error))?;
    let written = archive(&file, weights, facts).and_then(|()| file.sync_all());
    written.map_err(|error| Error::system(path.display(), &error))
}

fn archive(file: impl Write + Seek, weights: &Weights, facts: &CheckpointFacts) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(std::io::BufWriter::new(file));
    let mut entry = |name: &str, bytes: &[u8]| -> std::io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(bytes.len() > u32::MAX as usize)
            .last_modified_time(zip::DateTime::default()); // the same model gives the same bytes
        zip.start_file(format!("{STEM}/{name}"), options)?;
        zip.write_all(bytes)
    };
    entry("data.pkl", &pickle(&checkpoint(weights, facts)))?;
    entry(".format_version", b"1")?;
    entry(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
    entry("byteorder", b"little")?;
    for (number, (_, tensor)) in weights.iter().enumerate() {
        entry(&format!("data/{number}"), &little_endian(&tensor.values))?;
    }
    entry("version", b"3\n")?;
    zip.finish()?.flush()
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn checkpoint(weights: &Weights, facts: &CheckpointFacts) -> Object {
    let places: HashMap<&str, usize> = weights.iter().map(|(name, _)| name).zip(0..).collect();
    let tensor = |name: &str| {
        let shape = weights.get(name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
        Object::Tensor { storage: places[name], shape }
    };
    let state = state_dict_names(weights).into_iter().map(|(name, shown)| ((&name).into(), tensor(&shown)));
    let fold = facts.fold.parse().map_or_else(|_| facts.fold.into(), Object::Int);
    let mirror = facts.mirror_axes.iter().map(|&axis| Object::Int(axis as i64)).collect();
    let epochs = facts.iterations.unwrap_or(0).div_ceil(ITERATIONS_PER_EPOCH);
    dict([
        ("network_weights", Object::Ordered(state.collect())),
        ("optimizer_state", fresh_optimiser(weights.len())),
        ("grad_scaler_state", Object::None),
        ("logging", empty_log()),
        ("_best_ema", Object::None),
        ("current_epoch", Object::Int(epochs as i64)),
        (
            "init_args",
            dict([
                ("plans", Object::from_json(facts.plans)),
                ("configuration", facts.configuration.into()),
                ("fold", fold),
                ("dataset_json", Object::from_json(facts.dataset)),
                ("device", Object::CpuDevice),
            ]),
        ),
        ("trainer_name", facts.trainer.into()),
        (
            "inference_allowed_mirroring_axes",
            if facts.mirror_axes.is_empty() { Object::None } else { Object::Tuple(mirror) },
        ),
    ])
}

fn dict<const N: usize>(entries: [(&str, Object); N]) -> Object {
    Object::Dict(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// nnU-Net's optimiser before its first step: momentum is not part of a model.
fn fresh_optimiser(parameters: usize) -> Object {
    let numbers = (0..parameters).map(|number| Object::Int(number as i64)).collect();
    let group = dict([
        ("lr", Object::Float(0.01)),
        ("momentum", Object::Float(0.99)),
        ("dampening", Object::Int(0)),
        ("weight_decay", Object::Float(3e-5)),
        ("nesterov", Object::Bool(true)),
        ("maximize", Object::Bool(false)),
        ("foreach", Object::None),
        ("differentiable", Object::Bool(false)),
        ("fused", Object::None),
        ("initial_lr", Object::Float(0.01)),
        ("params", Object::List(numbers)),
    ]);
    dict([("state", Object::Dict(Vec::new())), ("param_groups", Object::List(vec![group]))])
}

/// The curves that nnU-Net's logger expects, without a point.
fn empty_log() -> Object {
    dict(
        [
            "mean_fg_dice",
            "ema_fg_dice",
            "dice_per_class_or_region",
            "train_losses",
            "val_losses",
            "lrs",
            "epoch_start_timestamps",
            "epoch_end_timestamps",
        ]
        .map(|curve| (curve, Object::List(Vec::new()))),
    )
}
