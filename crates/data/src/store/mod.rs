//! Preprocessed cases on disk: one file per case, read by random boxes.
//!
//! The folder holds `store.json` and one `CASE.galen` per case. Files appear whole or not at all, so a run may
//! be killed at any moment; the next one keeps what is there and was made from the same inputs.
//! Blocks are read with positioned reads rather than a memory map: a file that is cut short while it is in use
//! is then an error that names it, not a crash, and it needs no `unsafe`.

mod adopt;
mod build;
mod cache;
mod case_file;
mod codec;
mod grid;
mod nnunet_case;

use cache::{Cache, Chunk};
use case_file::CaseFile;
use galen_core::{Error, Result};
use galen_prep::resample::TieRule;
use galen_prep::{ClassLocations, Undo};
use grid::copy_overlap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the format of `store.json` and case files.
const FORMAT: u32 = 1;
/// Memory for decoded chunks.
const CACHE_BYTES: usize = 256 << 20;

/// The list of cases, written when all of them are there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Contents {
    format: u32,
    dataset: String,
    configuration: String,
    channels: usize,
    /// How label maps came onto the network's grid.
    #[serde(default = "usual_rule")]
    label_resampling: String,
    /// Case → hash of everything it was made from.
    cases: Vec<(String, String)>,
}

/// Stores that do not say have the rule that was the only one then.
fn usual_rule() -> String {
    TieRule::default().name().to_owned()
}

/// What is known about a stored case without reading voxels.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Identifier.
    pub id: String,
    /// Image channels.
    pub channels: usize,
    /// Stored size `(z, y, x)` in the network's axis order.
    pub size: [usize; 3],
    /// The way back to the grid of the scan.
    pub undo: Undo,
}

/// The preprocessed cases of one configuration.
#[derive(Debug)]
pub struct Store {
    ids: Vec<String>,
    entries: Vec<Entry>,
    files: Vec<CaseFile>,
    label_resampling: String,
    cache: Cache,
}

