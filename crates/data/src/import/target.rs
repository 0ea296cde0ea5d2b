//! The folder that an import writes: built beside the target and renamed, so the target is complete or not there.

use galen_core::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Lets `fill` write into a new folder, and gives it the name `to` when it is whole. A target that already holds the
/// same is left as it is.
pub(super) fn build(to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = parent_of(to)?;
    let start = format!(".{}.import-", to.file_name().unwrap_or_default().to_string_lossy());
    remove_unfinished(&parent, &start);
    let system = |error: std::io::Error| Error::system(to.display(), &error);
    let unfinished = tempfile::Builder::new().prefix(&start).tempdir_in(&parent).map_err(system)?;
    let lock = fs::File::create(unfinished.path().join(LOCK)).map_err(system)?;
    lock.try_lock().ok();
    fill(unfinished.path())?;
    fs::remove_file(unfinished.path().join(LOCK)).map_err(system)?;
    place(unfinished, to)
}

/// File in an unfinished folder that its maker holds locked.
const LOCK: &str = ".lock";

fn parent_of(to: &Path) -> Result<PathBuf> {
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(|error| Error::system(parent.display(), &error))?;
    Ok(parent)
}

/// Removes what killed imports into the same target left behind; those of running ones are locked.
fn remove_unfinished(parent: &Path, start: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(start) {
            let lock = fs::File::open(entry.path().join(LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
}

/// A hard link where the file system can, else a copy. Never onto a file that is there: it may be a link to
/// another image of the source, which a copy would overwrite.
pub(super) fn link(from: &Path, to: &Path) -> Result<()> {
    let source = from.canonicalize().map_err(|error| Error::system(from.display(), &error))?;
    if fs::hard_link(&source, to).is_ok() { Ok(()) } else { copy(&source, to) }
}

/// Refuses a header whose voxels lie in files of their own: alone it would be no image.
pub(super) fn one_file(file: &Path) -> Result<()> {
    match galen_io::files_of(file)?.as_slice() {
        [_] => Ok(()),
        others => {
            let names: Vec<String> = others[1..].iter().map(|file| file.display().to_string()).collect();
            let what = format!(
                "its voxels are in other files ({}), which a link would leave behind",
                names.join(", ")
            );
            Err(Error::input(file.display(), what, "convert it to .nii.gz, .nrrd or .mha first"))
        }
    }
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::system(to.display(), &error);
    let mut source = fs::File::open(from).map_err(|error| Error::system(from.display(), &error))?;
    let mut target = fs::File::options().write(true).create_new(true).open(to).map_err(failed)?;
    std::io::copy(&mut source, &mut target).map(|_| ()).map_err(failed)
}

/// Renames the finished folder; an existing target must hold the same files.
fn place(unfinished: tempfile::TempDir, to: &Path) -> Result<()> {
    let system = |error: std::io::Error| Error::system(to.display(), &error);
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) || to.is_file() {
        if same_tree(unfinished.path(), to).unwrap_or(false) {
            return Ok(());
        }
        let remedy = "choose another folder, or move this one away";
        return Err(Error::input(to.display(), "already exists and holds something else", remedy));
    }
    readable(unfinished.path());
    fs::rename(unfinished.path(), to).map_err(system)?;
    // What was renamed is no longer there to be removed.
    let _ = unfinished.keep();
    Ok(())
}

/// Temporary folders are private; a dataset is readable like any folder.
fn readable(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).ok();
    }
    let _ = folder;
}

/// True when every file of `new` is in `old` with the same bytes; `old` may hold more (preprocessed cases).
fn same_tree(new: &Path, old: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(new)? {
        let entry = entry?;
        let other = old.join(entry.file_name());
        let same = if entry.file_type()?.is_dir() {
            other.is_dir() && count(&entry.path())? == count(&other)? && same_tree(&entry.path(), &other)?
        } else {
            same_file(&entry.path(), &other)?
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn count(folder: &Path) -> std::io::Result<usize> {
    Ok(fs::read_dir(folder)?.count())
}

fn same_file(a: &Path, b: &Path) -> std::io::Result<bool> {
    Ok(fs::metadata(a)?.len() == fs::metadata(b)?.len() && fs::read(a)? == fs::read(b)?)
}
