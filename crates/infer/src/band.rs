//! Sums of logits over tiles, for those planes of the image that tiles still reach.
//!
//! Tiles come in rows along the first axis. Once the next row begins further on, the planes before it are final: they
//! are read out, and their memory is taken by the planes that come. The sums lie in memory or in a scratch file.

use crate::sliding::{Precision, overlap, shift};
use bytemuck::Pod;
use galen_core::{Error, Result};
use galen_kernels::half_sums::{self, Products};
use galen_prep::resample::PlaneSource;
use half::f16;
use rayon::prelude::*;
use std::fs::File;
use std::sync::Mutex;

/// What sums are made of: classes, image and the planes that are held at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Logits per voxel.
    pub classes: usize,
    /// Voxels of the image, `(z, y, x)`.
    pub size: [usize; 3],
    /// Planes held at a time.
    pub height: usize,
}

/// Where sums lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// In memory.
    #[default]
    Memory,
    /// In a nameless file in the system's temporary folder.
    Scratch,
}

/// Sums in either precision.
pub enum Band {
    /// float32.
    Single(Sums<f32>),
    /// float16, rounded after every tile.
    Half(Sums<f16>),
}

impl Band {
    /// Nothing summed yet.
    pub fn new(extent: Extent, precision: Precision, place: Place) -> Result<Self> {
        Ok(match precision {
            Precision::Single => Self::Single(Sums::new(extent, place)?),
            Precision::Half => Self::Half(Sums::new(extent, place)?),
        })
    }

    /// Bytes of memory and of scratch file that sums of this extent take.
    pub fn bytes(extent: Extent, precision: Precision, place: Place) -> [u64; 2] {
        let [_, y, x] = extent.size;
        let cell = if precision == Precision::Half { 2 } else { 4 };
        let plane = (extent.height * y * x * cell) as u64;
        let sums = plane * extent.classes as u64;
        match place {
            Place::Memory => [plane + sums, 0],
            Place::Scratch => [plane, sums],
        }
    }

    /// Logits per voxel.
    pub fn classes(&self) -> usize {
        match self {
            Self::Single(sums) => sums.extent.classes,
            Self::Half(sums) => sums.extent.classes,
        }
    }

    /// Makes room for planes below `end`.
    pub fn enter(&mut self, end: usize) -> Result<()> {
        match self {
            Self::Single(sums) => sums.enter(end),
            Self::Half(sums) => sums.enter(end),
        }
    }

    /// Gives up planes below `low`.
    pub fn release(&mut self, low: usize) {
        match self {
            Self::Single(sums) => sums.low = low,
            Self::Half(sums) => sums.low = low,
        }
    }

    /// Adds a tile's logits `[k, z, y, x]`, times its weight `[z, y, x]`.
    pub fn add(
        &mut self,
        logits: &[f32],
        weight: &[f32],
        patch: [usize; 3],
        corner: [isize; 3],
    ) -> Result<()> {
        match self {
            Self::Single(sums) => sums.add(logits, &Tile { weight, patch, corner }),
            Self::Half(sums) => sums.add(logits, &Tile { weight, patch, corner }),
        }
    }

    /// Mean logits of one class in one plane.
    pub fn mean(&self, class: usize, z: usize, out: &mut [f32]) {
        match self {
            Self::Single(sums) => sums.mean(class, z, out),
            Self::Half(sums) => sums.mean(class, z, out),
        }
    }

