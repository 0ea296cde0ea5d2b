//! One case as nnU-Net preprocessed it: `CASE.b2nd` with `CASE_seg.b2nd` (version 2.6 and later), `CASE.npz` (keys
//! `data`, `seg`) or the unpacked `CASE.npy` with `CASE_seg.npy`, and `CASE.pkl` with what was cropped.
//!
//! Source: nnunetv2 2.8.1 and 2.5, `nnunet_dataset`. Arrays are `[c, z, y, x]` in the network's axis order; the
//! pickle is read by a reader that runs nothing.

use galen_core::{Error, Geometry, Result};
use galen_io::pickle::{Pickle, Refusal};
use galen_prep::{Prepared, Undo};
use npyz::NpyFile;
use npyz::npz::NpzArchive;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

const REMEDY: &str = "let nnU-Net preprocess the case again, or leave the preprocessing to Galen";

/// Files of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NnunetCase {
    arrays: Arrays,
    properties: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Arrays {
    Packed(PathBuf),
    Unpacked { image: PathBuf, labels: PathBuf },
    Blosc { image: PathBuf, labels: PathBuf },
}

impl NnunetCase {
    /// The files of a case in a folder such as `nnUNetPlans_3d_fullres`.
    pub(super) fn find(folder: &Path, id: &str) -> Result<Self> {
        let file = |rest: &str| folder.join(format!("{id}{rest}"));
        let bad = |what: &str| Error::input(folder.display(), format!("case {id}: {what}"), REMEDY);
        let properties = file(".pkl");
        let arrays = if file(".b2nd").is_file() && file("_seg.b2nd").is_file() {
            Arrays::Blosc { image: file(".b2nd"), labels: file("_seg.b2nd") }
        } else if file(".npz").is_file() {
            Arrays::Packed(file(".npz"))
        } else if file(".npy").is_file() && file("_seg.npy").is_file() {
            Arrays::Unpacked { image: file(".npy"), labels: file("_seg.npy") }
        } else if file(".b2nd").is_file() {
            return Err(bad("the _seg.b2nd is missing"));
        } else {
            return Err(bad("neither .b2nd nor .npz nor .npy is there"));
        };
        if !properties.is_file() {
            return Err(bad("the .pkl is missing"));
        }
        Ok(Self { arrays, properties })
    }

    /// All its files.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = match &self.arrays {
            Arrays::Packed(file) => vec![file.clone()],
            Arrays::Unpacked { image, labels } | Arrays::Blosc { image, labels } => {
                vec![image.clone(), labels.clone()]
            }
        };
        files.push(self.properties.clone());
        files
    }

    /// Reads image and labels, and the way back to the grid of the scan.
    pub(super) fn read(&self, geometry: &Geometry, transpose: [usize; 3]) -> Result<(Prepared, Undo)> {
        let undo = self.undo(geometry, transpose)?;
        let place = self.files()[0].clone();
        let bad = |what: String| Error::input(place.display(), what, REMEDY);
        let damaged = |error: std::io::Error| bad(format!("damaged array: {error}"));
        let ((shape, image), (label_shape, labels)) = match &self.arrays {
            Arrays::Blosc { image, labels } => (blosc_floats(image)?, blosc_integers(labels)?),
            Arrays::Packed(path) => {
                let mut archive = NpzArchive::open(path).map_err(damaged)?;
                let missing = |name: &str| bad(format!("there is no array `{name}`"));
                let image = archive.by_name("data").map_err(damaged)?.ok_or_else(|| missing("data"))?;
                let image = floats(image).map_err(damaged)?;
                let labels = archive.by_name("seg").map_err(damaged)?.ok_or_else(|| missing("seg"))?;
                (image, integers(labels).map_err(damaged)?)
            }
            Arrays::Unpacked { image, labels } => {
                let open = |path: &Path| File::open(path).and_then(|file| NpyFile::new(BufReader::new(file)));
                let image = open(image).and_then(floats).map_err(damaged)?;
                (image, open(labels).and_then(integers).map_err(damaged)?)
            }
        };
        let (&[channels, z, y, x], [_, rest @ ..]) = (shape.as_slice(), label_shape.as_slice()) else {
            return Err(bad(format!("shapes {shape:?} and {label_shape:?}, expected four axes")));
        };
        let size = [z, y, x];
        if *rest != size || channels == 0 || size.contains(&0) {
            return Err(bad(format!("image of {shape:?} and labels of {label_shape:?}")));
        }
        if image.iter().any(|value| !value.is_finite()) {
            return Err(bad("the image has values that are not finite".into()));
        }
        // In a cascade the previous stage's labels follow as further channels.
        let labels = labels[..z * y * x].to_vec();
        Ok((Prepared { channels, size, image, labels: Some(labels) }, undo))
    }

    fn undo(&self, geometry: &Geometry, transpose: [usize; 3]) -> Result<Undo> {
        let place = self.properties.display();
        let bad = |what: String| Error::input(&place, what, REMEDY);
        let bytes = std::fs::read(&self.properties).map_err(|error| Error::system(&place, &error))?;
        let pickle = Pickle::read(&bytes).map_err(|refusal| match refusal {
            Refusal::Damaged(what) => bad(format!("damaged: {what}")),
            Refusal::Forbidden(name) => bad(format!("it asks for `{name}`; nothing was run")),
        })?;
        let field = |name: &str| {
            let json = pickle.entry(pickle.root, name).and_then(|id| pickle.json(id));
            json.ok_or_else(|| bad(format!("there is no `{name}`")))
        };
        let before: [usize; 3] = parsed(&bad, "shape_before_cropping", &field)?;
        let after: [usize; 3] = parsed(&bad, "shape_after_cropping_and_before_resampling", &field)?;
        let bbox: [[usize; 2]; 3] = parsed(&bad, "bbox_used_for_cropping", &field)?;
        let spacing: [f64; 3] = parsed(&bad, "spacing", &field)?;
        if before != transpose.map(|axis| geometry.size[axis]) {
            return Err(bad(format!(
                "made from an image of {before:?} voxels, the scan has {:?}",
                geometry.size
            )));
        }
        let inside = (0..3).all(|axis| {
            let [low, high] = bbox[axis];
            low < high && high <= before[axis] && high - low == after[axis]
        });
        if !inside {
            return Err(bad(format!("a box of {bbox:?} in {before:?} voxels")));
        }
        Ok(Undo {
            geometry: geometry.clone(),
            transpose,
            size_before_crop: before,
            bbox,
            size_after_crop: after,
            spacing: transpose.map(|axis| spacing[axis]),
        })
    }
}

