//! From a prepared dataset and a plan to a finished model folder: everything around the loop.

use crate::batch::Batches;
use crate::beginning::{earlier, fresh, width};
use crate::checkpoint::{self, State};
use crate::effective_plan::effective_plan;
use crate::fit::Run;
use crate::run_folder::{Machine, RunFolder, RunRecord, peak_memory};
use crate::sampler::{Cases, Sampler};
use crate::schedule::{Budget, Precision, Schedule};
use crate::watch::Watch;
use galen_core::{Architecture, Error, Labels, Result};
use galen_models::{Bundle, BundleContent, LossSpec, Network, Pretrained, Provenance, Transfer};
use galen_prep::augment::Recipe;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::Instant;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Fold name: `0`, `1`, ... or `all`.
    pub fold: String,
    /// What training may cost.
    pub budget: Budget,
    /// Seed of weights, places and augmentation.
    pub seed: u64,
    /// How activations are stored.
    pub precision: Precision,
    /// Go on from the newest checkpoint, if there is one.
    pub resume: bool,
    /// Model folder to write.
    pub out: PathBuf,
    /// Command line, for the record.
    pub command: Vec<String>,
    /// Weights of another training to begin with; a resumed run has its own.
    pub pretrained: Option<Pretrained>,
}

/// What a run is about, free of files.
pub struct Setup<'a> {
    /// Where voxels come from.
    pub cases: &'a dyn Cases,
    /// Indices of the training cases.
    pub training: Vec<usize>,
    /// Indices of the validation cases; when empty, training cases stand in.
    pub validation: Vec<usize>,
    /// Names of the training, then of the validation cases, for the identity of the run.
    pub case_names: [Vec<String>; 2],
    /// Dataset name.
    pub dataset: String,
    /// Names of the image channels.
    pub channel_names: Vec<String>,
    /// File ending of the dataset.
    pub file_ending: String,
    /// Meaning of the labels.
    pub labels: &'a Labels,
    /// nnU-Net's plans, all configurations.
    pub plans: Value,
    /// Name of the configuration.
    pub configuration: String,
    /// Network of the configuration.
    pub architecture: Architecture,
    /// Patch `(z, y, x)` or `(y, x)`.
    pub patch: Vec<usize>,
    /// Batch size of the plan.
    pub batch_size: usize,
    /// Dice over the batch as one image.
    pub batch_dice: bool,
    /// Channels that are 0 outside the body.
    pub use_mask_for_norm: Vec<bool>,
    /// How label maps came onto the network's grid, for the record.
    pub label_resampling: String,
}

/// What a run ended with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Folder of the fold.
    pub folder: PathBuf,
    /// Fold.
    pub fold: String,
    /// Schedule.
    pub schedule: Schedule,
    /// Why that schedule, in sentences.
    pub explanation: Vec<String>,
    /// What was taken over from another training, when this process began with its weights.
    pub pretrained: Option<Transfer>,
    /// Iteration that this process began at; not 0 after a resume.
    pub first_iteration: usize,
    /// Training iterations done in all.
    pub iterations: usize,
    /// Moving average of the pseudo Dice at the end.
    pub ema_pseudo_dice: Option<f64>,
    /// Best moving average.
    pub best_ema_pseudo_dice: Option<f64>,
    /// Seconds of this process.
    pub seconds: f64,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// Trains; the model folder is a [`Bundle`] when it returns.
pub fn train(setup: &Setup<'_>, options: &Options, watch: &mut dyn Watch) -> Result<Outcome> {
    let began = Instant::now();
    check(setup, options)?;
    let identity = identity(setup);
    let folder = RunFolder::create(&options.out, &options.fold)?;
    let mut explanation = vec![format!("Labels on the network's grid: {}.", setup.label_resampling)];
    let (checkpoint, transfer) = match earlier(setup, options, &folder, &identity, &mut explanation)? {
        Some(checkpoint) => (checkpoint, None),
        None => fresh(setup, options, identity, began, &mut explanation, watch)?,
    };
    if let Some(transfer) = &transfer {
        folder.keep_transfer(transfer)?;
    }
    let state = &checkpoint.state;
    folder.keep_metrics(&state.history, state.schedule.epochs)?;
    write_description(setup, options, &state.schedule)?;
    let mut record = record(setup, options, &folder, state, &explanation);
    folder.record(&record)?;
    watch.on_start(&explanation);

    let network = network(setup, &state.schedule.features)?;
    let batches = batches(setup, &network, state.seed, state.schedule.batch_size);
    let loss = LossSpec::for_labels(setup.labels, setup.batch_dice, network.scales());
    let mut run = Run::new(&network, loss, checkpoint, &folder, batches.recipe.patch)?;
    let stepping = Instant::now();
    let ended = run.go(&batches, makers(), watch);
    let iterations = run.state.iterations();
    record.seconds = began.elapsed().as_secs_f64();
    record.iterations_per_second =
        (iterations - record.first_iteration) as f64 / stepping.elapsed().as_secs_f64();
    record.peak_memory_bytes = peak_memory();
    if ended.is_err() {
        folder.record(&record)?;
    }
    ended?;
    finish(options, &run)?;
    // Last, so that a run which calls itself complete has its weights.
    record.complete = true;
    folder.record(&record)?;
    checkpoint::keep_newest(&folder.checkpoints(), 1);
    Ok(Outcome {
        folder: folder.path.clone(),
        fold: options.fold.clone(),
        schedule: run.state.schedule.clone(),
        explanation,
        pretrained: transfer,
        first_iteration: record.first_iteration,
        iterations,
        ema_pseudo_dice: run.state.ema,
        best_ema_pseudo_dice: run.state.best,
        seconds: record.seconds,
        peak_memory_bytes: record.peak_memory_bytes,
    })
}