    /// What went wrong since the last time: an infinite logit, or the scratch file.
    pub fn check(&self) -> Result<()> {
        let trouble = match self {
            Self::Single(sums) => &sums.trouble,
            Self::Half(sums) => &sums.trouble,
        };
        match trouble.lock().map_err(|_| Error::bug("sliding window", "a thread failed"))?.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Sums of one or more folds; nnU-Net rounds the mean over folds as it rounds sums over tiles.
pub struct Bands(pub Vec<Band>);

impl Bands {
    /// What went wrong in any of them.
    pub fn check(&self) -> Result<()> {
        self.0.iter().try_for_each(Band::check)
    }
}

impl PlaneSource for Bands {
    fn plane(&self, class: usize, z: usize, out: &mut [f32]) {
        self.0[0].mean(class, z, out);
        if self.0.len() == 1 {
            return;
        }
        let mut other = vec![0f32; out.len()];
        for band in &self.0[1..] {
            band.mean(class, z, &mut other);
            out.iter_mut().zip(&other).for_each(|(sum, v)| *sum += v);
            Precision::Half.round(out);
        }
        let count = self.0.len() as f32;
        out.iter_mut().for_each(|v| *v /= count);
        Precision::Half.round(out);
    }
}

/// A stored sum.
pub trait Cell: Pod + Send + Sync {
    /// Adds products to rows of sums that are `stride` apart.
    fn add(sums: &mut [Self], stride: usize, products: Products);
    /// Means of sums with these sums of weights, rounded as sums are. Whether all are finite.
    fn means(sums: &[Self], weights: &[Self], out: &mut [f32]) -> bool;
}

impl Cell for f32 {
    fn add(sums: &mut [Self], stride: usize, products: Products) {
        for row in 0..products.rows {
            let columns = row * products.stride..row * products.stride + products.width;
            let sums = sums[row * stride..][..products.width].iter_mut();
            let values = &products.values[columns.clone()];
            match products.weights {
                Some(weights) => {
                    let products = values.iter().zip(&weights[columns]);
                    sums.zip(products).for_each(|(sum, (v, w))| *sum += v * w);
                }
                None => sums.zip(values).for_each(|(sum, v)| *sum += v),
            }
        }
    }

    fn means(sums: &[Self], weights: &[Self], out: &mut [f32]) -> bool {
        out.iter_mut().zip(sums.iter().zip(weights)).for_each(|(mean, (sum, weight))| *mean = sum / weight);
        // One multiplication by zero per value finds what is not finite, without a branch.
        !out.iter().fold(0.0, |sum, v| sum + v * 0.0).is_nan()
    }
}

impl Cell for f16 {
    fn add(sums: &mut [Self], stride: usize, products: Products) {
        half_sums::add_products(bytemuck::cast_slice_mut(sums), stride, products);
    }

    fn means(sums: &[Self], weights: &[Self], out: &mut [f32]) -> bool {
        half_sums::means(bytemuck::cast_slice(sums), bytemuck::cast_slice(weights), out)
    }
}

/// Weighted sums of logits; plane `z` lies in slot `z % height`, `[slot, k, y, x]`.
pub struct Sums<T> {
    extent: Extent,
    /// Planes below are given up, planes from `high` on not begun.
    low: usize,
    high: usize,
    sums: Stored<T>,
    /// Sums of the importance of tiles, `[slot, y, x]`.
    weights: Vec<T>,
    trouble: Mutex<Option<Error>>,
}

enum Stored<T> {
    Memory(Vec<T>),
    Scratch(File),
}

/// One tile on its way into the sums.
struct Tile<'a> {
    weight: &'a [f32],
    patch: [usize; 3],
    corner: [isize; 3],
}

fn scratch(error: &std::io::Error) -> Error {
    Error::system(format!("scratch file in {}", std::env::temp_dir().display()), error)
}

impl<T: Cell> Sums<T> {
    fn new(extent: Extent, place: Place) -> Result<Self> {
        let area = extent.size[1] * extent.size[2];
        let cells = extent.height * area;
        let sums = match place {
            Place::Memory => Stored::Memory(vec![T::zeroed(); cells * extent.classes]),
            Place::Scratch => {
                let file = tempfile::tempfile().map_err(|error| scratch(&error))?;
                file.set_len((cells * extent.classes * size_of::<T>()) as u64).map_err(|e| scratch(&e))?;
                Stored::Scratch(file)
            }
        };
        let weights = vec![T::zeroed(); cells];
        Ok(Self { extent, low: 0, high: 0, sums, weights, trouble: Mutex::new(None) })
    }

    fn area(&self) -> usize {
        self.extent.size[1] * self.extent.size[2]
    }

    fn enter(&mut self, end: usize) -> Result<()> {
        let Extent { classes, height, .. } = self.extent;
        if end > self.low + height {
            return Err(Error::bug("sliding window", format!("planes {} to {end} in {height}", self.low)));
        }
        let area = self.area();
        for z in self.high.max(height)..end {
            let slot = z % height;
            self.weights[slot * area..(slot + 1) * area].fill(T::zeroed());
            match &mut self.sums {
                Stored::Memory(sums) => {
                    sums[slot * classes * area..(slot + 1) * classes * area].fill(T::zeroed());
                }
                Stored::Scratch(file) => {
                    let zeros = vec![0u8; area * size_of::<T>()];
                    for class in 0..classes {
                        let at = ((slot * classes + class) * zeros.len()) as u64;
                        write_all_at(file, &zeros, at).map_err(|error| scratch(&error))?;
                    }
                }
            }
        }
        self.high = self.high.max(end);
        Ok(())
    }

