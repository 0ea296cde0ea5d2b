//! Exact Euclidean distance transform with anisotropic spacing.
//!
//! Source: one axis after another, as in Felzenszwalb and Huttenlocher 2012. Differs: along x gaps between sites are
//! copied from a table of squares; along y and z sixteen columns at a time are searched outwards until nothing
//! farther can be nearer, which beats the lower envelope up to about a hundred cells; beyond, the envelope takes over.

mod columns;
mod envelope;

use crate::buffer::on_large_pages;
use columns::{Finish, transform};
use rayon::prelude::*;

/// Squared distance in mm² from every cell to the nearest site, `[z, y, x]`; infinite when there is
/// no site. `sites` holds one byte per cell, non-zero for a site; `spacing` is in mm, `(z, y, x)`.
pub fn squared_distance(sites: &[u8], size: [usize; 3], spacing: [f64; 3]) -> Vec<f32> {
    field(sites, size, spacing, Finish::Squared)
}

/// The same in mm.
pub fn distance(sites: &[u8], size: [usize; 3], spacing: [f64; 3]) -> Vec<f32> {
    field(sites, size, spacing, Finish::Root)
}

fn field(sites: &[u8], size: [usize; 3], spacing: [f64; 3], finish: Finish) -> Vec<f32> {
    let [nz, ny, nx] = size;
    assert_eq!(sites.len(), nz * ny * nx, "sites must fill the grid");
    let mut field = vec![0f32; sites.len()];
    if field.is_empty() {
        return field;
    }
    on_large_pages(&mut field);
    let squares = Squares::new(nx, spacing[2]);
    let in_plane = if nz == 1 { finish } else { Finish::Squared };
    let planes = field.par_chunks_mut(ny * nx).zip(sites.par_chunks(ny * nx));
    planes.for_each_init(Vec::new, |rows: &mut Vec<f32>, (plane, sites)| {
        if sites.iter().all(|site| *site == 0) {
            plane.fill(f32::INFINITY);
            return;
        }
        rows.resize(ny * nx, 0.0);
        for (row, sites) in rows.chunks_mut(nx).zip(sites.chunks(nx)) {
            squares.along(row, sites);
        }
        let mut to: Vec<&mut [f32]> = plane.chunks_mut(nx).collect();
        transform(rows, &mut to, spacing[1], in_plane);
    });
    if nz > 1 {
        along_z(&mut field, size, spacing[0], finish);
    }
    field
}

/// The last axis: each y-row of all planes is a `[nz, nx]` array of its own.
fn along_z(field: &mut [f32], size: [usize; 3], spacing: f64, finish: Finish) {
    let [nz, ny, nx] = size;
    let mut slabs: Vec<Vec<&mut [f32]>> = (0..ny).map(|_| Vec::with_capacity(nz)).collect();
    for (i, row) in field.chunks_mut(nx).enumerate() {
        slabs[i % ny].push(row);
    }
    slabs.par_iter_mut().for_each_init(Vec::new, |slab: &mut Vec<f32>, rows| {
        slab.clear();
        rows.iter().for_each(|row| slab.extend_from_slice(row));
        transform(slab, rows, spacing, finish);
    });
}

/// Squares of the distances along a row.
struct Squares {
    /// Of 0, 1, 2, .. cells.
    up: Vec<f32>,
    /// The same, backwards.
    down: Vec<f32>,
}

impl Squares {
    fn new(n: usize, spacing: f64) -> Self {
        let square = |cells: usize| (cells as f64 * spacing).powi(2) as f32;
        let up: Vec<f32> = (0..=n).map(square).collect();
        let down = up.iter().rev().copied().collect();
        Self { up, down }
    }

