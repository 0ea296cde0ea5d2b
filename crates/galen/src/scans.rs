//! Which files make which scan, and where its label map goes.

use galen_core::{Error, Result};
use galen_io::Format;
use serde_json::Value;
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

/// Scans among what the user gave: files are the channels of one scan, a folder holds many. No label map may
/// take the place of an image.
pub fn scans(given: &[PathBuf], out: &Path, channels: usize) -> Result<Vec<Scan>> {
    let scans = match given {
        // A series is one scan; folders of series are many.
        [series] if is_series(series) => vec![of_files(given, out)?],
        [folder] if folder.is_dir() => match series_in(folder, out)? {
            series if series.is_empty() => in_folder(folder, out, channels)?,
            series => series,
        },
        [list] if is_list(list) => listed(list, out, channels)?,
        files => vec![of_files(files, out)?],
    };
    for scan in &scans {
        let Ok(target) = scan.out.canonicalize() else { continue };
        if scan.images.iter().any(|image| image.canonicalize().is_ok_and(|image| image == target)) {
            let what = "is the scan itself: the label map would overwrite it";
            return Err(Error::input(scan.out.display(), what, "choose another --out"));
        }
    }
    Ok(scans)
}

/// True for a folder or zip with a DICOM series.
fn is_series(path: &Path) -> bool {
    let zip = path.is_file() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"));
    zip || (path.is_dir() && galen_io::dicom::is_dicom(path))
}

/// One scan for each folder in `folder` that is a DICOM series; none where there are images beside them.
fn series_in(folder: &Path, out: &Path) -> Result<Vec<Scan>> {
    if !images(folder)?.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| Error::system(folder.display(), &error);
    let entries =
        std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut series: Vec<PathBuf> =
        entries.iter().map(std::fs::DirEntry::path).filter(|path| is_series(path)).collect();
    series.sort();
    let scan = |path: PathBuf| {
        let case = case_name(&path);
        Scan { out: out.join(format!("{case}.nii.gz")), images: vec![path], case }
    };
    Ok(series.into_iter().map(scan).collect())
}

/// True for a file that names scans instead of being one.
fn is_list(file: &Path) -> bool {
    file.is_file() && file.extension().is_some_and(|ending| ending == "json" || ending == "txt")
}

/// Scans that a file names, paths relative to it: JSON, `{"CASE": ["CT.nii.gz", ...], ...}` or a list of such lists;
/// or text, one scan a line, its channels with spaces or tabs between them.
fn listed(list: &Path, out: &Path, channels: usize) -> Result<Vec<Scan>> {
    let text = std::fs::read_to_string(list).map_err(|error| Error::system(list.display(), &error))?;
    let bad = |what: String| {
        let remedy = "list the channels of every scan: {\"CASE\": [\"file\", ...]}, or one scan a line";
        Error::input(list.display(), what, remedy)
    };
    let mut named: Vec<(Option<String>, Vec<String>)> = Vec::new();
    if list.extension().is_some_and(|ending| ending == "json") {
        let json: Value =
            serde_json::from_str(&text).map_err(|error| bad(format!("no valid JSON: {error}")))?;
        let entries: Vec<(Option<String>, &Value)> = match &json {
            Value::Object(cases) => cases.iter().map(|(case, files)| (Some(case.clone()), files)).collect(),
            Value::Array(cases) => cases.iter().map(|files| (None, files)).collect(),
            _ => return Err(bad("neither an object nor a list".into())),
        };
        for (case, files) in entries {
            let files = match files {
                Value::String(file) => Some(vec![file.clone()]),
                Value::Array(files) => files.iter().map(|file| file.as_str().map(str::to_owned)).collect(),
                _ => None,
            };
            named.push((case, files.ok_or_else(|| bad("a scan that is no list of file names".into()))?));
        }
    } else {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        named.extend(lines.map(|line| (None, line.split_whitespace().map(str::to_owned).collect())));
    }
    if named.is_empty() {
        return Err(bad("names no scan".into()));
    }
    let folder = list.parent().unwrap_or(Path::new("."));
    let mut scans: Vec<Scan> = Vec::with_capacity(named.len());
    for (case, files) in named {
        let images: Vec<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
        let Some(first) = images.first() else { return Err(bad("a scan without a file".into())) };
        let usual = || numbered(first).map_or_else(|| case_name(first), |(case, _)| case);
        let case = case.unwrap_or_else(usual);
        if images.len() != channels {
            return Err(bad(format!("{case} has {} files, the model reads {channels}", images.len())));
        }
        if let Some(missing) = images.iter().find(|file| !file.is_file()) {
            return Err(bad(format!("{case}: no such file: {}", missing.display())));
        }
        if case.contains(['/', '\\']) || case.is_empty() || case == ".." {
            return Err(bad(format!("`{case}` is no name of a case")));
        }
        if scans.iter().any(|scan| scan.case == case) {
            return Err(bad(format!("{case} is there twice")));
        }
        let out = out.join(format!("{case}{}", out_ending(first)));
        scans.push(Scan { case, images, out });
    }
    Ok(scans)
}

