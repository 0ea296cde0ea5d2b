//! Logits from the network's grid onto the grid of the cropped scan, a slab of planes at a time.
//!
//! Source: nnU-Net v2.8.1, `resample_data_or_seg_to_shape` (order 1 or 0, separate z) and
//! `resample_torch_fornnunet`. Differs: axis by axis in float32 instead of all eight corners in float64, which
//! changes values by about 1e-7; only the planes of one slab exist at a time.

/// Rule of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Linear between voxel centres; beyond the border the border's value.
    Linear,
    /// Nearest voxel centre, the upper one on ties.
    Nearest,
}

/// Where an output index reads: two input indices and the weight of the second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    low: usize,
    high: usize,
    part: f32,
}

fn taps(input: usize, output: usize, rule: Rule) -> Vec<Tap> {
    let scale = input as f64 / output as f64;
    let last = input as f64 - 1.0;
    let tap = |o: usize| {
        let centre = (o as f64 + 0.5) * scale - 0.5;
        match rule {
            Rule::Linear => {
                let low = centre.floor();
                let inside = |i: f64| i.clamp(0.0, last) as usize;
                Tap { low: inside(low), high: inside(low + 1.0), part: (centre - low) as f32 }
            }
            Rule::Nearest => {
                let nearest = (centre + 0.5).floor().clamp(0.0, last) as usize;
                Tap { low: nearest, high: nearest, part: 0.0 }
            }
        }
    };
    (0..output).map(tap).collect()
}

/// Mapping from one grid to another, `(z, y, x)`.
pub struct Resampler {
    input: [usize; 3],
    output: [usize; 3],
    taps: [Vec<Tap>; 3],
}

impl Resampler {
    /// Mapping from `input` to `output` voxels with a rule per axis.
    pub fn new(input: [usize; 3], output: [usize; 3], rules: [Rule; 3]) -> Self {
        let taps = [0, 1, 2].map(|axis| taps(input[axis], output[axis], rules[axis]));
        Self { input, output, taps }
    }

    /// Grid of the result.
    pub fn output(&self) -> [usize; 3] {
        self.output
    }

    /// Calls `plane(i, values)` for output planes `first + i`, as many as `count`, of one channel `[z, y, x]`.
    pub fn planes(&self, channel: &[f32], first: usize, count: usize, mut plane: impl FnMut(usize, &[f32])) {
        let area = self.output[1] * self.output[2];
        let mut kept = [Kept::new(area), Kept::new(area)];
        let mut work = vec![0f32; self.input[1] * self.output[2]];
        let mut mixed = vec![0f32; area];
        for i in 0..count {
            let tap = self.taps[0][first + i];
            let low = self.keep(&mut kept, channel, tap.low, tap.high, &mut work);
            let high = self.keep(&mut kept, channel, tap.high, tap.low, &mut work);
            if tap.part == 0.0 || tap.low == tap.high {
                plane(i, &kept[low].values);
                continue;
            }
            let (below, above) = (1.0 - tap.part, tap.part);
            let pairs = kept[low].values.iter().zip(&kept[high].values);
            mixed.iter_mut().zip(pairs).for_each(|(m, (a, b))| *m = a * below + b * above);
            plane(i, &mixed);
        }
    }

    /// Slot in which input plane `z` lies, resampled within the plane; the slot of `other` is left alone.
    fn keep(&self, kept: &mut [Kept; 2], channel: &[f32], z: usize, other: usize, work: &mut [f32]) -> usize {
        if let Some(slot) = kept.iter().position(|k| k.z == Some(z)) {
            return slot;
        }
        let slot = usize::from(kept[0].z == Some(other));
        kept[slot].z = Some(z);
        let area = self.input[1] * self.input[2];
        self.within_plane(&channel[z * area..(z + 1) * area], work, &mut kept[slot].values);
        slot
    }

    fn within_plane(&self, plane: &[f32], work: &mut [f32], result: &mut [f32]) {
        let (nx, width) = (self.input[2], self.output[2]);
        for (row, wide) in plane.chunks(nx).zip(work.chunks_mut(width)) {
            for (value, tap) in wide.iter_mut().zip(&self.taps[2]) {
                *value = row[tap.low] * (1.0 - tap.part) + row[tap.high] * tap.part;
            }
        }
        for (row, tap) in result.chunks_mut(width).zip(&self.taps[1]) {
            let (low, high) = (&work[tap.low * width..][..width], &work[tap.high * width..][..width]);
            let (below, above) = (1.0 - tap.part, tap.part);
            row.iter_mut().zip(low.iter().zip(high)).for_each(|(v, (a, b))| *v = a * below + b * above);
        }
    }
}

struct Kept {
    z: Option<usize>,
    values: Vec<f32>,
}

impl Kept {
    fn new(area: usize) -> Self {
        Self { z: None, values: vec![0.0; area] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_twin(channel: &[f32], input: [usize; 3], output: [usize; 3], rules: [Rule; 3]) -> Vec<f64> {
        let t = [0, 1, 2].map(|axis| taps(input[axis], output[axis], rules[axis]));
        let mut all = Vec::new();
        for z in &t[0] {
            for y in &t[1] {
                for x in &t[2] {
                    let mut sum = 0.0;
                    for (z, wz) in [(z.low, 1.0 - z.part), (z.high, z.part)] {
                        for (y, wy) in [(y.low, 1.0 - y.part), (y.high, y.part)] {
                            for (x, wx) in [(x.low, 1.0 - x.part), (x.high, x.part)] {
                                let value = channel[(z * input[1] + y) * input[2] + x];
                                sum += f64::from(value) * f64::from(wz) * f64::from(wy) * f64::from(wx);
                            }
                        }
                    }
                    all.push(sum);
                }
            }
        }
        all
    }

    #[test]
    fn slabs_agree_with_all_eight_corners() {
        let rules = [[Rule::Linear; 3], [Rule::Nearest, Rule::Linear, Rule::Linear]];
        for (input, output) in [([5, 6, 7], [9, 4, 13]), ([1, 3, 3], [1, 6, 5]), ([7, 7, 7], [3, 7, 8])] {
            let channel: Vec<f32> =
                (0..input.iter().product::<usize>()).map(|i| (i as f32 * 1.7).sin()).collect();
            for rules in rules {
                let resampler = Resampler::new(input, output, rules);
                let expected = plain_twin(&channel, input, output, rules);
                for height in [1, 2, output[0]] {
                    let mut found = Vec::new();
                    for first in (0..output[0]).step_by(height) {
                        let count = height.min(output[0] - first);
                        resampler.planes(&channel, first, count, |_, plane| found.extend_from_slice(plane));
                    }
                    for (a, b) in found.iter().zip(&expected) {
                        assert!((f64::from(*a) - b).abs() < 1e-6, "{a} {b}");
                    }
                    assert_eq!(found.len(), expected.len());
                }
            }
        }
    }
}
