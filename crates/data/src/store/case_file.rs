//! One preprocessed case in one file.
//!
//! ```text
//! magic, length of the header, checksum of header and index      3 × 8 bytes
//! header (JSON), index (offset, length, checksum per block: 3 × u64 each)
//! blocks: chunks of channel 0, of channel 1, ..., of the labels, then one block of foreground voxels
//! ```
//! Numbers are little-endian. Blocks lie in index order without gaps, so the length of a whole file is known.

use super::codec::{self, checksum};
use super::grid::{ChunkGrid, copy_overlap};
use galen_core::{Error, Result};
use galen_prep::{ClassLocations, Prepared, Undo};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"GALENCS1";
/// Bytes before the header.
const START: usize = 24;
/// Bytes of one index entry.
const ENTRY: usize = 24;
/// A header longer than this is not ours.
const MOST_HEADER: u64 = 64 << 20;
/// What to do about a damaged file.
const REMEDY: &str = "delete the file; the next run makes it again";

/// What a case file says about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CaseHeader {
    pub id: String,
    /// Hash of everything the case was made from.
    pub inputs: String,
    pub channels: usize,
    pub size: [usize; 3],
    pub chunk: [usize; 3],
    /// Labels are stored as one byte.
    pub narrow_labels: bool,
    /// Classes and how many voxels of each are listed.
    pub classes: Vec<Class>,
    pub undo: Undo,
}

/// Label or region, with the number of its listed voxels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Class {
    pub values: Vec<i16>,
    pub voxels: usize,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy)]
struct Block {
    offset: u64,
    length: usize,
    checksum: u64,
}

/// An open case file: header and index in memory, blocks on disk.
#[derive(Debug)]
pub(super) struct CaseFile {
    pub path: PathBuf,
    pub header: CaseHeader,
    blocks: Vec<Block>,
}

impl CaseFile {
    /// Chunks of one channel.
    pub fn grid(&self) -> ChunkGrid {
        ChunkGrid { size: self.header.size, chunk: self.header.chunk }
    }

    /// Writes a case in one step: nothing is at `path` until all of it is.
    pub fn write(
        path: &Path,
        id: &str,
        inputs: &str,
        chunk: [usize; 3],
        prepared: &Prepared,
        locations: &[ClassLocations],
        undo: &Undo,
    ) -> Result<()> {
        let grid = ChunkGrid { size: prepared.size, chunk };
        let n: usize = prepared.size.iter().product();
        let labels =
            prepared.labels.as_deref().ok_or_else(|| Error::bug(id, "a training case without labels"))?;
        if prepared.image.len() != n * prepared.channels || labels.len() != n || n == 0 {
            return Err(Error::bug(id, format!("prepared arrays do not fill {:?}", prepared.size)));
        }
        let narrow = labels.iter().all(|&value| i8::try_from(value).is_ok());
        let mut blocks: Vec<Vec<u8>> = Vec::with_capacity(grid.len() * (prepared.channels + 1) + 1);
        for channel in prepared.image.chunks_exact(n) {
            blocks.extend(grid.all().map(|at| codec::encode(&cut(channel, &grid, at))));
        }
        blocks.extend(grid.all().map(|at| codec::encode_labels(&cut(labels, &grid, at), narrow)));
        let voxels: Vec<u32> =
            locations.iter().flat_map(|class| class.voxels.as_flattened()).copied().collect();
        blocks.push(codec::encode(&voxels));
        let class =
            |class: &ClassLocations| Class { values: class.values.clone(), voxels: class.voxels.len() };
        let header = CaseHeader {
            id: id.to_owned(),
            inputs: inputs.to_owned(),
            channels: prepared.channels,
            size: prepared.size,
            chunk,
            narrow_labels: narrow,
            classes: locations.iter().map(class).collect(),
            undo: undo.clone(),
        };
        let start = beginning(&header, &blocks).map_err(|error| Error::bug(path.display(), error))?;
        galen_io::write_atomically(path, |file| {
            file.write_all(&start)?;
            blocks.iter().try_for_each(|block| file.write_all(block))
        })
    }

