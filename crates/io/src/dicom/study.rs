//! A folder, zip or DICOMDIR of mixed files: which series are in it.

use super::dataset::Level;
use super::file::{Opened, looks_like, read_header};
use super::instance::{Instance, Place};
use super::stack::{Stack, arrange};
use super::volume::{self, Reading, located};
use super::{dataset::Dataset, tags};
use galen_core::{Error, Result, Volume};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Folders within folders that are followed.
const MAX_DEPTH: usize = 64;
/// Bytes of one entry of an archive that are believed: the largest file that fits twice in a workstation's memory.
const MAX_ENTRY: u64 = 16 << 30;
/// Deflate makes at most this many bytes of one.
const MAX_INFLATION: u64 = 1040;
/// Class of a DICOMDIR.
const DIRECTORY: &str = "1.2.840.10008.1.3.10";

/// One series of a study.
#[derive(Debug)]
pub struct Series {
    /// Its files.
    pub(super) instances: Vec<Instance>,
    /// Its images in order, or why they are no volume.
    pub stack: Result<Stack, String>,
}

impl Series {
    /// Images, frames of all files together.
    pub fn images(&self) -> usize {
        self.instances.iter().map(|instance| instance.frames.len()).sum()
    }

    /// Number of its files.
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Modality, e.g. `CT`.
    pub fn modality(&self) -> &str {
        &self.instances[0].modality
    }

    /// Description that the scanner or its user gave.
    pub fn description(&self) -> &str {
        &self.instances[0].description
    }

    /// Number in its study.
    pub fn number(&self) -> Option<i64> {
        self.instances[0].number
    }

    /// Unique identifier.
    pub fn uid(&self) -> &str {
        &self.instances[0].series
    }

    /// Unique identifier of its study.
    pub fn study_uid(&self) -> &str {
        &self.instances[0].study
    }

    /// Name of the transfer syntax, or of the first of several.
    pub fn syntax(&self) -> &'static str {
        self.instances[0].syntax.map_or("not named", |syntax| syntax.name)
    }

    /// Photometric interpretation of its images, e.g. `MONOCHROME2`; empty for objects without pixels.
    pub fn photometric(&self) -> &str {
        located(&self.instances[0]).map_or("", |place| &place.format.photometric)
    }

    /// Name of the type in which its voxels are stored.
    pub fn voxel_type(&self) -> &'static str {
        use super::pixels::Sample;
        located(&self.instances[0]).map_or("", |place| match place.format.sample {
            Sample::Bit | Sample::Unsigned(1) => "uint8",
            Sample::Signed(1) => "int8",
            Sample::Unsigned(2) => "uint16",
            Sample::Signed(2) => "int16",
            Sample::Unsigned(_) => "uint32",
            Sample::Signed(_) => "int32",
            Sample::Float(4) => "float32",
            Sample::Float(_) => "float64",
        })
    }

    /// Channels of the volume: moments times colours.
    pub fn channels(&self) -> usize {
        let samples = located(&self.instances[0])
            .map_or(1, |place| if self.instances[0].palette.is_some() { 3 } else { place.format.samples });
        self.stack.as_ref().map_or(0, |stack| stack.moments * samples)
    }

    /// Reads its volume.
    pub fn read(&self, reading: Reading) -> Result<Volume> {
        match &self.stack {
            Ok(stack) => volume::read(&self.instances, stack, reading),
            Err(why) => {
                Err(Error::input(self.place(), why, "see `galen info` for the series of this folder"))
            }
        }
    }

    fn place(&self) -> String {
        let first = &self.instances[0].place;
        match (self.instances.len(), first) {
            (1, place) => place.to_string(),
            (_, Place::File(path)) => path.parent().unwrap_or(path).display().to_string(),
            (_, Place::Zipped(archive, _)) => archive.display().to_string(),
        }
    }
}

/// What a folder, archive or file holds.
#[derive(Debug)]
pub struct Study {
    /// Series, in the order of their numbers.
    pub series: Vec<Series>,
    /// DICOM files that cannot be read, with the reason.
    pub unreadable: Vec<Error>,
    /// Files that are no DICOM.
    pub others: usize,
}

