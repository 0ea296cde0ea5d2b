//! Weights out of PyTorch checkpoints (`.pth`, the zip format of PyTorch 1.6 and later) and state dicts.
//!
//! The pickle inside is read by a whitelist reader that runs no code. What nnU-Net needs besides weights
//! (trainer, configuration, mirror axes) comes with it.

use crate::safetensors_file::Scalar;
use crate::weights::{Tensor, Weights};
use galen_core::{Error, Result};
use galen_io::pickle::{Id, Pickle, Refusal, Value};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use zip::{CompressionMethod, ZipArchive};

/// Largest pickle that is read; tensors are stored outside of it.
const PICKLE_BYTES_MAX: u64 = 64 << 20;

type Archive = ZipArchive<BufReader<File>>;

/// A checkpoint whose structure was read; weights are read on demand.
#[derive(Debug)]
pub struct TorchCheckpoint {
    path: PathBuf,
    /// Folder inside the archive, with its slash.
    stem: String,
    pickle: Pickle,
}

impl TorchCheckpoint {
    /// Opens a checkpoint and reads its pickle.
    pub fn open(path: &Path) -> Result<Self> {
        let mut archive = open_archive(path)?;
        let is_pickle = |name: &str| name == "data.pkl" || name.ends_with("/data.pkl");
        let entry = archive.file_names().flatten().find(|name| is_pickle(name)).map(|name| name.into_owned());
        let entry = entry.ok_or_else(|| {
            Error::input(
                path.display(),
                "a zip file, but no PyTorch checkpoint (no data.pkl)",
                "pass a .pth file",
            )
        })?;
        let bytes = entry_bytes(path, &mut archive, &entry, PICKLE_BYTES_MAX)?;
        let pickle = Pickle::read(&bytes).map_err(|refusal| refused(path, refusal))?;
        let stem = entry.trim_end_matches("data.pkl").to_owned();
        let checkpoint = Self { path: path.to_owned(), stem, pickle };
        checkpoint.refuse_other_byte_orders(&mut archive)?;
        Ok(checkpoint)
    }

    fn refuse_other_byte_orders(&self, archive: &mut Archive) -> Result<()> {
        let entry = format!("{}byteorder", self.stem);
        if archive.index_for_name(&entry).is_none() {
            return Ok(()); // older files do not say; all known ones are little-endian
        }
        match entry_bytes(&self.path, archive, &entry, 16)?.as_slice() {
            b"little" => Ok(()),
            _ => Err(Error::input(self.path.display(), "not stored little-endian", "save it again on a PC")),
        }
    }

    /// A text, number or list at the top of the checkpoint, as JSON (`None` when it is missing).
    pub fn field(&self, name: &str) -> Option<serde_json::Value> {
        self.pickle.json(self.pickle.entry(self.pickle.root, name)?)
    }

    /// An argument that nnU-Net's trainer was made with: `configuration`, `fold`, `plans`, `dataset_json`.
    pub fn init_argument(&self, name: &str) -> Option<serde_json::Value> {
        let arguments = self.pickle.entry(self.pickle.root, "init_args")?;
        self.pickle.json(self.pickle.entry(arguments, name)?)
    }

    /// Axes that test-time mirroring may flip, in the order of the network's spatial axes.
    pub fn mirror_axes(&self) -> Vec<usize> {
        let axes = self.field("inference_allowed_mirroring_axes");
        let axes = axes.and_then(|axes| serde_json::from_value::<Vec<usize>>(axes).ok());
        axes.unwrap_or_default()
    }

    /// Weights under `network_weights` (nnU-Net), `state_dict`, or at the top. Prefixes of wrappers are
    /// stripped, and entries that nnU-Net writes twice are taken once.
    pub fn weights(&self) -> Result<Weights> {
        let top = self.pickle.root;
        let inner = ["network_weights", "state_dict"].iter().find_map(|key| self.pickle.entry(top, key));
        let Value::Dict(entries) = self.pickle.value(inner.unwrap_or(top)) else {
            return Err(self.no_weights());
        };
        let mut archive = open_archive(&self.path)?;
        let mut storages = HashMap::new();
        let mut weights = Weights::new();
        // Neither storages nor tensors overlap, so together each have no more bytes, and so values, than the file.
        let size = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let (mut left, mut unread) = (size as usize, size);
        for &(key, value) in entries {
            let (Some(name), Some(call)) = (self.pickle.text(key), self.tensor_call(value)) else { continue };
            let Some(name) = single_name(name) else { continue };
            let tensor =
                self.tensor(call, &mut archive, &mut storages, &mut unread).map_err(|e| e.within(&name))?;
            left = left
                .checked_sub(tensor.values.len())
                .ok_or_else(|| damaged(&self.path, "tensors overlap"))?;
            weights.insert(name, tensor);
        }
        if weights.is_empty() { Err(self.no_weights()) } else { Ok(weights) }
    }

