//! How long and how hard a run trains. Fixed before the first step and stored with every checkpoint, so that
//! a resumed run is the same run.

use galen_models::Storage;
use serde::{Deserialize, Serialize};

/// What training may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// nnU-Net's plan and schedule to the letter: 1000 epochs of 250 iterations.
    Exact,
    /// Wall time of training, validation during training and checkpoints included.
    Time(std::time::Duration),
    /// Training iterations with the plan's batch and width.
    Iterations(usize),
}

/// nnU-Net's optimiser settings; stored, so that old runs keep theirs if defaults move.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Optimiser {
    /// Learning rate of the first epoch.
    pub rate: f64,
    /// Nesterov momentum.
    pub momentum: f32,
    /// Weight decay on all weights.
    pub weight_decay: f32,
    /// Largest gradient norm.
    pub norm_max: f64,
}

impl Default for Optimiser {
    fn default() -> Self {
        Self { rate: 0.01, momentum: 0.99, weight_decay: 3e-5, norm_max: 12.0 }
    }
}

impl Optimiser {
    /// For a run of so many iterations. Momentum 0.99 averages over 100 steps, which is most of a short run:
    /// there it averages over a hundredth of the run, 10 steps at least, and `rate / (1 - momentum)`, the
    /// speed that nnU-Net trains at, stays 1. (Hippocampus fold 0, 125 iterations: Dice 0.81 instead of 0.61.)
    fn of_iterations(iterations: usize) -> Self {
        let steps = (iterations / 100).clamp(10, 100) as f64;
        Self { rate: 1.0 / steps, momentum: (1.0 - 1.0 / steps) as f32, ..Self::default() }
    }
}

/// How the activations of a step are stored until their gradients are made; all arithmetic is in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Four bytes per value.
    #[default]
    F32,
    /// Two bytes per value.
    Bf16,
}

impl Precision {
    pub(crate) fn storage(self) -> Storage {
        match self {
            Self::F32 => Storage::F32,
            Self::Bf16 => Storage::Bf16,
        }
    }
}

/// The schedule of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Training iterations of the whole run.
    pub iterations: usize,
    /// Epochs that they are spread over as evenly as whole numbers allow; the learning rate falls from one to
    /// the next.
    pub epochs: usize,
    /// Validation batches after each epoch.
    pub validation_iterations: usize,
    /// Samples per batch.
    pub batch_size: usize,
    /// Feature maps per stage.
    pub features: Vec<usize>,
    /// A checkpoint is written after every so many epochs.
    pub checkpoint_every: usize,
    /// Optimiser settings.
    pub optimiser: Optimiser,
    /// How activations are stored.
    #[serde(default)]
    pub precision: Precision,
}

/// One batch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Training iteration, counted over the whole run.
    Train(usize),
    /// Validation batch, counted over the whole run.
    Validate(usize),
}

/// nnU-Net's epochs, training and validation iterations per epoch.
const EXACT: (usize, usize, usize) = (1000, 250, 50);
/// Epochs that a shorter run is cut into, so that the learning rate falls in small steps.
const EPOCHS: usize = 40;
/// Shortest epoch: validation is a fifth of it.
const EPOCH_MIN: usize = 5;

impl Schedule {
    /// nnU-Net's own.
    pub fn exact(batch_size: usize, features: &[usize]) -> Self {
        let (epochs, per_epoch, validation_iterations) = EXACT;
        Self {
            iterations: epochs * per_epoch,
            epochs,
            validation_iterations,
            batch_size,
            features: features.to_vec(),
            checkpoint_every: 1,
            optimiser: Optimiser::default(),
            precision: Precision::default(),
        }
    }

    /// Exactly `iterations` (at least 1): 40 epochs, fewer when they would be shorter than 5 iterations, more
    /// when they would be longer than nnU-Net's; one validation batch per five iterations as nnU-Net has.
    pub fn of_iterations(iterations: usize, batch_size: usize, features: &[usize]) -> Self {
        let iterations = iterations.max(1);
        let per_epoch = (iterations / EPOCHS).clamp(EPOCH_MIN, EXACT.1);
        let epochs = (iterations / per_epoch).max(1);
        let validation_iterations = (iterations / epochs / 5).max(1);
        let optimiser = Optimiser::of_iterations(iterations);
        Self { iterations, epochs, validation_iterations, optimiser, ..Self::exact(batch_size, features) }
    }

