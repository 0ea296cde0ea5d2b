//! Where a run begins: at a checkpoint, or with fresh weights and a schedule that fits the budget.

use crate::batch::Batch;
use crate::budget::{self, Offer, StepTime};
use crate::checkpoint::{self, Checkpoint, State};
use crate::run_folder::RunFolder;
use crate::schedule::{Budget, Optimiser, Schedule};
use crate::setup::{Options, Setup, batches, network};
use crate::watch::Watch;
use galen_core::{Error, Result};
use galen_models::{Bundle, LossSpec, Sgd, Transfer, Weights};
use std::time::Instant;

/// The checkpoint to go on from. Without --resume a folder that holds a training is refused.
pub fn earlier(
    setup: &Setup<'_>,
    options: &Options,
    folder: &RunFolder,
    identity: &str,
    explanation: &mut Vec<String>,
) -> Result<Option<Checkpoint>> {
    let place = folder.path.display();
    if !options.resume {
        let used = folder.checkpoints().exists() || folder.path.join("weights.safetensors").exists();
        if used {
            let what = "there is a training here already";
            return Err(Error::input(place, what, "--resume to go on with it, or another --out"));
        }
        return Ok(None);
    }
    let Some((checkpoint, damaged)) = checkpoint::latest(&folder.checkpoints())? else {
        explanation.push(format!("No checkpoint in {place}: training starts from the beginning."));
        return Ok(None);
    };
    if checkpoint.state.identity != identity {
        let what = format!("the checkpoint is of another dataset, plan or fold than {}", setup.dataset);
        return Err(Error::input(
            place,
            what,
            "resume with the same dataset, plan and split, or use another --out",
        ));
    }
    explanation.extend(damaged.iter().map(|error| format!("A damaged checkpoint was passed over: {error}")));
    let schedule = &checkpoint.state.schedule;
    explanation.push(format!(
        "Resumed at iteration {} of {}; schedule, batch {}, {} features, precision and seed {} are those that the \
         run began with, whatever this call asks for.",
        checkpoint.state.iterations(),
        schedule.iterations,
        schedule.batch_size,
        schedule.features[0],
        checkpoint.state.seed
    ));
    Ok(Some(checkpoint))
}

/// Weights to begin with, fresh or of another training, and the schedule that the budget allows.
pub fn fresh(
    setup: &Setup<'_>,
    options: &Options,
    identity: String,
    began: Instant,
    explanation: &mut Vec<String>,
    watch: &mut dyn Watch,
) -> Result<(Checkpoint, Option<Transfer>)> {
    let mut schedule = schedule(setup, options, began, explanation, watch)?;
    schedule.precision = options.precision;
    let (chosen, usual) = (schedule.optimiser, Optimiser::default());
    if chosen != usual {
        explanation.push(format!(
            "Optimiser: momentum {:.3} at learning rate {:.3} instead of nnU-Net's {} at {}, whose average over \
             100 steps is too slow for a run of {}.",
            chosen.momentum, chosen.rate, usual.momentum, usual.rate, schedule.iterations
        ));
    }
    let network = network(setup, &schedule.features)?;
    let (mut weights, mut transfer) = (network.initial_weights(options.seed), None);
    if let Some(pretrained) = &options.pretrained {
        let taken = pretrained.transfer(&network, weights)?;
        explanation.extend(taken.1.sentences());
        (weights, transfer) = (taken.0, Some(taken.1));
    }
    let state = State::new(schedule, options.seed, identity);
    Ok((Checkpoint { state, weights, momentum: Weights::new() }, transfer))
}

