//! Stored values of an activation tensor: single precision, or bfloat16 at half the memory.
//!
//! bfloat16 is a way to store: whoever reads widens to single precision, all arithmetic and all sums are in single
//! precision or better, and whoever writes rounds to the nearest, ties to even.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use std::borrow::Cow;
use std::ops::Range;

/// How a tensor is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Storage {
    /// Four bytes per value.
    #[default]
    F32,
    /// Two bytes per value.
    Bf16,
}

impl Storage {
    /// Values of single precision that take as much memory as `len` stored values; `len` is even.
    pub fn words(self, len: usize) -> usize {
        match self {
            Self::F32 => len,
            Self::Bf16 => len.div_ceil(2),
        }
    }
}

/// Values that are read.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// To be widened.
    Bf16(&'a [bf16]),
}

impl<'a> Values<'a> {
    /// The values that lie in a memory of words.
    pub fn of_words(storage: Storage, words: &'a [f32]) -> Self {
        match storage {
            Storage::F32 => Self::F32(words),
            Storage::Bf16 => Self::Bf16(bytemuck::cast_slice(words)),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them.
    #[must_use]
    pub fn cut(&self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
        }
    }

    /// All in single precision: a copy where they are stored in less.
    pub fn widened(&self) -> Cow<'a, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::Bf16(values) => Cow::Owned(values.to_f32_vec()),
        }
    }

    /// One of them.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(values) => values[index],
            Self::Bf16(values) => values[index].to_f32(),
        }
    }
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a, T: std::ops::Deref<Target = [f32]>> From<&'a T> for Values<'a> {
    fn from(values: &'a T) -> Self {
        Self::F32(values)
    }
}

/// Values that are written.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// As they come.
    F32(&'a mut [f32]),
    /// Rounded.
    Bf16(&'a mut [bf16]),
}

impl<'a> ValuesMut<'a> {
    /// The values that lie in a memory of words.
    pub fn of_words(storage: Storage, words: &'a mut [f32]) -> Self {
        match storage {
            Storage::F32 => Self::F32(words),
            Storage::Bf16 => Self::Bf16(bytemuck::cast_slice_mut(words)),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same values for a shorter time.
    pub fn reborrow(&mut self) -> ValuesMut<'_> {
        match self {
            Self::F32(values) => ValuesMut::F32(values),
            Self::Bf16(values) => ValuesMut::Bf16(values),
        }
    }

    /// Some of them.
    #[must_use]
    pub fn cut(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(&mut values[range]),
            Self::Bf16(values) => Self::Bf16(&mut values[range]),
        }
    }

    /// The first `count` and the others.
    pub fn split_at(self, count: usize) -> (Self, Self) {
        match self {
            Self::F32(values) => {
                let (low, high) = values.split_at_mut(count);
                (Self::F32(low), Self::F32(high))
            }
            Self::Bf16(values) => {
                let (low, high) = values.split_at_mut(count);
                (Self::Bf16(low), Self::Bf16(high))
            }
        }
    }

    /// To be read from now on.
    pub fn into_values(self) -> Values<'a> {
        match self {
            Self::F32(values) => Values::F32(values),
            Self::Bf16(values) => Values::Bf16(values),
        }
    }
}

