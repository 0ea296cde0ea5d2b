//! From a time to a schedule: a few real steps are timed on this machine, then batch, width and iterations
//! are chosen so that the whole learning-rate schedule fits.
//!
//! Why so: at equal time many small steps beat few large ones until a run is some thousand steps long, and a
//! schedule that reaches its end beats a better network that does not. Width is the last thing to give up: at
//! nnU-Net's learning rate half the width learns slower per step by more than it gains in speed (Hippocampus:
//! pseudo Dice 0.6 after 100 steps at width 32, 0.3 after three times as many at width 16).

use crate::schedule::Schedule;
use galen_core::{Error, Result};
use std::time::Instant;

/// Seconds of one training step and of one validation batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTime {
    /// Forward, backward and update.
    pub train: f64,
    /// Forward and loss.
    pub evaluate: f64,
}

/// What the choice starts from.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// When the run began; measuring is paid from the same budget.
    pub began: Instant,
    /// Seconds that the run may take from `began` on.
    pub seconds: f64,
    /// Batch of the plan.
    pub batch_size: usize,
    /// Feature maps per stage of the plan.
    pub features: &'a [usize],
    /// Other folds of the model have this width, so it may not change.
    pub width_is_fixed: bool,
    /// Bytes of one checkpoint, for the time that writing takes.
    pub checkpoint_bytes: u64,
}

/// Smallest batch: deep supervision and the oversampling rule need one free and one foreground sample.
const BATCH_MIN: usize = 2;
/// With fewer iterations than this no network learns anything; a narrower one at least gets more of them.
const ITERATIONS_MIN: usize = 50;
/// Above this many iterations a larger batch learns more.
const ITERATIONS_PLENTY: usize = 4000;
/// Widths tried, as quarters of the plan's.
const QUARTERS: [usize; 3] = [4, 3, 2];
/// Share of the time that is planned; the rest is for what the timing did not see.
const USED: f64 = 0.93;
/// Bytes per second that a checkpoint is assumed to be written at.
const DISK_RATE: f64 = 1.5e8;
/// Share of the time that checkpoints may take.
const CHECKPOINT_SHARE: f64 = 0.02;

/// Chooses a schedule and says why. `time` measures a width and a batch size; it is asked as rarely as possible.
pub fn choose(
    offer: &Offer<'_>,
    mut time: impl FnMut(&[usize], usize) -> Result<StepTime>,
) -> Result<(Schedule, Vec<String>)> {
    let mut said = Vec::new();
    let batch = BATCH_MIN.min(offer.batch_size.max(1));
    let (features, step) = widest(offer, batch, &mut time, &mut said)?;
    let iterations = fitting(offer, step);
    if iterations == 0 {
        let what =
            format!("one training step takes {:.1} s here, {:.0} s are left", step.train, offer.seconds);
        let enough = (step.train * 10.0 / USED + 30.0).ceil();
        return Err(Error::input("budget", what, format!("give at least {enough:.0}s, or a smaller plan")));
    }
    let (batch, step) = largest_batch(offer, batch, &features, step, &mut time, &mut said)?;
    let iterations = fitting(offer, step).max(1);
    let mut schedule = Schedule::of_iterations(iterations, batch, &features);
    schedule.checkpoint_every = checkpoint_every(offer, &schedule);
    said.push(format!(
        "Schedule: {} iterations in {} epochs at batch {batch}, about {:.1} min; the learning rate reaches its \
         end within the budget.",
        schedule.iterations,
        schedule.epochs,
        seconds(&schedule, step) / 60.0
    ));
    Ok((schedule, said))
}

/// The widest network that gets enough iterations; when none does, the narrowest.
fn widest(
    offer: &Offer<'_>,
    batch: usize,
    time: &mut impl FnMut(&[usize], usize) -> Result<StepTime>,
    said: &mut Vec<String>,
) -> Result<(Vec<usize>, StepTime)> {
    let mut best: Option<(Vec<usize>, StepTime)> = None;
    let widths = if offer.width_is_fixed { &QUARTERS[..1] } else { &QUARTERS };
    for &quarters in widths {
        let features: Vec<usize> = offer.features.iter().map(|&f| narrowed(f, quarters)).collect();
        let step = time(&features, batch)?;
        let iterations = fitting(offer, step);
        said.push(format!(
            "Measured: a step at batch {batch} with {} to {} features takes {:.2} s, so {iterations} iterations fit.",
            features[0],
            features[features.len() - 1],
            step.train
        ));
        let faster = best.as_ref().is_none_or(|(_, fastest)| step.train < fastest.train);
        if faster {
            best = Some((features, step));
        }
        if iterations >= ITERATIONS_MIN {
            break;
        }
    }
    let (features, step) = best.ok_or_else(|| Error::bug("budget", "no width was tried"))?;
    if features == offer.features {
        said.push("Width: as planned.".into());
    } else {
        said.push(format!(
            "Width: {} features in the first stage instead of {}, since fewer than {ITERATIONS_MIN} iterations \
             of the planned network would fit.",
            features[0], offer.features[0]
        ));
    }
    Ok((features, step))
}