/// One part of a cohort that several jobs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 on.
    pub number: usize,
    /// Parts in all.
    pub of: usize,
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no part such as 1/4 to 4/4");
        let (number, of) = text.split_once('/').ok_or_else(wrong)?;
        let shard =
            Self { number: number.parse().map_err(|_| wrong())?, of: of.parse().map_err(|_| wrong())? };
        if (1..=shard.of).contains(&shard.number) { Ok(shard) } else { Err(wrong()) }
    }
}

impl Shard {
    /// Every `of`-th scan, so that parts of a sorted cohort are alike.
    pub fn take(self, scans: Vec<Scan>) -> Vec<Scan> {
        scans.into_iter().skip(self.number - 1).step_by(self.of).collect()
    }
}

fn of_files(files: &[PathBuf], out: &Path) -> Result<Scan> {
    if let Some(missing) = files.iter().find(|file| !file.is_file() && !is_series(file)) {
        let what = if missing.is_dir() { "is a folder among files" } else { "no such file" };
        return Err(Error::input(missing.display(), what, "give one folder, or the files of one scan"));
    }
    let numbers: Vec<Option<usize>> = files.iter().map(|file| numbered(file).map(|(_, n)| n)).collect();
    if numbers.iter().all(Option::is_some) && !numbers.iter().copied().eq((0..files.len()).map(Some)) {
        let what = format!("has the channel number {:04}", numbers[0].unwrap_or_default());
        let remedy = "give all channels, from _0000 on and in order";
        return Err(Error::input(
            files[0].display(),
            format!("{what}, or one behind it is out of order"),
            remedy,
        ));
    }
    let case = case_name(&files[0]);
    let out =
        if out.is_dir() { out.join(format!("{case}{}", out_ending(&files[0]))) } else { out.to_path_buf() };
    if galen_io::ending(&out).is_none() {
        let what = "the ending names no image format";
        return Err(Error::input(out.display(), what, "end it in .nii.gz, .nrrd or .mha"));
    }
    Ok(Scan { case, images: files.to_vec(), out })
}

fn in_folder(folder: &Path, out: &Path, channels: usize) -> Result<Vec<Scan>> {
    let files = images(folder)?;
    if files.is_empty() {
        let endings = galen_io::FORMATS.iter().flat_map(|f| f.endings.iter().chain(f.other_endings));
        let remedy = format!("images end in {}", endings.copied().collect::<Vec<_>>().join(" "));
        return Err(Error::input(folder.display(), "holds no image", remedy));
    }
    if out.is_file() {
        let what = "is a file, but many label maps will be written";
        return Err(Error::input(out.display(), what, "give a folder"));
    }
    let by_number = channels > 1 || files.iter().all(|file| numbered(file).is_some());
    let mut cases: BTreeMap<String, Vec<(Option<usize>, PathBuf)>> = BTreeMap::new();
    for file in files {
        let (case, number) = match numbered(&file) {
            Some((case, number)) if by_number => (case, Some(number)),
            _ => (case_name(&file), None),
        };
        cases.entry(case).or_default().push((number, file));
    }
    let whole = |files: &[(Option<usize>, PathBuf)]| match files {
        [(None, _)] => true,
        files => files.iter().map(|(number, _)| *number).eq((0..files.len()).map(Some)),
    };
    let broken: Vec<&str> = cases.iter().filter(|(_, f)| !whole(f)).map(|(case, _)| case.as_str()).collect();
    if !broken.is_empty() {
        let what = format!("channels are missing or there twice: {}", broken.join(", "));
        let remedy = "name the channels of a scan CASE_0000, CASE_0001, ..., one file each";
        return Err(Error::input(folder.display(), what, remedy));
    }
    let scan = |(case, files): (String, Vec<(Option<usize>, PathBuf)>)| {
        let images: Vec<PathBuf> = files.into_iter().map(|(_, file)| file).collect();
        let out = out.join(format!("{case}{}", out_ending(&images[0])));
        Scan { case, images, out }
    };
    Ok(cases.into_iter().map(scan).collect())
}

/// Image files of a folder, sorted.
pub fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::system(folder.display(), &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.is_file() && galen_io::ending(&file).is_some() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Label maps keep their scan's format; a format that is not written, or is lossy, gives way to its neighbour.
fn out_ending(image: &Path) -> String {
    match galen_io::ending(image) {
        Some((ending, format)) if format.endings.contains(&ending.to_lowercase().as_str()) => {
            ending.to_owned()
        }
        Some((_, Format { endings: [first, ..], .. })) => (*first).to_owned(),
        _ => ".nii.gz".to_owned(),
    }
}

/// File name without its image ending.
pub fn case_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cut = galen_io::ending(file).map_or(0, |(ending, _)| ending.len());
    name[..name.len() - cut].to_owned()
}

