//! Image formats in and out: one file per format, recognised by content, never by name.
//!
//! Readers refuse a header whose voxels cannot be in the file before they allocate anything for them.
//! Writers write beside the target, sync and rename: a file is there whole or not at all.

mod atomic;
mod blosc2;
mod bytes;
pub mod dicom;
mod foreign;
mod gzip;
mod metaimage;
mod nifti;
mod nrrd;
pub mod pickle;
mod pickle_machine;
mod raster;
mod runs;
mod stored;
mod text;
mod tiff;

pub use atomic::{remove_unfinished, replace_file, write_atomically};
pub use blosc2::{Blosc2Array, read_blosc2};

use galen_core::{Error, Geometry, LabelMap, Result, Scalar, Volume};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What a file says about itself, without its voxels.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Name of the format.
    pub format: &'static str,
    /// Grid.
    pub geometry: Geometry,
    /// Channels (time points, colours).
    pub channels: usize,
    /// Stored type, e.g. `int16`.
    pub voxel_type: &'static str,
}

/// One image format.
pub struct Format {
    /// Name for people.
    pub name: &'static str,
    /// Endings of file names that are written in this format, lower case, with the dot.
    pub endings: &'static [&'static str],
    /// Endings that such files also have, but that are not written; lower case, with the dot.
    pub other_endings: &'static [&'static str],
    /// Does a file that begins so (up to 1024 bytes, gzip removed) have this format?
    pub sniff: fn(&[u8]) -> bool,
    /// Reads the header and nothing behind it.
    pub header: fn(&Path) -> Result<Header>,
    /// All files of an image: the file itself, or a header and those that hold its voxels.
    pub files: fn(&Path) -> Result<Vec<PathBuf>>,
    /// Reads the image.
    pub read: fn(&Path) -> Result<Volume>,
    /// Content of a file with this image, in pieces; the path decides about compression.
    pub write: Option<for<'a> fn(&Path, &'a Volume) -> Result<Vec<Cow<'a, [u8]>>>>,
}

/// All formats, in the order in which they are tried.
pub static FORMATS: &[Format] =
    &[dicom::FORMAT, nifti::FORMAT, nrrd::FORMAT, metaimage::FORMAT, raster::FORMAT, tiff::FORMAT];

/// Reads an image.
///
/// A folder, zip or DICOMDIR stands for the one DICOM series in it that is a volume.
pub fn read(path: &Path) -> Result<Volume> {
    if dicom::is_collection(path) {
        return dicom::read(path);
    }
    (recognise(path)?.read)(path)
}

/// Reads what a file says about itself.
pub fn read_header(path: &Path) -> Result<Header> {
    if dicom::is_collection(path) {
        return dicom::header(path);
    }
    (recognise(path)?.header)(path)
}

/// All files that an image is in, this one first.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if dicom::is_collection(path) {
        return dicom::files(path);
    }
    (recognise(path)?.files)(path)
}

/// For formats whose images are single files.
fn alone(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(vec![path.to_owned()])
}

/// A header and the files that it names, which may be itself.
fn with_parts(header: &Path, parts: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files = vec![header.to_owned()];
    files.extend(parts.into_iter().filter(|part| part != header));
    files
}

/// Reads the channels of one scan, in this order. They must share a grid, up to the rounding of headers.
pub fn read_channels(files: &[PathBuf]) -> Result<Volume> {
    let images = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    for (file, image) in files.iter().zip(&images).skip(1) {
        if let Some(mismatch) = images[0].geometry.conflicts(&image.geometry) {
            let what = format!("its grid differs from {} in {mismatch}", files[0].display());
            return Err(Error::input(file.display(), what, "resample the channels onto one grid"));
        }
    }
    Volume::stack(images).ok_or_else(|| Error::input("scan", "no image file", "give at least one"))
}

/// Image ending of a file name, as it stands in the name, and the format it stands for.
pub fn ending(file: &Path) -> Option<(&str, &'static Format)> {
    let name = file.file_name()?.to_str()?;
    let known = FORMATS.iter().flat_map(|f| f.endings.iter().chain(f.other_endings).map(move |e| (*e, f)));
    let mut fitting: Vec<_> = known
        .filter_map(|(ending, format)| {
            let (stem, tail) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
            (!stem.is_empty() && tail.eq_ignore_ascii_case(ending)).then_some((tail, format))
        })
        .collect();
    // `.nii.gz` before `.gz`, were there one.
    fitting.sort_by_key(|(tail, _)| std::cmp::Reverse(tail.len()));
    fitting.into_iter().next()
}

/// Reads a label map: an image whose values are whole numbers from 0 to 65535.
pub fn read_label_map(path: &Path) -> Result<LabelMap> {
    let volume = read(path)?;
    if volume.channels != 1 {
        let what = format!("has {} channels; a label map has one", volume.channels);
        return Err(Error::input(path.display(), what, "give the label map, not the image"));
    }
    LabelMap::from_volume(&volume).map_err(|value| {
        let what = format!("holds the value {value}, which is no label");
        Error::input(path.display(), what, "labels are whole numbers from 0 to 65535; is this the image?")
    })
}

/// Writes an image in the format that the file name asks for.
pub fn write(path: &Path, volume: &Volume) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let format = FORMATS.iter().find(|f| f.write.is_some() && f.endings.iter().any(|e| name.ends_with(e)));
    let Some(write) = format.and_then(|format| format.write) else {
        let endings: Vec<&str> =
            FORMATS.iter().filter(|f| f.write.is_some()).flat_map(|f| f.endings.iter().copied()).collect();
        let remedy = format!("end it in one of {}", endings.join(" "));
        return Err(Error::input(path.display(), "the ending names no format that can be written", remedy));
    };
    let pieces = write(path, volume)?;
    write_atomically(path, |file| pieces.iter().try_for_each(|piece| file.write_all(piece)))
}

/// Writes a label map with the geometry of its scan, compressed where the format can be.
pub fn write_label_map(path: &Path, labels: &LabelMap) -> Result<()> {
    write(path, &labels.to_volume())
}

fn recognise(path: &Path) -> Result<&'static Format> {
    let start = beginning(path)?;
    FORMATS.iter().find(|format| (format.sniff)(&start)).ok_or_else(|| {
        let (what, remedy) = foreign::name(path, &start);
        Error::input(path.display(), what, remedy)
    })
}

/// First bytes of a file, gzip removed.
fn beginning(path: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::system(path.display(), &error);
    let mut file = BufReader::with_capacity(8192, File::open(path).map_err(failed)?);
    if file.fill_buf().map_err(failed)?.starts_with(&gzip::MAGIC) {
        return Ok(gzip::prefix(file, 1024));
    }
    first_bytes(file, 1024).map_err(failed)
}

/// Up to `most` bytes.
fn first_bytes(from: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    from.take(most).read_to_end(&mut start)?;
    Ok(start)
}

/// The image for a format that has no slope and intercept: float32 where they matter.
fn true_values(volume: &Volume) -> Cow<'_, Volume> {
    if volume.slope == 1.0 && volume.intercept == 0.0 {
        return Cow::Borrowed(volume);
    }
    let values = (0..volume.channels).flat_map(|channel| volume.channel_f32(channel)).collect();
    let (geometry, channels) = (volume.geometry.clone(), volume.channels);
    Cow::Owned(Volume { geometry, channels, voxels: f32::wrap(values), slope: 1.0, intercept: 0.0 })
}
