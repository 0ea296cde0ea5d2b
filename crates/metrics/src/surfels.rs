//! Surface elements on the dual grid: one cell per 2×2×2 block of voxels.
//!
//! Source: the surface of DeepMind's surface-distance (Nikolov et al. 2018), after marching cubes
//! (Lorensen and Cline 1987). A cell whose eight corners are not all alike carries a piece of
//! surface at its centre; its area is that of the marching-cubes polygons through the edge
//! midpoints. Here the areas are derived, not tabulated: polygons are traced over the six faces with
//! set corners kept apart, and cut into the triangulation of largest area on a unit cube, which
//! is the classic table's. Codes of more than four set corners take the area of their complement.
//! Flat images use 2×2 cells and contour lengths.

/// Area of the surface element of each code in mm². Bits from the highest: corners `(z, y, x)` = 000, 001,
/// 010 ... 111. For flat images lengths in mm of 16 codes, with the corners `(y, x)` = 00, 01, 10, 11.
pub fn areas(spacing: [f64; 3], flat: bool) -> Vec<f64> {
    if flat {
        return (0..16).map(|code| contour_length(code, spacing)).collect();
    }
    (0u32..256)
        .map(|code| {
            let few = if code.count_ones() <= 4 { code } else { 255 - code };
            polygons(few).iter().map(|polygon| polygon_area(polygon, spacing)).sum()
        })
        .collect()
}

fn contour_length(code: u32, spacing: [f64; 3]) -> f64 {
    let [_, y, x] = spacing;
    let corner = 0.5 * y.hypot(x);
    match code {
        0 | 15 => 0.0,
        0b0011 | 0b1100 => x,
        0b0101 | 0b1010 => y,
        0b0110 | 0b1001 => 2.0 * corner,
        _ => corner,
    }
}

/// Midpoint of an edge in half cells, `(z, y, x)`.
type Midpoint = [usize; 3];

/// Closed polygons through edge midpoints that separate set from unset corners.
fn polygons(code: u32) -> Vec<Vec<Midpoint>> {
    let mut segments = segments(code);
    let mut polygons = Vec::new();
    while let Some((first, mut end)) = segments.pop() {
        let mut polygon = vec![first];
        while end != first {
            polygon.push(end);
            let next = segments.iter().position(|s| s.0 == end || s.1 == end);
            let (a, b) = segments.swap_remove(next.expect("every midpoint joins two faces"));
            end = if a == end { b } else { a };
        }
        polygons.push(polygon);
    }
    polygons
}

