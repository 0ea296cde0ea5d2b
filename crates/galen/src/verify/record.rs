//! What a finished cell leaves behind. Results and costs lie apart: results are the same bytes on every machine, in
//! every shard and after every kill, times and memory are not.

use super::protocol::folder_name;
use galen_core::{Error, Result};
use galen_metrics::CaseScores;
use galen_train::Machine;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One model on one fold of one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Index of the dataset in the protocol.
    pub dataset: usize,
    /// Index of the model in the protocol.
    pub model: usize,
    /// Fold: a number, or `b0`, `b1`, .. for draws with replacement.
    pub fold: String,
}

/// The result of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format number of the file.
    pub format: u32,
    /// SHA-256 of everything that decides the result.
    pub identity: String,
    /// Dataset name.
    pub dataset: String,
    /// Model name.
    pub model: String,
    /// Fold.
    pub fold: String,
    /// Configuration of the plan.
    pub configuration: String,
    /// Patch, `(z, y, x)` or `(y, x)`.
    pub patch: Vec<usize>,
    /// Samples per batch.
    pub batch: usize,
    /// Trainable values.
    pub parameters: usize,
    /// Multiply-adds of one prediction of a patch.
    pub multiply_adds: u64,
    /// Multiply-adds of the whole training.
    pub training_multiply_adds: u64,
    /// Training iterations.
    pub iterations: usize,
    /// Validation cases in the order of the fold.
    pub cases: Vec<CaseRecord>,
}

/// A scored case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Case id.
    pub case: String,
    /// Diagonal of the scan, mm: stands for an infinite distance when methods are ranked.
    pub diagonal_mm: f64,
    /// Scores per label.
    pub scores: CaseScores,
}

/// What a cell cost; differs from run to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall seconds of training in the process that finished it.
    pub training_seconds: f64,
    /// Wall seconds of predicting the validation cases.
    pub prediction_seconds: f64,
    /// Peak resident memory while training, where the system tells.
    pub training_peak_bytes: Option<u64>,
    /// Peak resident memory while predicting, where the system tells.
    pub prediction_peak_bytes: Option<u64>,
    /// Iteration that the finishing process began at; not 0 after a kill.
    pub first_iteration: usize,
    /// The machine.
    pub machine: Machine,
}

/// Folder of a comparison.
#[derive(Debug, Clone)]
pub struct Out {
    /// Where everything goes.
    pub folder: PathBuf,
}

impl Out {
    /// Model folder of a dataset and model.
    pub fn model(&self, dataset: &str, model: &str) -> PathBuf {
        self.folder.join("models").join(folder_name(dataset)).join(folder_name(model))
    }

    /// Path of a file of a cell, relative to the folder.
    fn file(what: &str, dataset: &str, model: &str, fold: &str) -> PathBuf {
        Path::new(what).join(folder_name(dataset)).join(folder_name(model)).join(format!("fold_{fold}.json"))
    }

    /// Result file of a cell, relative to the folder.
    pub fn result(dataset: &str, model: &str, fold: &str) -> PathBuf {
        Self::file("results", dataset, model, fold)
    }

    /// Cost file of a cell, relative to the folder.
    pub fn cost(dataset: &str, model: &str, fold: &str) -> PathBuf {
        Self::file("costs", dataset, model, fold)
    }

    /// Picture of a case, relative to the folder.
    pub fn picture(dataset: &str, model: &str, fold: &str, case: &str) -> PathBuf {
        let folder = Path::new("pictures").join(folder_name(dataset)).join(folder_name(model));
        folder.join(format!("fold_{fold}")).join(format!("{}.svg", folder_name(case)))
    }

    /// The result of a cell when it is there; an error when it was made under another protocol.
    pub fn read(&self, dataset: &str, model: &str, fold: &str, identity: &str) -> Result<Option<Record>> {
        let file = self.folder.join(Self::result(dataset, model, fold));
        let bytes = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::system(file.display(), &error))?,
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
            Error::input(file.display(), error, "remove the file: its cell is then run again")
        })?;
        if record.identity != identity {
            let what = "was made under another protocol (setup, model, cases or seed differ)";
            return Err(Error::input(file.display(), what, "choose another --out, or remove the folder"));
        }
        Ok(Some(record))
    }

    /// Cost of a cell when it is there.
    pub fn read_cost(&self, dataset: &str, model: &str, fold: &str) -> Option<Cost> {
        let file = self.folder.join(Self::cost(dataset, model, fold));
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Writes JSON, in one step.
    pub fn write(&self, file: &Path, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::bug(file.display(), error))?;
        text.push(b'\n');
        galen_io::replace_file(&self.folder.join(file), &text)
    }

    /// All results that are there, sorted by place.
    pub fn records(&self) -> Result<Vec<Record>> {
        let files = files_under(&self.folder.join("results"))?;
        if files.is_empty() {
            let remedy = "give the --out of a `galen verify` of trained models";
            return Err(Error::input(self.folder.display(), "holds no results", remedy));
        }
        let one = |file: &PathBuf| {
            let bytes = std::fs::read(file).map_err(|error| Error::system(file.display(), &error))?;
            serde_json::from_slice(&bytes).map_err(|error| {
                Error::input(file.display(), error, "remove the file: its cell is then run again")
            })
        };
        files.iter().map(one).collect()
    }

    /// Takes results, costs and pictures of another folder, as they are. Returns the number of results.
    pub fn take(&self, other: &Path) -> Result<usize> {
        if !other.join("results").is_dir() {
            let remedy = "give the --out of a shard of this protocol";
            return Err(Error::input(other.display(), "holds no results", remedy));
        }
        let mut taken = 0;
        for part in ["results", "costs", "pictures"] {
            let files = files_under(&other.join(part))?;
            for file in files {
                let bytes = std::fs::read(&file).map_err(|error| Error::system(file.display(), &error))?;
                let name = file.strip_prefix(other).unwrap_or(&file);
                galen_io::replace_file(&self.folder.join(name), &bytes)?;
                taken += usize::from(part == "results");
            }
        }
        Ok(taken)
    }
}

/// All whole files under a folder, sorted; none when it is not there.
fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        if !next.is_dir() {
            continue;
        }
        let system = |error: std::io::Error| Error::system(next.display(), &error);
        for entry in std::fs::read_dir(&next).map_err(system)? {
            let path = entry.map_err(system)?.path();
            let whole = path.extension().is_some_and(|end| end == "json" || end == "svg");
            if path.is_dir() {
                open.push(path);
            } else if whole {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
