//! Connected components of a mask, voxels touching at a face, an edge or a corner.
//!
//! Source: union-find over runs, as in He et al. 2017 ("The connected-component labeling problem"). Rows are read as
//! words of 64 bits, in which runs are found by counting zeros; runs of a row are joined with those of the four
//! neighbouring rows that came before, so the work grows with the number of runs and no label image is needed.

use std::ops::Range;

/// Neighbours that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// Faces (6 in space, 4 in the plane).
    Faces,
    /// Faces and edges (18).
    Edges,
    /// Faces, edges and corners (26 in space, 8 in the plane).
    Corners,
}

/// Consecutive voxels of one row inside the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Flat index of the first voxel.
    pub start: usize,
    /// Number of voxels.
    pub length: usize,
    /// Component, counted from 0 in the order of first voxels.
    pub component: usize,
}

/// Components of a mask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Components {
    /// All runs in array order.
    pub runs: Vec<Run>,
    /// Voxels per component.
    pub sizes: Vec<usize>,
}

/// Component number per voxel, 0 for background, counted from 1 in array order of first voxels; and their count.
/// Voxels of the mask are those that are not 0.
pub fn label(mask: &[u8], size: [usize; 3], connectivity: Connectivity) -> (Vec<u32>, usize) {
    let components = Components::joined(mask, size, connectivity, |voxel| *voxel != 0);
    let mut labels = vec![0u32; mask.len()];
    for run in &components.runs {
        labels[run.start..run.start + run.length].fill(run.component as u32 + 1);
    }
    (labels, components.sizes.len())
}

impl Components {
    /// Components of the voxels `[z, y, x]` for which `inside` holds, corners included (26 neighbours, 8 in a plane).
    pub fn of<T>(voxels: &[T], size: [usize; 3], inside: impl Fn(&T) -> bool) -> Self {
        Self::joined(voxels, size, Connectivity::Corners, inside)
    }

    /// Components of the voxels `[z, y, x]` for which `inside` holds.
    pub fn joined<T>(
        voxels: &[T],
        size: [usize; 3],
        connectivity: Connectivity,
        inside: impl Fn(&T) -> bool,
    ) -> Self {
        let [nz, ny, nx] = size;
        assert_eq!(voxels.len(), nz * ny * nx, "the mask must fill its grid");
        if voxels.is_empty() {
            return Self::default();
        }
        // How far beside a run one in the neighbouring row may begin: in rows at a face, and at an edge.
        let [face, edge] = match connectivity {
            Connectivity::Faces => [Some(0), None],
            Connectivity::Edges => [Some(1), Some(0)],
            Connectivity::Corners => [Some(1), Some(1)],
        };
        let mut found = Runs { spans: Vec::new(), parents: Vec::new() };
        // `rows[r]..rows[r + 1]` are the runs of row r.
        let mut rows = Vec::with_capacity(nz * ny + 1);
        for (row, line) in voxels.chunks_exact(nx).enumerate() {
            rows.push(found.spans.len());
            found.read(line, &inside);
            let own = rows[row]..found.spans.len();
            if own.is_empty() {
                continue;
            }
            let (z, y) = (row / ny, row % ny);
            let mut join = |other: usize, reach: Option<u32>| {
                let end = rows.get(other + 1).copied().unwrap_or(own.start);
                if let Some(reach) = reach {
                    found.join(own.clone(), rows[other]..end, reach);
                }
            };
            if y > 0 {
                join(row - 1, face);
            }
            if z > 0 {
                join(row - ny, face);
                if y > 0 {
                    join(row - ny - 1, edge);
                }
                if y + 1 < ny {
                    join(row - ny + 1, edge);
                }
            }
        }
        rows.push(found.spans.len());
        found.number(&rows, nx)
    }

    /// Number of every voxel's component, counted from 1 in the order of first voxels; 0 outside the mask. `voxels` is
    /// the number of voxels of the grid.
    pub fn volume(&self, voxels: usize) -> Vec<u32> {
        let mut numbers = vec![0; voxels];
        for run in &self.runs {
            numbers[run.start..run.start + run.length].fill(run.component as u32 + 1);
        }
        numbers
    }

    /// Runs that are in no largest component; with several of the largest size, all of those are kept.
    pub fn beside_the_largest(&self) -> impl Iterator<Item = &Run> {
        let most = self.sizes.iter().copied().max().unwrap_or(0);
        self.runs.iter().filter(move |run| self.sizes[run.component] < most)
    }
}

/// Runs as they are found, and which of them hang together.
struct Runs {
    /// First voxel of a run in its row, and the one after its last.
    spans: Vec<[u32; 2]>,
    /// An earlier run of the same component, or the run itself.
    parents: Vec<u32>,
}

impl Runs {
    /// Adds the runs of a row.
    fn read<T>(&mut self, line: &[T], inside: &impl Fn(&T) -> bool) {
        let mut open: Option<u32> = None;
        for (number, part) in line.chunks(64).enumerate() {
            let mut word = 0u64;
            for (bit, voxel) in part.iter().enumerate() {
                word |= u64::from(inside(voxel)) << bit;
            }
            let first = 64 * number as u32;
            let mut at = 0;
            // Zeros or ones at a time, whichever the row is in.
            while at < 64 {
                let rest = if open.is_some() { !word } else { word } >> at;
                if rest == 0 {
                    break;
                }
                at += rest.trailing_zeros();
                match open.take() {
                    None => open = Some(first + at),
                    Some(start) => self.add(start, first + at),
                }
            }
        }
        if let Some(start) = open {
            self.add(start, line.len() as u32);
        }
    }

    fn add(&mut self, start: u32, end: u32) {
        self.parents.push(self.spans.len() as u32);
        self.spans.push([start, end]);
    }

