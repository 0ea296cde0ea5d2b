//! NIfTI-1 and NIfTI-2, single files (`.nii`, `.nii.gz`) and header/image pairs (`.hdr`/`.img`).
//!
//! Source: the NIfTI-1 and NIfTI-2 header definitions. World axes turn from RAS to LPS here and nowhere else.

mod header;
mod write;

use crate::bytes::{count, planar, truncated};
use crate::stored::{Packing, Skip, Stored};
use crate::{Format, gzip};
use galen_core::{Error, Result, Volume};
use header::Parsed;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Entry of the format list.
pub const FORMAT: Format = Format {
    name: "NIfTI",
    endings: &[".nii.gz", ".nii"],
    other_endings: &[".hdr"],
    sniff: |start| Parsed::kind(start).is_some(),
    header: |path| Ok(open(path)?.0.describe()),
    files: |path| {
        let parts = if open(path)?.0.paired { vec![image_of(path)?.0] } else { Vec::new() };
        Ok(crate::with_parts(path, parts))
    },
    read,
    write: Some(write::write),
};

/// Header of a file, and whether the file is compressed.
fn open(path: &Path) -> Result<(Parsed, bool)> {
    let failed = |error: std::io::Error| Error::system(path.display(), &error);
    let mut file = BufReader::with_capacity(8192, File::open(path).map_err(failed)?);
    let compressed = file.fill_buf().map_err(failed)?.starts_with(&gzip::MAGIC);
    let start =
        if compressed { gzip::prefix(file, 544) } else { crate::first_bytes(file, 544).map_err(failed)? };
    let need = if matches!(Parsed::kind(&start), Some((2, ..))) { 540 } else { 348 };
    match Parsed::new(&start) {
        Some(parsed) => {
            let parsed = parsed.check(path)?;
            count(path, &parsed.size_xyz())?;
            Ok((parsed, compressed))
        }
        None => Err(truncated(path, start.len() as u64, need)),
    }
}

fn read(path: &Path) -> Result<Volume> {
    let (header, compressed) = open(path)?;
    let geometry = header.geometry();
    let (kind, samples) = header.voxel_type().ok_or_else(|| Error::bug(path.display(), "unchecked type"))?;
    let mut sizes = header.size_xyz().to_vec();
    sizes.extend(header.frames());
    sizes.push(samples);
    let count = count(path, &sizes)?;
    let (file, compressed) = if header.paired { image_of(path)? } else { (path.to_owned(), compressed) };
    let stored = Stored {
        parts: vec![file],
        start: 0,
        lines: 0,
        skip: Skip::Bytes(header.voxels_at()),
        packing: if compressed { Packing::Deflate } else { Packing::Plain },
        kind,
        count,
        swap: header.swap,
    };
    let voxels = stored.read()?;
    let (slope, intercept) = header.scaling();
    let voxels = if samples > 1 { planar(&voxels, samples) } else { voxels };
    Ok(Volume { channels: count / geometry.voxels(), geometry, voxels, slope, intercept })
}

/// The image file of a header, and whether it is compressed.
fn image_of(header: &Path) -> Result<(PathBuf, bool)> {
    let name = header.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    for ending in [".img", ".img.gz"] {
        let image = header.with_file_name(format!("{stem}{ending}"));
        if let Ok(file) = File::open(&image) {
            let failed = |error: std::io::Error| Error::system(image.display(), &error);
            let compressed = crate::first_bytes(file, 2).map_err(failed)? == gzip::MAGIC;
            return Ok((image, compressed));
        }
    }
    let what = format!("the voxels are in {stem}.img, which is not there");
    Err(Error::input(header.display(), what, "copy both files of the pair"))
}