/// On each face, one segment per run of set corners: it cuts the run off.
fn segments(code: u32) -> Vec<(Midpoint, Midpoint)> {
    let set = |corner: [usize; 3]| code >> (7 - (corner[0] * 4 + corner[1] * 2 + corner[2])) & 1 == 1;
    let mut segments = Vec::new();
    for axis in 0..3 {
        for side in 0..2 {
            let around = [[0, 0], [0, 1], [1, 1], [1, 0]].map(|[p, q]| {
                let mut corner = [side; 3];
                (corner[(axis + 1) % 3], corner[(axis + 2) % 3]) = (p, q);
                corner
            });
            let midpoint = |k: usize| {
                let (a, b) = (around[k % 4], around[(k + 1) % 4]);
                [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
            };
            for k in (0..4).filter(|&k| set(around[k]) && !set(around[(k + 3) % 4])) {
                let run = (1..4).find(|n| !set(around[(k + n) % 4])).expect("corner k-1 is unset");
                segments.push((midpoint(k + 3), midpoint(k + run - 1)));
            }
        }
    }
    segments
}

fn polygon_area(polygon: &[Midpoint], spacing: [f64; 3]) -> f64 {
    let best = triangulations(&(0..polygon.len()).collect::<Vec<_>>())
        .into_iter()
        .map(|triangles| (total(polygon, &triangles, [1.0; 3]), triangles))
        .reduce(|best, other| if other.0 > best.0 + 1e-9 { other } else { best });
    best.map_or(0.0, |(_, triangles)| total(polygon, &triangles, spacing))
}

/// All ways to cut a polygon into triangles.
fn triangulations(corners: &[usize]) -> Vec<Vec<[usize; 3]>> {
    if corners.len() < 3 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for k in 1..corners.len() - 1 {
        for left in triangulations(&corners[..=k]) {
            for right in triangulations(&corners[k..]) {
                let middle = [corners[0], corners[k], corners[corners.len() - 1]];
                all.push(left.iter().chain(&right).copied().chain([middle]).collect());
            }
        }
    }
    all
}

fn total(polygon: &[Midpoint], triangles: &[[usize; 3]], spacing: [f64; 3]) -> f64 {
    let point = |i: usize| [0, 1, 2].map(|axis| polygon[i][axis] as f64 / 2.0 * spacing[axis]);
    triangles
        .iter()
        .map(|&[a, b, c]| {
            let (a, b, c) = (point(a), point(b), point(c));
            let (u, v) = ([0, 1, 2].map(|i| b[i] - a[i]), [0, 1, 2].map(|i| c[i] - a[i]));
            let cross = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
            cross.iter().map(|x| x * x).sum::<f64>().sqrt() / 2.0
        })
        .sum()
}

/// Surface of one mask: where its elements are and how large.
#[derive(Debug, Clone, Default)]
pub struct Surface {
    /// Cells `(z, y, x)` in array order.
    pub cells: Vec<[u32; 3]>,
    /// Area of each element in mm² (length in mm for flat images).
    pub areas: Vec<f64>,
}

/// Surface of a mask that is surrounded by one voxel of background; `mask` is `[z, y, x]` of `size`
/// with values 0 and 1. Cells are those of the dual grid, one fewer per axis. For flat images
/// `size[0]` is 1 and there is one layer of cells.
pub fn extract(mask: &[u8], size: [usize; 3], areas: &[f64], flat: bool) -> Surface {
    let [nz, ny, nx] = size;
    let mut surface = Surface::default();
    let row = |z: usize, y: usize| &mask[(z * ny + y) * nx..][..nx];
    let mut codes = vec![0u8; nx - 1];
    let all = if flat { 15 } else { 255 };
    for z in 0..if flat { 1 } else { nz - 1 } {
        for y in 0..ny - 1 {
            if flat {
                encode(&mut codes, [row(z, y), row(z, y + 1)]);
            } else {
                encode_block(&mut codes, [row(z, y), row(z, y + 1), row(z + 1, y), row(z + 1, y + 1)]);
            }
            for (first, chunk) in codes.chunks(16).enumerate() {
                if chunk.iter().all(|&c| c == 0) || chunk.iter().all(|&c| c == all) {
                    continue;
                }
                for (i, &code) in chunk.iter().enumerate().filter(|(_, c)| **c != 0 && **c != all) {
                    surface.cells.push([z as u32, y as u32, (first * 16 + i) as u32]);
                    surface.areas.push(areas[usize::from(code)]);
                }
            }
        }
    }
    surface
}

fn encode(codes: &mut [u8], [a, b]: [&[u8]; 2]) {
    let n = codes.len();
    let (a, b) = (&a[..=n], &b[..=n]);
    for x in 0..n {
        codes[x] = a[x] << 3 | a[x + 1] << 2 | b[x] << 1 | b[x + 1];
    }
}

fn encode_block(codes: &mut [u8], [a, b, c, d]: [&[u8]; 4]) {
    let n = codes.len();
    let (a, b, c, d) = (&a[..=n], &b[..=n], &c[..=n], &d[..=n]);
    for x in 0..n {
        let near = a[x] << 7 | a[x + 1] << 6 | b[x] << 5 | b[x + 1] << 4;
        codes[x] = near | c[x] << 3 | c[x + 1] << 2 | d[x] << 1 | d[x + 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_the_classic_table() {
        let table = areas([1.0; 3], false);
        let all = |bits: u32, area: i64| {
            (0u32..256)
                .filter(|c| c.count_ones() == bits && (table[*c as usize] * 1e4).round() as i64 == area)
                .count()
        };
        let expected = [
            (0, 0, 1),
            (1, 2165, 8),
            (2, 7071, 12),
            (2, 4330, 16),
            (3, 11495, 24),
            (3, 9236, 24),
            (3, 6495, 8),
            (4, 10000, 6),
            (4, 12990, 8),
            (4, 15731, 24),
            (4, 13660, 24),
            (4, 14142, 6),
            (4, 8660, 2),
        ];
        for (bits, area, count) in expected {
            assert_eq!(all(bits, area), count, "{bits} corners, area {area}");
        }
        assert!((0..256).all(|c| table[c] == table[255 - c]));
    }

    #[test]
    fn a_box_loses_only_its_edges() {
        // 4×5×6 voxels: elements on the faces span half a voxel less on each side than the faces do.
        let (size, spacing) = ([6, 7, 8], [2.0, 1.0, 0.5]);
        let mut mask = vec![0u8; 6 * 7 * 8];
        for (z, y) in (1..5).flat_map(|z| (1..6).map(move |y| (z, y))) {
            mask[(z * 7 + y) * 8 + 1..(z * 7 + y) * 8 + 7].fill(1);
        }
        let total: f64 = extract(&mask, size, &areas(spacing, false), false).areas.iter().sum();
        let surface = |[z, y, x]: [f64; 3]| 2.0 * (z * y + z * x + y * x);
        assert!(total < surface([8.0, 5.0, 3.0]) && total > surface([6.0, 4.0, 2.5]), "{total}");
    }

    #[test]
    fn a_flat_square_has_the_length_of_its_outline() {
        let mut mask = vec![0u8; 36];
        for y in 1..5 {
            mask[y * 6 + 1..y * 6 + 5].fill(1);
        }
        let surface = extract(&mask, [1, 6, 6], &areas([999.0, 1.0, 1.0], true), true);
        let total: f64 = surface.areas.iter().sum();
        assert!((total - (12.0 + 4.0 * 0.5 * 2f64.sqrt())).abs() < 1e-12);
    }
}
