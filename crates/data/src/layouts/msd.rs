//! Medical Segmentation Decathlon: `dataset.json` lists image and label of every case; a 4D image holds the
//! channels. nnU-Net v1 folders list the same names, but split the channels into `CASE_0000.EXT`.
//! Source: Antonelli 2022 (MSD) and the files of its tasks.

use super::{Listing, channel_of, file_names};
use crate::dataset::{Case, ProblemKind};
use crate::description::Description;
use galen_core::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Endings of two parts that a file name may have.
const DOUBLE_ENDINGS: [&str; 2] = [".nii.gz", ".ome.tif"];

/// True when the file lists its cases the MSD way. Some nnU-Net v2 files keep that list, but they also
/// give a `file_ending`, which MSD does not know.
pub(crate) fn fits(description: &Description) -> bool {
    description.json.get("training").is_some_and(Value::is_array) && description.file_ending.is_none()
}

/// Lists the folder.
pub(crate) fn list(root: &Path, description: &Description) -> Result<Listing> {
    let training = entries(root, description, "training")?;
    let test = entries(root, description, "test")?;
    let Some((first, _)) = training.first().or(test.first()) else {
        return Ok(Listing::new(description.file_ending.clone().unwrap_or_else(|| ".nii.gz".into())));
    };
    let ending = ending_of(first);
    let mut listing = Listing::new(ending.clone());
    let mut named = BTreeSet::new();
    for (image, label) in &training {
        let (id, images) = (stem(image, &ending), image_files(root, image, &ending)?);
        let label = label.as_ref().map(|label| root.join(label));
        named.extend(images.iter().cloned());
        named.extend(label.clone());
        let labelled = label.as_ref().is_some_and(|file| file.is_file());
        match (images.is_empty(), labelled) {
            (false, true) => listing.training.push(Case { id, images, label }),
            (false, false) => {
                listing.problem(&id, ProblemKind::MissingLabel, missing(label.as_deref(), root))
            }
            (true, true) => {
                let message = format!("there is a mask, but no {image}");
                listing.problem(&id, ProblemKind::LabelWithoutImage, message);
            }
            (true, false) => {
                listing.problem(&id, ProblemKind::MissingChannel, format!("neither {image} nor its mask"));
            }
        }
    }
    for (image, _) in &test {
        let (id, images) = (stem(image, &ending), image_files(root, image, &ending)?);
        if images.is_empty() {
            listing.problem(&id, ProblemKind::MissingChannel, format!("test image {image} is missing"));
        } else {
            listing.test.push(Case { id, images, label: None });
        }
    }
    list_strays(root, &ending, &named, &mut listing)?;
    Ok(listing.sorted())
}

fn missing(file: Option<&Path>, root: &Path) -> String {
    match file {
        Some(file) => format!("no {}", file.strip_prefix(root).unwrap_or(file).display()),
        None => "dataset.json names no label for it".into(),
    }
}

/// Image and label of each entry of a list, as relative paths.
fn entries(root: &Path, description: &Description, key: &str) -> Result<Vec<(String, Option<String>)>> {
    let Some(Value::Array(list)) = description.json.get(key) else { return Ok(Vec::new()) };
    let path = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .map(|text| text.trim_start_matches("./").to_owned())
            .filter(|t| !t.is_empty())
    };
    list.iter()
        .map(|entry| match path(Some(entry)).or_else(|| path(entry.get("image"))) {
            Some(image) => Ok((image, path(entry.get("label")))),
            None => {
                let what = format!("entry {entry} of `{key}` names no image");
                let place = root.join("dataset.json");
                Err(Error::input(place.display(), what, "write {\"image\": \"...\", \"label\": \"...\"}"))
            }
        })
        .collect()
}

/// The file as listed, or the files that nnU-Net v1 split it into; empty when there is none.
fn image_files(root: &Path, image: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let file = root.join(image);
    if file.is_file() {
        return Ok(vec![file]);
    }
    let (id, folder) = (stem(image, ending), file.parent().unwrap_or(root));
    let of_case =
        |name: &&String| name.strip_suffix(ending).and_then(channel_of).is_some_and(|(case, _)| case == id);
    let first = folder.join(format!("{id}_0000{ending}"));
    if !first.is_file() {
        return Ok(Vec::new());
    }
    Ok(file_names(folder)?.iter().filter(of_case).map(|name| folder.join(name)).collect())
}

/// Training files on disk that no entry names.
fn list_strays(root: &Path, ending: &str, named: &BTreeSet<PathBuf>, listing: &mut Listing) -> Result<()> {
    for folder in ["imagesTr", "labelsTr"] {
        for name in file_names(&root.join(folder))? {
            if name.ends_with(ending) && !named.contains(&root.join(folder).join(&name)) {
                let message = format!("{folder}/{name} is not listed in dataset.json");
                listing.problem(&stem(&name, ending), ProblemKind::UnlistedFile, message);
            }
        }
    }
    Ok(())
}

fn ending_of(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    let double = DOUBLE_ENDINGS.into_iter().find(|ending| name.ends_with(ending));
    double.map_or_else(|| name.rfind('.').map_or(String::new(), |at| name[at..].to_owned()), str::to_owned)
}

fn stem(image: &str, ending: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.strip_suffix(ending).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_and_stems() {
        assert_eq!(ending_of("imagesTr/a.b.nii.gz"), ".nii.gz");
        assert_eq!(ending_of("imagesTr/a.png"), ".png");
        assert_eq!(stem("imagesTr/BRATS_001.nii.gz", ".nii.gz"), "BRATS_001");
    }
}
