//! Images and masks that pair by folder or by file name: `images/a.png` and `masks/a.png`, `volume-3.nii` and
//! `segmentation-3.nii`, `Case07.mhd` and `Case07_segmentation.mhd`, `benign (4).png` and `benign (4)_mask_1.png`.
//!
//! A path is cut into words; those that only say which of the two a file is are left out, and what remains names the case.

use super::found::{Found, Masks};
use galen_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Words of masks.
const MASK: [&str; 19] = [
    "annotation",
    "annotations",
    "gt",
    "ground",
    "truth",
    "groundtruth",
    "label",
    "labels",
    "lbl",
    "manual",
    "mask",
    "masks",
    "seg",
    "segm",
    "segmentation",
    "segmentations",
    "segs",
    "lesionmask",
    "target",
];
/// Words of images.
const IMAGE: [&str; 11] =
    ["image", "images", "img", "imgs", "imaging", "volume", "volumes", "orig", "original", "scan", "scans"];
/// Words of folders whose images need no masks.
const TEST: [&str; 3] = ["test", "testing", "ts"];
/// Words that name no case.
const SPLIT: [&str; 9] = ["tr", "train", "training", "val", "validation", "va", "test", "testing", "ts"];
/// Deepest folder that is looked into.
const DEPTH: usize = 8;

/// Cases in a folder, and lines about what does not pair.
pub fn find_pairs(from: &Path) -> Result<(Vec<Found>, Vec<String>)> {
    let mut images: BTreeMap<Vec<String>, Vec<Part>> = BTreeMap::new();
    let mut masks: BTreeMap<Vec<String>, Vec<Part>> = BTreeMap::new();
    for file in image_files(from, DEPTH)? {
        let part = Part::of(from, file);
        let side = if part.is_mask { &mut masks } else { &mut images };
        side.entry(part.name.clone()).or_default().push(part);
    }
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    // One image may have several masks, `_mask_1` and so on: what is left of the number names the image.
    for (name, parts) in std::mem::take(&mut masks) {
        let (last, shorter) = name.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
        let numbered = last.is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit()));
        let owner = if !images.contains_key(&name) && numbered && images.contains_key(shorter) {
            shorter.to_vec()
        } else {
            name
        };
        masks.entry(owner).or_default().extend(parts);
    }
    for (name, mut files) in images {
        let mut own = masks.remove(&name).unwrap_or_default();
        // The same name in several folders, such as `train` and `test`: the folders tell them apart.
        let several = files.len() > 1;
        for image in std::mem::take(&mut files) {
            let near: Vec<Part> = if several {
                let (near, far) = own.into_iter().partition(|mask| mask.place == image.place);
                own = far;
                near
            } else {
                std::mem::take(&mut own)
            };
            let id =
                if several { [image.place.as_slice(), &name].concat().join("_") } else { name.join("_") };
            let paths: Vec<PathBuf> = near.iter().map(|mask| mask.file.clone()).collect();
            let folders: Vec<_> = paths.iter().map(|path| path.parent()).collect();
            if paths.is_empty() && !image.is_test {
                problems.push(format!("{id}: the image {} has no mask", image.file.display()));
            } else if folders.windows(2).any(|pair| pair[0] != pair[1]) {
                let list: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                problems.push(format!("{id}: masks in several folders: {}", list.join(", ")));
            } else {
                let masks = if paths.is_empty() { Masks::Absent } else { Masks::Values(paths) };
                cases.push(Found { id, images: vec![image.file], masks });
            }
        }
        problems.extend(own.iter().map(|mask| format!("the mask {} has no image", mask.file.display())));
    }
    let rest = masks.values().flatten();
    problems.extend(rest.map(|mask| format!("the mask {} has no image", mask.file.display())));
    problems.sort();
    Ok((cases, problems))
}

/// Files with an image's ending below a folder, sorted. Hidden ones are left out.
pub(super) fn image_files(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::system(folder.display(), &error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| Error::system(folder.display(), &error)))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                files.extend(image_files(&path, depth - 1)?);
            }
        } else if galen_io::ending(&path).is_some() {
            files.push(path);
        }
    }
    Ok(files)
}

/// A file name without its image ending.
pub(super) fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cut = galen_io::ending(file).map_or(0, |(ending, _)| ending.len());
    name[..name.len() - cut].to_owned()
}

/// One file and what its path says.
struct Part {
    file: PathBuf,
    is_mask: bool,
    is_test: bool,
    /// Words of the case.
    name: Vec<String>,
    /// Words of the folders that name no side.
    place: Vec<String>,
}