    /// Squared distance of every cell of a row to the nearest site of the row.
    fn along(&self, row: &mut [f32], sites: &[u8]) {
        let n = row.len();
        let mut from = match sites.iter().position(|site| *site != 0) {
            Some(first) => {
                row[..first].copy_from_slice(&self.down[n - first..n]);
                first
            }
            None => return row.fill(f32::INFINITY),
        };
        loop {
            // A run of sites, then a gap up to the next one.
            let run = sites[from..].iter().position(|site| *site == 0).unwrap_or(n - from);
            row[from..from + run].fill(0.0);
            let gap = from + run;
            if gap == n {
                return;
            }
            let Some(length) = sites[gap..].iter().position(|site| *site != 0) else {
                return row[gap..].copy_from_slice(&self.up[1..1 + n - gap]);
            };
            let half = length.div_ceil(2);
            row[gap..gap + half].copy_from_slice(&self.up[1..1 + half]);
            let rest = length - half;
            row[gap + half..gap + length].copy_from_slice(&self.down[n - rest..n]);
            from = gap + length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_twin(sites: &[u8], size: [usize; 3], spacing: [f64; 3]) -> Vec<f32> {
        let place = |i: usize| [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
        let squared = |a: [usize; 3], b: [usize; 3]| {
            (0..3).map(|k| (a[k].abs_diff(b[k]) as f64 * spacing[k]).powi(2)).sum::<f64>()
        };
        let of = |i| {
            let found = (0..sites.len()).filter(|&j| sites[j] != 0).map(|j| squared(place(i), place(j)));
            found.fold(f64::INFINITY, f64::min) as f32
        };
        (0..sites.len()).map(of).collect()
    }

    #[test]
    fn agrees_with_every_pair_tried() {
        let mut state = 7u32;
        for size in [[1, 1, 1], [1, 9, 20], [5, 1, 33], [7, 8, 9], [12, 3, 4], [3, 9, 17], [2, 5, 16]] {
            for rare in [2, 9, 60] {
                let n = size.iter().product();
                let mut draw = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    u8::from((state >> 16).is_multiple_of(rare))
                };
                let sites: Vec<u8> = (0..n).map(|_| draw()).collect();
                for spacing in [[1.0; 3], [5.0, 0.8, 0.7]] {
                    let fast = squared_distance(&sites, size, spacing);
                    for (a, b) in fast.iter().zip(plain_twin(&sites, size, spacing)) {
                        assert!(*a == b || (a - b).abs() <= 1e-5 * b, "{size:?} {a} {b}");
                    }
                }
            }
        }
    }

    /// Long lines with far sites go through the envelope.
    #[test]
    fn far_sites_are_found_too() {
        for size in [[1, 300, 18], [1, 400, 3], [260, 1, 33]] {
            let n: usize = size.iter().product();
            let mut sites = vec![0u8; n];
            sites[7.min(n - 1)] = 1;
            sites[n - 2] = 1;
            for spacing in [[1.0; 3], [2.5, 0.6, 0.9]] {
                let fast = squared_distance(&sites, size, spacing);
                let root = distance(&sites, size, spacing);
                for (i, (a, b)) in fast.iter().zip(plain_twin(&sites, size, spacing)).enumerate() {
                    assert!((a - b).abs() <= 1e-5 * b, "{size:?} {a} {b}");
                    assert_eq!(root[i], a.sqrt());
                }
            }
        }
        assert_eq!(squared_distance(&[0; 8], [2, 2, 2], [1.0; 3]), [f32::INFINITY; 8]);
    }

    #[test]
    fn every_instruction_set_gives_the_same() {
        let size = [4, 40, 37];
        let sites: Vec<u8> = (0..size.iter().product::<usize>()).map(|i| u8::from(i * i % 97 == 5)).collect();
        let rows: Vec<f32> = {
            let squares = Squares::new(37, 0.7);
            let mut rows = vec![0.0; 40 * 37];
            rows.chunks_mut(37).zip(sites.chunks(37)).for_each(|(row, sites)| squares.along(row, sites));
            rows
        };
        let with = |cpu: crate::Cpu| {
            let mut plane = vec![0f32; rows.len()];
            let mut to: Vec<&mut [f32]> = plane.chunks_mut(37).collect();
            columns::transform_with(cpu, &rows, &mut to, 1.3, Finish::Squared);
            plane
        };
        let all: Vec<Vec<f32>> = crate::Cpu::available().into_iter().map(with).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
