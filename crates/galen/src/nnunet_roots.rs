//! nnU-Net's three root folders, from its environment variables: datasets and models by name or number.
//!
//! Source: nnunetv2 2.8.1, `paths` and `dataset_name_id_conversion`. A path that exists always wins, so that
//! nothing changes for those who give paths.

use galen_core::{Error, Result};
use galen_models::Bundle;
use std::path::{Component, Path, PathBuf};

/// Folder of raw datasets, of preprocessed ones, of models.
const RAW: &str = "nnUNet_raw";
const PREPROCESSED: &str = "nnUNet_preprocessed";
const RESULTS: &str = "nnUNet_results";

/// Dataset folder: the path itself, or the dataset of that name or number.
pub fn dataset(given: &Path) -> Result<PathBuf> {
    resolve(given, RAW)
}

/// Model folder or zip: the path itself, or all models of the dataset of that name or number.
pub fn model(given: &Path) -> Result<PathBuf> {
    resolve(given, RESULTS)
}

/// Where nnU-Net keeps what it derives from a dataset that lies in its raw folder.
pub fn preprocessed(dataset: &Path) -> Option<PathBuf> {
    let (raw, preprocessed) = (root(RAW)?, root(PREPROCESSED)?);
    let whole = |path: &Path| path.canonicalize().ok();
    let inside = whole(dataset)?.parent()? == whole(&raw)?;
    inside.then(|| preprocessed.join(dataset.file_name().unwrap_or_default()))
}

/// Where nnU-Net looks for a dataset's reference label maps: in its raw and in its preprocessed folder.
pub fn references(dataset: &str) -> [Option<PathBuf>; 2] {
    let inside = |variable, folder: &str| root(variable).map(|root| root.join(dataset).join(folder));
    if dataset.is_empty() {
        [None, None]
    } else {
        [inside(RAW, "labelsTr"), inside(PREPROCESSED, "gt_segmentations")]
    }
}

/// Where nnU-Net looks for a model of this dataset, trainer, plans and configuration.
pub fn new_model(bundle: &Bundle) -> Result<PathBuf> {
    let Some(results) = root(RESULTS) else {
        let what = format!("neither given, nor is {RESULTS} set");
        return Err(Error::input("--out", what, "give a new folder"));
    };
    let dataset = bundle.plans_json["dataset_name"].as_str().unwrap_or_default();
    if number_of(dataset).is_none() || dataset.contains(['/', '\\']) {
        let what =
            format!("the model's dataset is called `{dataset}`, not DatasetNNN_Name as nnU-Net wants it");
        return Err(Error::input("--out", what, "give the folder with --out"));
    }
    Ok(results.join(dataset).join(bundle.nnunet_name()))
}

fn root(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn resolve(given: &Path, variable: &str) -> Result<PathBuf> {
    if given.exists() {
        return Ok(given.to_owned());
    }
    match (wanted(given), root(variable)) {
        (Some(wanted), Some(root)) => find(&root, &wanted, variable),
        (Some(_), None) => {
            let what = format!("no such path, and {variable} is not set");
            Err(Error::input(given.display(), what, format!("check the path, or set {variable}")))
        }
        (None, _) => Ok(given.to_owned()), // the reader says what is wrong with the path
    }
}

/// A dataset as the user may call it.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Number(u32),
    Name(String),
}

/// The dataset that a single word can mean: `4`, `004` or `Dataset004_Hippocampus`.
fn wanted(given: &Path) -> Option<Wanted> {
    let mut parts = given.components();
    let (Some(Component::Normal(word)), None) = (parts.next(), parts.next()) else { return None };
    let word = word.to_str()?;
    if let Ok(number) = word.parse() {
        return Some(Wanted::Number(number));
    }
    number_of(word).map(|_| Wanted::Name(word.to_owned()))
}

/// The number in `DatasetNNN_Name`.
fn number_of(folder: &str) -> Option<u32> {
    let (digits, _) = folder.strip_prefix("Dataset")?.split_once('_')?;
    if digits.len() >= 3 { digits.parse().ok() } else { None }
}

fn find(root: &Path, wanted: &Wanted, variable: &str) -> Result<PathBuf> {
    let place = format!("{variable}, {}", root.display());
    let entries = std::fs::read_dir(root).map_err(|error| Error::system(&place, &error))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|name| number_of(name).is_some() && root.join(name).is_dir());
    names.sort();
    let fits = |name: &&String| match wanted {
        Wanted::Number(number) => number_of(name) == Some(*number),
        Wanted::Name(wanted) => *name == wanted,
    };
    let fitting: Vec<&String> = names.iter().filter(fits).collect();
    let asked = match wanted {
        Wanted::Number(number) => format!("Dataset{number:03}_..."),
        Wanted::Name(name) => name.clone(),
    };
    match fitting.as_slice() {
        [one] => Ok(root.join(one)),
        [] if names.is_empty() => {
            Err(Error::input(place, format!("no {asked}; no dataset at all"), "check the variable"))
        }
        [] => {
            Err(Error::input(place, format!("no {asked}, only {}", shortened(&names)), "choose one of these"))
        }
        several => {
            let list: Vec<String> = several.iter().map(|name| (*name).clone()).collect();
            Err(Error::input(place, format!("{asked} is {}", shortened(&list)), "give the full name"))
        }
    }
}

fn shortened(names: &[String]) -> String {
    let more = if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
    format!("{}{more}", names[..names.len().min(8)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_found_by_number_and_name() {
        let root = tempfile::tempdir().unwrap();
        for name in ["Dataset004_Hippocampus", "Dataset005_A", "Dataset005_B", "notes"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let find = |word: &str| find(root.path(), &wanted(Path::new(word)).unwrap(), RAW);
        for word in ["4", "004", "Dataset004_Hippocampus"] {
            assert!(find(word).unwrap().ends_with("Dataset004_Hippocampus"), "{word}");
        }
        assert!(find("5").unwrap_err().to_string().contains("Dataset005_A, Dataset005_B"));
        assert!(find("77").unwrap_err().to_string().contains("Dataset004_Hippocampus"));
        for word in ["a/4", "hippo", "Dataset4", "../4"] {
            assert_eq!(wanted(Path::new(word)), None, "{word}");
        }
    }
}
