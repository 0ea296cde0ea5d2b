//! Connected components by union of runs along x.

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

/// Component number per voxel, 0 for background, counted from 1 in array order of first voxels; and their count.
pub fn label(mask: &[u8], size: [usize; 3], connectivity: Connectivity) -> (Vec<u32>, usize) {
    let [nz, ny, nx] = size;
    let mut runs: Vec<[usize; 2]> = Vec::new();
    let mut first_run = Vec::with_capacity(nz * ny + 1);
    for row in 0..nz * ny {
        first_run.push(runs.len());
        let line = &mask[row * nx..(row + 1) * nx];
        let mut x = 0;
        while x < nx {
            if line[x] == 0 {
                x += 1;
                continue;
            }
            let start = x;
            while x < nx && line[x] != 0 {
                x += 1;
            }
            runs.push([start, x]);
        }
    }
    first_run.push(runs.len());
    let mut parents: Vec<usize> = (0..runs.len()).collect();
    for z in 0..nz {
        for y in 0..ny {
            for (dz, dy) in [(0, -1), (-1, 0), (-1, -1), (-1, 1)] {
                let steps = usize::from(dz != 0) + usize::from(dy != 0);
                let reach = match (connectivity, steps) {
                    (Connectivity::Faces, 2) => continue,
                    (Connectivity::Faces, _) | (Connectivity::Edges, 2) => 0,
                    _ => 1,
                };
                let (Some(oz), Some(oy)) = (z.checked_add_signed(dz), y.checked_add_signed(dy)) else {
                    continue;
                };
                if oy >= ny {
                    continue;
                }
                let own = first_run[z * ny + y]..first_run[z * ny + y + 1];
                let other = first_run[oz * ny + oy]..first_run[oz * ny + oy + 1];
                join(&runs, &mut parents, own, other, reach);
            }
        }
    }
    number(mask.len(), nx, &runs, &first_run, &mut parents)
}

/// Joins runs of two rows that overlap, or come within `reach` voxels of it.
fn join(
    runs: &[[usize; 2]],
    parents: &mut [usize],
    own: std::ops::Range<usize>,
    other: std::ops::Range<usize>,
    reach: usize,
) {
    let mut first = other.start;
    for a in own {
        while first < other.end && runs[first][1] + reach <= runs[a][0] {
            first += 1;
        }
        let mut b = first;
        while b < other.end && runs[b][0] < runs[a][1] + reach {
            let (x, y) = (root(parents, a), root(parents, b));
            // The earlier run stays the root, so numbers follow the array order.
            parents[x.max(y)] = x.min(y);
            b += 1;
        }
    }
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

fn number(
    voxels: usize,
    nx: usize,
    runs: &[[usize; 2]],
    first_run: &[usize],
    parents: &mut [usize],
) -> (Vec<u32>, usize) {
    let mut labels = vec![0u32; voxels];
    let mut names = vec![0u32; runs.len()];
    let mut count = 0;
    for row in 0..first_run.len() - 1 {
        for run in first_run[row]..first_run[row + 1] {
            let root = root(parents, run);
            if names[root] == 0 {
                count += 1;
                names[root] = count;
            }
            labels[row * nx + runs[run][0]..row * nx + runs[run][1]].fill(names[root]);
        }
    }
    (labels, count as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

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
