//! Which model, where a folder or an archive holds several: nnU-Net keeps one per configuration of a dataset.

use galen_core::{Error, Result};
use std::path::{Path, PathBuf};

/// What a user said about the model; `None` takes the only one there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Configuration of the plans, such as `3d_fullres`.
    pub configuration: Option<String>,
    /// Trainer class, such as `nnUNetTrainer`.
    pub trainer: Option<String>,
    /// Plans name, such as `nnUNetPlans`.
    pub plans: Option<String>,
    /// Checkpoint of nnU-Net's folders: `checkpoint_final.pth` unless another is named.
    pub checkpoint: Option<String>,
}

/// Folders below a results folder, and below what an archive unpacks to, that can be models.
const DEPTH_MAX: usize = 4;

/// True when the folder describes a model itself.
pub(crate) fn is_model(folder: &Path) -> bool {
    folder.join("model.json").is_file()
        || (folder.join("plans.json").is_file() && folder.join("dataset.json").is_file())
}

/// The model at `root`, or the one below it that the choice leaves over; `shown` is what the user passed.
pub(crate) fn find(root: &Path, choice: &Choice, shown: &Path) -> Result<PathBuf> {
    if is_model(root) {
        return Ok(root.to_owned());
    }
    let mut all = Vec::new();
    search(root, DEPTH_MAX, &mut all);
    all.sort();
    if all.is_empty() {
        return Err(no_model(root, shown));
    }
    let mut fitting: Vec<PathBuf> = all.iter().filter(|folder| fits(folder, choice)).cloned().collect();
    if fitting.len() == 1 {
        return Ok(fitting.remove(0));
    }
    let names = if fitting.is_empty() { &all } else { &fitting };
    let names: Vec<String> = names.iter().map(|folder| name(folder)).collect();
    let count = if fitting.is_empty() { "none".to_owned() } else { fitting.len().to_string() };
    let what = format!("{count} of its models fits what was asked for: {}", names.join(", "));
    Err(Error::input(shown.display(), what, "choose with --config, --trainer and --plans"))
}

/// There is no model; `shown` is what the user passed.
pub(crate) fn no_model(root: &Path, shown: &Path) -> Error {
    let what = if root.is_dir() {
        "a folder without model.json, and without plans.json and dataset.json"
    } else {
        "no such folder"
    };
    Error::input(shown.display(), what, "pass a model bundle or an nnU-Net results folder")
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// nnU-Net's folder names are `Trainer__Plans__configuration`.
fn fits(folder: &Path, choice: &Choice) -> bool {
    let name = name(folder);
    let parts: Vec<&str> = name.split("__").collect();
    let asked = [&choice.trainer, &choice.plans, &choice.configuration];
    match parts.as_slice() {
        [trainer, plans, configuration] => asked
            .iter()
            .zip([trainer, plans, configuration])
            .all(|(asked, have)| asked.as_deref().is_none_or(|asked| asked == *have)),
        _ => true, // not nnU-Net's naming: whether it fits is seen when it is opened
    }
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // Ensembles and merged cross-validations carry plans too, but no folds.
        if is_model(&path) && has_folds(&path) {
            found.push(path);
        } else if depth > 1 && path.is_dir() {
            search(&path, depth - 1, found);
        }
    }
}

fn has_folds(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("fold_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_leaves_one_or_says_what_there_is() {
        let root = tempfile::tempdir().unwrap();
        for configuration in ["2d", "3d_fullres"] {
            let folder =
                root.path().join(format!("Dataset001_A/nnUNetTrainer__nnUNetPlans__{configuration}"));
            std::fs::create_dir_all(folder.join("fold_0")).unwrap();
            std::fs::write(folder.join("plans.json"), "{}").unwrap();
            std::fs::write(folder.join("dataset.json"), "{}").unwrap();
        }
        let find = |configuration: Option<&str>| {
            let choice = Choice { configuration: configuration.map(str::to_owned), ..Choice::default() };
            super::find(root.path(), &choice, root.path())
        };
        assert!(find(Some("2d")).unwrap().ends_with("nnUNetTrainer__nnUNetPlans__2d"));
        let error = find(None).unwrap_err().to_string();
        assert!(error.contains("__2d") && error.contains("__3d_fullres"), "{error}");
        assert!(find(Some("3d_lowres")).unwrap_err().to_string().contains("none of its models"));
    }
}