    /// Names of the state dict as they are stored, duplicates included.
    pub fn state_dict_names(&self) -> Vec<String> {
        let top = self.pickle.root;
        let inner = ["network_weights", "state_dict"].iter().find_map(|key| self.pickle.entry(top, key));
        let Value::Dict(entries) = self.pickle.value(inner.unwrap_or(top)) else { return Vec::new() };
        entries.iter().filter_map(|&(key, _)| self.pickle.text(key).map(str::to_owned)).collect()
    }

    fn no_weights(&self) -> Error {
        Error::input(self.path.display(), "the checkpoint holds no weights", "pass a checkpoint of nnU-Net")
    }

    /// Arguments of the call that rebuilds a tensor.
    fn tensor_call(&self, value: Id) -> Option<&[Id]> {
        let Value::Call { global, arguments } = self.pickle.value(value) else { return None };
        (*global == "torch._utils._rebuild_tensor_v2").then_some(())?;
        self.pickle.items(*arguments)
    }

    fn tensor(
        &self,
        call: &[Id],
        archive: &mut Archive,
        storages: &mut HashMap<String, Vec<f32>>,
        unread: &mut u64,
    ) -> Result<Tensor> {
        let layout = self.layout(call).ok_or_else(|| damaged(&self.path, "a tensor is described wrongly"))?;
        if !storages.contains_key(&layout.key) {
            let entry = format!("{}data/{}", self.stem, layout.key);
            let bytes = entry_bytes(&self.path, archive, &entry, *unread)?;
            *unread -= bytes.len() as u64;
            storages.insert(layout.key.clone(), layout.scalar.decode(&bytes));
        }
        let values = layout.gather(&storages[&layout.key]);
        let values = values.ok_or_else(|| damaged(&self.path, "a tensor is larger than its storage"))?;
        Ok(Tensor { shape: layout.shape, values })
    }

