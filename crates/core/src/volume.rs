//! An image: typed voxels on a grid, scaled only when someone asks for numbers.

use crate::Geometry;
use std::sync::Arc;

/// Voxels as they were stored, `[channel, z, y, x]`; shared, never copied on the way.
#[derive(Debug, Clone, PartialEq)]
pub enum Voxels {
    /// Unsigned 8 bit.
    U8(Arc<Vec<u8>>),
    /// Signed 8 bit.
    I8(Arc<Vec<i8>>),
    /// Unsigned 16 bit.
    U16(Arc<Vec<u16>>),
    /// Signed 16 bit.
    I16(Arc<Vec<i16>>),
    /// Unsigned 32 bit.
    U32(Arc<Vec<u32>>),
    /// Signed 32 bit.
    I32(Arc<Vec<i32>>),
    /// Unsigned 64 bit.
    U64(Arc<Vec<u64>>),
    /// Signed 64 bit.
    I64(Arc<Vec<i64>>),
    /// 32-bit float.
    F32(Arc<Vec<f32>>),
    /// 64-bit float.
    F64(Arc<Vec<f64>>),
}

/// Runs `$body` with `$v` bound to the typed vector of `$voxels`.
#[macro_export]
macro_rules! with_voxels {
    ($voxels:expr, $v:ident => $body:expr) => {
        match $voxels {
            $crate::Voxels::U8($v) => $body,
            $crate::Voxels::I8($v) => $body,
            $crate::Voxels::U16($v) => $body,
            $crate::Voxels::I16($v) => $body,
            $crate::Voxels::U32($v) => $body,
            $crate::Voxels::I32($v) => $body,
            $crate::Voxels::U64($v) => $body,
            $crate::Voxels::I64($v) => $body,
            $crate::Voxels::F32($v) => $body,
            $crate::Voxels::F64($v) => $body,
        }
    };
}

/// A stored voxel type.
pub trait Scalar: Copy + Send + Sync + 'static {
    /// The value in single precision, rounded once.
    fn as_f32(self) -> f32;
    /// The value in double precision (64-bit integers round).
    fn as_f64(self) -> f64;
    /// Name as in the field's headers, e.g. `int16`.
    const NAME: &'static str;
    /// Puts a vector of this type into [`Voxels`].
    fn wrap(voxels: Vec<Self>) -> Voxels;
}

macro_rules! scalar {
    ($($type:ty, $variant:ident, $name:literal;)*) => {$(
        impl Scalar for $type {
            fn as_f32(self) -> f32 {
                self as f32
            }
            fn as_f64(self) -> f64 {
                self as f64
            }
            const NAME: &'static str = $name;
            fn wrap(voxels: Vec<Self>) -> Voxels {
                Voxels::$variant(Arc::new(voxels))
            }
        }
    )*};
}
scalar! {
    u8, U8, "uint8"; i8, I8, "int8"; u16, U16, "uint16"; i16, I16, "int16"; u32, U32, "uint32";
    i32, I32, "int32"; u64, U64, "uint64"; i64, I64, "int64"; f32, F32, "float32"; f64, F64, "float64";
}

impl Voxels {
    /// Number of stored values, all channels together.
    pub fn len(&self) -> usize {
        with_voxels!(self, v => v.len())
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Name of the stored type, e.g. `int16`.
    pub fn type_name(&self) -> &'static str {
        fn name<T: Scalar>(_: &[T]) -> &'static str {
            T::NAME
        }
        with_voxels!(self, v => name(v))
    }

    /// Bytes that the voxels take in memory.
    pub fn bytes(&self) -> usize {
        with_voxels!(self, v => std::mem::size_of_val(v.as_slice()))
    }
}

/// An image of one or more channels: value = stored × `slope` + `intercept`.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Grid of each channel.
    pub geometry: Geometry,
    /// Number of channels (time points, colours, MR sequences).
    pub channels: usize,
    /// Stored voxels, `[channel, z, y, x]`.
    pub voxels: Voxels,
    /// Factor from stored to true values; 1 when there is none.
    pub slope: f64,
    /// Offset from stored to true values.
    pub intercept: f64,
}

impl Volume {
    /// One-channel image without scaling. Panics when the length is not that of the grid.
    pub fn new<T: Scalar>(geometry: Geometry, voxels: Vec<T>) -> Self {
        assert_eq!(voxels.len(), geometry.voxels(), "voxels must fill the grid");
        Self { geometry, channels: 1, voxels: T::wrap(voxels), slope: 1.0, intercept: 0.0 }
    }

    /// True values of one channel as `f32`, `[z, y, x]`. Unscaled values are cast directly;
    /// scaled ones are computed in double precision first, as nibabel and ITK do.
    pub fn channel_f32(&self, channel: usize) -> Vec<f32> {
        let n = self.geometry.voxels();
        let (slope, intercept) = (self.slope, self.intercept);
        let plain = slope == 1.0 && intercept == 0.0;
        with_voxels!(&self.voxels, v => {
            let part = &v[channel * n..(channel + 1) * n];
            if plain {
                part.iter().map(|&x| x.as_f32()).collect()
            } else {
                part.iter().map(|&x| (x.as_f64() * slope + intercept) as f32).collect()
            }
        })
    }

    /// All channels of several images on one grid, stacked in order. `None` when sizes differ.
    pub fn stack(images: Vec<Self>) -> Option<Self> {
        let mut images = images;
        if images.len() == 1 {
            return images.pop();
        }
        let geometry = images.first()?.geometry.clone();
        if images.iter().any(|image| image.geometry.size != geometry.size) {
            return None;
        }
        let channels = images.iter().map(|image| image.channels).sum();
        let mut values = Vec::with_capacity(channels * geometry.voxels());
        // One by one, so that a channel in its stored type is gone when the next is taken.
        for image in images {
            for channel in 0..image.channels {
                values.extend(image.channel_f32(channel));
            }
        }
        Some(Self { geometry, channels, voxels: f32::wrap(values), slope: 1.0, intercept: 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_is_lazy_and_exact() {
        let mut v = Volume::new(Geometry::axis_aligned([1, 1, 3], [1.0; 3]), vec![1i16, -2, 300]);
        assert_eq!(v.voxels.bytes(), 6);
        assert_eq!(v.channel_f32(0), [1.0, -2.0, 300.0]);
        (v.slope, v.intercept) = (0.1, -1.0);
        assert_eq!(v.channel_f32(0)[2], (300.0f64 * 0.1 - 1.0) as f32);
        assert_eq!(v.voxels.type_name(), "int16");
    }

    #[test]
    fn stacking_needs_one_grid() {
        let a = Volume::new(Geometry::axis_aligned([1, 2, 2], [1.0; 3]), vec![1u8; 4]);
        let b = Volume::new(Geometry::axis_aligned([1, 2, 3], [1.0; 3]), vec![1u8; 6]);
        assert_eq!(Volume::stack(vec![a.clone(), a.clone()]).unwrap().channels, 2);
        assert!(Volume::stack(vec![a, b]).is_none());
    }
}
