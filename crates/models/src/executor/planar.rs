//! Between images as planes, `[n, c, voxels]`, and the kernels' channels-last form, `[n, voxels, padded(c)]`.

use galen_kernels::padded;
use rayon::prelude::*;

/// Voxels per task.
const CHUNK: usize = 4096;

/// Planes to channels last; pad lanes become zero. One sample.
pub(crate) fn to_channels_last(planes: &[f32], channels: usize, out: &mut [f32]) {
    let (width, voxels) = (padded(channels), planes.len() / channels);
    out.par_chunks_mut(CHUNK * width).enumerate().for_each(|(chunk, out)| {
        let first = chunk * CHUNK;
        for (i, voxel) in out.chunks_exact_mut(width).enumerate() {
            voxel[channels..].fill(0.0);
            for c in 0..channels {
                voxel[c] = planes[c * voxels + first + i];
            }
        }
    });
}

/// Channels last to planes. One sample.
pub(crate) fn to_planes(values: &[f32], channels: usize, planes: &mut [f32]) {
    to_planes_from(values, channels, 0, planes);
}

/// As [`to_planes`] for voxels of which `first` is the first.
pub(crate) fn to_planes_from(values: &[f32], channels: usize, first: usize, planes: &mut [f32]) {
    let (width, voxels) = (padded(channels), planes.len() / channels);
    planes.par_chunks_mut(voxels).enumerate().for_each(|(c, plane)| {
        for (value, voxel) in plane[first..].iter_mut().zip(values.chunks_exact(width)) {
            *value = voxel[c];
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let planes: Vec<f32> = (0..3 * 5000).map(|i| i as f32).collect();
        let mut last = vec![9.0; 5000 * 16];
        to_channels_last(&planes, 3, &mut last);
        assert_eq!(last[16..20], [1.0, 5001.0, 10001.0, 0.0]);
        let mut back = vec![0.0; planes.len()];
        to_planes(&last, 3, &mut back);
        assert_eq!(back, planes);
    }
}
