//! Models in zip files, such as nnU-Net's `nnUNetv2_export_model_to_zip` writes: unpacked into a temporary folder.
//!
//! A zip file comes from somewhere else. Every name in it is checked before anything is written, only files that
//! a model is made of are unpacked, and never more of them than the archive can honestly hold.

use galen_core::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path};
use tempfile::TempDir;
use zip::ZipArchive;

/// Files that belong to a model; logs, pictures and validation results stay in the archive.
const WANTED: &[&str] = &[
    "plans.json",
    "dataset.json",
    "dataset_fingerprint.json",
    "model.json",
    "checkpoint.json",
    "weights.safetensors",
    "postprocessing.json",
    "inference_information.json",
];

/// Weights hardly shrink; JSON does, but is small. More than this is made to fill a disk.
const RATIO_MAX: u64 = 50;
const SMALL: u64 = 16 << 20;

/// Unpacks a model; the folder vanishes with the result.
pub(crate) fn unpack(path: &Path) -> Result<TempDir> {
    let file = File::open(path).map_err(|error| Error::system(path.display(), &error))?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
        let what = format!("neither a model folder nor a whole zip file ({error})");
        Error::input(path.display(), what, "pass a model folder or an exported zip, or copy it again")
    })?;
    let wanted = inspect(path, &mut archive, bytes)?;
    let temporary = std::env::temp_dir();
    let folder = tempfile::Builder::new().prefix("galen-model-").tempdir();
    let folder = folder.map_err(|error| Error::system(temporary.display(), &error))?;
    for (number, name) in wanted {
        let mut entry = archive.by_index(number).map_err(|error| damaged(path, &name, error))?;
        let target = folder.path().join(&name);
        let parent = target.parent().unwrap_or(folder.path());
        std::fs::create_dir_all(parent).map_err(|error| Error::system(parent.display(), &error))?;
        let size = entry.size();
        let mut written = File::create(&target).map_err(|error| Error::system(target.display(), &error))?;
        let copied = std::io::copy(&mut entry.by_ref().take(size + 1), &mut written);
        match copied {
            Ok(copied) if copied == size => {}
            Ok(_) => return Err(damaged(path, &name, "its size is not the one announced")),
            // Reading reports damage as invalid data; anything else is the disk.
            Err(error) if error.raw_os_error().is_some() => {
                return Err(Error::system(temporary.display(), &error));
            }
            Err(error) => return Err(damaged(path, &name, error)),
        }
    }
    Ok(folder)
}

/// Number and name of every wanted entry, once all entries have proved harmless.
fn inspect(
    path: &Path,
    archive: &mut ZipArchive<BufReader<File>>,
    bytes: u64,
) -> Result<Vec<(usize, String)>> {
    if archive.has_duplicate_names() {
        return Err(unsafe_archive(path, "it holds two files of the same name"));
    }
    let (mut wanted, mut total) = (Vec::new(), 0u64);
    for number in 0..archive.len() {
        let entry = archive.by_index_data(number).map_err(|error| damaged(path, "directory", error))?;
        let name = entry.name().map_err(|error| damaged(path, "directory", error))?.into_owned();
        if entry.is_symlink() {
            return Err(unsafe_archive(path, &format!("`{name}` is a symbolic link")));
        }
        if !stays_inside(&name) {
            return Err(unsafe_archive(path, &format!("`{name}` leads out of the folder it is unpacked to")));
        }
        if entry.is_dir() || !is_wanted(&name) {
            continue;
        }
        total = total.saturating_add(entry.size());
        wanted.push((number, name));
    }
    if total > SMALL.saturating_add(bytes.saturating_mul(RATIO_MAX)) {
        let what = format!("{bytes} bytes that claim to unpack to {total}");
        return Err(unsafe_archive(path, &what));
    }
    if wanted.is_empty() {
        let torch = archive.file_names().flatten().any(|name| name.ends_with("data.pkl"));
        let what = if torch { "a checkpoint without its plans.json" } else { "a zip file without a model" };
        return Err(Error::input(
            path.display(),
            what,
            "pass the model folder, or a zip of nnUNetv2_export_model_to_zip",
        ));
    }
    Ok(wanted)
}

/// True when the name stays below the folder on every system, Windows included.
fn stays_inside(name: &str) -> bool {
    let plain = !name.is_empty() && !name.contains(['\\', ':', '\0']);
    plain && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn is_wanted(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    WANTED.contains(&file) || (file.starts_with("checkpoint_") && file.ends_with(".pth"))
}

fn unsafe_archive(path: &Path, what: &str) -> Error {
    Error::input(path.display(), format!("refused: {what}"), "use an archive from a source that you trust")
}

fn damaged(path: &Path, name: &str, what: impl std::fmt::Display) -> Error {
    Error::input(path.display(), format!("damaged zip file: {name}: {what}"), "copy the file again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    fn archive(entries: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        file
    }

    #[test]
    fn only_what_a_model_needs_is_unpacked() {
        let file = archive(&[
            ("D/T__P__c/plans.json", b"{}"),
            ("D/T__P__c/fold_0/checkpoint_final.pth", b"abc"),
            ("D/T__P__c/fold_0/progress.png", b"picture"),
        ]);
        let folder = unpack(file.path()).unwrap();
        let fold = folder.path().join("D/T__P__c/fold_0");
        assert_eq!(std::fs::read(fold.join("checkpoint_final.pth")).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(&fold).unwrap().count(), 1);
        let place = folder.path().to_owned();
        drop(folder);
        assert!(!place.exists(), "the temporary folder stayed");
    }

    #[test]
    fn names_that_lead_outside_are_refused() {
        for name in ["../plans.json", "/plans.json", "a/../../plans.json", "..\\plans.json", "C:/plans.json"]
        {
            let file = archive(&[("fine/plans.json", b"{}"), (name, b"{}")]);
            let error = unpack(file.path()).unwrap_err().to_string();
            assert!(error.contains("leads out"), "{name}: {error}");
        }
    }

    #[test]
    fn links_and_bombs_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        zip.add_symlink("D/plans.json", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap();
        let error = unpack(file.path()).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        let zeros = vec![0; 2 * SMALL as usize];
        let file = archive(&[("fold_0/checkpoint_final.pth", &zeros)]);
        let error = unpack(file.path()).unwrap_err().to_string();
        assert!(error.contains("claim to unpack"), "{error}");
    }

    #[test]
    fn damage_and_other_zips_are_named() {
        let file = archive(&[("m/data.pkl", b"x")]);
        assert!(unpack(file.path()).unwrap_err().to_string().contains("plans.json"));
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..4000).map(|_| next()).collect();
        let file = archive(&[("fold_0/checkpoint_final.pth", &noise)]);
        let mut bytes = std::fs::read(file.path()).unwrap();
        bytes[2000] ^= 0x55;
        std::fs::write(file.path(), &bytes).unwrap();
        assert!(unpack(file.path()).unwrap_err().to_string().contains("damaged"));
        std::fs::write(file.path(), &bytes[..1000]).unwrap();
        assert!(unpack(file.path()).unwrap_err().to_string().contains("copy it again"));
    }
}
