//! A file is there whole or not at all: write beside, sync, rename, sync the folder.

use galen_core::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Puts `bytes` at `path` in one step. When anything fails, what was there before is still there,
/// and nothing else is.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |file| file.write_all(bytes))
}

/// Like [`replace_file`], for content that is made while it is written. Missing folders are made.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let failed = |error: std::io::Error| Error::system(path.display(), &error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut temporary =
        tempfile::Builder::new().prefix(BEGIN).suffix(END).tempfile_in(folder).map_err(failed)?;
    let mut buffered = std::io::BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    fill(&mut buffered).map_err(failed)?;
    buffered.flush().map_err(failed)?;
    drop(buffered);
    share(temporary.as_file()).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    // The rename itself is durable only once the folder is; not every system can sync one.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(())
}

/// Removes files that killed runs were writing with [`write_atomically`] into a folder. Nobody else may be writing into it.
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    let system = |error: std::io::Error| Error::system(folder.display(), &error);
    for entry in std::fs::read_dir(folder).map_err(system)? {
        let entry = entry.map_err(system)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(BEGIN) && name.ends_with(END) {
            std::fs::remove_file(entry.path()).map_err(system)?;
        }
    }
    Ok(())
}

/// How names of files in the making begin and end: hidden and marked, so that one left by a killed run is never taken
/// for a result.
const BEGIN: &str = ".galen-";
const END: &str = ".part";

/// Temporary files are private; results are readable like any file.
fn share(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/labels.bin");
        replace_file(&path, b"first").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(b"half")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        assert!(error.unwrap_err().to_string().contains("labels.bin"));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
