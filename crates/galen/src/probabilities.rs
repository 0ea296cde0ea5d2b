//! Files of class probabilities as nnU-Net writes them: `CASE.npz`, key `probabilities`, float32 `[class, z, y, x]`.
//!
//! They are read a class at a time, from as many models as there are.

use crate::scans::case_name;
use galen_core::{Error, Geometry, LabelMap, Labels, Result};
use galen_infer::{Ensemble, Probabilities};
use npyz::npz::NpzArchive;
use npyz::{DType, NpyFile, Order, TypeChar, WriterBuilder};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const KEY: &str = "probabilities";
const REMEDY: &str = "predict the case again with --save-probabilities";

/// Where the probabilities of a label map go.
pub fn file_beside(labels: &Path) -> PathBuf {
    labels.with_file_name(format!("{}.npz", case_name(labels)))
}

/// Writes probabilities, compressed.
pub fn write(file: &Path, probabilities: &Probabilities) -> Result<()> {
    let [z, y, x] = probabilities.size;
    let shape = [probabilities.classes, z, y, x].map(|n| n as u64);
    let write = || -> std::io::Result<Vec<u8>> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().large_file(true);
        archive.start_file(format!("{KEY}.npy"), options)?;
        let mut array =
            npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut archive).begin_nd()?;
        array.extend(probabilities.values.iter().copied())?;
        array.finish()?;
        Ok(archive.finish()?.into_inner())
    };
    galen_io::replace_file(file, &write().map_err(|error| Error::bug("probabilities", error))?)
}

/// Label map of the mean of several models' probabilities for one case, on the grid of its label map.
pub fn ensemble(files: &[PathBuf], labels: &Labels, geometry: Geometry) -> Result<LabelMap> {
    let mut archives = files.iter().map(|file| open(file)).collect::<Result<Vec<_>>>()?;
    let mut arrays = Vec::with_capacity(files.len());
    for (archive, file) in archives.iter_mut().zip(files) {
        let array = archive.by_name(KEY).map_err(|error| damaged(file, error))?;
        let missing = || Error::input(file.display(), format!("there is no array `{KEY}`"), REMEDY);
        arrays.push(Classes::new(array.ok_or_else(missing)?, file, labels, &geometry)?);
    }
    let voxels = geometry.voxels();
    let mut ensemble = Ensemble::new(labels, voxels);
    let mut values = vec![vec![0f32; voxels]; files.len()];
    for _ in 0..labels.output_channels() {
        for (array, values) in arrays.iter_mut().zip(&mut values) {
            array.next(values)?;
        }
        let (mean, others) = values.split_at_mut(1);
        ensemble.add(&mut mean[0], others)?;
    }
    ensemble.finish(geometry)
}

fn open(file: &Path) -> Result<NpzArchive<BufReader<File>>> {
    let missing = |error: std::io::Error| match error.raw_os_error() {
        Some(_) => Error::system(file.display(), &error),
        None => damaged(file, error),
    };
    NpzArchive::open(file).map_err(missing)
}

fn damaged(file: &Path, error: std::io::Error) -> Error {
    Error::input(file.display(), format!("damaged array: {error}"), REMEDY)
}

/// One file's classes, in order.
struct Classes<'a, R: Read> {
    file: &'a Path,
    reader: R,
    width: usize,
    bytes: Vec<u8>,
}

impl<'a, R: Read> Classes<'a, R> {
    fn new(array: NpyFile<R>, file: &'a Path, labels: &Labels, geometry: &Geometry) -> Result<Self> {
        let bad = |what: String| Err(Error::input(file.display(), what, REMEDY));
        let [z, y, x] = geometry.size.map(|n| n as u64);
        let want = [labels.output_channels() as u64, z, y, x];
        if array.shape() != want {
            return bad(format!("probabilities of {:?}, labels and scan make {want:?}", array.shape()));
        }
        let width = match array.dtype() {
            DType::Plain(plain) if plain.type_char() == TypeChar::Float => plain.size_field() as usize,
            _ => 0,
        };
        let little = matches!(array.dtype(), DType::Plain(p) if p.endianness() == npyz::Endianness::Little);
        if ![2, 4, 8].contains(&width) || !little || array.order() != Order::C {
            return bad(format!("an array of type {}, not a C-ordered float32", array.dtype().descr()));
        }
        Ok(Self { file, reader: array.into_inner(), width, bytes: vec![0; 1 << 18] })
    }

    /// Fills `values` with the next class.
    fn next(&mut self, values: &mut [f32]) -> Result<()> {
        for part in values.chunks_mut(self.bytes.len() / self.width) {
            let bytes = &mut self.bytes[..part.len() * self.width];
            self.reader.read_exact(bytes).map_err(|error| damaged(self.file, error))?;
            for (value, raw) in part.iter_mut().zip(bytes.chunks_exact(self.width)) {
                *value = match *raw {
                    [a, b] => half::f16::from_le_bytes([a, b]).to_f32(),
                    [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                    _ => f64::from_le_bytes(raw.try_into().unwrap_or_default()) as f32,
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::LabelValue;

    fn labels() -> Labels {
        let one = |name: &str, value| (name.to_string(), LabelValue::One(value));
        Labels::new(vec![one("background", 0), one("a", 1)], None).unwrap()
    }

    #[test]
    fn what_is_written_is_averaged_and_what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let geometry = Geometry::axis_aligned([1, 1, 3], [1.0; 3]);
        let file = |name: &str, values: [f32; 3]| {
            let values = values.iter().map(|p| 1.0 - p).chain(values).collect();
            let file = folder.path().join(name);
            write(&file, &Probabilities { classes: 2, size: [1, 1, 3], values }).unwrap();
            file
        };
        let files = [file("a.npz", [0.75, 0.5, 0.25]), file("b.npz", [0.5, 0.5, 0.5])];
        let map = ensemble(&files, &labels(), geometry.clone()).unwrap();
        assert_eq!(map.values(), [1, 0, 0]);
        let other = Geometry::axis_aligned([1, 3, 1], [1.0; 3]);
        assert!(ensemble(&files, &labels(), other).unwrap_err().to_string().contains("a.npz"));
        let bytes = std::fs::read(&files[1]).unwrap();
        std::fs::write(&files[1], &bytes[..bytes.len() / 2]).unwrap();
        assert!(ensemble(&files, &labels(), geometry).unwrap_err().to_string().contains("b.npz"));
    }
}
