//! Tiles of a batch of volumes and the order in which they are walked.

use crate::Grid;

/// Tiles side by side in one strip: neighbouring blocks find their halo in the cache.
const STRIP: usize = 8;

/// How one axis is cut into tiles. The number is that of places of the smaller grid in one tile, 2 or 4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Axis {
    /// Kernel 1, stride 1: voxel by voxel.
    Single,
    /// Kernel 3, stride 1.
    Dense(usize),
    /// Kernel 3, stride 2: the odd voxels of the input meet two taps, the even ones one. Frequencies of the odd ones
    /// come first.
    Halving(usize),
    /// The transpose of stride 2: the odd voxels of the output gather two taps, the even ones one.
    Doubling(usize),
}

impl Axis {
    /// Places read per tile.
    pub(crate) fn inputs(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Dense(m) => m + 2,
            Self::Halving(m) => 2 * m + 1,
            Self::Doubling(m) => m + 1,
        }
    }

    /// Frequencies per tile.
    pub(crate) fn frequencies(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Dense(m) => m + 2,
            Self::Halving(m) | Self::Doubling(m) => 2 * m + 1,
        }
    }

    /// Places written per tile.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Dense(m) | Self::Halving(m) => m,
            Self::Doubling(m) => 2 * m,
        }
    }

    /// Places from the first one read for a tile to the first one read for the next.
    fn read_step(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Dense(m) | Self::Doubling(m) => m,
            Self::Halving(m) => 2 * m,
        }
    }

    /// Places read before the tile.
    fn before(self) -> usize {
        match self {
            Self::Single | Self::Doubling(_) => 0,
            Self::Dense(_) | Self::Halving(_) => 1,
        }
    }

    /// Whether an axis of the one length leads to the other.
    fn leads(self, read: usize, written: usize) -> bool {
        match self {
            Self::Single | Self::Dense(_) => read == written,
            Self::Halving(_) => written == read.div_ceil(2),
            Self::Doubling(_) => read == written.div_ceil(2),
        }
    }

    /// Different weights per tap row: frequencies of the even voxels share theirs.
    pub(crate) fn weight_frequencies(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Dense(m) | Self::Halving(m) | Self::Doubling(m) => m + 2,
        }
    }

    /// Taps.
    pub(crate) fn taps(self) -> usize {
        if self == Self::Single { 1 } else { 3 }
    }

    /// The axis of the gradient with respect to the input.
    fn transposed(self) -> Self {
        match self {
            Self::Halving(m) => Self::Doubling(m),
            Self::Doubling(m) => Self::Halving(m),
            other => other,
        }
    }
}

/// One tile, `(z, y, x)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tile(pub [Axis; 3]);

impl Tile {
    /// Frequencies per axis.
    pub(crate) fn frequencies(self) -> [usize; 3] {
        self.0.map(Axis::frequencies)
    }

    /// Frequencies in all.
    pub(crate) fn volume(self) -> usize {
        self.frequencies().iter().product()
    }

    /// Different weights per axis.
    pub(crate) fn weight_frequencies(self) -> [usize; 3] {
        self.0.map(Axis::weight_frequencies)
    }

    /// Different weights in all.
    pub(crate) fn weight_volume(self) -> usize {
        self.weight_frequencies().iter().product()
    }

    /// Which weights frequency `(z, y, x)` takes.
    pub(crate) fn weight_of(self, at: [usize; 3]) -> usize {
        let [_, y, x] = self.weight_frequencies();
        let [i, j, k] = [0, 1, 2].map(|a| at[a].min(self.0[a].weight_frequencies() - 1));
        (i * y + j) * x + k
    }

    /// The tile of the gradient with respect to the input.
    pub(crate) fn transposed(self) -> Self {
        Self(self.0.map(Axis::transposed))
    }
}

/// The tiles that cover a grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    pub tile: Tile,
    /// What is read.
    pub read: Grid,
    /// What is written.
    pub written: Grid,
    counts: [usize; 3],
}

impl Tiling {
    pub(crate) fn new(tile: Tile, read: Grid, written: Grid) -> Self {
        let fits = (0..3).all(|a| tile.0[a].leads(read.size[a], written.size[a])) && read.n == written.n;
        assert!(fits, "grids of a {tile:?}: found {read:?} to {written:?}");
        let counts = [0, 1, 2].map(|a| written.size[a].div_ceil(tile.0[a].outputs()));
        Self { tile, read, written, counts }
    }

    /// Tiles of one sample.
    pub(crate) fn per_sample(&self) -> usize {
        self.counts.iter().product()
    }

    /// Layers of tiles along z of one sample, and tiles of a layer; those of a layer follow each other.
    pub(crate) fn layers(&self) -> [usize; 2] {
        [self.counts[0], self.counts[1] * self.counts[2]]
    }

    /// Tiles of the batch.
    pub(crate) fn count(&self) -> usize {
        self.per_sample() * self.written.n
    }

    /// Sample and place of a tile among the tiles. They run along strips of eight in x, down y, then z.
    fn at(&self, index: usize) -> (usize, [usize; 3]) {
        let [_, ny, nx] = self.counts;
        let (n, rest) = (index / self.per_sample(), index % self.per_sample());
        let (z, rest) = (rest / (ny * nx), rest % (ny * nx));
        let strip = (rest / (ny * STRIP)).min(nx / STRIP);
        let width = (nx - strip * STRIP).clamp(1, STRIP);
        let rest = rest - strip * ny * STRIP;
        (n, [z, rest / width, strip * STRIP + rest % width])
    }

    /// Sample of a tile and the first voxel that it writes.
    pub(crate) fn origin(&self, index: usize) -> (usize, [usize; 3]) {
        let (n, at) = self.at(index);
        (n, [0, 1, 2].map(|a| at[a] * self.tile.0[a].outputs()))
    }

    /// Sample of a tile and the first voxel that it reads, which may lie outside.
    pub(crate) fn read_origin(&self, index: usize) -> (usize, [isize; 3]) {
        let (n, at) = self.at(index);
        let first = |a: usize| {
            let axis = self.tile.0[a];
            (at[a] * axis.read_step()) as isize - axis.before() as isize
        };
        (n, [0, 1, 2].map(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_is_walked_once() {
        let tile = Tile([Axis::Dense(2), Axis::Dense(4), Axis::Dense(4)]);
        for nx in [1, 7, 8, 9, 16, 21] {
            let grid = Grid { n: 2, size: [3, 17, nx * 4] };
            let tiling = Tiling::new(tile, grid, grid);
            let mut seen: Vec<_> = (0..tiling.count()).map(|t| tiling.origin(t)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), tiling.count());
            assert!(seen.iter().all(|(n, at)| *n < 2 && (0..3).all(|a| at[a] < grid.size[a])));
        }
    }

    #[test]
    fn even_voxels_share_their_weights() {
        let tile = Tile([Axis::Single, Axis::Dense(2), Axis::Halving(2)]);
        assert_eq!((tile.volume(), tile.weight_volume()), (20, 16));
        assert_eq!([0, 2, 3, 4].map(|x| tile.weight_of([0, 1, x])), [4, 6, 7, 7]);
    }
}
