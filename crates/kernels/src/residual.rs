//! Sum of two channels-last tensors with a leaky ReLU behind it, and its gradient.

use crate::tensor_blocks::check;
use crate::{Cpu, LANES, Pending, Source, Values, ValuesMut, padded};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Voxels per task.
const CHUNK: usize = 2048;

/// `out = leaky(a + b)`; both sources are `[n, voxels, padded(channels)]`, norm and activation applied on reading. What is
/// stored in less than single precision is widened some voxels at a time.
pub fn add<'a>(voxels: usize, a: Source, b: Source, slope: f32, out: impl Into<ValuesMut<'a>>) {
    let width = padded(a.channels);
    let (sample, size) = (voxels * width, CHUNK * width);
    let mut rest = out.into();
    for n in 0..rest.len() / sample {
        let (out, behind) = rest.split_at(sample);
        rest = behind;
        let rows = [&a, &b].map(|source| Row::new(source.pending, n, width));
        let add = |chunk: usize, out: &mut [f32]| {
            let first = n * sample + chunk * size;
            let [left, right] = [&a, &b].map(|source| source.values.cut(first..first + out.len()).widened());
            add_voxels([&left, &right], &rows, slope, out);
        };
        match out {
            ValuesMut::F32(out) => out.par_chunks_mut(size).enumerate().for_each(|(i, out)| add(i, out)),
            ValuesMut::Bf16(out) => out.par_chunks_mut(size).enumerate().for_each(|(i, out)| {
                let mut wide = vec![0.0; out.len()];
                add(i, &mut wide);
                out.convert_from_f32_slice(&wide);
            }),
        }
    }
}

fn add_voxels([left, right]: [&[f32]; 2], [of_left, of_right]: &[Row; 2], slope: f32, out: &mut [f32]) {
    Cpu::detected().compile(|| {
        let blocks = left.as_chunks::<LANES>().0.iter().zip(right.as_chunks::<LANES>().0);
        let lanes = of_left.lanes.iter().zip(&of_right.lanes).cycle();
        let out = out.as_chunks_mut::<LANES>().0.iter_mut();
        for ((out, (left, right)), (of_left, of_right)) in out.zip(blocks).zip(lanes) {
            for l in 0..LANES {
                let t = of_left.activated(left[l], l) + of_right.activated(right[l], l);
                out[l] = if t >= 0.0 { t } else { slope * t };
            }
        }
    });
}

/// Pending norm of one block of channels; identity where there is none.
struct Lanes {
    scale: [f32; LANES],
    shift: [f32; LANES],
    slope: f32,
}

impl Lanes {
    #[inline(always)]
    fn activated(&self, value: f32, l: usize) -> f32 {
        let t = value * self.scale[l] + self.shift[l];
        if t >= 0.0 { t } else { self.slope * t }
    }
}

/// Pending norm of one sample, in blocks of channels.
struct Row {
    lanes: Vec<Lanes>,
}

impl Row {
    fn new(pending: Option<Pending>, sample: usize, width: usize) -> Self {
        let own = sample * width..(sample + 1) * width;
        let blocks = |values: &[f32]| values[own.clone()].as_chunks::<LANES>().0.to_vec();
        let (scale, shift, slope) = match pending {
            Some(p) => (blocks(p.scale), blocks(p.shift), p.slope),
            None => (vec![[1.0; LANES]; width / LANES], vec![[0.0; LANES]; width / LANES], 1.0),
        };
        let lanes =
            scale.into_iter().zip(shift).map(|(scale, shift)| Lanes { scale, shift, slope }).collect();
        Self { lanes }
    }
}

/// Gradient before the activation, in place; `out` is what [`add`] wrote (its sign is that of the sum).
pub fn add_gradient<'a>(slope: f32, out: impl Into<Values<'a>>, grad: &mut [f32]) {
    let (out, size) = (out.into(), CHUNK * LANES);
    check("sum", out.len(), grad.len());
    grad.par_chunks_mut(size).enumerate().for_each(|(i, grad)| {
        let out = out.cut(i * size..i * size + grad.len()).widened();
        Cpu::detected().compile(|| {
            for (g, &o) in grad.iter_mut().zip(out.iter()) {
                *g = if o > 0.0 { *g } else { slope * *g };
            }
        });
    });
}

/// `total += term`.
pub fn accumulate(total: &mut [f32], term: &[f32]) {
    let size = CHUNK * LANES;
    total.par_chunks_mut(size).zip(term.par_chunks(size)).for_each(|(total, term)| {
        Cpu::detected().compile(|| total.iter_mut().zip(term).for_each(|(t, x)| *t += x));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_activated_and_its_gradient_follows_the_sign() {
        let (mut a, mut b) = (vec![0.0; LANES], vec![0.0; LANES]);
        (a[0], a[1], b[0], b[1]) = (3.0, 3.0, -1.0, -5.0);
        let (mut scale, shift) = (vec![1.0; LANES], vec![0.0; LANES]);
        scale[0] = 2.0;
        let pending = Some(Pending { scale: &scale, shift: &shift, slope: 1.0 });
        let mut out = vec![0.0; LANES];
        let left = Source::new(&a, 2, pending);
        add(1, left, Source::new(&b, 2, None), 0.1, &mut out);
        assert_eq!((out[0], out[1]), (5.0, -0.2));
        let mut grad = vec![1.0; LANES];
        add_gradient(0.1, &out, &mut grad);
        assert_eq!((grad[0], grad[1]), (1.0, 0.1));
    }
}
