//! Checkpoints: all that the next step depends on, so that a resumed run gives the same bytes as one that
//! was never stopped.
//!
//! One folder per checkpoint (`batch_N`: weights, momentum, state.json), filled under another name,
//! forced to disk and then renamed; the two newest are kept, so a crash while writing leaves an older one.

use crate::schedule::Schedule;
use crate::watch::Epoch;
use galen_core::{Error, Result};
use galen_models::{Hard, Weights};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
/// Generations that stay on disk.
const KEPT: usize = 2;

/// Sums of the epoch that is under way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Running {
    /// Sum of training losses.
    pub train_loss: f64,
    /// Sum of validation losses.
    pub val_loss: f64,
    /// True positives, false positives, false negatives per foreground class or region.
    pub counts: Vec<[u64; 3]>,
}

impl Running {
    /// Adds one validation batch.
    pub fn add(&mut self, counts: &[Hard]) {
        self.counts.resize(counts.len(), [0; 3]);
        for (sum, hard) in self.counts.iter_mut().zip(counts) {
            sum[0] += hard.true_positive;
            sum[1] += hard.false_positive;
            sum[2] += hard.false_negative;
        }
    }

    /// Dice of the sums per class; `None` where nothing was there.
    pub fn dice(&self) -> Vec<Option<f64>> {
        let of = |&[tp, fp, fnegative]: &[u64; 3]| {
            let marked = 2 * tp + fp + fnegative;
            (marked > 0).then(|| 2.0 * tp as f64 / marked as f64)
        };
        self.counts.iter().map(of).collect()
    }
}

/// Everything but the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format number of the file.
    pub format: u32,
    /// Schedule of the run.
    pub schedule: Schedule,
    /// Seed of weights, places and augmentation.
    pub seed: u64,
    /// SHA-256 of plan, configuration, labels and training cases, to refuse another run's checkpoint.
    pub identity: String,
    /// Batches done, training and validation together.
    pub position: u64,
    /// Epoch under way.
    pub running: Running,
    /// Moving average of the pseudo Dice.
    pub ema: Option<f64>,
    /// Best moving average so far.
    pub best: Option<f64>,
    /// Finished epochs.
    pub history: Vec<Epoch>,
}

impl State {
    /// Before the first step.
    pub fn new(schedule: Schedule, seed: u64, identity: String) -> Self {
        let running = Running::default();
        let history = Vec::new();
        Self {
            format: FORMAT,
            schedule,
            seed,
            identity,
            position: 0,
            running,
            ema: None,
            best: None,
            history,
        }
    }

    /// Training iterations done.
    pub fn iterations(&self) -> usize {
        self.schedule.iterations_done(self.position)
    }
}

/// A checkpoint in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Schedule, position and history.
    pub state: State,
    /// Weights.
    pub weights: Weights,
    /// Momentum buffers.
    pub momentum: Weights,
}

/// Writes a checkpoint into `folder` and removes all but the newest two.
pub fn write(folder: &Path, state: &State, weights: &Weights, momentum: &Weights) -> Result<PathBuf> {
    let system = |path: &Path, error: std::io::Error| Error::system(path.display(), &error);
    // Named by batches, since a stop during validation comes after the same training iteration.
    let target = folder.join(format!("batch_{:010}", state.position));
    // Stopped again before the first batch after a resume: it is there, and stays there.
    if read(&target).is_ok_and(|there| there.state == *state) {
        return Ok(target);
    }
    let beside = folder.join(format!(".partial_{:010}", state.position));
    let _ = fs::remove_dir_all(&beside); // a leftover of a crash, usually not there
    fs::create_dir_all(&beside).map_err(|e| system(&beside, e))?;
    weights.write_safetensors(&beside.join("weights.safetensors"))?;
    momentum.write_safetensors(&beside.join("momentum.safetensors"))?;
    let text = serde_json::to_vec_pretty(state).map_err(|e| Error::bug("checkpoint", e))?;
    let path = beside.join("state.json");
    galen_io::replace_file(&path, &text)?;
    sync_folder(&beside);
    let _ = fs::remove_dir_all(&target); // a damaged one, which the resume passed over
    fs::rename(&beside, &target).map_err(|e| system(&target, e))?;
    sync_folder(folder);
    keep_newest(folder, KEPT);
    Ok(target)
}

