//! Weights in and out of safetensors files. Values are stored as 32-bit floats; 16- and 64-bit ones are read.

use crate::file;
use crate::weights::{Tensor, Weights};
use galen_core::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;

impl Weights {
    /// Writes all tensors; the file appears complete or not at all.
    pub fn write_safetensors(&self, path: &Path) -> Result<()> {
        let views: Vec<(String, TensorView)> =
            self.iter().map(|(name, tensor)| Ok((name.to_owned(), view(tensor)?))).collect::<Result<_>>()?;
        // The format sorts tensors; the order is kept beside them. It is the only entry, since the crate
        // writes several in an order that differs from run to run.
        let order = serde_json::Value::from_iter(self.iter().map(|(name, _)| name)).to_string();
        let metadata = HashMap::from([("order".to_owned(), order)]);
        let bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|e| Error::bug(path.display(), e))?;
        galen_io::replace_file(path, &bytes)
    }

    /// Reads all floating-point tensors of a file, in the order in which they were written.
    pub fn read_safetensors(path: &Path) -> Result<Self> {
        let bytes = file::read(path)?;
        let damaged = |error: String| {
            Error::input(path.display(), format!("damaged safetensors file: {error}"), "copy the file again")
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        let mut names: Vec<String> = tensors.names().into_iter().map(str::to_owned).collect();
        names.sort();
        let order = header.metadata().as_ref().and_then(|metadata| metadata.get("order"));
        if let Some(order) = order.and_then(|order| serde_json::from_str::<Vec<String>>(order).ok()) {
            let place: HashMap<&String, usize> = order.iter().zip(0..).collect();
            names.sort_by_key(|name| place.get(name).copied().unwrap_or(usize::MAX));
        }
        let mut weights = Self::new();
        for name in names {
            let tensor = tensors.tensor(&name).map_err(|error| damaged(error.to_string()))?;
            let values =
                floats(tensor.dtype(), tensor.data()).map_err(|what| damaged(format!("{name}: {what}")))?;
            weights.insert(name, Tensor { shape: tensor.shape().to_vec(), values });
        }
        Ok(weights)
    }
}

fn view(tensor: &Tensor) -> Result<TensorView<'_>> {
    let bytes = bytemuck::cast_slice(&tensor.values);
    TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).map_err(|error| Error::bug("weights", error))
}

/// Little-endian bytes of a floating-point type as `f32`.
fn floats(dtype: Dtype, data: &[u8]) -> Result<Vec<f32>, String> {
    let scalar = match dtype {
        Dtype::F32 => Scalar::F32,
        Dtype::F64 => Scalar::F64,
        Dtype::F16 => Scalar::F16,
        Dtype::BF16 => Scalar::Bf16,
        other => return Err(format!("holds {other:?}, expected floating-point values")),
    };
    Ok(scalar.decode(data))
}

/// Floating-point and integer types that weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    F16,
    Bf16,
    F32,
    F64,
    I64,
}

impl Scalar {
    /// Little-endian bytes as `f32`; an incomplete value at the end is left out.
    pub(crate) fn decode(self, data: &[u8]) -> Vec<f32> {
        fn map<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            data.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect()
        }
        match self {
            Self::F16 => map(data, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
            Self::Bf16 => map(data, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
            Self::F32 => map(data, f32::from_le_bytes),
            Self::F64 => map(data, |bytes| f64::from_le_bytes(bytes) as f32),
            Self::I64 => map(data, |bytes| i64::from_le_bytes(bytes) as f32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Weights {
        let tensor = |shape: &[usize], start: f32| {
            let values = (0..shape.iter().product()).map(|i| start + i as f32 * 0.25).collect();
            Tensor { shape: shape.to_vec(), values }
        };
        [("z.weight", tensor(&[2, 3], 1.0)), ("a.bias", tensor(&[2], -1.0)), ("m", tensor(&[], 7.0))]
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .into_iter()
            .collect()
    }

    #[test]
    fn the_same_weights_are_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = |name: &str| {
            let path = folder.path().join(name);
            sample().write_safetensors(&path).unwrap();
            std::fs::read(path).unwrap()
        };
        let first = bytes("first");
        assert!((0..20).all(|_| bytes("again") == first));
    }

    #[test]
    fn written_weights_come_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        sample().write_safetensors(&path).unwrap();
        assert_eq!(Weights::read_safetensors(&path).unwrap(), sample());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn a_cut_file_is_refused_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        sample().write_safetensors(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = Weights::read_safetensors(&path).unwrap_err().to_string();
            assert!(error.contains("copy the file again"), "{length}: {error}");
        }
    }
}
