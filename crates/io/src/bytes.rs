//! Voxel types as files store them, and the bytes behind voxels.

use crate::runs::Layout;
use bytemuck::Pod;
use galen_core::{Error, Result, Scalar, Volume, Voxels, with_voxels};
use std::path::Path;

/// Stored voxel types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

/// Runs `$body` with the type alias `$T` set to the Rust type of `$kind`.
macro_rules! with_type {
    ($kind:expr, $T:ident => $body:expr) => {{
        use $crate::bytes::Type as Kind;
        match $kind {
            Kind::U8 => {
                type $T = u8;
                $body
            }
            Kind::I8 => {
                type $T = i8;
                $body
            }
            Kind::U16 => {
                type $T = u16;
                $body
            }
            Kind::I16 => {
                type $T = i16;
                $body
            }
            Kind::U32 => {
                type $T = u32;
                $body
            }
            Kind::I32 => {
                type $T = i32;
                $body
            }
            Kind::U64 => {
                type $T = u64;
                $body
            }
            Kind::I64 => {
                type $T = i64;
                $body
            }
            Kind::F32 => {
                type $T = f32;
                $body
            }
            Kind::F64 => {
                type $T = f64;
                $body
            }
        }
    }};
}
pub(crate) use with_type;

impl Type {
    /// Bytes per value.
    pub fn size(self) -> usize {
        with_type!(self, T => size_of::<T>())
    }

    /// Name as in the field's headers.
    pub fn name(self) -> &'static str {
        with_type!(self, T => <T as Scalar>::NAME)
    }

    /// Type of voxels in memory.
    pub fn of(voxels: &Voxels) -> Self {
        match voxels {
            Voxels::U8(_) => Self::U8,
            Voxels::I8(_) => Self::I8,
            Voxels::U16(_) => Self::U16,
            Voxels::I16(_) => Self::I16,
            Voxels::U32(_) => Self::U32,
            Voxels::I32(_) => Self::I32,
            Voxels::U64(_) => Self::U64,
            Voxels::I64(_) => Self::I64,
            Voxels::F32(_) => Self::F32,
            Voxels::F64(_) => Self::F64,
        }
    }
}

/// The error of a file that is too short.
pub fn truncated(path: &Path, have: u64, need: u64) -> Error {
    let what = format!("ends after {have} of {need} bytes");
    Error::input(path.display(), what, "the copy is incomplete: copy it again")
}

/// Bytes of voxels in this machine's order.
pub fn raw(voxels: &Voxels) -> &[u8] {
    with_voxels!(voxels, v => bytemuck::cast_slice(v.as_slice()))
}

/// Bytes per value and per row.
pub fn layout(volume: &Volume) -> Layout {
    let value = Type::of(&volume.voxels).size();
    Layout { value, row: value * volume.geometry.size[2] }
}

/// Turns values of the other byte order, in place.
pub fn swap<T: Pod>(values: &mut [T]) {
    let size = size_of::<T>();
    if size > 1 {
        bytemuck::cast_slice_mut::<T, u8>(values).chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

/// Product of sizes, or why there can be no such image.
pub fn count(path: &Path, sizes: &[usize]) -> Result<usize> {
    let product = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    match product {
        Some(n) if n > 0 && n < 1 << 48 => Ok(n),
        _ => {
            let what = format!("claims {sizes:?} voxels, more than any file holds, or none");
            Err(Error::input(path.display(), what, "the header is damaged: copy the file again"))
        }
    }
}

/// Values that lie together per voxel (`[z, y, x, sample]`) to one plane per sample (`[sample, z, y, x]`).
pub fn planar(interleaved: &Voxels, samples: usize) -> Voxels {
    fn split<T: Scalar>(v: &[T], samples: usize) -> Voxels {
        let mut all = Vec::with_capacity(v.len());
        (0..samples).for_each(|sample| all.extend(v.iter().skip(sample).step_by(samples)));
        T::wrap(all)
    }
    with_voxels!(interleaved, v => split(v, samples))
}

/// The way back from [`planar`].
pub fn interleaved(planar: &Voxels, samples: usize) -> Voxels {
    fn merge<T: Scalar>(v: &[T], samples: usize) -> Voxels {
        let voxels = v.len() / samples;
        T::wrap((0..v.len()).map(|i| v[i % samples * voxels + i / samples]).collect())
    }
    with_voxels!(planar, v => merge(v, samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_there_and_back() {
        let voxels = u16::wrap((0..24).collect());
        let planes = planar(&voxels, 3);
        assert_eq!(raw(&planes)[..4], [0u16.to_ne_bytes(), 3u16.to_ne_bytes()].concat());
        assert_eq!(interleaved(&planes, 3), voxels);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let path = Path::new("a");
        assert!(count(path, &[usize::MAX, 2]).is_err() && count(path, &[3, 0]).is_err());
        assert!(count(path, &[1 << 20, 1 << 20, 1 << 20]).is_err());
        assert_eq!(count(path, &[4, 5]).unwrap(), 20);
    }
}