/// Removes all but the newest `kept` checkpoints, and what killed runs left half-written.
pub fn keep_newest(folder: &Path, kept: usize) {
    let old = generations(folder).into_iter().skip(kept);
    for old in old.chain(entries(folder, ".partial_")) {
        let _ = fs::remove_dir_all(old); // an old one that stays costs only space
    }
}

/// The newest whole checkpoint in `folder`, and what was wrong with newer ones. `None` without any.
pub fn latest(folder: &Path) -> Result<Option<(Checkpoint, Vec<String>)>> {
    let mut damaged = Vec::new();
    let mut last_error = None;
    for path in generations(folder) {
        match read(&path) {
            Ok(checkpoint) => return Ok(Some((checkpoint, damaged))),
            Err(error) => {
                damaged.push(error.to_string());
                last_error = Some(error);
            }
        }
    }
    last_error.map_or(Ok(None), Err)
}

fn read(path: &Path) -> Result<Checkpoint> {
    let file = path.join("state.json");
    let bytes = fs::read(&file).map_err(|e| Error::system(file.display(), &e))?;
    let bad = |what: String| Error::input(file.display(), what, "train again without --resume");
    let state: State = serde_json::from_slice(&bytes).map_err(|e| bad(format!("damaged checkpoint: {e}")))?;
    if state.format != FORMAT {
        return Err(bad(format!("checkpoint format {}, this Galen reads {FORMAT}", state.format)));
    }
    let weights = Weights::read_safetensors(&path.join("weights.safetensors"))?;
    let momentum = Weights::read_safetensors(&path.join("momentum.safetensors"))?;
    Ok(Checkpoint { state, weights, momentum })
}

/// Complete checkpoints, newest first.
fn generations(folder: &Path) -> Vec<PathBuf> {
    let mut found = entries(folder, "batch_");
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// What is in a folder under names that begin so.
fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let begins =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries.flatten().map(|entry| entry.path()).filter(begins).collect()
}

/// Makes a rename or a new file in `folder` durable, where the system allows that.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all(); // not every system syncs folders; the files themselves are synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_models::Tensor;

    fn one(value: f32) -> Weights {
        [("a.weight".to_owned(), Tensor { shape: vec![2], values: vec![value; 2] })].into_iter().collect()
    }

    fn at(position: u64) -> State {
        let mut state = State::new(Schedule::of_iterations(10, 2, &[4]), 1, "id".into());
        state.position = position;
        state.ema = Some(0.1 + 0.2);
        state
    }

    #[test]
    fn two_generations_stay_and_a_damaged_one_falls_back() {
        let folder = tempfile::tempdir().unwrap();
        for position in [3, 6, 9] {
            write(folder.path(), &at(position), &one(position as f32), &one(0.5)).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let (checkpoint, damaged) = latest(folder.path()).unwrap().unwrap();
        assert_eq!((checkpoint.state, checkpoint.weights, damaged.len()), (at(9), one(9.0), 0));
        let newest = folder.path().join("batch_0000000009/momentum.safetensors");
        fs::write(&newest, b"cut").unwrap();
        let (checkpoint, damaged) = latest(folder.path()).unwrap().unwrap();
        assert_eq!((checkpoint.state.position, damaged.len()), (6, 1));
        fs::write(folder.path().join("batch_0000000006/state.json"), b"{").unwrap();
        assert!(latest(folder.path()).is_err());
        assert!(latest(&folder.path().join("nothing")).unwrap().is_none());
    }

    #[test]
    fn a_checkpoint_that_is_there_is_kept_and_half_written_ones_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &at(6), &one(1.0), &one(0.5)).unwrap();
        let made = fs::metadata(path.join("state.json")).unwrap().modified().unwrap();
        fs::create_dir(folder.path().join(".partial_0000000009")).unwrap();
        assert_eq!(write(folder.path(), &at(6), &one(1.0), &one(0.5)).unwrap(), path);
        assert_eq!(fs::metadata(path.join("state.json")).unwrap().modified().unwrap(), made);
        write(folder.path(), &at(8), &one(1.0), &one(0.5)).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["batch_0000000006", "batch_0000000008"]);
    }

    #[test]
    fn pseudo_dice_is_over_the_sums_and_undefined_without_any_voxel() {
        let hard = |t, p, n| Hard { true_positive: t, false_positive: p, false_negative: n };
        let mut running = Running::default();
        running.add(&[hard(3, 1, 0), hard(0, 0, 0)]);
        running.add(&[hard(0, 0, 2), hard(0, 0, 0)]);
        assert_eq!(running.dice(), [Some(6.0 / 9.0), None]);
    }
}