    /// Joins the runs of two rows that overlap, or come within `reach` voxels of it.
    fn join(&mut self, own: Range<usize>, other: Range<usize>, reach: u32) {
        let (mut a, mut b) = (own.start, other.start);
        while a < own.end && b < other.end {
            let ([first, first_end], [second, second_end]) = (self.spans[a], self.spans[b]);
            if first < second_end + reach && second < first_end + reach {
                let (one, two) = (self.root(a as u32), self.root(b as u32));
                // The older root wins, so that numbers follow the order of first voxels.
                self.parents[one.max(two) as usize] = one.min(two);
            }
            if first_end < second_end {
                a += 1;
            } else {
                b += 1;
            }
        }
    }

    /// Root of a run, with the path to it halved.
    fn root(&mut self, mut run: u32) -> u32 {
        loop {
            let parent = self.parents[run as usize];
            if parent == run {
                return run;
            }
            let above = self.parents[parent as usize];
            self.parents[run as usize] = above;
            run = above;
        }
    }

    /// Numbers roots in the order in which they appear, and counts voxels.
    fn number(mut self, rows: &[usize], nx: usize) -> Components {
        let mut numbers = vec![u32::MAX; self.spans.len()];
        let (mut runs, mut sizes) = (Vec::with_capacity(self.spans.len()), Vec::new());
        for row in 0..rows.len() - 1 {
            for index in rows[row]..rows[row + 1] {
                let root = self.root(index as u32) as usize;
                if numbers[root] == u32::MAX {
                    numbers[root] = sizes.len() as u32;
                    sizes.push(0);
                }
                let [start, end] = self.spans[index];
                let (component, length) = (numbers[root] as usize, (end - start) as usize);
                sizes[component] += length;
                runs.push(Run { start: row * nx + start as usize, length, component });
            }
        }
        Components { runs, sizes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Flood fill: component of every voxel, numbered in array order.
    fn plain_twin(mask: &[bool], size: [usize; 3], connectivity: Connectivity) -> Vec<Option<usize>> {
        let axes = match connectivity {
            Connectivity::Faces => 1,
            Connectivity::Edges => 2,
            Connectivity::Corners => 3,
        };
        let [nz, ny, nx] = size;
        let mut found = vec![None; mask.len()];
        let mut count = 0;
        for start in 0..mask.len() {
            if !mask[start] || found[start].is_some() {
                continue;
            }
            let mut open = vec![start];
            found[start] = Some(count);
            while let Some(at) = open.pop() {
                let (cz, cy, cx) = (at / (ny * nx), at / nx % ny, at % nx);
                for z in cz.saturating_sub(1)..(cz + 2).min(nz) {
                    for y in cy.saturating_sub(1)..(cy + 2).min(ny) {
                        for x in cx.saturating_sub(1)..(cx + 2).min(nx) {
                            let next = (z * ny + y) * nx + x;
                            let away = z.abs_diff(cz) + y.abs_diff(cy) + x.abs_diff(cx);
                            if away <= axes && mask[next] && found[next].is_none() {
                                found[next] = Some(count);
                                open.push(next);
                            }
                        }
                    }
                }
            }
            count += 1;
        }
        found
    }

    proptest! {
        #[test]
        fn runs_agree_with_flood_filling(
            size in [1usize..5, 1usize..6, 1usize..140],
            density in 0.05f64..0.95,
            connectivity in prop_oneof![
                Just(Connectivity::Faces), Just(Connectivity::Edges), Just(Connectivity::Corners)
            ],
            seeds in proptest::collection::vec(0.0f64..1.0, 2800),
        ) {
            let mask: Vec<bool> = seeds[..size.iter().product()].iter().map(|&v| v < density).collect();
            let expected = plain_twin(&mask, size, connectivity);
            let found = Components::joined(&mask, size, connectivity, |&inside| inside);
            let numbers = found.volume(mask.len());
            let spread: Vec<_> = numbers.iter().map(|&n| n.checked_sub(1).map(|n| n as usize)).collect();
            prop_assert_eq!(&spread, &expected);
            for (component, &voxels) in found.sizes.iter().enumerate() {
                prop_assert_eq!(expected.iter().filter(|&&c| c == Some(component)).count(), voxels);
            }
        }
    }

    #[test]
    fn equal_largest_components_all_stay() {
        let mask = [1, 1, 0, 1, 1, 0, 1u8];
        let found = Components::of(&mask, [1, 1, 7], |&v| v == 1);
        assert_eq!(found.sizes, [2, 2, 1]);
        let removed: Vec<usize> = found.beside_the_largest().map(|run| run.start).collect();
        assert_eq!(removed, [6]);
        assert_eq!(Components::of(&[0u8; 4], [1, 2, 2], |&v| v == 1).beside_the_largest().count(), 0);
    }

    #[test]
    fn corners_edges_and_faces_join_differently() {
        // Voxels at (0,0,0), (0,1,1) and (1,2,2): an edge apart, then a corner apart.
        let mut mask = vec![0u8; 27];
        for at in [0, 4, 9 + 8] {
            mask[at] = 1;
        }
        let count = |connectivity| label(&mask, [3, 3, 3], connectivity).1;
        assert_eq!(count(Connectivity::Faces), 3);
        assert_eq!(count(Connectivity::Edges), 2);
        assert_eq!(count(Connectivity::Corners), 1);
        let u_shape = [1, 0, 1, 1, 1, 1];
        assert_eq!(label(&u_shape, [1, 2, 3], Connectivity::Faces), (vec![1, 0, 1, 1, 1, 1], 1));
        assert_eq!(label(&[0; 6], [1, 2, 3], Connectivity::Corners).1, 0);
    }
}