/// Final weights of the fold.
fn finish(options: &Options, run: &Run<'_>) -> Result<()> {
    let state = &run.state;
    let told = json!({
        "iterations": state.iterations(),
        "epochs": state.schedule.epochs,
        "ema_pseudo_dice": state.ema,
        "best_ema_pseudo_dice": state.best,
        "seed": state.seed,
    });
    Bundle::write_fold(&options.out, &options.fold, run.weights(), &told)
}

/// What `run.json` says before the first step.
fn record(
    setup: &Setup<'_>,
    options: &Options,
    folder: &RunFolder,
    state: &State,
    explanation: &[String],
) -> RunRecord {
    let before = options.resume.then(|| folder.earlier_record()).flatten();
    RunRecord {
        format: 1,
        command: options.command.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        seed: state.seed,
        fold: options.fold.clone(),
        plan_sha256: hash(&[setup.plans.to_string().as_bytes()]),
        identity: state.identity.clone(),
        cases: [setup.training.len(), setup.validation.len()],
        schedule: state.schedule.clone(),
        explanation: before.iter().flat_map(|b| &b.explanation).chain(explanation).cloned().collect(),
        machine: Machine::this(),
        first_iteration: state.iterations(),
        seconds_before: before.map_or(0.0, |b| b.seconds_before + b.seconds),
        seconds: 0.0,
        iterations_per_second: 0.0,
        peak_memory_bytes: None,
        complete: false,
    }
}

fn check(setup: &Setup<'_>, options: &Options) -> Result<()> {
    if setup.training.is_empty() {
        let what = "the fold has no training case";
        return Err(Error::input(&setup.dataset, what, "choose another fold, or add labelled cases"));
    }
    network(setup, &setup.architecture.features)?.check_size(recipe(setup).patch)?;
    // What does not fit is refused before anything is written; a resumed run does not look at it.
    if let (Some(pretrained), false) = (&options.pretrained, options.resume) {
        let network =
            network(setup, &width(setup, options)?.unwrap_or_else(|| setup.architecture.features.clone()))?;
        pretrained.transfer(&network, network.initial_weights(options.seed))?;
    }
    Ok(())
}

pub(crate) fn network(setup: &Setup<'_>, features: &[usize]) -> Result<Network> {
    let architecture = Architecture { features: features.to_vec(), ..setup.architecture.clone() };
    Network::new(&architecture, setup.cases.channels(), setup.labels.output_channels())
}

fn recipe(setup: &Setup<'_>) -> Recipe {
    Recipe::for_plan(&setup.patch, &setup.use_mask_for_norm, &[])
}

pub(crate) fn batches<'a>(setup: &Setup<'a>, network: &Network, seed: u64, batch: usize) -> Batches<'a> {
    let recipe = recipe(setup);
    let sampler = |cases: &[usize], initial| Sampler {
        cases: cases.to_vec(),
        initial,
        patch: recipe.patch,
        batch,
        has_ignore: setup.labels.ignore().is_some(),
        seed,
    };
    let validation = if setup.validation.is_empty() { &setup.training } else { &setup.validation };
    Batches {
        cases: setup.cases,
        training: sampler(&setup.training, recipe.initial),
        validation: sampler(validation, recipe.patch),
        output_sizes: network.output_sizes(recipe.patch),
        recipe,
    }
}

/// Threads that make batches: augmentation takes a few hundredths of a step.
fn makers() -> usize {
    (rayon::current_num_threads() / 4).clamp(1, 4)
}

fn write_description(setup: &Setup<'_>, options: &Options, schedule: &Schedule) -> Result<()> {
    let plans = effective_plan(&setup.plans, &setup.configuration, schedule.batch_size, &schedule.features)?;
    let recipe = recipe(setup);
    // The network of a 2D plan counts its axes from y.
    let first = usize::from(recipe.flat);
    let mirror_axes: Vec<usize> = recipe.mirror_axes.iter().map(|axis| axis - first).collect();
    let provenance = Provenance {
        writer: format!("galen {}", env!("CARGO_PKG_VERSION")),
        dataset: setup.dataset.clone(),
        trainer: "nnU-Net recipe".into(),
        iterations: Some(schedule.iterations as u64),
        label_resampling: setup.label_resampling.clone(),
    };
    Bundle::write(
        &options.out,
        &BundleContent {
            plans_json: &plans,
            configuration: &setup.configuration,
            labels: setup.labels,
            channel_names: &setup.channel_names,
            file_ending: &setup.file_ending,
            mirror_axes: &mirror_axes,
            provenance: &provenance,
        },
    )
}

fn identity(setup: &Setup<'_>) -> String {
    let labels = json!(setup.labels).to_string();
    let names = json!(setup.case_names).to_string();
    hash(&[
        setup.plans.to_string().as_bytes(),
        setup.configuration.as_bytes(),
        labels.as_bytes(),
        names.as_bytes(),
    ])
}

fn hash(parts: &[&[u8]]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
