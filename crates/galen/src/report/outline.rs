//! Outlines of a mask as vector paths: marching squares on a binary image, half-way between pixels.

use std::collections::BTreeMap;
use std::fmt::Write;

type Corner = (i64, i64);

/// SVG path data around the true pixels of `mask` (`[height, width]`), with pixel `(0, 0)` covering
/// `(0, 0)` to `scale`; `scale` is the size of a pixel, `(y, x)`. Empty for an empty mask.
pub fn path(mask: &[bool], size: [usize; 2], scale: [f64; 2]) -> String {
    let mut data = String::new();
    for ring in rings(mask, size) {
        for (index, (y, x)) in corners_cut(&ring).into_iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            // Writing to a string cannot fail.
            let _ = write!(data, "{command}{} {}", short(x * scale[1]), short(y * scale[0]));
        }
        data.push('Z');
    }
    data
}

fn short(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Closed walks along pixel borders, with the mask on the right hand.
fn rings(mask: &[bool], [height, width]: [usize; 2]) -> Vec<Vec<Corner>> {
    let inside = |y: i64, x: i64| {
        (0..height as i64).contains(&y)
            && (0..width as i64).contains(&x)
            && mask[y as usize * width + x as usize]
    };
    let mut steps: BTreeMap<Corner, Vec<Corner>> = BTreeMap::new();
    for y in 0..height as i64 {
        for x in (0..width as i64).filter(|&x| inside(y, x)) {
            let sides = [
                ((y - 1, x), (y, x), (y, x + 1)),
                ((y, x + 1), (y, x + 1), (y + 1, x + 1)),
                ((y + 1, x), (y + 1, x + 1), (y + 1, x)),
                ((y, x - 1), (y + 1, x), (y, x)),
            ];
            for (neighbour, from, to) in sides {
                if !inside(neighbour.0, neighbour.1) {
                    steps.entry(from).or_default().push(to);
                }
            }
        }
    }
    let mut rings = Vec::new();
    while let Some((&start, _)) = steps.first_key_value() {
        let mut ring = vec![start];
        let mut before = None;
        let mut here = start;
        while let Some(next) = take_step(&mut steps, before, here) {
            before = Some(here);
            here = next;
            if here == start {
                break;
            }
            ring.push(here);
        }
        rings.push(ring);
    }
    rings
}

/// Takes one unused step from a corner. Where two pixels touch at a corner only, it turns right, so that
/// each keeps its own outline.
fn take_step(
    steps: &mut BTreeMap<Corner, Vec<Corner>>,
    before: Option<Corner>,
    here: Corner,
) -> Option<Corner> {
    let choices = steps.get_mut(&here)?;
    let right = |to: &Corner| {
        before.is_some_and(|from| {
            let (a, b) = ((here.0 - from.0, here.1 - from.1), (to.0 - here.0, to.1 - here.1));
            a.1 * b.0 - a.0 * b.1 > 0
        })
    };
    let next = choices.swap_remove(choices.iter().position(right).unwrap_or(0));
    if choices.is_empty() {
        steps.remove(&here);
    }
    Some(next)
}

/// Middles of the border steps, without those on straight runs.
fn corners_cut(ring: &[Corner]) -> Vec<(f64, f64)> {
    let n = ring.len();
    let middle = |index: usize| {
        let (a, b) = (ring[index % n], ring[(index + 1) % n]);
        ((a.0 + b.0) as f64 / 2.0, (a.1 + b.1) as f64 / 2.0)
    };
    let bends = |index: usize| {
        let (a, b, c) = (middle(index + n - 1), middle(index), middle(index + 1));
        (b.0 - a.0, b.1 - a.1) != (c.0 - b.0, c.1 - b.1)
    };
    (0..n).filter(|&index| bends(index)).map(middle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pixel_is_a_diamond_in_millimetres() {
        let mask = [false, false, false, false, true, false, false, false, false];
        assert_eq!(path(&mask, [3, 3], [2.0, 1.0]), "M1.5 2L2 3L1.5 4L1 3Z");
        assert_eq!(path(&[false; 4], [2, 2], [1.0, 1.0]), "");
    }

    #[test]
    fn pixels_that_touch_at_a_corner_keep_their_own_outline_and_holes_have_one() {
        assert_eq!(path(&[true, false, false, true], [2, 2], [1.0, 1.0]).matches('Z').count(), 2);
        let mut ring = [true; 9];
        ring[4] = false;
        assert_eq!(path(&ring, [3, 3], [1.0, 1.0]).matches('Z').count(), 2);
    }
}
