//! Connected components of a mask, voxels touching at a face, an edge or a corner (26 neighbours, 8 in a plane).
//!
//! Source: union-find over runs, as in He et al. 2017 ("The connected-component labeling problem"). Runs of a
//! row are joined with those of the four neighbouring rows that came before, so the work grows with the number
//! of runs and no label image is needed.

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

impl Components {
    /// Components of the voxels `[z, y, x]` for which `inside` holds.
    pub fn of<T>(voxels: &[T], size: [usize; 3], inside: impl Fn(&T) -> bool) -> Self {
        let [nz, ny, nx] = size;
        assert_eq!(voxels.len(), nz * ny * nx, "the mask must fill its grid");
        if voxels.is_empty() {
            return Self::default();
        }
        let mut runs: Vec<Run> = Vec::new();
        // `rows[r]..rows[r + 1]` are the runs of row r.
        let mut rows = Vec::with_capacity(nz * ny + 1);
        let mut parents: Vec<usize> = Vec::new();
        for (row, line) in voxels.chunks_exact(nx).enumerate() {
            rows.push(runs.len());
            let mut x = 0;
            while x < nx {
                if !inside(&line[x]) {
                    x += 1;
                    continue;
                }
                let length = line[x..].iter().take_while(|voxel| inside(voxel)).count();
                parents.push(runs.len());
                runs.push(Run { start: row * nx + x, length, component: 0 });
                x += length;
            }
            let own = rows[row]..runs.len();
            if own.is_empty() {
                continue;
            }
            let (z, y) = (row / ny, row % ny);
            let mut join = |other: usize| {
                let end = rows.get(other + 1).copied().unwrap_or(own.start);
                join_rows(&runs, &mut parents, own.clone(), rows[other]..end, nx);
            };
            if y > 0 {
                join(row - 1);
            }
            if z > 0 {
                (y.saturating_sub(1)..(y + 2).min(ny)).for_each(|y| join((z - 1) * ny + y));
            }
        }
        Self::number(runs, &mut parents)
    }

    /// Numbers roots in the order in which they appear, and counts voxels.
    fn number(mut runs: Vec<Run>, parents: &mut [usize]) -> Self {
        let mut numbers = vec![usize::MAX; runs.len()];
        let mut sizes = Vec::new();
        for (index, run) in runs.iter_mut().enumerate() {
            let root = root(parents, index);
            if numbers[root] == usize::MAX {
                numbers[root] = sizes.len();
                sizes.push(0);
            }
            run.component = numbers[root];
            sizes[run.component] += run.length;
        }
        Self { runs, sizes }
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

/// Joins the runs of two neighbouring rows that touch, corners included.
fn join_rows(
    runs: &[Run],
    parents: &mut [usize],
    own: std::ops::Range<usize>,
    other: std::ops::Range<usize>,
    nx: usize,
) {
    let (mut a, mut b) = (own.start, other.start);
    while a < own.end && b < other.end {
        let (first, second) = (runs[a].start % nx, runs[b].start % nx);
        let (first_end, second_end) = (first + runs[a].length, second + runs[b].length);
        if first <= second_end && second <= first_end {
            let (one, two) = (root(parents, a), root(parents, b));
            // The older root wins, so that numbers follow the order of first voxels.
            parents[one.max(two)] = one.min(two);
        }
        if first_end < second_end {
            a += 1;
        } else {
            b += 1;
        }
    }
}

/// Root of a run, with the path to it halved.
fn root(parents: &mut [usize], mut run: usize) -> usize {
    while parents[run] != run {
        parents[run] = parents[parents[run]];
        run = parents[run];
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Flood fill: component of every voxel, numbered in array order.
    fn plain_twin(mask: &[bool], size: [usize; 3]) -> Vec<Option<usize>> {
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
                let (z, y, x) = (at / (ny * nx), at / nx % ny, at % nx);
                for z in z.saturating_sub(1)..(z + 2).min(nz) {
                    for y in y.saturating_sub(1)..(y + 2).min(ny) {
                        for x in x.saturating_sub(1)..(x + 2).min(nx) {
                            let next = (z * ny + y) * nx + x;
                            if mask[next] && found[next].is_none() {
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
            size in [1usize..6, 1usize..7, 1usize..12],
            density in 0.05f64..0.95,
            seeds in proptest::collection::vec(0.0f64..1.0, 396),
        ) {
            let mask: Vec<bool> = seeds[..size.iter().product()].iter().map(|&v| v < density).collect();
            let expected = plain_twin(&mask, size);
            let found = Components::of(&mask, size, |&inside| inside);
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
}