    /// Opens a case file; header, index and length are checked, blocks when they are read.
    pub fn open(path: &Path) -> Result<Self> {
        let damaged = |what: &str| Error::input(path.display(), what, REMEDY);
        let system = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged("the file is cut short"),
            _ => Error::system(path.display(), &error),
        };
        let mut file = File::open(path).map_err(system)?;
        let whole = file.metadata().map_err(system)?.len();
        let mut start = [0u8; START];
        file.read_exact(&mut start).map_err(system)?;
        let (words, _) = start.as_chunks::<8>();
        let (length, sum) = (u64::from_le_bytes(words[1]), u64::from_le_bytes(words[2]));
        if words[0] != MAGIC {
            return Err(damaged("is no preprocessed case of this version"));
        }
        if length > MOST_HEADER.min(whole) {
            return Err(damaged("the header is damaged"));
        }
        let mut text = vec![0u8; length as usize];
        file.read_exact(&mut text).map_err(system)?;
        let header: CaseHeader =
            serde_json::from_slice(&text).map_err(|_| damaged("the header is damaged"))?;
        let count = block_count(&header).filter(|&count| count as u64 <= whole / ENTRY as u64);
        let count = count.ok_or_else(|| damaged("the header is damaged"))?;
        let mut index = vec![0u8; count * ENTRY];
        file.read_exact(&mut index).map_err(system)?;
        text.extend_from_slice(&index);
        if checksum(&text) != sum {
            return Err(damaged("the header or index is damaged"));
        }
        let blocks: Vec<Block> = index.as_chunks::<ENTRY>().0.iter().map(block).collect();
        let end = blocks.last().map_or(0, |last| last.offset.saturating_add(last.length as u64));
        if end != whole {
            return Err(damaged(&format!("the file has {whole} bytes, not {end}")));
        }
        Ok(Self { path: path.to_path_buf(), header, blocks })
    }

    /// Foreground voxels per class.
    pub fn locations(&self) -> Result<Vec<ClassLocations>> {
        let total: usize = self.header.classes.iter().map(|class| class.voxels).sum();
        let bytes = self.read(&self.file()?, self.blocks.len() - 1)?;
        let flat: Vec<u32> = codec::decode(&bytes, total * 3).ok_or_else(|| self.damaged())?;
        let (mut rest, _) = flat.as_chunks::<3>();
        let inside =
            |voxel: &[u32; 3]| voxel.iter().zip(self.header.size).all(|(&at, size)| (at as usize) < size);
        if !rest.iter().all(inside) {
            return Err(self.damaged());
        }
        let mut locations = Vec::new();
        for class in &self.header.classes {
            let (voxels, after) = rest.split_at(class.voxels);
            rest = after;
            locations.push(ClassLocations { values: class.values.clone(), voxels: voxels.to_vec() });
        }
        Ok(locations)
    }

    /// Opens the file for reading blocks.
    pub fn file(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| Error::system(self.path.display(), &error))
    }

    /// A chunk of an image channel.
    pub fn image_chunk(&self, file: &File, channel: usize, at: [usize; 3]) -> Result<Vec<f32>> {
        let grid = self.grid();
        let bytes = self.read(file, channel * grid.len() + grid.index(at))?;
        codec::decode(&bytes, grid.bounds(at).1.iter().product()).ok_or_else(|| self.damaged())
    }

    /// A chunk of the labels.
    pub fn label_chunk(&self, file: &File, at: [usize; 3]) -> Result<Vec<i16>> {
        let grid = self.grid();
        let bytes = self.read(file, self.header.channels * grid.len() + grid.index(at))?;
        let n = grid.bounds(at).1.iter().product();
        codec::decode_labels(&bytes, n, self.header.narrow_labels).ok_or_else(|| self.damaged())
    }

    fn read(&self, file: &File, number: usize) -> Result<Vec<u8>> {
        let block = self.blocks[number];
        let mut bytes = vec![0u8; block.length];
        match read_exact_at(file, &mut bytes, block.offset) {
            Ok(()) if checksum(&bytes) == block.checksum => Ok(bytes),
            Ok(()) => Err(self.damaged()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(self.damaged()),
            Err(error) => Err(Error::system(self.path.display(), &error)),
        }
    }

    fn damaged(&self) -> Error {
        let what = format!("case {} is damaged: voxels do not match their checksum", self.header.id);
        Error::input(self.path.display(), what, REMEDY)
    }
}

fn block(entry: &[u8; ENTRY]) -> Block {
    let (words, _) = entry.as_chunks::<8>();
    let [offset, length, checksum] = std::array::from_fn(|i| u64::from_le_bytes(words[i]));
    Block { offset, length: length as usize, checksum }
}

/// Blocks that a file with this header has; `None` when its numbers are impossible.
fn block_count(header: &CaseHeader) -> Option<usize> {
    let possible = header.size.iter().chain(&header.chunk).all(|&axis| axis > 0);
    let voxels =
        header.size.iter().try_fold(header.channels.checked_add(1)?, |n, &axis| n.checked_mul(axis))?;
    let listed = header.classes.iter().try_fold(0usize, |n, class| n.checked_add(class.voxels))?;
    let fits =
        voxels < usize::MAX / 8 && listed < usize::MAX / 16 && header.chunk.iter().all(|&axis| axis <= 1024);
    let grid = ChunkGrid { size: header.size, chunk: header.chunk };
    if possible && fits { grid.len().checked_mul(header.channels + 1)?.checked_add(1) } else { None }
}

/// One chunk of an array.
fn cut<T: Copy + Default>(values: &[T], grid: &ChunkGrid, at: [usize; 3]) -> Vec<T> {
    let (lower, size) = grid.bounds(at);
    let mut chunk = vec![T::default(); size.iter().product()];
    copy_overlap(values, [0; 3], grid.size, &mut chunk, lower.map(|axis| axis as isize), size);
    chunk
}

/// Everything before the blocks.
fn beginning(header: &CaseHeader, blocks: &[Vec<u8>]) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(header)?;
    let length = text.len() as u64;
    let mut offset = START as u64 + length + (blocks.len() * ENTRY) as u64;
    for block in blocks {
        for word in [offset, block.len() as u64, checksum(block)] {
            text.extend(word.to_le_bytes());
        }
        offset += block.len() as u64;
    }
    let mut start = MAGIC.to_vec();
    start.extend(length.to_le_bytes());
    start.extend(checksum(&text).to_le_bytes());
    start.extend(text);
    Ok(start)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (bytes, offset) = (&mut bytes[n..], offset + n as u64),
        }
    }
    Ok(())
}
