//! DICOM: single files, and folders, zips and DICOMDIRs of mixed series.
//!
//! `file` and `dataset` understand the container, `pixels` and the codecs turn bytes into samples, `instance` says
//! what one file means, `stack` which of them make a volume, `volume` reads it, `study` finds all series of a folder.
//!
//! Written here and not taken from a crate, because hospital files are read where they may be damaged or hostile: an
//! element is a range of the file's bytes, so no length that a file claims ever becomes an allocation.

mod colour;
mod dataset;
mod file;
mod fragments;
mod instance;
mod jpeg;
mod jpeg2000;
mod jpegls;
mod pet;
mod pixels;
mod rle;
mod stack;
mod study;
mod syntax;
mod tags;
mod tilt;
mod volume;

pub use pet::Uptake;
pub use stack::Stack;
pub use study::{Series, Study};
pub use volume::Reading;

use crate::{Format, Header};
use galen_core::{Error, Result, Scalar, Volume, Voxels};
use pixels::{Sample, Source, Stored, decode_frame};
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Entry of the format list.
pub const FORMAT: Format = Format {
    name: "DICOM",
    endings: &[],
    other_endings: &[".dcm", ".dicom", ".ima"],
    sniff: |start| start.get(128..132) == Some(b"DICM") || file::looks_like(start),
    header,
    files: |path| Ok(vec![path.to_owned()]),
    read,
    write: None,
};

/// The one volume of a DICOM file, folder, zip or DICOMDIR.
pub fn read(path: &Path) -> Result<Volume> {
    Study::open(path, &|_, _| {})?.only(path)?.read(Reading::default())
}

/// What is known of that volume without its voxels.
pub fn header(path: &Path) -> Result<Header> {
    let study = Study::open(path, &|_, _| {})?;
    let series = study.only(path)?;
    let geometry = match &series.stack {
        Ok(stack) => stack.geometry.clone(),
        Err(why) => return Err(Error::input(path.display(), why, "")),
    };
    Ok(Header { format: "DICOM", geometry, channels: series.channels(), voxel_type: series.voxel_type() })
}

/// True for what only this module reads: a folder, or a zip archive.
pub fn is_collection(path: &Path) -> bool {
    path.is_dir() || study::is_zip(path).unwrap_or(false)
}

/// True for a file that is DICOM, and for a folder with such files directly in it and no other images.
pub fn is_dicom(path: &Path) -> bool {
    if path.is_file() {
        return crate::beginning(path).is_ok_and(|start| (FORMAT.sniff)(&start));
    }
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|file| file.is_file()).collect();
    files.sort();
    let other = |file: &PathBuf| crate::ending(file).is_some_and(|(_, format)| format.name != FORMAT.name);
    // Among slices there may be a text or two, but not thousands.
    !files.iter().any(other) && files.iter().take(50).any(|file| is_dicom(file))
}

/// All files of the one volume at `path`.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let study = Study::open(path, &|_, _| {})?;
    let places = study.only(path)?.instances.iter().map(|instance| match &instance.place {
        instance::Place::File(file) | instance::Place::Zipped(file, _) => file.clone(),
    });
    let mut files: Vec<PathBuf> = places.collect();
    files.dedup();
    Ok(files)
}

/// Pixels of one file as they are stored: no rescale, no palette, no order of slices.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Frames, rows, columns, samples per pixel.
    pub shape: [usize; 4],
    /// Samples, `[frame, y, x, sample]`; YCbCr is converted to RGB.
    pub values: Voxels,
    /// Name of the transfer syntax.
    pub syntax: &'static str,
    /// True where decoding is exact by definition.
    pub lossless: bool,
}

/// Reads the stored pixels of one file; `None` when it has none.
pub fn read_pixels(path: &Path) -> Result<Option<Pixels>> {
    fn typed<T: Stored>(
        frames: &[Cow<[u8]>],
        source: &Source,
        place: &instance::PixelPlace,
        name: &str,
    ) -> Result<Voxels> {
        let length = place.format.frame_samples();
        let stored: usize = frames.iter().map(|frame| frame.len()).sum();
        if (length * frames.len()) as u64 > (1u64 << 24).max(stored as u64 * 512) {
            let what = format!("claims {} samples, which {stored} bytes cannot hold", length * frames.len());
            return Err(Error::input(
                name,
                what,
                "the header is damaged or the copy incomplete: copy it again",
            ));
        }
        let mut out = vec![T::from_bits(0); length * frames.len()];
        out.par_chunks_exact_mut(length).zip(frames).try_for_each(|(out, frame)| {
            decode_frame(frame, &place.format, source, out).map_err(|what| {
                Error::input(
                    name,
                    format!("its pixels cannot be decoded: {what}"),
                    "get it from its source again, or uncompressed",
                )
            })
        })?;
        Ok(<T as Scalar>::wrap(out))
    }
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Error::system(&name, &error))?;
    let opened = file::Opened::new(Cow::Owned(bytes), &name)?;
    let instance = instance::Instance::read(instance::Place::File(path.to_owned()), &opened)?;
    let place = match &instance.pixels {
        None => return Ok(None),
        Some(found) => found.as_ref().map_err(Error::clone)?,
    };
    let source = Source {
        bytes: &opened.bytes,
        start: place.start,
        encoding: place.encoding,
        wrapping: place.wrapping,
        vr: place.vr,
    };
    let frames = source.frames(&place.format, &name)?;
    let values = match place.format.sample {
        Sample::Bit | Sample::Unsigned(1) => typed::<u8>(&frames, &source, place, &name)?,
        Sample::Signed(1) => typed::<i8>(&frames, &source, place, &name)?,
        Sample::Unsigned(2) => typed::<u16>(&frames, &source, place, &name)?,
        Sample::Signed(2) => typed::<i16>(&frames, &source, place, &name)?,
        Sample::Unsigned(_) => typed::<u32>(&frames, &source, place, &name)?,
        Sample::Signed(_) => typed::<i32>(&frames, &source, place, &name)?,
        Sample::Float(4) => typed::<f32>(&frames, &source, place, &name)?,
        Sample::Float(_) => typed::<f64>(&frames, &source, place, &name)?,
    };
    let shape = [place.format.frames, place.format.rows, place.format.columns, place.format.samples];
    let (syntax, lossless) =
        opened.syntax.map_or(("not named", true), |syntax| (syntax.name, syntax.lossless));
    Ok(Some(Pixels { shape, values, syntax, lossless }))
}