impl Study {
    /// Reads the headers of all files; `progress` gets how many are done of how many.
    pub fn open(path: &Path, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Self> {
        let mut places = if path.is_dir() {
            let mut files = Vec::new();
            walk(path, 0, &mut files)?;
            files.into_iter().map(Place::File).collect()
        } else if is_zip(path)? {
            entries(path)?
        } else {
            vec![Place::File(path.to_owned())]
        };
        let mut missing = Vec::new();
        if let [Place::File(file)] = &places[..]
            && let Some((files, lost)) = directory(file)?
        {
            (places, missing) = (files.into_iter().map(Place::File).collect(), lost);
        }
        let (done, total) = (AtomicUsize::new(0), places.len());
        let read = |place: Place| {
            let found = header(place);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            found
        };
        let found: Vec<Result<Option<Instance>>> = places.into_par_iter().map(read).collect();
        let mut study = Self { series: Vec::new(), unreadable: missing, others: 0 };
        let mut series: BTreeMap<(String, String), Vec<Instance>> = BTreeMap::new();
        for found in found {
            match found {
                Ok(Some(instance)) if instance.sop_class == DIRECTORY => {}
                Ok(Some(instance)) => {
                    // Tools that take identifiers away keep a series in a folder.
                    let key = match (instance.series.as_str(), &instance.place) {
                        ("", Place::File(path)) => {
                            (instance.study.clone(), path.parent().unwrap_or(path).display().to_string())
                        }
                        ("", Place::Zipped(_, name)) => {
                            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                            (instance.study.clone(), folder.to_owned())
                        }
                        // Unique by the standard, whatever tools do to the identifier of the study.
                        (uid, _) => (String::new(), uid.to_owned()),
                    };
                    series.entry(key).or_default().push(instance);
                }
                Ok(None) => study.others += 1,
                Err(error) => study.unreadable.push(error),
            }
        }
        study.series =
            series.into_values().map(|instances| Series { stack: arrange(&instances), instances }).collect();
        let number = |series: &Series| series.number().unwrap_or(i64::MAX);
        study.series.sort_by(|a, b| a.study_uid().cmp(b.study_uid()).then(number(a).cmp(&number(b))));
        Ok(study)
    }

    /// Series that are volumes.
    pub fn volumes(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| series.stack.is_ok())
    }

    /// The one series that is a volume.
    pub fn only(&self, path: &Path) -> Result<&Series> {
        let volumes: Vec<&Series> = self.volumes().collect();
        match (&volumes[..], &self.series[..]) {
            ([one], _) => Ok(one),
            ([], []) => match self.unreadable.first() {
                Some(error) => Err(error.clone()),
                None => Err(Error::input(path.display(), "holds no DICOM file", "give a folder of images")),
            },
            ([], [one]) => {
                one.read(Reading::default()).and_then(|_| Err(Error::bug(path.display(), "no stack")))
            }
            ([], _) => {
                let what = format!("none of its {} series is a volume", self.series.len());
                Err(Error::input(path.display(), what, "`galen info` says of each why"))
            }
            (many, _) => {
                let what = format!("holds {} series that are volumes", many.len());
                let remedy = "make files of them with `galen import dicom`, or give a folder with one series";
                Err(Error::input(path.display(), what, remedy))
            }
        }
    }
}

/// Header of a file; `None` when it is no DICOM.
fn header(place: Place) -> Result<Option<Instance>> {
    let name = place.to_string();
    let bytes = match &place {
        Place::File(path) => read_header(path)?.0,
        Place::Zipped(..) => content(&place)?,
    };
    if !looks_like(&bytes) {
        return Ok(None);
    }
    let opened = Opened::new(Cow::Owned(bytes), &name)?;
    let instance = Instance::read(place, &opened)?;
    // A file without any of these is something else that begins like DICOM.
    let known = !(instance.sop_class.is_empty() && instance.series.is_empty() && instance.pixels.is_none());
    if !known && opened.bytes.get(128..132) != Some(b"DICM") {
        return Ok(None);
    }
    Ok(Some(instance))
}