/// Case and channel of a file that is named as nnU-Net names images.
fn numbered(file: &Path) -> Option<(String, usize)> {
    galen_data::channel_of(&case_name(file)).map(|(case, number)| (case.to_owned(), number))
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
    fn a_series_is_one_scan_and_a_folder_of_series_many() {
        let folder = tempfile::tempdir().unwrap();
        let slice = [&[0u8; 128][..], b"DICM", &[0; 8]].concat();
        for name in ["b/1", "b/2", "a/1"] {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, &slice).unwrap();
        }
        let many = scans(&[folder.path().to_path_buf()], Path::new("out"), 1).unwrap();
        assert_eq!(
            many.iter().map(|s| s.out.to_str().unwrap()).collect::<Vec<_>>(),
            ["out/a.nii.gz", "out/b.nii.gz"]
        );
        let one = scans(&[folder.path().join("b")], Path::new("labels.mha"), 1).unwrap();
        assert_eq!((one.len(), one[0].case.as_str(), one[0].images.len()), (1, "b", 1));
        assert_eq!(out_ending(Path::new("a.dcm")), ".nii.gz");
    }

    #[test]
    fn lists_name_scans_and_parts_make_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a_0000.mha", "a_0001.mha", "b_0000.mha", "b_0001.mha"] {
            std::fs::write(path(name), b"").unwrap();
        }
        std::fs::write(path("l.txt"), "# mine\na_0000.mha a_0001.mha\n\nb_0000.mha\tb_0001.mha\n").unwrap();
        std::fs::write(path("l.json"), r#"{"one": ["b_0000.mha", "a_0001.mha"]}"#).unwrap();
        let scans = |list: &str, channels| scans(&[path(list)], Path::new("out"), channels);
        let text = scans("l.txt", 2).unwrap();
        assert_eq!(text.iter().map(|s| s.case.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(scans("l.json", 2).unwrap()[0].out, Path::new("out/one.mha"));
        assert!(scans("l.json", 3).unwrap_err().to_string().contains("one has 2 files"));
        let bad = [r#"{"x": 3}"#, "{", "[]", r#"{"../x": ["a_0000.mha"]}"#, r#"[["gone.mha"]]"#];
        for text in bad {
            std::fs::write(path("l.json"), text).unwrap();
            assert!(scans("l.json", 1).is_err(), "{text}");
        }
        let part =
            |text: &str| text.parse::<Shard>().map(|shard| shard.take(scans("l.txt", 2).unwrap()).len());
        assert_eq!([part("1/2"), part("2/2"), part("1/3"), part("3/3")], [Ok(1), Ok(1), Ok(1), Ok(0)]);
        assert!(["0/2", "3/2", "1", "1/0", "-1/2"].iter().all(|text| text.parse::<Shard>().is_err()));
    }

    #[test]
    fn names_without_channel_numbers_are_cases_of_their_own() {
        assert_eq!(case_name(Path::new("x/hippocampus_001.nii.gz")), "hippocampus_001");
        assert_eq!(numbered(Path::new("hippocampus_001.nii.gz")), None);
        assert_eq!(numbered(Path::new("h_0001.mha")), Some(("h".into(), 1)));
        let endings =
            ["a.JPG", "a.mhd", "a.NII.GZ", "a.hdr", "a.tiff"].map(|name| out_ending(Path::new(name)));
        assert_eq!(endings, [".png", ".mha", ".NII.GZ", ".nii.gz", ".tiff"]);
    }

    #[test]
    fn gaps_and_doubles_among_channels_are_refused() {
        for (names, channels) in [
            (&["a_0000.nii.gz", "a_0002.nii.gz"][..], 2),
            (&["a_0001.nii.gz"], 1),
            (&["a.nii.gz", "a.mha"], 1),
            (&["a_0000.nii.gz", "a_0000.mha"], 2),
        ] {
            let folder = tempfile::tempdir().unwrap();
            names.iter().for_each(|name| std::fs::write(folder.path().join(name), b"").unwrap());
            let error = scans(&[folder.path().to_path_buf()], Path::new("out"), channels).unwrap_err();
            assert!(error.to_string().contains("missing or there twice: a"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let files = ["a_0001.mha", "a_0000.mha"].map(|name| folder.path().join(name));
        files.iter().for_each(|file| std::fs::write(file, b"").unwrap());
        assert!(scans(&files, Path::new("out.mha"), 2).is_err(), "out of order");
    }

    #[test]
    fn a_scan_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.nii.gz");
        std::fs::write(&file, b"").unwrap();
        for given in [file.clone(), folder.path().to_path_buf()] {
            let out = if given == file { &file } else { folder.path() };
            let error = scans(&[given], out, 1).unwrap_err();
            assert!(error.to_string().contains("overwrite"), "{error}");
        }
    }

    #[test]
    fn an_output_without_a_format_is_refused() {
        let file = tempfile::Builder::new().suffix(".nii.gz").tempfile().unwrap();
        let error = scans(&[file.path().to_path_buf()], Path::new("labels"), 1).unwrap_err();
        assert!(error.to_string().contains(".nii.gz"), "{error}");
    }
}