fn schedule(
    setup: &Setup<'_>,
    options: &Options,
    began: Instant,
    explanation: &mut Vec<String>,
    watch: &mut dyn Watch,
) -> Result<Schedule> {
    let fixed = width(setup, options)?;
    let features = fixed.as_ref().unwrap_or(&setup.architecture.features);
    match options.budget {
        Budget::Exact => {
            let schedule = Schedule::exact(setup.batch_size, &setup.architecture.features);
            explanation.push(format!(
                "nnU-Net's schedule: {} iterations in {} epochs at batch {}.",
                schedule.iterations, schedule.epochs, schedule.batch_size
            ));
            Ok(schedule)
        }
        Budget::Iterations(iterations) => {
            let schedule = Schedule::of_iterations(iterations, setup.batch_size, features);
            explanation.push(format!(
                "Schedule: {} iterations in {} epochs at the plan's batch {} and width.",
                schedule.iterations, schedule.epochs, schedule.batch_size
            ));
            Ok(schedule)
        }
        Budget::Time(time) => {
            let values = network(setup, features)?.parameter_count() as u64;
            let offer = Offer {
                began,
                seconds: time.as_secs_f64(),
                batch_size: setup.batch_size,
                features,
                width_is_fixed: fixed.is_some(),
                checkpoint_bytes: 8 * values,
            };
            // Timing may take one part in fifty of the budget per candidate, but one step at least.
            let most = time.as_secs_f64() / 50.0;
            let (schedule, said) = budget::choose(&offer, |features, batch| {
                measure(setup, options, features, batch, most, watch)
            })?;
            explanation.extend(said);
            Ok(schedule)
        }
    }
}

/// Features per stage, where they are not for the budget to choose: those of other folds, those that pretrained weights
/// have, or the plan's when nothing else is known of pretrained weights.
pub fn width(setup: &Setup<'_>, options: &Options) -> Result<Option<Vec<usize>>> {
    let plan = &setup.architecture.features;
    let others = width_of_other_folds(setup, options)?;
    if options.budget == Budget::Exact {
        return Ok(Some(plan.clone()));
    }
    if others.is_some() {
        return Ok(others);
    }
    Ok(options.pretrained.as_ref().map(|pretrained| pretrained.narrowed(&setup.architecture).features))
}

/// Folds of one model share a network: the width that other folds in the folder have.
fn width_of_other_folds(setup: &Setup<'_>, options: &Options) -> Result<Option<Vec<usize>>> {
    let Ok(bundle) = Bundle::open(&options.out) else { return Ok(None) };
    if !bundle.folds()?.iter().any(|fold| *fold != options.fold) {
        return Ok(None);
    }
    let stages = setup.architecture.stages();
    let place = options.out.display();
    let other = |what: &str| Error::input(&place, what, "use another --out");
    if bundle.configuration != setup.configuration {
        return Err(other(&format!("the model here is of the configuration {}", bundle.configuration)));
    }
    let own = &bundle.plans_json["configurations"][&setup.configuration];
    let listed = own["architecture"]["arch_kwargs"]["features_per_stage"].clone();
    match serde_json::from_value::<Vec<usize>>(listed) {
        Ok(features) if features.len() == stages => Ok(Some(features)),
        _ => Err(other("the model here has another network")),
    }
}

/// Times real steps on real batches with a network that is thrown away; nothing of the run is touched.
fn measure(
    setup: &Setup<'_>,
    options: &Options,
    features: &[usize],
    batch: usize,
    most: f64,
    watch: &mut dyn Watch,
) -> Result<StepTime> {
    const STEPS: f64 = 4.0;
    let network = network(setup, features)?;
    let loss = LossSpec::for_labels(setup.labels, setup.batch_dice, network.scales());
    let training = network.training(network.initial_weights(options.seed), loss)?;
    let mut training = training.stored(options.precision.storage());
    let batches = batches(setup, &network, options.seed, batch);
    let patch = batches.recipe.patch;
    let Batch { images, targets } = batches.training(0)?;
    let mut optimiser = Sgd::default();
    let mut step = || -> Result<f64> {
        if watch.should_stop() {
            return Err(Error::interrupted("stopped while timing the first steps; nothing was trained"));
        }
        let start = Instant::now();
        training.step(&images, batch, patch, &targets)?;
        // A rate of zero: the work of an update without its effect.
        training.update(&mut optimiser, 0.0);
        Ok(start.elapsed().as_secs_f64())
    };
    let first = step()?; // allocates, so it is slower than those that follow
    let steps = (most / first - 1.0).clamp(1.0, STEPS) as usize;
    let times = (0..steps).map(|_| step()).collect::<Result<Vec<f64>>>()?;
    let start = Instant::now();
    training.evaluate(&images, batch, patch, &targets)?;
    Ok(StepTime { train: times.iter().sum::<f64>() / steps as f64, evaluate: start.elapsed().as_secs_f64() })
}