/// Is the file a zip archive?
pub fn is_zip(path: &Path) -> Result<bool> {
    let mut start = [0; 4];
    let mut file = File::open(path).map_err(|error| Error::system(path.display(), &error))?;
    Ok(file.read_exact(&mut start).is_ok() && &start == b"PK\x03\x04")
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error: std::io::Error| Error::system(folder.display(), &error);
    if depth > MAX_DEPTH {
        return Err(Error::input(folder.display(), "folders are nested too deep", "give one of its folders"));
    }
    let mut entries =
        std::fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        // Links are files of another folder: following them could count a file twice, or go round in circles.
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            walk(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn archive(path: &Path) -> Result<zip::ZipArchive<File>> {
    let file = File::open(path).map_err(|error| Error::system(path.display(), &error))?;
    zip::ZipArchive::new(file).map_err(|error| broken(path, &error))
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::input(path.display(), format!("cannot be read as a zip archive ({error})"), "copy it again")
}

/// Files of an archive; they are read where they are, nothing is unpacked to disk.
fn entries(path: &Path) -> Result<Vec<Place>> {
    let archive = archive(path)?;
    let names = archive.file_names().filter_map(Result::ok).filter(|name| !name.ends_with('/'));
    let mut places: Vec<Place> =
        names.map(|name| Place::Zipped(path.to_owned(), name.into_owned())).collect();
    places.sort();
    Ok(places)
}

/// Bytes of a file.
pub fn size(place: &Place) -> Result<u64> {
    match place {
        Place::File(path) => {
            path.metadata().map(|about| about.len()).map_err(|error| Error::system(path.display(), &error))
        }
        Place::Zipped(path, name) => {
            let mut archive = archive(path)?;
            let entry = archive.by_name(name).map_err(|error| broken(path, &error))?;
            Ok(entry.size())
        }
    }
}

/// Content of a file.
pub fn content(place: &Place) -> Result<Vec<u8>> {
    let (path, name) = match place {
        Place::File(path) => {
            return std::fs::read(path).map_err(|error| Error::system(path.display(), &error));
        }
        Place::Zipped(path, name) => (path, name),
    };
    let mut archive = archive(path)?;
    let entry = archive.by_name(name).map_err(|error| broken(path, &error))?;
    let (size, packed) = (entry.size(), entry.compressed_size());
    if size > MAX_ENTRY || size > packed.saturating_mul(MAX_INFLATION) + 1024 {
        let what = format!("claims {size} bytes, which {packed} compressed ones cannot hold");
        return Err(Error::input(place, what, "the archive is damaged or made to harm"));
    }
    // Grows as bytes come, whatever the archive claims.
    let mut bytes = Vec::new();
    entry.take(size).read_to_end(&mut bytes).map_err(|error| broken(path, &error))?;
    Ok(bytes)
}

/// Files that a DICOMDIR names, and errors for those that are not there; `None` when the file is none.
///
/// Records are taken in the order of the file. Their links to each other, which may form circles, are not followed.
fn directory(path: &Path) -> Result<Option<(Vec<PathBuf>, Vec<Error>)>> {
    let place = path.display().to_string();
    let (start, _) = read_header(path)?;
    if !looks_like(&start) {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(|error| Error::system(&place, &error))?;
    let Ok(opened) = Opened::new(Cow::Owned(bytes), &place) else { return Ok(None) };
    let set = Dataset::parse(&opened.bytes, opened.start..opened.bytes.len(), opened.encoding, Level::Top)?;
    if set.find(tags::DIRECTORY_RECORDS).is_none() {
        return Ok(None);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let (mut files, mut missing) = (Vec::new(), Vec::new());
    for record in set.items(tags::DIRECTORY_RECORDS)? {
        let Some(name) = record.text(tags::REFERENCED_FILE) else { continue };
        let relative: PathBuf = name.split('\\').map(str::trim).collect();
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        let file = folder.join(&relative);
        if !plain {
            let what = format!("names the file `{name}`, which lies outside of its folder");
            missing.push(Error::input(&place, what, "give the folder with the images"));
        } else if file.is_file() {
            files.push(file);
        } else {
            let what = format!("names the file `{name}`, which is not there");
            missing.push(Error::input(
                &place,
                what,
                "copy the whole medium, or give the folder with the images",
            ));
        }
    }
    files.sort();
    files.dedup();
    Ok(Some((files, missing)))
}
