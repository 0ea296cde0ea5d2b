//! Finding the reference's files: `GALEN_GOLDENS`, or `shared/goldens` beside the workspace.
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder of goldens, or `None` (and a line) when it is not on this machine.
pub fn goldens(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GALEN_GOLDENS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens"), PathBuf::from);
    let folder = root.join(part);
    if !folder.is_dir() {
        println!("no {part} under {}: nothing to compare with", root.display());
        return None;
    }
    Some(folder)
}

/// A JSON file.
pub fn json(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Folders in a folder, sorted.
pub fn folders(root: &Path) -> Vec<PathBuf> {
    listed(root, Path::is_dir)
}

/// Files of an ending in a folder, sorted.
pub fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    listed(root, |path| path.extension().is_some_and(|e| e == ending))
}

fn listed(root: &Path, keep: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|path| keep(path));
    all.sort();
    all
}

/// One array of an npz file.
pub fn npz<T: npyz::Deserialize>(file: &Path, key: &str) -> Vec<T> {
    let mut npz = npyz::npz::NpzArchive::open(file).unwrap();
    npz.by_name(key).unwrap().unwrap_or_else(|| panic!("{}: no {key}", file.display())).into_vec().unwrap()
}

/// Shape of one array of an npz file.
pub fn npz_shape(file: &Path, key: &str) -> Vec<usize> {
    let mut npz = npyz::npz::NpzArchive::open(file).unwrap();
    npz.by_name(key).unwrap().unwrap().shape().iter().map(|&n| n as usize).collect()
}

/// Names of the arrays of an npz file.
pub fn npz_keys(file: &Path) -> Vec<String> {
    let npz = npyz::npz::NpzArchive::open(file).unwrap();
    npz.array_names().map(str::to_owned).collect()
}
