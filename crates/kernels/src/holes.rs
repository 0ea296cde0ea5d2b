//! Holes of a mask: background that no path through faces joins to a face of the grid.
//!
//! Source: the result is that of scipy's `binary_fill_holes` (6 neighbours, 4 in a plane). Runs of background are
//! joined from row to row as in [`crate::components`], so the work grows with the number of runs, not of voxels.

/// Fills holes of a mask `[z, y, x]`. A grid of one plane has all of it at a face, so nothing is filled there.
pub fn fill_holes(mask: &mut [bool], size: [usize; 3]) {
    let [nz, ny, nx] = size;
    assert_eq!(mask.len(), nz * ny * nx, "the mask must fill its grid");
    if size.iter().any(|&n| n < 3) {
        return;
    }
    let mut background = Runs::of(mask, size);
    background.join(size);
    let outside = background.outside(size);
    for (run, outside) in background.runs.iter().zip(outside) {
        if !outside {
            mask[run[0]..run[1]].fill(true);
        }
    }
}

/// Runs of background by rows, and what they are joined to.
struct Runs {
    /// First voxel and the one after the last, as flat indices.
    runs: Vec<[usize; 2]>,
    /// `rows[r]..rows[r + 1]` are the runs of row `r`.
    rows: Vec<usize>,
    parents: Vec<usize>,
}

impl Runs {
    fn of(mask: &[bool], [nz, ny, nx]: [usize; 3]) -> Self {
        let (mut runs, mut rows) = (Vec::new(), Vec::with_capacity(nz * ny + 1));
        for (row, line) in mask.chunks_exact(nx).enumerate() {
            rows.push(runs.len());
            let mut x = 0;
            while let Some(first) = line[x..].iter().position(|&inside| !inside) {
                let start = x + first;
                let end = line[start..].iter().position(|&inside| inside).map_or(nx, |length| start + length);
                runs.push([row * nx + start, row * nx + end]);
                x = end;
            }
        }
        rows.push(runs.len());
        let parents = (0..runs.len()).collect();
        Self { runs, rows, parents }
    }

    fn join(&mut self, [_, ny, nx]: [usize; 3]) {
        for row in 0..self.rows.len() - 1 {
            if row % ny > 0 {
                self.join_rows(row, row - 1, nx);
            }
            if row >= ny {
                self.join_rows(row, row - ny, nx);
            }
        }
    }

    /// Joins runs of two rows that share a column.
    fn join_rows(&mut self, row: usize, other: usize, nx: usize) {
        let (mut a, mut b) = (self.rows[row], self.rows[other]);
        while a < self.rows[row + 1] && b < self.rows[other + 1] {
            let [one, two] = [(a, row), (b, other)].map(|(run, row)| self.runs[run].map(|v| v - row * nx));
            if one[0] < two[1] && two[0] < one[1] {
                let (first, second) = (self.root(a), self.root(b));
                self.parents[first.max(second)] = first.min(second);
            }
            if one[1] < two[1] {
                a += 1;
            } else {
                b += 1;
            }
        }
    }

    fn root(&mut self, mut run: usize) -> usize {
        while self.parents[run] != run {
            self.parents[run] = self.parents[self.parents[run]];
            run = self.parents[run];
        }
        run
    }

    /// For every run, whether its component reaches a face.
    fn outside(&mut self, [nz, ny, nx]: [usize; 3]) -> Vec<bool> {
        let mut open = vec![false; self.runs.len()];
        for row in 0..nz * ny {
            let (z, y) = (row / ny, row % ny);
            let face = z == 0 || y == 0 || z + 1 == nz || y + 1 == ny;
            for run in self.rows[row]..self.rows[row + 1] {
                let [start, end] = self.runs[run];
                if face || start == row * nx || end == (row + 1) * nx {
                    let root = self.root(run);
                    open[root] = true;
                }
            }
        }
        (0..self.runs.len()).map(|run| open[self.root(run)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Flood filling from the faces.
    fn plain_twin(mask: &[bool], [nz, ny, nx]: [usize; 3]) -> Vec<bool> {
        let mut outside = vec![false; mask.len()];
        let mut open: Vec<[usize; 3]> = Vec::new();
        for z in 0..nz {
            for y in 0..ny {
                for x in 0..nx {
                    if z == 0 || y == 0 || x == 0 || z + 1 == nz || y + 1 == ny || x + 1 == nx {
                        open.push([z, y, x]);
                    }
                }
            }
        }
        while let Some([z, y, x]) = open.pop() {
            let at = (z * ny + y) * nx + x;
            if mask[at] || outside[at] {
                continue;
            }
            outside[at] = true;
            for (axis, n) in [nz, ny, nx].into_iter().enumerate() {
                let here = [z, y, x];
                for there in [here[axis].checked_sub(1), Some(here[axis] + 1)].into_iter().flatten() {
                    if there < n {
                        let mut next = here;
                        next[axis] = there;
                        open.push(next);
                    }
                }
            }
        }
        outside.iter().map(|outside| !outside).collect()
    }

    proptest! {
        #[test]
        fn runs_agree_with_flood_filling(
            size in [1usize..7, 1usize..8, 1usize..10],
            density in 0.3f64..0.95,
            seeds in proptest::collection::vec(0.0f64..1.0, 6 * 7 * 9),
        ) {
            let mut mask: Vec<bool> =
                seeds[..size.iter().product()].iter().map(|&v| v < density).collect();
            let expected = plain_twin(&mask, size);
            fill_holes(&mut mask, size);
            prop_assert_eq!(mask, expected);
        }
    }
}
