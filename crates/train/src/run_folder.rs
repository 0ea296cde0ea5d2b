//! Files of a run beside its weights: `run.json`, `metrics.jsonl`, `progress.svg`, `pretrained.json`.

use crate::curves;
use crate::schedule::Schedule;
use crate::watch::{Epoch, EpochReport};
use galen_core::{Error, Result};
use galen_models::Transfer;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Folder of one fold.
#[derive(Debug, Clone)]
pub struct RunFolder {
    /// `<out>/fold_N`.
    pub path: PathBuf,
}

/// What is needed to repeat a run, and what it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Format number of the file.
    pub format: u32,
    /// Command line.
    pub command: Vec<String>,
    /// Version of Galen.
    pub version: String,
    /// Seed.
    pub seed: u64,
    /// Fold.
    pub fold: String,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// SHA-256 of plan, configuration, labels and cases together.
    pub identity: String,
    /// Training and validation cases.
    pub cases: [usize; 2],
    /// Schedule.
    pub schedule: Schedule,
    /// Why that schedule.
    pub explanation: Vec<String>,
    /// Machine.
    pub machine: Machine,
    /// Iteration that this process began at; not 0 after a resume.
    pub first_iteration: usize,
    /// Seconds of earlier processes that this one resumed.
    pub seconds_before: f64,
    /// Seconds of this process, planning of the budget included.
    pub seconds: f64,
    /// Training iterations per second of this process, validation and checkpoints included.
    pub iterations_per_second: f64,
    /// Peak memory of the process in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// The schedule reached its end.
    pub complete: bool,
}

/// The machine that trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor name, where the system tells.
    pub processor: Option<String>,
    /// Cores that the process may use.
    pub cores: usize,
    /// Threads that computed.
    pub threads: usize,
    /// Operating system and architecture.
    pub system: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        Self {
            processor: model.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads: rayon::current_num_threads(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// Peak resident memory of the process in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

impl RunFolder {
    /// Folder of `fold` in a model folder; made when missing, and cleared of what a killed run was writing.
    pub fn create(out: &Path, fold: &str) -> Result<Self> {
        let path = out.join(format!("fold_{fold}"));
        std::fs::create_dir_all(&path).map_err(|error| Error::system(path.display(), &error))?;
        galen_io::remove_unfinished(&path)?;
        Ok(Self { path })
    }

    /// Where checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Best weights by moving average.
    pub fn best(&self) -> PathBuf {
        self.path.join("weights_best.safetensors")
    }

    /// Writes `run.json`.
    pub fn record(&self, record: &RunRecord) -> Result<()> {
        let text = serde_json::to_vec_pretty(record).map_err(|error| Error::bug("run.json", error))?;
        galen_io::replace_file(&self.path.join("run.json"), &text)
    }

    /// Writes `pretrained.json`: which tensors were taken over from another training.
    pub fn keep_transfer(&self, transfer: &Transfer) -> Result<()> {
        let text =
            serde_json::to_vec_pretty(transfer).map_err(|error| Error::bug("pretrained.json", error))?;
        galen_io::replace_file(&self.path.join("pretrained.json"), &text)
    }

    /// The record of an earlier process of the same run.
    pub fn earlier_record(&self) -> Option<RunRecord> {
        serde_json::from_slice(&std::fs::read(self.path.join("run.json")).ok()?).ok()
    }

    /// Brings `metrics.jsonl` to the epochs of a checkpoint: later lines go, and so does a half line of a crash.
    pub fn keep_metrics(&self, history: &[Epoch], epochs: usize) -> Result<()> {
        let old = std::fs::read_to_string(self.path.join("metrics.jsonl")).unwrap_or_default();
        let reports: Vec<EpochReport> =
            old.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
        let line = |epoch: &Epoch| {
            let known = reports.iter().find(|report| report.epoch == *epoch).cloned();
            // The times of an epoch whose line was lost are not known.
            let lost = EpochReport { epoch: epoch.clone(), epochs, seconds: 0.0, seconds_left: 0.0 };
            json_line(&known.unwrap_or(lost))
        };
        let text = history.iter().map(line).collect::<Result<String>>()?;
        galen_io::replace_file(&self.path.join("metrics.jsonl"), text.as_bytes())
    }

    /// Adds a line to `metrics.jsonl` and draws `progress.svg` again.
    pub fn add_epoch(&self, report: &EpochReport, history: &[Epoch]) -> Result<()> {
        use std::io::Write;
        let path = self.path.join("metrics.jsonl");
        let system = |error: std::io::Error| Error::system(path.display(), &error);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(system)?;
        file.write_all(json_line(report)?.as_bytes()).map_err(system)?;
        let svg = curves::draw(history).map_err(|error| Error::bug("progress.svg", error))?;
        galen_io::replace_file(&self.path.join("progress.svg"), svg.as_bytes())
    }
}

fn json_line(report: &EpochReport) -> Result<String> {
    let text = serde_json::to_string(report).map_err(|error| Error::bug("metrics.jsonl", error))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(n: usize) -> EpochReport {
        let epoch = Epoch {
            epoch: n,
            iteration: n,
            learning_rate: 0.01,
            train_loss: 0.1 * n as f64,
            val_loss: 0.3,
            pseudo_dice: vec![None],
            mean_pseudo_dice: 0.0,
            ema_pseudo_dice: 0.0,
            is_best: false,
        };
        EpochReport { epoch, epochs: 9, seconds: 2.0, seconds_left: 1.0 }
    }

    #[test]
    fn metrics_follow_the_checkpoint_after_a_crash() {
        let out = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(out.path(), "0").unwrap();
        let history: Vec<Epoch> = (1..4).map(|n| report(n).epoch).collect();
        for n in 1..4 {
            folder.add_epoch(&report(n), &history[..n]).unwrap();
        }
        let path = folder.path.join("metrics.jsonl");
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        folder.keep_metrics(&history[..2], 9).unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, whole.lines().take(2).map(|line| format!("{line}\n")).collect::<String>());
    }
}
