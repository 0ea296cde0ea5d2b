//! How a run talks to whoever started it. Nothing here prints.

use serde::{Deserialize, Serialize};

/// Numbers of one finished epoch; the same on every machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Finished epochs, this one included.
    pub epoch: usize,
    /// Training iterations done.
    pub iteration: usize,
    /// Learning rate of the epoch.
    pub learning_rate: f64,
    /// Mean training loss.
    pub train_loss: f64,
    /// Mean loss on validation patches.
    pub val_loss: f64,
    /// Dice over all validation patches of the epoch together, per foreground class or region; `None` where
    /// neither truth nor prediction had it.
    pub pseudo_dice: Vec<Option<f64>>,
    /// Mean of the defined ones; 0 without any.
    pub mean_pseudo_dice: f64,
    /// Moving average of the mean: 0.9 old + 0.1 new.
    pub ema_pseudo_dice: f64,
    /// The moving average is the best so far.
    pub is_best: bool,
}

/// One finished epoch as reported while training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// What was measured.
    #[serde(flatten)]
    pub epoch: Epoch,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Seconds that the epoch took, validation and checkpoint included.
    pub seconds: f64,
    /// Seconds that the rest will take at this pace.
    pub seconds_left: f64,
}

/// Follows a run, and may stop it.
pub trait Watch {
    /// Called once, before the first step: what was chosen, in sentences.
    fn on_start(&mut self, _explanation: &[String]) {}
    /// Called after each training iteration (`iteration` of `total`, the first is 1).
    fn on_iteration(&mut self, _iteration: usize, _total: usize, _loss: f64) {}
    /// Called after each epoch.
    fn on_epoch(&mut self, _report: &EpochReport) {}
    /// Asked before each batch; true writes a checkpoint and ends the run with an interruption.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Watches nothing.
pub struct Silent;

impl Watch for Silent {}