/// A quarter of features less per step, in whole groups of eight.
fn narrowed(features: usize, quarters: usize) -> usize {
    if quarters == 4 { features } else { (features * quarters / 4).next_multiple_of(8).min(features) }
}

/// The largest batch up to the plan's that leaves plenty of iterations.
fn largest_batch(
    offer: &Offer<'_>,
    least: usize,
    features: &[usize],
    step: StepTime,
    time: &mut impl FnMut(&[usize], usize) -> Result<StepTime>,
    said: &mut Vec<String>,
) -> Result<(usize, StepTime)> {
    let iterations = fitting(offer, step);
    let room = least * iterations / ITERATIONS_PLENTY;
    let batch = room.clamp(least, offer.batch_size.max(least));
    if batch == least {
        said.push(if least == offer.batch_size {
            format!("Batch: {least}, as planned.")
        } else {
            let planned = offer.batch_size;
            format!("Batch: {least} instead of the plan's {planned}; more iterations are worth more.")
        });
        return Ok((least, step));
    }
    let larger = time(features, batch)?;
    said.push(format!(
        "Batch: {batch} of the plan's {}; {ITERATIONS_PLENTY} iterations are plenty, and the step takes {:.2} s.",
        offer.batch_size, larger.train
    ));
    Ok((batch, larger))
}

/// Iterations that fit, validation and checkpoints paid.
fn fitting(offer: &Offer<'_>, step: StepTime) -> usize {
    let left = offer.seconds - offer.began.elapsed().as_secs_f64();
    let usable = left * USED - 2.0 * offer.checkpoint_bytes as f64 / DISK_RATE;
    // Validation follows at a fifth of the training iterations; a very short run has relatively more of it.
    let mut iterations = (usable / (step.train + step.evaluate / 5.0)).max(0.0) as usize;
    while iterations > 0 && seconds(&Schedule::of_iterations(iterations, 1, &[]), step) > usable {
        iterations -= (iterations / 50).max(1);
    }
    iterations
}

/// Seconds of training and validation steps.
fn seconds(schedule: &Schedule, step: StepTime) -> f64 {
    let validation = (schedule.epochs * schedule.validation_iterations) as f64;
    schedule.iterations as f64 * step.train + validation * step.evaluate
}

fn checkpoint_every(offer: &Offer<'_>, schedule: &Schedule) -> usize {
    let each = offer.checkpoint_bytes as f64 / DISK_RATE;
    let affordable = (offer.seconds * CHECKPOINT_SHARE / each.max(1e-9)).max(1.0);
    (schedule.epochs as f64 / affordable).ceil().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEATURES: [usize; 4] = [32, 64, 128, 256];

    fn offer(seconds: f64) -> Offer<'static> {
        let (began, width_is_fixed) = (Instant::now(), false);
        Offer {
            began,
            seconds,
            batch_size: 9,
            features: &FEATURES,
            width_is_fixed,
            checkpoint_bytes: 45_000_000,
        }
    }

    fn chosen(minutes: f64, full: f64) -> Schedule {
        let offer = offer(minutes * 60.0);
        let time = |features: &[usize], batch: usize| {
            let train = full * (features[0] as f64 / 32.0).powi(2) * batch as f64 / 2.0;
            Ok(StepTime { train, evaluate: train / 3.0 })
        };
        let (schedule, said) = choose(&offer, time).unwrap();
        let step = time(&schedule.features, schedule.batch_size).unwrap();
        assert!(seconds(&schedule, step) <= offer.seconds * USED, "{said:?}");
        schedule
    }

    #[test]
    fn iterations_come_first_then_width_then_batch() {
        let usual = chosen(20.0, 1.0);
        assert_eq!((usual.batch_size, usual.features[0]), (2, 32));
        assert!(usual.iterations > 900);
        let slow = chosen(1.0, 1.5);
        assert_eq!((slow.batch_size, slow.features[0], slow.features[3]), (2, 24, 192));
        let rich = chosen(600.0, 1.0);
        assert_eq!((rich.batch_size, rich.features[0]), (9, 32));
        assert!(rich.iterations >= 3900);
    }

    #[test]
    fn too_little_time_is_refused_with_a_number() {
        let error =
            choose(&offer(3.0), |_, _| Ok(StepTime { train: 10.0, evaluate: 3.0 })).unwrap_err().to_string();
        assert!(error.contains("one training step takes 10.0 s") && error.contains("138s"), "{error}");
    }
}
