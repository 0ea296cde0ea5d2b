//! The training loop: nnU-Net's, on batches that are made ahead.
//! Source: nnU-Net 2.8.1 `nnUNetTrainer` (SGD with Nesterov momentum, polynomial rate per epoch, pseudo Dice
//! and its moving average). Differs: the best weights and every epoch's checkpoint are whole files at any
//! moment, and a resumed run equals an uninterrupted one bit for bit.

use crate::batch::{Batch, Batches};
use crate::checkpoint::{self, Checkpoint, Running, State};
use crate::prefetch::{self, Queue};
use crate::run_folder::RunFolder;
use crate::schedule::{Schedule, Turn};
use crate::watch::{Epoch, EpochReport, Watch};
use galen_core::{Error, Result};
use galen_models::{LossSpec, Network, Sgd, Training, polynomial_rate};
use std::time::Instant;

/// Steps in a row whose gradient is no number before training is given up.
const SKIPPED_MOST: usize = 10;

/// A run that stands ready.
pub(crate) struct Run<'a> {
    /// Everything that the next step depends on.
    pub state: State,
    training: Training,
    optimiser: Sgd,
    folder: &'a RunFolder,
    /// Size of the network's patch, `(z, y, x)`.
    patch: [usize; 3],
    /// Steps in a row that changed nothing.
    skipped: usize,
    began: Instant,
    first_position: u64,
    epoch_began: Instant,
}

impl<'a> Run<'a> {
    /// From a checkpoint, or from the start with fresh weights.
    pub fn new(
        network: &Network,
        loss: LossSpec,
        checkpoint: Checkpoint,
        folder: &'a RunFolder,
        patch: [usize; 3],
    ) -> Result<Self> {
        let settings = checkpoint.state.schedule.optimiser;
        let optimiser = Sgd {
            momentum: settings.momentum,
            weight_decay: settings.weight_decay,
            norm_max: settings.norm_max,
            buffers: checkpoint.momentum,
        };
        let first_position = checkpoint.state.position;
        let storage = checkpoint.state.schedule.precision.storage();
        let training = network.training(checkpoint.weights, loss)?.stored(storage);
        let (state, now) = (checkpoint.state, Instant::now());
        let skipped = 0;
        Ok(Self {
            state,
            training,
            optimiser,
            folder,
            patch,
            skipped,
            began: now,
            first_position,
            epoch_began: now,
        })
    }

    /// Weights as they are now.
    pub fn weights(&self) -> &galen_models::Weights {
        self.training.weights()
    }

    /// Trains to the end of the schedule. A stop writes a checkpoint and returns an interruption.
    pub fn go(&mut self, batches: &Batches<'_>, makers: usize, watch: &mut dyn Watch) -> Result<()> {
        let schedule = self.state.schedule.clone();
        let make = |position: u64| make(batches, &schedule, position);
        let (first, end) = (self.state.position, schedule.batches());
        prefetch::ordered(first, end, makers, make, |queue| self.consume(queue, watch))
    }

