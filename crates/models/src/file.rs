//! Files that are either the old or the new content, never half of it.

use galen_core::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Writes beside the target, forces it to disk and renames.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = folder.join(format!(".{name}.{}.partial", std::process::id()));
    let written = write_and_sync(&beside, content).and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&beside); // it may not exist; the first error is the one to report
        return Err(Error::system(path.display(), &error));
    }
    // The rename itself is durable only once the folder is; systems without folder handles skip this.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn write_and_sync(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::system(path.display(), &error))
}

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value> {
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