    /// Training iterations before an epoch (the first is 0).
    pub fn iterations_before(&self, epoch: usize) -> usize {
        (epoch as u128 * self.iterations as u128 / self.epochs as u128) as usize
    }

    /// Batches, training and validation, before an epoch.
    pub fn batches_before(&self, epoch: usize) -> u64 {
        (self.iterations_before(epoch) + epoch * self.validation_iterations) as u64
    }

    /// Batches of the whole run.
    pub fn batches(&self) -> u64 {
        self.batches_before(self.epochs)
    }

    /// Epoch and turn of a batch: training batches come first in each epoch.
    pub fn at(&self, position: u64) -> (usize, Turn) {
        let guess = u128::from(position) * self.epochs as u128 / u128::from(self.batches().max(1));
        let mut epoch = guess as usize;
        while self.batches_before(epoch) > position {
            epoch -= 1;
        }
        while self.batches_before(epoch + 1) <= position {
            epoch += 1;
        }
        let within = (position - self.batches_before(epoch)) as usize;
        let (first, end) = (self.iterations_before(epoch), self.iterations_before(epoch + 1));
        let turn = match within.checked_sub(end - first) {
            None => Turn::Train(first + within),
            Some(number) => Turn::Validate(epoch * self.validation_iterations + number),
        };
        (epoch, turn)
    }

    /// Training iterations done before the batch at `position`.
    pub fn iterations_done(&self, position: u64) -> usize {
        if position >= self.batches() {
            return self.iterations;
        }
        match self.at(position) {
            (_, Turn::Train(iteration)) => iteration,
            (epoch, Turn::Validate(_)) => self.iterations_before(epoch + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_are_cut_into_forty_epochs_and_long_ones_into_nnunets() {
        let of = |n| {
            let s = Schedule::of_iterations(n, 2, &[32]);
            (s.iterations, s.epochs, s.validation_iterations)
        };
        assert_eq!(of(1), (1, 1, 1));
        assert_eq!(of(6), (6, 1, 1));
        assert_eq!(of(31), (31, 6, 1));
        assert_eq!(of(1000), (1000, 40, 5));
        assert_eq!(of(100_001), (100_001, 400, 50));
        assert_eq!(Schedule::exact(2, &[32]).iterations, 250_000);
    }

    #[test]
    fn momentum_reaches_nnunets_in_long_runs_only() {
        let of = |n| Schedule::of_iterations(n, 2, &[32]).optimiser;
        assert_eq!((of(125).rate, of(125).momentum), (0.1, 0.9));
        assert_eq!((of(2000).rate, of(2000).momentum), (0.05, 0.95));
        assert_eq!((of(10_000), of(1_000_000)), (Optimiser::default(), Optimiser::default()));
    }

    #[test]
    fn every_iteration_has_its_turn_once_and_in_order() {
        for iterations in [1, 7, 23, 41, 997] {
            let schedule = Schedule::of_iterations(iterations, 2, &[32]);
            let (mut trained, mut validated, mut last) = (0, 0, 0);
            for position in 0..schedule.batches() {
                assert_eq!(schedule.iterations_done(position), trained);
                let (epoch, turn) = schedule.at(position);
                assert!(epoch == last || epoch == last + 1);
                last = epoch;
                match turn {
                    Turn::Train(iteration) => assert_eq!(iteration, trained),
                    Turn::Validate(number) => assert_eq!(number, validated),
                }
                trained += usize::from(matches!(turn, Turn::Train(_)));
                validated += usize::from(matches!(turn, Turn::Validate(_)));
            }
            assert_eq!((trained, validated), (iterations, schedule.epochs * schedule.validation_iterations));
            assert_eq!(schedule.iterations_done(schedule.batches()), iterations);
        }
    }
}
