//! Components of a lower resolution brought to the frame's. Source: ITU-T T.81, annex A.1, which leaves the filter open;
//! here the triangle filter of libjpeg, since chroma without it shows blocks.

use super::{Component, Frame};

/// Samples of all components, `[y, x, component]`.
pub fn interleave(frame: &mut Frame) -> Vec<u16> {
    let (width, height, count) = (frame.width, frame.height, frame.components.len());
    let mut out = vec![0; width * height * count];
    for (k, component) in frame.components.iter().enumerate() {
        let (across, down) = (frame.h_max / component.h, frame.v_max / component.v);
        let (own_width, own_height) =
            ((width * component.h).div_ceil(frame.h_max), (height * component.v).div_ceil(frame.v_max));
        let mut row = vec![0; own_width.max(1) * across.max(1) + across];
        for y in 0..height {
            match (across, down) {
                (2, 1) => twice(component, y, own_width, &mut row),
                (2, 2) => twice_both(component, y, own_width, own_height, &mut row),
                _ => {
                    let source = (y * component.v / frame.v_max).min(own_height - 1) * component.stride;
                    row.resize(width.max(row.len()), 0);
                    for x in 0..width {
                        row[x] = component.plane[source + (x * component.h / frame.h_max).min(own_width - 1)];
                    }
                }
            }
            for (to, &sample) in
                out[y * width * count..][..width * count].iter_mut().skip(k).step_by(count).zip(&row)
            {
                *to = sample;
            }
        }
    }
    out
}

/// Three parts of the nearer sample and one of the farther.
fn twice(component: &Component, y: usize, width: usize, row: &mut [u16]) {
    let source = &component.plane[y * component.stride..][..width];
    let at = |x: usize| u32::from(source[x]);
    for x in 0..width {
        row[2 * x] = if x == 0 { source[0] } else { ((3 * at(x) + at(x - 1) + 1) >> 2) as u16 };
        row[2 * x + 1] = if x + 1 == width { source[x] } else { ((3 * at(x) + at(x + 1) + 2) >> 2) as u16 };
    }
}

/// The same in both directions, rounded once.
fn twice_both(component: &Component, y: usize, width: usize, height: usize, row: &mut [u16]) {
    let near = y / 2;
    let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(height - 1) };
    let sample = |y: usize, x: usize| u32::from(component.plane[y * component.stride + x]);
    let sum = |x: usize| 3 * sample(near, x) + sample(far, x);
    for x in 0..width {
        let own = sum(x);
        row[2 * x] = (if x == 0 { (own * 4 + 8) >> 4 } else { (3 * own + sum(x - 1) + 8) >> 4 }) as u16;
        row[2 * x + 1] =
            (if x + 1 == width { (own * 4 + 7) >> 4 } else { (3 * own + sum(x + 1) + 7) >> 4 }) as u16;
    }
}
