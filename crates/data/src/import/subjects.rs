//! A folder per subject whose files are named alike in all, and BIDS, where the masks lie among the derivatives.

use super::found::{Found, Masks};
use super::pairs::{image_files, stem};
use galen_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Deepest folder that is looked into.
const DEPTH: usize = 6;

/// Cases in folders that hold a file for each of `channels` and a mask. A name is the whole file name without its ending
/// (`imaging`), its end (`t1ce` for `BraTS_1_t1ce.nii.gz`), or `*` for any other image. A mask that ends with `/` is a folder
/// with one mask per label.
pub fn find_subjects(from: &Path, channels: &[String], mask: &str) -> Result<(Vec<Found>, Vec<String>)> {
    let mut folders: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in image_files(from, DEPTH)? {
        let parent = file.parent().unwrap_or(from).to_owned();
        // The masks of a subject belong to the folder above.
        let inside =
            mask.strip_suffix('/').is_some_and(|name| parent.file_name().is_some_and(|own| own == name));
        let owner = if inside { parent.parent().unwrap_or(from).to_owned() } else { parent };
        folders.entry(owner).or_default().push(file);
    }
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for (folder, files) in folders {
        let inner = folder.strip_prefix(from).unwrap_or(&folder);
        if inner.as_os_str().is_empty() {
            // What lies beside the subjects, such as an atlas.
            continue;
        }
        let id: Vec<String> =
            inner.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let id = id.join("_");
        let place = folder.display();
        let (masks, others): (Vec<PathBuf>, Vec<PathBuf>) = match mask.strip_suffix('/') {
            Some(_) => files.into_iter().partition(|file| file.parent() != Some(&folder)),
            None => files.into_iter().partition(|file| is_named(file, mask)),
        };
        let (mut images, mut taken) = (Vec::new(), Vec::new());
        for name in channels {
            let fits =
                |file: &&PathBuf| if name == "*" { !taken.contains(*file) } else { is_named(file, name) };
            let fitting: Vec<&PathBuf> = others.iter().filter(fits).collect();
            match fitting.as_slice() {
                [one] => {
                    images.push((*one).clone());
                    taken.push((*one).clone());
                }
                [] => problems.push(format!("{id}: no file `{name}` in {place}")),
                _ => problems.push(format!("{id}: several files `{name}` in {place}")),
            }
        }
        if images.len() < channels.len() {
            continue;
        }
        let masks = match (mask.ends_with('/'), masks.as_slice()) {
            (_, []) => {
                problems.push(format!("{id}: no mask `{mask}` in {place}"));
                continue;
            }
            (true, files) => Masks::PerLabel(files.iter().map(|file| (stem(file), file.clone())).collect()),
            (false, [one]) => Masks::Values(vec![one.clone()]),
            (false, _) => {
                problems.push(format!("{id}: several masks `{mask}` in {place}"));
                continue;
            }
        };
        cases.push(Found { id, images, masks });
    }
    if cases.is_empty() {
        let names: Vec<&str> = channels.iter().map(String::as_str).chain([mask]).collect();
        let what = format!("no folder holds the files {}", names.join(", "));
        let remedy = "give the folder above the subjects; --channels and --mask name the files";
        return Err(Error::input(from.display(), what, remedy));
    }
    Ok((cases, problems))
}

/// Whether the file name is this, or ends with it behind `_`, `-` or `.`; case does not count.
fn is_named(file: &Path, name: &str) -> bool {
    let (own, name) = (stem(file).to_lowercase(), name.to_lowercase());
    own == name || own.strip_suffix(&name).is_some_and(|rest| rest.ends_with(['_', '-', '.']))
}

/// Cases of a BIDS dataset: images `sub-*[/ses-*]/*/..._SUFFIX`, and the mask of the same subject and session anywhere
/// below the folder.
pub fn find_bids(from: &Path, channels: &[String], mask: &str) -> Result<(Vec<Found>, Vec<String>)> {
    let mut subjects: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in image_files(from, DEPTH + 2)? {
        if let Some(entity) = entity(&stem(&file)) {
            subjects.entry(entity).or_default().push(file);
        }
    }
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for (id, files) in subjects {
        let one = |name: &str, problems: &mut Vec<String>| {
            let fitting: Vec<&PathBuf> = files.iter().filter(|file| is_named(file, name)).collect();
            match fitting.as_slice() {
                [one] => return Some((*one).clone()),
                [] => problems.push(format!("{id}: no file `{name}`")),
                _ => problems.push(format!(
                    "{id}: {} files `{name}`, such as {}",
                    fitting.len(),
                    fitting[1].display()
                )),
            }
            None
        };
        let images: Option<Vec<PathBuf>> = channels.iter().map(|name| one(name, &mut problems)).collect();
        if let (Some(images), Some(mask)) = (images, one(mask, &mut problems)) {
            cases.push(Found { id, images, masks: Masks::Values(vec![mask]) });
        }
    }
    if cases.is_empty() {
        let what = format!("no subject has `{}` and `{mask}`", channels.join("`, `"));
        let remedy = "--channels and --mask give the suffixes of the file names, such as T1w and dseg";
        return Err(Error::input(from.display(), what, remedy));
    }
    Ok((cases, problems))
}

/// Subject and session of a BIDS file name.
fn entity(stem: &str) -> Option<String> {
    let parts: Vec<&str> =
        stem.split('_').filter(|part| part.starts_with("sub-") || part.starts_with("ses-")).collect();
    parts.first().is_some_and(|part| part.starts_with("sub-")).then(|| parts.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_or_ends() {
        for (file, name, expected) in [
            ("imaging.nii.gz", "imaging", true),
            ("BraTS2021_00001_t1.nii.gz", "t1", true),
            ("BraTS2021_00001_t1ce.nii.gz", "t1", false),
            ("BraTS-MET-00001-000-t1c.nii.gz", "t1c", true),
            ("GT.nii.gz", "gt", true),
        ] {
            assert_eq!(is_named(Path::new(file), name), expected, "{file} {name}");
        }
        assert_eq!(entity("sub-01_ses-2_T1w").as_deref(), Some("sub-01_ses-2"));
        assert_eq!(entity("derived_T1w"), None);
    }
}
