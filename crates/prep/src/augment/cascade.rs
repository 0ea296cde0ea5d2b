//! The first stage's label map as input of a cascade: one channel per foreground label, roughened.
//! Source: batchgeneratorsv2 `MoveSegAsOneHotToDataTransform`, `ApplyRandomBinaryOperatorTransform`,
//! `RemoveRandomConnectedComponentFromOneHotEncodingTransform` as nnU-Net v2 sets them.
//! Differs: components are found in raster order, so a draw picks the same one on every machine.

use super::binary_operators::apply;
use super::draw::CascadeDraw;

/// Components of at least this share of the patch are never removed.
const MAX_SHARE: f64 = 0.15;

/// Channels behind the image, `[label, z, y, x]` with values 0 and 1.
pub fn previous_channels(
    previous: &[i16],
    size: [usize; 3],
    labels: &[u16],
    draw: &CascadeDraw,
    flat: bool,
) -> Vec<f32> {
    let mut masks: Vec<Vec<bool>> = labels
        .iter()
        .map(|&label| previous.iter().map(|&v| i32::from(v) == i32::from(label)).collect())
        .collect();
    for &(label, operator, radius) in &draw.operators {
        let changed = apply(operator, &masks[label], size, radius, flat);
        for other in (0..masks.len()).filter(|&other| other != label) {
            for i in 0..changed.len() {
                // What the label gained, the others lose.
                masks[other][i] &= !changed[i] || masks[label][i];
            }
        }
        masks[label] = changed;
    }
    for &(label, choice) in &draw.removals {
        remove_component(&mut masks[label], size, choice);
    }
    masks.iter().flatten().map(|&set| f32::from(u8::from(set))).collect()
}

/// Clears one of the components (full connectivity) that are small enough.
fn remove_component(mask: &mut [bool], size: [usize; 3], choice: u64) {
    let limit = mask.len() as f64 * MAX_SHARE;
    let small: Vec<Vec<usize>> =
        components(mask, size).into_iter().filter(|voxels| (voxels.len() as f64) < limit).collect();
    if small.is_empty() {
        return;
    }
    for &voxel in &small[(choice % small.len() as u64) as usize] {
        mask[voxel] = false;
    }
}

fn components(mask: &[bool], size: [usize; 3]) -> Vec<Vec<usize>> {
    let mut seen = vec![false; mask.len()];
    let mut found = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || seen[start] {
            continue;
        }
        seen[start] = true;
        let mut voxels = vec![start];
        let mut next = 0;
        while next < voxels.len() {
            for neighbour in neighbours(voxels[next], size) {
                if mask[neighbour] && !seen[neighbour] {
                    seen[neighbour] = true;
                    voxels.push(neighbour);
                }
            }
            next += 1;
        }
        found.push(voxels);
    }
    found
}

fn neighbours(index: usize, [nz, ny, nx]: [usize; 3]) -> impl Iterator<Item = usize> {
    let (z, y, x) = (index / (ny * nx), index / nx % ny, index % nx);
    let near = |i: usize, n: usize| i.saturating_sub(1)..(i + 2).min(n);
    near(z, nz)
        .flat_map(move |z| near(y, ny).flat_map(move |y| near(x, nx).map(move |x| (z * ny + y) * nx + x)))
}

#[cfg(test)]
mod tests {
    use super::super::binary_operators::Operator;
    use super::*;

    #[test]
    fn growth_takes_from_the_other_labels() {
        let previous = [0, 1, 2, 2, 0, 0, 0, 2];
        let draw = CascadeDraw { operators: vec![(0, Operator::Dilation, 1.0)], removals: vec![] };
        let channels = previous_channels(&previous, [1, 1, 8], &[1, 2], &draw, true);
        assert_eq!(channels[..8], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(channels[8..], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn only_small_components_are_removed() {
        let mut mask: Vec<bool> = (0..40).map(|i| i < 10 || i == 20).collect();
        remove_component(&mut mask, [1, 1, 40], 5);
        assert_eq!(mask.iter().filter(|&&v| v).count(), 10);
    }
}
