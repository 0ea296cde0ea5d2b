//! Tiles of a batch of volumes and the order in which they are walked.

use crate::Grid;

/// Tiles side by side in one strip: neighbouring blocks find their halo in the cache.
const STRIP: usize = 8;

/// Outputs per axis of one tile: 1 (kernel 1), 2 or 4 (kernel 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tile(pub [usize; 3]);

impl Tile {
    /// Frequencies per axis.
    pub(crate) fn frequencies(self) -> [usize; 3] {
        self.0.map(|m| if m == 1 { 1 } else { m + 2 })
    }

    /// Frequencies in all.
    pub(crate) fn volume(self) -> usize {
        self.frequencies().iter().product()
    }
}

/// The tiles that cover a grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    pub tile: Tile,
    pub grid: Grid,
    counts: [usize; 3],
}

impl Tiling {
    pub(crate) fn new(tile: Tile, grid: Grid) -> Self {
        Self { tile, grid, counts: [0, 1, 2].map(|a| grid.size[a].div_ceil(tile.0[a])) }
    }

    /// Tiles of one sample.
    pub(crate) fn per_sample(&self) -> usize {
        self.counts.iter().product()
    }

    /// Tiles of the batch.
    pub(crate) fn count(&self) -> usize {
        self.per_sample() * self.grid.n
    }

    /// Sample and first voxel of a tile. Tiles run along strips of eight in x, down y, then z.
    pub(crate) fn origin(&self, index: usize) -> (usize, [usize; 3]) {
        let [_, ny, nx] = self.counts;
        let (n, rest) = (index / self.per_sample(), index % self.per_sample());
        let (z, rest) = (rest / (ny * nx), rest % (ny * nx));
        let strip = (rest / (ny * STRIP)).min(nx / STRIP);
        let width = (nx - strip * STRIP).clamp(1, STRIP);
        let rest = rest - strip * ny * STRIP;
        let at = [z, rest / width, strip * STRIP + rest % width];
        (n, [0, 1, 2].map(|a| at[a] * self.tile.0[a]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_is_walked_once() {
        for nx in [1, 7, 8, 9, 16, 21] {
            let tiling = Tiling::new(Tile([2, 4, 4]), Grid { n: 2, size: [3, 17, nx * 4] });
            let mut seen: Vec<_> = (0..tiling.count()).map(|t| tiling.origin(t)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), tiling.count());
            assert!(seen.iter().all(|(n, at)| *n < 2 && (0..3).all(|a| at[a] < tiling.grid.size[a])));
        }
    }
}