    fn layout(&self, call: &[Id]) -> Option<Layout> {
        let [storage, offset, shape, strides, ..] = *call else { return None };
        let Value::Persistent(reference) = *self.pickle.value(storage) else { return None };
        let [_, kind, key, ..] = *self.pickle.items(reference)? else { return None };
        let Value::Global(kind) = *self.pickle.value(kind) else { return None };
        let scalar = match kind {
            "torch.FloatStorage" => Scalar::F32,
            "torch.HalfStorage" => Scalar::F16,
            "torch.BFloat16Storage" => Scalar::Bf16,
            "torch.DoubleStorage" => Scalar::F64,
            "torch.LongStorage" => Scalar::I64,
            _ => return None,
        };
        let key = self.pickle.text(key)?.to_owned();
        let sizes = |id: Id| -> Option<Vec<usize>> {
            self.pickle.items(id)?.iter().map(|&size| self.pickle.size(size)).collect()
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        (shape.len() == strides.len()).then_some(())?;
        Some(Layout { key, scalar, offset: self.pickle.size(offset)?, shape, strides })
    }
}

/// Where the values of a tensor lie in its storage.
struct Layout {
    key: String,
    scalar: Scalar,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Layout {
    /// Values in C order, or `None` when they reach beyond the storage or repeat parts of it.
    fn gather(&self, storage: &[f32]) -> Option<Vec<f32>> {
        let count = self.shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length))?;
        if count == 0 {
            return Some(Vec::new());
        }
        let mut last = self.offset;
        for (&length, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add((length - 1).checked_mul(stride)?)?;
        }
        if last >= storage.len() || count > storage.len() {
            return None;
        }
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..count {
            let at: usize = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            values.push(storage[self.offset + at]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Some(values)
    }
}

/// The name without wrappers, or `None` for the second copy of an entry.
fn single_name(name: &str) -> Option<String> {
    let mut name = name;
    while let Some(inner) = name.strip_prefix("module.").or_else(|| name.strip_prefix("_orig_mod.")) {
        name = inner;
    }
    let copy = name.starts_with("decoder.encoder.") || name.contains(".all_modules.");
    (!copy).then(|| name.to_owned())
}

fn open_archive(path: &Path) -> Result<Archive> {
    let file = File::open(path).map_err(|error| Error::system(path.display(), &error))?;
    let mut reader = BufReader::new(file);
    let mut start = [0; 2];
    if reader.read_exact(&mut start).is_ok() && start != *b"PK" {
        return Err(Error::input(
            path.display(),
            "no zip file, so no checkpoint of PyTorch 1.6 or later",
            "copy it again; files of older PyTorch must be saved again with a newer one",
        ));
    }
    ZipArchive::new(reader).map_err(|error| damaged(path, error))
}

fn entry_bytes(path: &Path, archive: &mut Archive, name: &str, bytes_max: u64) -> Result<Vec<u8>> {
    let mut entry = archive.by_name(name).map_err(|error| damaged(path, format!("{name}: {error}")))?;
    // PyTorch stores entries as they are, so none can be larger than the file.
    if entry.compression() != CompressionMethod::Stored || entry.size() > bytes_max {
        return Err(damaged(path, format!("{name} is compressed or too large")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| damaged(path, format!("{name}: {error}")))?;
    Ok(bytes)
}

fn damaged(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::input(path.display(), format!("damaged or incomplete checkpoint: {what}"), "copy the file again")
}

fn refused(path: &Path, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Damaged(what) => damaged(path, what),
        Refusal::Forbidden(global) => Error::input(
            path.display(),
            format!(
                "the checkpoint asks for `{global}`, which is not on the list of harmless types; nothing was run"
            ),
            "use a checkpoint that holds only tensors and plain values",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write_checkpoint(path: &Path, pickle: &[u8], storage: &[f32]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        let stored = zip::write::SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, bytes) in
            [("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", bytemuck::cast_slice(storage))]
        {
            zip.start_file(name, stored).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
    }

    /// A state dict of one `[2, 3]` tensor called `module.w`, stored transposed from value 1 of storage 0.
    fn pickle_of_one_tensor(rows: u8) -> Vec<u8> {
        let mut bytes = b"\x80\x02}X\x08\x00\x00\x00module.wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage".to_vec();
        bytes.extend(b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x07tQK\x01");
        bytes.extend([b'K', rows, b'K', 3, 0x86, b'K', 1, b'K', 2, 0x86, 0x89]);
        bytes.extend(b"ccollections\nOrderedDict\n)RtRs.");
        bytes
    }

    #[test]
    fn strided_tensors_are_gathered_and_overreach_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.pth");
        let storage: Vec<f32> = (0..7).map(|i| i as f32).collect();
        write_checkpoint(&path, &pickle_of_one_tensor(2), &storage);
        let weights = TorchCheckpoint::open(&path).unwrap().weights().unwrap();
        let tensor = weights.get("w").unwrap();
        assert_eq!(
            (tensor.shape.as_slice(), tensor.values.as_slice()),
            ([2, 3].as_slice(), [1., 3., 5., 2., 4., 6.].as_slice())
        );
        write_checkpoint(&path, &pickle_of_one_tensor(200), &storage);
        let error = TorchCheckpoint::open(&path).unwrap().weights().unwrap_err().to_string();
        assert!(error.contains("larger than its storage"), "{error}");
    }

    #[test]
    fn cut_checkpoints_and_code_are_refused_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.pth");
        write_checkpoint(&path, &pickle_of_one_tensor(2), &[0.0; 7]);
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = TorchCheckpoint::open(&path).unwrap_err().to_string();
            assert!(error.contains("copy"), "{length}: {error}");
        }
        write_checkpoint(&path, b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.", &[]);
        let error = TorchCheckpoint::open(&path).unwrap_err().to_string();
        assert!(error.contains("`os.system`") && error.contains("nothing was run"), "{error}");
    }

    #[test]
    fn wrappers_and_second_copies_vanish_from_names() {
        assert_eq!(
            single_name("module._orig_mod.encoder.x.conv.weight").as_deref(),
            Some("encoder.x.conv.weight")
        );
        assert_eq!(single_name("decoder.encoder.x.conv.weight"), None);
        assert_eq!(single_name("encoder.x.all_modules.0.weight"), None);
    }
}
