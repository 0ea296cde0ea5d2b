//! Border voxels and distances between them: voxels of a mask with a face neighbour outside it.

use super::Pair;
use crate::surface::voxel_distances;

/// Border voxels of a mask that has background around it (see [`Pair::cropped`]).
pub fn border(mask: &[u8], size: [usize; 3], flat: bool) -> Vec<u8> {
    let [_, ny, nx] = size;
    let steps: &[usize] = if flat { &[1, nx] } else { &[1, nx, nx * ny] };
    let inside = |i: usize| steps.iter().all(|&step| mask[i - step] & mask[i + step] != 0);
    (0..mask.len()).map(|i| u8::from(mask[i] != 0 && !inside(i))).collect()
}

/// Distances in mm from each border voxel of one mask to the nearest of the other.
#[derive(Debug, Clone, Default)]
pub struct BorderDistances {
    /// From the prediction to the reference.
    pub from_prediction: Vec<f64>,
    /// From the reference to the prediction.
    pub from_reference: Vec<f64>,
}

/// Distances both ways of a cropped pair in which neither mask is empty.
pub fn distances(pair: &Pair) -> BorderDistances {
    let [reference, prediction] =
        [&pair.reference, &pair.prediction].map(|mask| places(mask, pair.size, pair.flat));
    let [from_prediction, from_reference] = voxel_distances(prediction, reference, pair.size, pair.spacing);
    BorderDistances { from_prediction, from_reference }
}

/// Border voxels `(z, y, x)` in array order, row by row; most rows hold none.
fn places(mask: &[u8], size: [usize; 3], flat: bool) -> Vec<[u32; 3]> {
    let [nz, ny, nx] = size;
    let mut found = Vec::new();
    let mut edge = vec![0u8; nx];
    for z in usize::from(!flat)..nz - usize::from(!flat) {
        for y in 1..ny - 1 {
            let at = |z: usize, y: usize| &mask[(z * ny + y) * nx..][..nx];
            let row = at(z, y);
            if row.iter().fold(0, |any, v| any | v) == 0 {
                continue;
            }
            let around = if flat { [row, row] } else { [at(z - 1, y), at(z + 1, y)] };
            let (up, down) = (at(z, y - 1), at(z, y + 1));
            for x in 1..nx - 1 {
                let inside = row[x - 1] & row[x + 1] & up[x] & down[x] & around[0][x] & around[1][x];
                edge[x] = row[x] & (1 - inside);
            }
            for (x, _) in edge.iter().enumerate().filter(|(_, e)| **e != 0) {
                found.push([z as u32, y as u32, x as u32]);
            }
        }
    }
    found
}

/// Percentile with linear interpolation between neighbours, as numpy and torch; NaN of nothing.
pub fn percentile(values: &mut [f64], fraction: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let at = fraction * (values.len() - 1) as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let next = above.iter().copied().reduce(f64::min).unwrap_or(low);
    low + (next - low) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&mut [4.0, 1.0, 2.0, 3.0], 0.5), 2.5);
        assert_eq!(percentile(&mut [4.0], 0.95), 4.0);
        assert!(percentile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn a_block_has_a_border_without_its_core() {
        let mask: Vec<u8> = (0..125)
            .map(|i| u8::from([i / 25, i / 5 % 5, i % 5].iter().all(|c| (1..4).contains(c))))
            .collect();
        let edge = border(&mask, [5, 5, 5], false);
        assert_eq!((edge.iter().filter(|b| **b != 0).count(), edge[62]), (26, 0));
        let listed: Vec<usize> =
            places(&mask, [5, 5, 5], false).iter().map(|[z, y, x]| (z * 25 + y * 5 + x) as usize).collect();
        assert_eq!(listed, (0..125).filter(|&i| edge[i] != 0).collect::<Vec<_>>());
    }
}
