//! Which cases train and which validate.
//! Source: nnU-Net 2.8.1 (`nnUNetTrainer.do_split`, scikit-learn's KFold), identical lists. Differs: folds may
//! keep the cases of one patient together, and a given file is checked before it is used.

use crate::patients::Patients;
use galen_core::{Error, Result};
use galen_prep::numpy::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Seed of nnU-Net's folds.
const SEED: u32 = 12345;
/// Number of nnU-Net's folds.
const FOLDS: usize = 5;

/// Cases of one fold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Cases to train with.
    pub train: Vec<String>,
    /// Cases to validate with.
    pub val: Vec<String>,
}

/// The folds of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splits {
    /// Listed folds, number 0 first.
    pub folds: Vec<Split>,
    ids: Vec<String>,
    patients: Option<Patients>,
}

impl Splits {
    /// nnU-Net's five folds of these cases.
    pub fn five_folds(ids: &[String]) -> Result<Self> {
        let ids = sorted(ids);
        if ids.len() < FOLDS {
            return Err(too_few(ids.len(), "cases"));
        }
        let folds = k_fold(ids.len()).iter().map(|val| parted(&ids, |index| val.contains(&index))).collect();
        Ok(Self { folds, ids, patients: None })
    }

    /// Five folds of patients: nnU-Net's rule on the sorted patients, all cases of a patient in one fold.
    pub fn by_patient(ids: &[String], patients: &Patients) -> Result<Self> {
        let ids = sorted(ids);
        let people = patients.among(&ids);
        if people.len() < FOLDS {
            return Err(too_few(people.len(), "patients"));
        }
        let fold = |val: &BTreeSet<usize>| {
            let held: BTreeSet<&str> = val.iter().map(|&index| people[index].as_str()).collect();
            parted(&ids, |index| held.contains(patients.of(&ids[index])))
        };
        let folds = k_fold(people.len()).iter().map(fold).collect();
        Ok(Self { folds, ids, patients: Some(patients.clone()) })
    }

    /// No folds, for datasets that are too small: only `all` and the 80:20 splits are left.
    pub fn none(ids: &[String]) -> Self {
        Self { folds: Vec::new(), ids: sorted(ids), patients: None }
    }

    /// Reads a `splits_final.json` and refuses it when a case stands on both sides of a fold or is unknown.
    pub fn read(file: &Path, ids: &[String]) -> Result<Self> {
        Self::read_with_patients(file, ids, None)
    }

    /// Like [`Splits::read`]; also refuses a fold that has one patient on both sides.
    pub fn read_with_patients(file: &Path, ids: &[String], patients: Option<&Patients>) -> Result<Self> {
        let bytes = std::fs::read(file).map_err(|error| Error::system(file.display(), &error))?;
        let folds: Vec<Split> = serde_json::from_slice(&bytes).map_err(|error| {
            let remedy = "write a list of {\"train\": [...], \"val\": [...]}, or remove the file";
            Error::input(file.display(), error, remedy)
        })?;
        let splits = Self { folds, ids: sorted(ids), patients: patients.cloned() };
        splits.check().map_err(|error| error.within(file.display()))?;
        let named: BTreeSet<&String> =
            splits.folds.iter().flat_map(|fold| fold.train.iter().chain(&fold.val)).collect();
        let unnamed = listed(splits.ids.iter().filter(|id| !named.contains(id)));
        if !unnamed.is_empty() {
            tracing::warn!("{}: cases in no fold, so never used: {unnamed}", file.display());
        }
        Ok(splits)
    }

    /// The same folds, refused when one has a patient on both sides.
    pub fn with_patients(mut self, patients: &Patients) -> Result<Self> {
        self.patients = Some(patients.clone());
        self.check()?;
        Ok(self)
    }

    /// Writes the folds as nnU-Net's `splits_final.json`, in one step.
    pub fn write(&self, file: &Path) -> Result<()> {
        crate::description::write_json(file, &self.folds)
    }

