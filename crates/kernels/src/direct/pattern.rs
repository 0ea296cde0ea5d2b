//! Which places a convolution reads for each place that it writes.

/// One kernel element of one axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tap {
    /// Index in the kernel.
    pub kernel: usize,
    /// Place read, relative to `read_step · q`.
    pub delta: isize,
}

/// Places `first + write_step · q` of the written grid, which share their taps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Phase {
    pub first: [usize; 3],
    /// Taps per axis; `delta` grows by one from tap to tap.
    pub taps: [Vec<Tap>; 3],
}

/// A convolution or its transpose as reads and writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pattern {
    pub kernel: [usize; 3],
    pub read_step: [usize; 3],
    pub write_step: [usize; 3],
    pub phases: Vec<Phase>,
}

impl Pattern {
    /// Output `q` reads input `stride · q + k - pad`.
    pub(crate) fn forward(kernel: [usize; 3], stride: [usize; 3], pad: [usize; 3]) -> Self {
        let taps = [0, 1, 2].map(|a| {
            (0..kernel[a]).map(|k| Tap { kernel: k, delta: k as isize - pad[a] as isize }).collect()
        });
        Self { kernel, read_step: stride, write_step: [1; 3], phases: vec![Phase { first: [0; 3], taps }] }
    }

    /// The transpose: input `stride · q + r` gathers from the outputs that read it.
    pub(crate) fn backward(kernel: [usize; 3], stride: [usize; 3], pad: [usize; 3]) -> Self {
        let mut phases = Vec::new();
        for z in 0..stride[0] {
            for y in 0..stride[1] {
                for x in 0..stride[2] {
                    let first = [z, y, x];
                    let taps = [0, 1, 2].map(|a| residue_taps(kernel[a], stride[a], first[a] + pad[a]));
                    phases.push(Phase { first, taps });
                }
            }
        }
        Self { kernel, read_step: [1; 3], write_step: stride, phases }
    }

    /// Smallest and largest `delta` of an axis over all phases.
    pub(crate) fn reach(&self, axis: usize) -> (isize, isize) {
        let deltas = || self.phases.iter().flat_map(|p| p.taps[axis].iter().map(|t| t.delta));
        (deltas().min().unwrap_or(0), deltas().max().unwrap_or(0))
    }

    /// Number of `q` per axis that cover a written grid.
    pub(crate) fn places(&self, written: [usize; 3]) -> [usize; 3] {
        [0, 1, 2].map(|a| written[a].div_ceil(self.write_step[a]))
    }
}

/// Taps `k` with `stride · o + k = at + stride · q`, the nearest output first.
fn residue_taps(kernel: usize, stride: usize, at: usize) -> Vec<Tap> {
    let fitting = (0..kernel).rev().filter(|k| (at + kernel * stride - k).is_multiple_of(stride));
    fitting.map(|k| Tap { kernel: k, delta: (at as isize - k as isize) / stride as isize }).collect()
}

impl Phase {
    /// Number of taps.
    pub(crate) fn volume(&self) -> usize {
        self.taps.iter().map(Vec::len).product()
    }

    /// The taps along z that stay inside `0..size` at place `q`: a range of indices.
    pub(crate) fn inside_z(&self, at: isize, size: usize) -> std::ops::Range<usize> {
        let good = |tap: &Tap| (0..size as isize).contains(&(at + tap.delta));
        let Some(first) = self.taps[0].iter().position(good) else { return 0..0 };
        first..first + self.taps[0][first..].iter().take_while(|tap| good(tap)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transpose_of_stride_two_has_one_and_two_taps_per_axis() {
        let pattern = Pattern::backward([1, 1, 3], [1, 1, 2], [0, 0, 1]);
        let taps: Vec<_> = pattern.phases.iter().map(|p| p.taps[2].clone()).collect();
        assert_eq!(taps[0], [Tap { kernel: 1, delta: 0 }]);
        assert_eq!(taps[1], [Tap { kernel: 2, delta: 0 }, Tap { kernel: 0, delta: 1 }]);
        assert_eq!(pattern.reach(2), (0, 1));
        assert_eq!(pattern.places([4, 4, 5]), [4, 4, 3]);
    }

    #[test]
    fn a_kernel_smaller_than_its_stride_leaves_phases_without_taps() {
        let pattern = Pattern::backward([1, 1, 1], [1, 1, 2], [0; 3]);
        assert_eq!(pattern.phases.iter().map(Phase::volume).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn taps_outside_the_volume_are_left_out() {
        let pattern = Pattern::forward([3, 1, 1], [1; 3], [1, 0, 0]);
        assert_eq!(pattern.phases[0].inside_z(0, 4), 1..3);
        assert_eq!(pattern.phases[0].inside_z(3, 4), 0..2);
        assert_eq!(pattern.phases[0].inside_z(0, 1), 1..2);
    }
}