impl Store {
    /// Opens a complete store.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("store.json");
        let again = "run the preprocessing again";
        let text = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::input(
                    folder.display(),
                    "is no finished store: there is no store.json",
                    again,
                ));
            }
            other => other.map_err(|error| Error::system(file.display(), &error))?,
        };
        let contents: Contents =
            serde_json::from_slice(&text).map_err(|error| Error::input(file.display(), error, again))?;
        if contents.format != FORMAT {
            let what = format!("has format {}, this version reads {FORMAT}", contents.format);
            return Err(Error::input(file.display(), what, again));
        }
        let mut store = Self {
            ids: Vec::new(),
            entries: Vec::new(),
            files: Vec::new(),
            label_resampling: contents.label_resampling,
            cache: Cache::new(CACHE_BYTES),
        };
        for (id, inputs) in contents.cases {
            let case = CaseFile::open(&case_path(folder, &id))?;
            if case.header.inputs != inputs
                || case.header.id != id
                || case.header.channels != contents.channels
            {
                let what = "was made from other inputs than store.json says";
                return Err(Error::input(case.path.display(), what, again));
            }
            store.entries.push(Entry {
                id: id.clone(),
                channels: case.header.channels,
                size: case.header.size,
                undo: case.header.undo.clone(),
            });
            store.ids.push(id);
            store.files.push(case);
        }
        Ok(store)
    }

    /// Cases, sorted bytewise.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// How label maps came onto the network's grid: the name of a [`TieRule`], or that others did it.
    pub fn label_resampling(&self) -> &str {
        &self.label_resampling
    }

    /// Position of a case.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.ids.binary_search_by(|known| known.as_str().cmp(id)).ok()
    }

    /// What is known about a case.
    pub fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// Sampled voxels per label or region. Read when they are asked for and cached like chunks: those of all cases
    /// of a large dataset would take gigabytes.
    pub fn locations(&self, index: usize) -> Result<Arc<Vec<ClassLocations>>> {
        let key = (index, usize::MAX);
        if let Some(Chunk::Locations(classes)) = self.cache.get(key) {
            return Ok(classes);
        }
        let case = self.files.get(index).ok_or_else(|| Error::bug("store", format!("no case {index}")))?;
        let classes = Arc::new(case.locations()?);
        self.cache.put(key, Chunk::Locations(classes.clone()));
        Ok(classes)
    }

    /// Reads a box of a case into `image` `[c, z, y, x]` and `labels` `[z, y, x]`. The box may reach beyond the
    /// array: there the image is 0 and the label -1. Only the chunks that it touches are decoded.
    pub fn crop(
        &self,
        index: usize,
        lower: [isize; 3],
        size: [usize; 3],
        image: &mut [f32],
        labels: &mut [i16],
    ) -> Result<()> {
        let Some(case) = self.files.get(index) else {
            return Err(Error::bug("store", format!("case {index} of {}", self.files.len())));
        };
        let (n, channels) = (size.iter().product::<usize>(), case.header.channels);
        if image.len() != n * channels || labels.len() != n {
            return Err(Error::bug("store", format!("{} values for {channels} × {size:?}", image.len())));
        }
        image.fill(0.0);
        labels.fill(-1);
        let grid = case.grid();
        let clamp = |axis: usize, at: isize| at.clamp(0, grid.size[axis] as isize) as usize;
        let inner: [usize; 3] = std::array::from_fn(|axis| clamp(axis, lower[axis]));
        let outer: [usize; 3] =
            std::array::from_fn(|axis| clamp(axis, lower[axis].saturating_add(size[axis] as isize)));
        if n == 0 || (0..3).any(|axis| inner[axis] >= outer[axis]) {
            return Ok(());
        }
        let mut reader = Reader { store: self, index, case, file: None };
        for at in grid.touched(inner, outer) {
            let (from, extent) = grid.bounds(at);
            let from = from.map(|axis| axis as isize);
            for channel in 0..channels {
                let chunk = reader.image(channel, at)?;
                let target = &mut image[channel * n..(channel + 1) * n];
                copy_overlap(&chunk, from, extent, target, lower, size);
            }
            copy_overlap(&reader.labels(at)?, from, extent, labels, lower, size);
        }
        Ok(())
    }
}

/// Reads chunks of one case through the cache; opens the file when the cache fails for the first time.
struct Reader<'a> {
    store: &'a Store,
    index: usize,
    case: &'a CaseFile,
    file: Option<File>,
}

impl Reader<'_> {
    fn image(&mut self, channel: usize, at: [usize; 3]) -> Result<Arc<Vec<f32>>> {
        let key = self.key(channel, at);
        if let Some(Chunk::Image(chunk)) = self.store.cache.get(key) {
            return Ok(chunk);
        }
        let chunk = Arc::new(self.case.image_chunk(self.file()?, channel, at)?);
        self.store.cache.put(key, Chunk::Image(chunk.clone()));
        Ok(chunk)
    }

    fn labels(&mut self, at: [usize; 3]) -> Result<Arc<Vec<i16>>> {
        let key = self.key(self.case.header.channels, at);
        if let Some(Chunk::Labels(chunk)) = self.store.cache.get(key) {
            return Ok(chunk);
        }
        let chunk = Arc::new(self.case.label_chunk(self.file()?, at)?);
        self.store.cache.put(key, Chunk::Labels(chunk.clone()));
        Ok(chunk)
    }

    fn key(&self, channel: usize, at: [usize; 3]) -> cache::Key {
        let grid = self.case.grid();
        (self.index, channel * grid.len() + grid.index(at))
    }

    fn file(&mut self) -> Result<&File> {
        if self.file.is_none() {
            self.file = Some(self.case.file()?);
        }
        self.file.as_ref().ok_or_else(|| Error::bug("store", "the file was just opened"))
    }
}

/// File of a case. Characters that file systems dislike are written as `%XX`.
fn case_path(folder: &Path, id: &str) -> PathBuf {
    let mut name = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte) {
            name.push(byte.into());
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    folder.join(format!("{name}.galen"))
}
