//! How an array is cut into chunks, and which part of which chunk a box needs.

/// Chunks of an array, `(z, y, x)`; those at the end are cut off at the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkGrid {
    /// Size of the array.
    pub size: [usize; 3],
    /// Size of a whole chunk.
    pub chunk: [usize; 3],
}

impl ChunkGrid {
    /// Chunks along each axis.
    pub fn counts(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.size[axis].div_ceil(self.chunk[axis]))
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.counts().iter().product()
    }

    /// Position of a chunk in C order.
    pub fn index(&self, at: [usize; 3]) -> usize {
        let counts = self.counts();
        (at[0] * counts[1] + at[1]) * counts[2] + at[2]
    }

    /// First voxel and size of a chunk.
    pub fn bounds(&self, at: [usize; 3]) -> ([usize; 3], [usize; 3]) {
        let lower: [usize; 3] = std::array::from_fn(|axis| at[axis] * self.chunk[axis]);
        (lower, std::array::from_fn(|axis| self.chunk[axis].min(self.size[axis] - lower[axis])))
    }

    /// All chunks in C order.
    pub fn all(&self) -> impl Iterator<Item = [usize; 3]> {
        let counts = self.counts();
        boxed([0; 3], counts)
    }

    /// Chunks that hold voxels of the box from `lower` up to `upper`, which lies inside the array.
    pub fn touched(&self, lower: [usize; 3], upper: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
        let first = std::array::from_fn(|axis| lower[axis] / self.chunk[axis]);
        let end = std::array::from_fn(|axis| upper[axis].div_ceil(self.chunk[axis]));
        boxed(first, end)
    }
}

fn boxed(lower: [usize; 3], upper: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (lower[0]..upper[0]).flat_map(move |z| {
        (lower[1]..upper[1]).flat_map(move |y| (lower[2]..upper[2]).map(move |x| [z, y, x]))
    })
}

/// Chunk for crops of about this patch: a quarter of it, rounded up to a power of two. Smaller chunks decode
/// less that a crop does not need, larger ones compress better.
pub(super) fn chunk_for(patch: &[usize]) -> [usize; 3] {
    let edge = |axis: usize| axis.div_ceil(4).next_power_of_two().clamp(4, 128);
    match *patch {
        [y, x] => [1, edge(y), edge(x)],
        [z, y, x] => [edge(z), edge(y), edge(x)],
        _ => [32; 3],
    }
}

/// Copies the common part of two boxes of one array, row by row. Each box is given by its first voxel and its
/// size; positions may be negative.
pub(super) fn copy_overlap<T: Copy>(
    from: &[T],
    from_lower: [isize; 3],
    from_size: [usize; 3],
    to: &mut [T],
    to_lower: [isize; 3],
    to_size: [usize; 3],
) {
    let end = |lower: isize, size: usize| lower + size as isize;
    let low: [isize; 3] = std::array::from_fn(|axis| from_lower[axis].max(to_lower[axis]));
    let high: [isize; 3] = std::array::from_fn(|axis| {
        end(from_lower[axis], from_size[axis]).min(end(to_lower[axis], to_size[axis]))
    });
    if (0..3).any(|axis| low[axis] >= high[axis]) {
        return;
    }
    let at = |lower: [isize; 3], size: [usize; 3], z: isize, y: isize| {
        let inside = |axis: usize, position: isize| (position - lower[axis]) as usize;
        (inside(0, z) * size[1] + inside(1, y)) * size[2] + inside(2, low[2])
    };
    let row = (high[2] - low[2]) as usize;
    for z in low[0]..high[0] {
        for y in low[1]..high[1] {
            let (source, target) = (at(from_lower, from_size, z, y), at(to_lower, to_size, z, y));
            to[target..target + row].copy_from_slice(&from[source..source + row]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_tile_the_array() {
        let grid = ChunkGrid { size: [5, 8, 3], chunk: [2, 4, 4] };
        assert_eq!((grid.counts(), grid.len()), ([3, 2, 1], 6));
        let voxels: usize = grid.all().map(|at| grid.bounds(at).1.iter().product::<usize>()).sum();
        assert_eq!(voxels, 5 * 8 * 3);
        assert!(grid.all().enumerate().all(|(index, at)| grid.index(at) == index));
        assert_eq!(grid.touched([1, 4, 0], [3, 5, 1]).collect::<Vec<_>>(), [[0, 1, 0], [1, 1, 0]]);
    }

    #[test]
    fn chunks_follow_the_patch() {
        assert_eq!(chunk_for(&[128, 128, 128]), [32; 3]);
        assert_eq!(chunk_for(&[16, 320, 256]), [4, 128, 64]);
        assert_eq!(chunk_for(&[512, 512]), [1, 128, 128]);
    }
}
