//! Whole files in, with errors that name them.

use galen_core::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::system(path.display(), &error))
}

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    serde_json::from_slice(&read(path)?).map_err(|error| {
        Error::input(path.display(), format!("no valid JSON: {error}"), "copy the file again")
    })
}

/// Fills a folder beside its final place and renames it there. The target must not exist, or be empty.
pub(crate) fn new_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) || path.is_file() {
        return Err(Error::input(path.display(), "is already there", "choose another --out, or remove it"));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let system = |error: std::io::Error| Error::system(path.display(), &error);
    std::fs::create_dir_all(parent).map_err(system)?;
    // Removed on every way out but the last.
    let beside = tempfile::Builder::new().prefix(".galen-partial-").tempdir_in(parent).map_err(system)?;
    let inner = beside.path().join("model");
    std::fs::create_dir(&inner).map_err(system)?;
    fill(&inner)?;
    std::fs::rename(&inner, path).map_err(system)
}

/// The object that a JSON file must hold.
pub(crate) fn object<'a>(value: &'a Value, path: &Path) -> Result<&'a Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| Error::input(path.display(), "holds no JSON object", "copy the file again"))
}
