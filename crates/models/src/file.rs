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

/// The object that a JSON file must hold.
pub(crate) fn object<'a>(value: &'a Value, path: &Path) -> Result<&'a Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| Error::input(path.display(), "holds no JSON object", "copy the file again"))
}