impl<'a> From<&'a mut [f32]> for ValuesMut<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a, T: std::ops::DerefMut<Target = [f32]>> From<&'a mut T> for ValuesMut<'a> {
    fn from(values: &'a mut T) -> Self {
        Self::F32(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norm::InstanceNorm;
    use crate::{Conv, Cpu, Grid, Pending, Source};

    #[test]
    fn words_hold_two_halves() {
        let mut words = vec![0.0f32; 2];
        assert_eq!((Storage::Bf16.words(4), Storage::F32.words(4)), (2, 4));
        if let ValuesMut::Bf16(halves) = ValuesMut::of_words(Storage::Bf16, &mut words) {
            halves.convert_from_f32_slice(&[1.0, -2.5, 1.0 + 1.0 / 256.0, 3e38]);
        }
        let values = Values::of_words(Storage::Bf16, &words);
        // The third lies half way between two neighbours; the even one is below.
        assert_eq!(values.widened()[..3], [1.0, -2.5, 1.0]);
        assert_eq!((values.len(), values.cut(1..3).get(0)), (4, -2.5));
    }

    fn noise(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn rounded(values: &[f32]) -> (Vec<bf16>, Vec<f32>) {
        let halves: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
        let wide = halves.iter().map(|half| half.to_f32()).collect();
        (halves, wide)
    }

    /// Reading bfloat16 is reading what it stands for, and writing it is rounding what would have been written: by the
    /// bit, on every path.
    #[test]
    fn convolutions_and_norms_see_only_rounded_values() {
        let cases = [
            ([3, 3, 3], [1; 3], [9, 10, 11]),
            ([3, 3, 3], [2; 3], [8, 6, 7]),
            ([1, 3, 3], [1; 3], [2, 9, 12]),
        ];
        for cpu in Cpu::available() {
            for (kernel, stride, size) in cases {
                let conv = Conv { kernel, stride, inputs: vec![32, 16], outputs: 32 };
                let grid = Grid { n: 2, size };
                let weights = noise(32 * 48 * kernel.iter().product::<usize>(), 1);
                let packed = conv.pack_with(cpu, conv.algorithm(grid, &conv.forward_view()), &weights);
                let (scale, shift) = (noise(64, 2), noise(64, 3));
                let pending = Some(Pending { scale: &scale, shift: &shift, slope: 0.1 });
                let [first, second] = [32, 16].map(|width| rounded(&noise(2 * grid.voxels() * width, width)));
                let len = 2 * conv.output(grid).voxels() * 32;
                let (mut wide, mut halves) = (vec![0.0f32; len], vec![bf16::ZERO; len]);
                let (mut of_wide, mut of_halves) = (vec![0.0; 128], vec![0.0; 128]);
                let sources = [Source::new(&first.1, 32, pending), Source::new(&second.1, 16, None)];
                conv.forward(grid, &sources, &packed, None, &mut wide, Some(&mut of_wide));
                let sources = [
                    Source::new(Values::Bf16(&first.0), 32, pending),
                    Source::new(Values::Bf16(&second.0), 16, None),
                ];
                let out = ValuesMut::Bf16(&mut halves);
                conv.forward(grid, &sources, &packed, None, out, Some(&mut of_halves));
                assert_eq!(rounded(&wide).0, halves, "{} {kernel:?}", cpu.name());
                assert_eq!(of_wide, of_halves, "{} {kernel:?}", cpu.name());

                let mut norm = InstanceNorm::default();
                norm.update(&of_wide, 32, conv.output(grid).voxels(), None, None, 1e-5);
                let grad = noise(len, 9);
                let (raw, mut of_wide, mut of_halves) = (rounded(&wide).1, grad.clone(), grad.clone());
                let shape = [32, conv.output(grid).voxels()];
                norm.backward_with(cpu, shape, 0.1, (&raw).into(), &mut of_wide, None);
                norm.backward_with(cpu, shape, 0.1, Values::Bf16(&halves), &mut of_halves, None);
                assert_eq!(of_wide, of_halves, "{} {kernel:?}", cpu.name());

                let algorithm = conv.algorithm(grid, &conv.forward_view());
                let [mut of_wide, mut of_halves] = [(); 2].map(|()| vec![0.0; weights.len()]);
                conv.weight_gradient_with(cpu, algorithm, grid, &sources, &grad, &mut of_halves);
                let sources = [Source::new(&first.1, 32, pending), Source::new(&second.1, 16, None)];
                conv.weight_gradient_with(cpu, algorithm, grid, &sources, &grad, &mut of_wide);
                assert_eq!(of_wide, of_halves, "{} {kernel:?}", cpu.name());
            }
        }
    }
}