    fn consume(&mut self, queue: &mut Queue<'_, Result<Batch>>, watch: &mut dyn Watch) -> Result<()> {
        while self.state.position < self.state.schedule.batches() {
            if watch.should_stop() {
                self.save()?;
                let what = format!(
                    "training stopped at iteration {} of {}; a checkpoint is written, --resume goes on from there",
                    self.state.iterations(),
                    self.state.schedule.iterations
                );
                return Err(Error::interrupted(what));
            }
            let batch =
                queue.next().ok_or_else(|| Error::bug("training", "a thread that makes batches died"))??;
            self.one(&batch, watch)?;
            if self.state.position == self.state.schedule.batches_before(self.state.history.len() + 1) {
                self.end_epoch(watch)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, batch: &Batch, watch: &mut dyn Watch) -> Result<()> {
        let (epoch, turn) = self.state.schedule.at(self.state.position);
        let n = self.state.schedule.batch_size;
        if matches!(turn, Turn::Train(_)) {
            let loss = self.training.step(&batch.images, n, self.patch, &batch.targets)?.loss;
            if !loss.is_finite() {
                return Err(diverged(self.state.iterations() + 1));
            }
            let rate = polynomial_rate(self.state.schedule.optimiser.rate, epoch, self.state.schedule.epochs);
            let norm = self.training.update(&mut self.optimiser, rate);
            // Such a step changes nothing; a run of nothing but such steps would look like a training.
            self.skipped = if norm.is_finite() { 0 } else { self.skipped + 1 };
            if self.skipped == SKIPPED_MOST {
                return Err(diverged(self.state.iterations() + 1));
            }
            self.state.running.train_loss += loss;
            self.state.position += 1;
            watch.on_iteration(self.state.iterations(), self.state.schedule.iterations, loss);
        } else {
            let found = self.training.evaluate(&batch.images, n, self.patch, &batch.targets)?;
            if !found.loss.is_finite() {
                return Err(diverged(self.state.iterations()));
            }
            self.state.running.val_loss += found.loss;
            self.state.running.add(&found.counts);
            self.state.position += 1;
        }
        Ok(())
    }

    fn end_epoch(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let epoch = self.close_epoch();
        let number = epoch.epoch;
        if epoch.is_best {
            self.training.weights().write_safetensors(&self.folder.best())?;
        }
        self.state.history.push(epoch.clone());
        let last = number == self.state.schedule.epochs;
        if last || number.is_multiple_of(self.state.schedule.checkpoint_every) {
            self.save()?;
        }
        let report = EpochReport {
            epoch,
            epochs: self.state.schedule.epochs,
            seconds: self.epoch_began.elapsed().as_secs_f64(),
            seconds_left: self.seconds_left(),
        };
        self.epoch_began = Instant::now();
        self.folder.add_epoch(&report, &self.state.history)?;
        watch.on_epoch(&report);
        Ok(())
    }

    /// Turns the sums of the epoch into its numbers and begins the next.
    fn close_epoch(&mut self) -> Epoch {
        let running = std::mem::take(&mut self.state.running);
        let schedule = &self.state.schedule;
        let number = self.state.history.len() + 1;
        let iteration = schedule.iterations_before(number);
        let trained = iteration - schedule.iterations_before(number - 1);
        let pseudo_dice = running.dice();
        let mean = mean_of_defined(&pseudo_dice);
        let ema = self.state.ema.map_or(mean, |old| 0.9 * old + 0.1 * mean);
        let is_best = self.state.best.is_none_or(|best| ema > best);
        self.state.ema = Some(ema);
        if is_best {
            self.state.best = Some(ema);
        }
        let Running { train_loss, val_loss, .. } = running;
        Epoch {
            epoch: number,
            iteration,
            learning_rate: polynomial_rate(schedule.optimiser.rate, number - 1, schedule.epochs),
            train_loss: train_loss / trained as f64,
            val_loss: val_loss / schedule.validation_iterations as f64,
            pseudo_dice,
            mean_pseudo_dice: mean,
            ema_pseudo_dice: ema,
            is_best,
        }
    }

    fn save(&self) -> Result<()> {
        let folder = self.folder.checkpoints();
        checkpoint::write(&folder, &self.state, self.training.weights(), &self.optimiser.buffers).map(|_| ())
    }

    fn seconds_left(&self) -> f64 {
        let done = (self.state.position - self.first_position).max(1) as f64;
        let left = (self.state.schedule.batches() - self.state.position) as f64;
        self.began.elapsed().as_secs_f64() / done * left
    }
}

/// The batch at a position of the run.
fn make(batches: &Batches<'_>, schedule: &Schedule, position: u64) -> Result<Batch> {
    match schedule.at(position).1 {
        Turn::Train(iteration) => batches.training(iteration as u64),
        Turn::Validate(number) => batches.validation(number as u64),
    }
}

fn mean_of_defined(values: &[Option<f64>]) -> f64 {
    let defined: Vec<f64> = values.iter().flatten().copied().collect();
    if defined.is_empty() { 0.0 } else { defined.iter().sum::<f64>() / defined.len() as f64 }
}

fn diverged(iteration: usize) -> Error {
    Error::input(
        "training",
        format!("loss or gradient of iteration {iteration} is not a number"),
        "check the images for extreme values (`galen check`), or train with another --seed",
    )
}
