//! The slices of a tilted gantry moved above each other.

use galen_core::{Geometry, Scalar, Volume};
use rayon::prelude::*;

/// The volume on a grid with right angles: slice k is moved by k times `shift` (millimetres along rows and columns),
/// values between pixels are interpolated linearly, and what no slice covers gets the smallest value.
///
/// The grid grows so that nothing is cut off.
pub fn straighten(volume: &Volume, shift: [f64; 2]) -> Volume {
    let [planes, rows, columns] = volume.geometry.size;
    let spacing = volume.geometry.spacing;
    // Shift per slice in pixels, down and across.
    let step = [shift[1] / spacing[1], shift[0] / spacing[2]];
    let reach = step.map(|pixels| pixels * (planes - 1) as f64);
    let [above, left] = reach.map(|pixels| (-pixels.min(0.0)).ceil());
    let [tall, wide] = reach.map(|pixels| pixels.abs().ceil() as usize);
    let size = [planes, rows + tall, columns + wide];
    let mut out = Vec::with_capacity(volume.channels * size.iter().product::<usize>());
    for channel in 0..volume.channels {
        let values = volume.channel_f32(channel);
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let mut moved = vec![least; size.iter().product()];
        moved.par_chunks_exact_mut(size[1] * size[2]).enumerate().for_each(|(z, plane)| {
            let source = &values[z * rows * columns..][..rows * columns];
            let from = [above + step[0] * z as f64, left + step[1] * z as f64];
            for (y, row) in plane.chunks_exact_mut(size[2]).enumerate() {
                for (x, to) in row.iter_mut().enumerate() {
                    if let Some(value) =
                        between(source, [rows, columns], [y as f64 - from[0], x as f64 - from[1]])
                    {
                        *to = value;
                    }
                }
            }
        });
        out.extend(moved);
    }
    let origin = volume.geometry.world([0.0, -above, -left]);
    let geometry = Geometry { size, origin, ..volume.geometry.clone() };
    Volume { geometry, channels: volume.channels, voxels: f32::wrap(out), slope: 1.0, intercept: 0.0 }
}

/// The value between four pixels; `None` outside.
fn between(image: &[f32], size: [usize; 2], at: [f64; 2]) -> Option<f32> {
    let last = [(size[0] - 1) as f64, (size[1] - 1) as f64];
    if at[0] < 0.0 || at[1] < 0.0 || at[0] > last[0] || at[1] > last[1] {
        return None;
    }
    let (y, x) = (at[0].floor(), at[1].floor());
    let (v, u) = (at[0] - y, at[1] - x);
    let (y, x) = (y as usize, x as usize);
    let pixel = |dy: usize, dx: usize| {
        f64::from(image[(y + dy).min(size[0] - 1) * size[1] + (x + dx).min(size[1] - 1)])
    };
    let upper = pixel(0, 0) * (1.0 - u) + pixel(0, 1) * u;
    let lower = pixel(1, 0) * (1.0 - u) + pixel(1, 1) * u;
    Some((upper * (1.0 - v) + lower * v) as f32)
}