    fn add(&mut self, logits: &[f32], tile: &Tile) -> Result<()> {
        let Extent { classes, size, height } = self.extent;
        let voxels: usize = tile.patch.iter().product();
        if logits.len() != classes * voxels {
            let what = format!("{} logits for {classes} classes in {voxels} voxels", logits.len());
            return Err(Error::bug("sliding window", what));
        }
        let [zs, ys, xs] = overlap(tile.corner, tile.patch, size);
        let (area, nx) = (self.area(), size[2]);
        let planes = shift(zs[0], tile.corner[0])..shift(zs[0], tile.corner[0]) + zs[1] - zs[0];
        if planes.start < self.low || planes.end > self.high {
            return Err(Error::bug("sliding window", format!("planes {planes:?} are not held")));
        }
        let rows = shift(ys[0], tile.corner[1])..shift(ys[0], tile.corner[1]) + ys[1] - ys[0];
        let columns = shift(xs[0], tile.corner[2])..shift(xs[0], tile.corner[2]) + xs[1] - xs[0];
        // Plane of the tile that a slot holds.
        let of_slot = |slot: usize| {
            let z = planes.start + (slot + height - planes.start % height) % height;
            planes.contains(&z).then(|| z - planes.start + zs[0])
        };
        // `part` begins at the first row of the tile.
        let plane = |class: Option<usize>, z: usize, part: &mut [T]| {
            let from = (z * tile.patch[1] + ys[0]) * tile.patch[2] + xs[0];
            let weights = &tile.weight[from..];
            let (values, weights) = match class {
                Some(class) => (&logits[class * voxels + from..], Some(weights)),
                None => (weights, None),
            };
            let (width, rows) = (xs[1] - xs[0], ys[1] - ys[0]);
            let products = Products { values, weights, stride: tile.patch[2], width, rows };
            T::add(&mut part[columns.start..], nx, products);
        };
        let begin = rows.start * nx;
        self.weights.par_chunks_mut(area).enumerate().for_each(|(slot, weights)| {
            if let Some(z) = of_slot(slot) {
                plane(None, z, &mut weights[begin..]);
            }
        });
        match &mut self.sums {
            Stored::Memory(sums) => {
                sums.par_chunks_mut(area * classes).enumerate().for_each(|(slot, sums)| {
                    let Some(z) = of_slot(slot) else { return };
                    for (class, sums) in sums.chunks_mut(area).enumerate() {
                        plane(Some(class), z, &mut sums[begin..]);
                    }
                });
                Ok(())
            }
            Stored::Scratch(file) => {
                let add = |slot: usize| -> std::io::Result<()> {
                    let Some(z) = of_slot(slot) else { return Ok(()) };
                    let mut part = vec![T::zeroed(); rows.len() * nx];
                    for class in 0..classes {
                        let at = (((slot * classes + class) * area + begin) * size_of::<T>()) as u64;
                        read_exact_at(file, bytemuck::cast_slice_mut(&mut part), at)?;
                        plane(Some(class), z, &mut part);
                        write_all_at(file, bytemuck::cast_slice(&part), at)?;
                    }
                    Ok(())
                };
                (0..height).into_par_iter().try_for_each(add).map_err(|error| scratch(&error))
            }
        }
    }

    fn mean(&self, class: usize, z: usize, out: &mut [f32]) {
        let Extent { classes, height, .. } = self.extent;
        let (area, slot) = (self.area(), z % height);
        let start = (slot * classes + class) * area;
        let weights = &self.weights[slot * area..(slot + 1) * area];
        let finite = match &self.sums {
            Stored::Memory(sums) => T::means(&sums[start..start + area], weights, out),
            Stored::Scratch(file) => {
                let mut row = vec![T::zeroed(); area];
                let at = (start * size_of::<T>()) as u64;
                if let Err(error) = read_exact_at(file, bytemuck::cast_slice_mut(&mut row), at) {
                    self.report(scratch(&error));
                }
                T::means(&row, weights, out)
            }
        };
        if !finite {
            let what = "the network gave infinite or undefined values";
            let remedy = "check the model's weights and the intensities of the image";
            self.report(Error::input("logits", what, remedy));
        }
    }

    fn report(&self, error: Error) {
        if let Ok(mut trouble) = self.trouble.lock() {
            trouble.get_or_insert(error);
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (bytes, at) = (&mut bytes[n..], at + n as u64),
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, at)? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            n => (bytes, at) = (&bytes[n..], at + n as u64),
        }
    }
    Ok(())
}