    /// Cases of a fold: a number, or `all` (every case on both sides). A number beyond the listed folds is a
    /// random 80:20 split with that number in its seed.
    pub fn fold(&self, name: &str) -> Result<Split> {
        if name == "all" {
            return Ok(Split { train: self.ids.clone(), val: self.ids.clone() });
        }
        let number: u32 = name.parse().map_err(|_| {
            Error::input("fold", format!("`{name}` is neither a number nor `all`"), "give 0 to 4, or all")
        })?;
        match self.folds.get(number as usize) {
            Some(split) => Ok(split.clone()),
            None if (number as usize) < FOLDS && self.folds.is_empty() => {
                Err(too_few(self.ids.len(), "cases"))
            }
            None => self.random(number),
        }
    }

    fn random(&self, number: u32) -> Result<Split> {
        let units = match &self.patients {
            Some(patients) => patients.among(&self.ids),
            None => self.ids.clone(),
        };
        let keep = units.len() * 4 / 5;
        if keep == 0 {
            return Err(Error::input(
                "fold",
                format!("{} cases cannot be split 80:20", units.len()),
                "use fold all",
            ));
        }
        let drawn = RandomState::new(SEED.wrapping_add(number)).permutation(units.len());
        let Some(patients) = &self.patients else {
            // nnU-Net keeps the order in which the cases were drawn.
            let train: Vec<String> = drawn[..keep].iter().map(|&index| units[index].clone()).collect();
            let known: BTreeSet<&String> = train.iter().collect();
            let val = units.iter().filter(|id| !known.contains(id)).cloned().collect();
            return Ok(Split { train, val });
        };
        let held: BTreeSet<&str> = drawn[keep..].iter().map(|&index| units[index].as_str()).collect();
        Ok(parted(&self.ids, |index| held.contains(patients.of(&self.ids[index]))))
    }

    fn check(&self) -> Result<()> {
        let known: BTreeSet<&String> = self.ids.iter().collect();
        for (number, fold) in self.folds.iter().enumerate() {
            let place = format!("fold {number}");
            let (train, val): (BTreeSet<&String>, BTreeSet<&String>) =
                (fold.train.iter().collect(), fold.val.iter().collect());
            let both = listed(train.intersection(&val));
            if !both.is_empty() {
                let remedy = "keep each case in train or in val";
                return Err(Error::input(place, format!("in train and in val: {both}"), remedy));
            }
            let unknown = listed(train.union(&val).filter(|id| !known.contains(**id)));
            if !unknown.is_empty() {
                let remedy = "remove them from the file, or add them to the dataset";
                return Err(Error::input(place, format!("not in the dataset: {unknown}"), remedy));
            }
            if train.is_empty() {
                return Err(Error::input(place, "has no training case", "list cases in train"));
            }
            if let Some(patients) = &self.patients {
                let side = |ids: &[String]| patients.among(ids).into_iter().collect::<BTreeSet<_>>();
                let (left, right) = (side(&fold.train), side(&fold.val));
                let both = listed(left.intersection(&right));
                if !both.is_empty() {
                    let what = format!("patients in train and in val: {both}");
                    return Err(Error::input(place, what, "keep all cases of a patient on one side"));
                }
            }
        }
        Ok(())
    }
}

fn listed(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    names.map(|name| name.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

fn too_few(found: usize, what: &str) -> Error {
    let message = format!("{found} {what}, but five folds need at least {FOLDS}");
    Error::input("folds", message, "train the fold `all`, or give a splits_final.json")
}

/// Validation indices of each fold: consecutive blocks of the shuffled indices, the first `n % 5` one longer.
fn k_fold(n: usize) -> Vec<BTreeSet<usize>> {
    let shuffled = RandomState::new(SEED).permutation(n);
    let mut rest = shuffled.as_slice();
    (0..FOLDS)
        .map(|fold| {
            let (block, after) = rest.split_at(n / FOLDS + usize::from(fold < n % FOLDS));
            rest = after;
            block.iter().copied().collect()
        })
        .collect()
}

/// Cases in their order, those chosen into `val`.
fn parted(ids: &[String], is_val: impl Fn(usize) -> bool) -> Split {
    let side =
        |wanted: bool| (0..ids.len()).filter(|&i| is_val(i) == wanted).map(|i| ids[i].clone()).collect();
    Split { train: side(false), val: side(true) }
}