impl Part {
    fn of(root: &Path, file: PathBuf) -> Self {
        let inner = file.strip_prefix(root).unwrap_or(&file);
        let folders: Vec<Vec<String>> = inner
            .parent()
            .into_iter()
            .flat_map(Path::components)
            .map(|part| words(&part.as_os_str().to_string_lossy()))
            .collect();
        let own = words(&stem(&file));
        let is = |list: &[&str], word: &String| list.contains(&word.as_str());
        // A mask may say so in its name; else the nearest folder that says anything counts, and the name last: many
        // images and masks are called `Image_7` alike.
        let masked = |words: &Vec<String>| words.iter().any(|word| is(&MASK, word));
        let folder = folders.iter().rev().find_map(|words| {
            (masked(words) || words.iter().any(|word| is(&IMAGE, word))).then(|| masked(words))
        });
        let is_mask = masked(&own) || folder == Some(true);
        let side = |word: &String| is(&MASK, word) || is(&IMAGE, word);
        let mut name: Vec<String> = own.iter().filter(|word| !side(word)).cloned().collect();
        // nnU-Net's channel number.
        if name.len() > 1 && name.last().is_some_and(|last| last == "0000") && !is_mask {
            name.pop();
        }
        if name.is_empty() {
            // Only `image` and `mask`: the folder is the case.
            name = folders.iter().flatten().filter(|word| !side(word)).cloned().collect();
        }
        let is_test = folders.iter().flatten().any(|word| is(&TEST, word));
        let place = folders.iter().flatten().filter(|word| !side(word)).cloned().collect();
        Self { file, is_mask, is_test, name, place }
    }
}

/// Lower-case words: runs of letters, of digits, and where capitals begin.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut last): (Vec<String>, char) = (Vec::new(), ' ');
    for c in text.chars() {
        let begins = !c.is_alphanumeric()
            || c.is_numeric() != last.is_numeric()
            || !last.is_alphanumeric()
            || (c.is_uppercase() && last.is_lowercase());
        if c.is_alphanumeric() {
            match words.last_mut() {
                Some(word) if !begins => word.extend(c.to_lowercase()),
                _ => words.push(c.to_lowercase().collect()),
            }
        }
        last = c;
    }
    // `imagesTr` and `labelsTs` are one thing each.
    let sides = |word: &str| MASK.contains(&word) || IMAGE.contains(&word);
    let after_side = |i: usize| i > 0 && sides(&words[i - 1]);
    let kept = (0..words.len())
        .filter(|&i| !(after_side(i) && SPLIT.contains(&words[i].as_str()) && words[i] != "ts"));
    kept.map(|i| words[i].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(path: &str) -> (bool, String) {
        let part = Part::of(Path::new("/d"), Path::new("/d").join(path));
        (part.is_mask, part.name.join("_"))
    }

    #[test]
    fn both_sides_of_a_case_have_one_name() {
        for (image, mask) in [
            ("images/a_1.png", "masks/a_1.png"),
            ("images/Image_01L.jpg", "masks/Image_01L.png"),
            ("volume-3.nii", "segmentation-3.nii"),
            ("volume-3.nii.gz", "labels-3.nii.gz"),
            ("Case07.mhd", "Case07_segmentation.mhd"),
            ("scan/liver-orig001.mhd", "label/liver-seg001.mhd"),
            ("1.img.nii.gz", "1.label.nii.gz"),
            ("img/img0001.nii.gz", "label/label0001.nii.gz"),
            ("ISIC_0000017.jpg", "ISIC_0000017_segmentation.png"),
            ("benign (4).png", "benign (4)_mask.png"),
            ("TrainingImg/train_001_0000.nii.gz", "TrainingMask/train_001.nii.gz"),
            ("imagesTr/x_2.nii.gz", "labelsTr/x_2.nii.gz"),
            ("ct_train_1001_image.nii.gz", "ct_train_1001_label.nii.gz"),
            ("patient001/patient001_frame01.nii.gz", "patient001/patient001_frame01_gt.nii.gz"),
            ("PA000005/image/PA000005.nii.gz", "PA000005/label/PA000005.nii.gz"),
            ("Original/12.tif", "Ground Truth/12.tif"),
            ("case_3/image.nii.gz", "case_3/mask.nii.gz"),
        ] {
            let (image_side, image_name) = part(image);
            let (mask_side, mask_name) = part(mask);
            assert!(!image_side && mask_side, "{image} {mask}");
            assert_eq!(image_name, mask_name, "{image} {mask}");
            assert!(!image_name.is_empty());
        }
    }
}