fn parsed<T: serde::de::DeserializeOwned>(
    bad: &dyn Fn(String) -> Error,
    name: &str,
    field: &dyn Fn(&str) -> Result<serde_json::Value>,
) -> Result<T> {
    serde_json::from_value(field(name)?).map_err(|error| bad(format!("`{name}`: {error}")))
}

type Array<T> = (Vec<usize>, Vec<T>);

fn floats<R: Read>(array: NpyFile<R>) -> std::io::Result<Array<f32>> {
    let shape = shape(&array)?;
    let values = match array.dtype().descr().as_str() {
        "'<f4'" => array.into_vec()?,
        "'<f8'" => array.into_vec::<f64>()?.into_iter().map(|value| value as f32).collect(),
        other => return Err(invalid(format!("type {other}, expected 32-bit floats"))),
    };
    Ok((shape, values))
}

fn integers<R: Read>(array: NpyFile<R>) -> std::io::Result<Array<i16>> {
    let shape = shape(&array)?;
    let values = match array.dtype().descr().as_str() {
        "'<i2'" => array.into_vec()?,
        "'|i1'" => array.into_vec::<i8>()?.into_iter().map(i16::from).collect(),
        "'|u1'" => array.into_vec::<u8>()?.into_iter().map(i16::from).collect(),
        other => return Err(invalid(format!("type {other}, expected labels of 8 or 16 bits"))),
    };
    Ok((shape, values))
}

fn blosc_floats(path: &Path) -> Result<Array<f32>> {
    let array = galen_io::read_blosc2(path)?;
    let bytes = &array.bytes;
    let values = match array.dtype.as_str() {
        "<f4" => each(bytes, f32::from_le_bytes),
        "<f8" => each(bytes, |eight| f64::from_le_bytes(eight) as f32),
        other => return Err(other_type(path, other, "32-bit floats")),
    };
    Ok((array.shape, values))
}

fn blosc_integers(path: &Path) -> Result<Array<i16>> {
    let array = galen_io::read_blosc2(path)?;
    let bytes = &array.bytes;
    let values = match array.dtype.as_str() {
        "<i2" => each(bytes, i16::from_le_bytes),
        "|i1" => each(bytes, |one| i8::from_le_bytes(one).into()),
        "|u1" => each(bytes, |one| u8::from_le_bytes(one).into()),
        other => return Err(other_type(path, other, "labels of 8 or 16 bits")),
    };
    Ok((array.shape, values))
}

fn each<T, const N: usize>(bytes: &[u8], value: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&element| value(element)).collect()
}

fn other_type(path: &Path, found: &str, expected: &str) -> Error {
    Error::input(path.display(), format!("type {found}, expected {expected}"), REMEDY)
}

fn shape<R: Read>(array: &NpyFile<R>) -> std::io::Result<Vec<usize>> {
    if array.order() != npyz::Order::C {
        return Err(invalid("stored in Fortran order".into()));
    }
    Ok(array.shape().iter().map(|&length| length as usize).collect())
}

fn invalid(what: String) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}
