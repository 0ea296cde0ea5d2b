//! Which files make which scan, and where its label map goes.

use galen_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One scan to segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Name of the case.
    pub case: String,
    /// Files of its channels, in the model's order.
    pub images: Vec<PathBuf>,
    /// Label map to write.
    pub out: PathBuf,
}

/// Endings of image files, longest first so that `.nii.gz` wins over `.gz`.
const ENDINGS: &[&str] =
    &[".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tiff", ".tif", ".bmp"];

/// Scans among what the user gave: files are the channels of one scan, a folder holds many.
pub fn scans(given: &[PathBuf], out: &Path, channels: usize) -> Result<Vec<Scan>> {
    if let [folder] = given
        && folder.is_dir()
    {
        return in_folder(folder, out, channels);
    }
    if let Some(missing) = given.iter().find(|file| !file.is_file()) {
        let what = if missing.is_dir() { "is a folder among files" } else { "no such file" };
        return Err(Error::input(missing.display(), what, "give one folder, or the files of one scan"));
    }
    let case = case_name(&given[0]);
    let out =
        if out.is_dir() { out.join(format!("{case}{}", out_ending(&given[0]))) } else { out.to_path_buf() };
    if ending(&out).is_none() {
        return Err(Error::input(
            out.display(),
            "the ending names no image format",
            "end it in .nii.gz, .nrrd or .mha",
        ));
    }
    Ok(vec![Scan { case, images: given.to_vec(), out }])
}

fn in_folder(folder: &Path, out: &Path, channels: usize) -> Result<Vec<Scan>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::system(folder.display(), &error))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    files.retain(|file| file.is_file() && ending(file).is_some());
    files.sort();
    if files.is_empty() {
        return Err(Error::input(
            folder.display(),
            "holds no image",
            format!("images end in {}", ENDINGS.join(" ")),
        ));
    }
    if out.is_file() {
        return Err(Error::input(
            out.display(),
            "is a file, but many label maps will be written",
            "give a folder",
        ));
    }
    let numbered = channels > 1 || files.iter().all(|file| channel_of(file).is_some());
    let mut cases: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        let name = case_name(&file);
        let case = match channel_of(&file) {
            Some(_) if numbered => name[..name.len() - 5].to_owned(),
            _ => name,
        };
        cases.entry(case).or_default().push(file);
    }
    let scan = |(case, images): (String, Vec<PathBuf>)| {
        let out = out.join(format!("{case}{}", out_ending(&images[0])));
        Scan { case, images, out }
    };
    Ok(cases.into_iter().map(scan).collect())
}

/// Image ending of a file name, if it has one.
pub fn ending(file: &Path) -> Option<&'static str> {
    let name = file.file_name()?.to_str()?.to_lowercase();
    ENDINGS.iter().find(|ending| name.len() > ending.len() && name.ends_with(*ending)).copied()
}

/// Label maps keep their scan's format, except that a lossy one would change labels.
fn out_ending(image: &Path) -> &'static str {
    match ending(image) {
        Some(".jpg" | ".jpeg" | ".bmp") => ".png",
        Some(".nhdr") => ".nrrd",
        Some(".mhd") => ".mha",
        Some(ending) => ending,
        None => ".nii.gz",
    }
}

/// File name without its image ending.
pub fn case_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cut = ending(file).map_or(0, str::len);
    name[..name.len() - cut].to_owned()
}

/// nnU-Net's channel number: the name ends in `_` and four digits.
fn channel_of(file: &Path) -> Option<usize> {
    let name = case_name(file);
    let (case, digits) = (name.get(..name.len().checked_sub(5)?)?, name.get(name.len() - 4..)?);
    let marked = !case.is_empty() && name.as_bytes()[name.len() - 5] == b'_';
    if marked && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_groups_channels_by_case() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii.gz", "a_0001.nii.gz", "notes.txt"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let found = scans(&[folder.path().to_path_buf()], Path::new("out"), 2).unwrap();
        assert_eq!(found.iter().map(|s| s.case.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found[1].images[0].ends_with("b_0000.nii.gz"));
        assert_eq!(found[0].out, Path::new("out/a.nii.gz"));
    }

    #[test]
    fn names_without_channel_numbers_are_cases_of_their_own() {
        assert_eq!(case_name(Path::new("x/hippocampus_001.nii.gz")), "hippocampus_001");
        assert_eq!(channel_of(Path::new("hippocampus_001.nii.gz")), None);
        assert_eq!(channel_of(Path::new("h_0001.mha")), Some(1));
        assert_eq!(out_ending(Path::new("a.JPG")), ".png");
    }

    #[test]
    fn an_output_without_a_format_is_refused() {
        let file = tempfile::Builder::new().suffix(".nii.gz").tempfile().unwrap();
        let error = scans(&[file.path().to_path_buf()], Path::new("labels"), 1).unwrap_err();
        assert!(error.to_string().contains(".nii.gz"), "{error}");
    }
}
