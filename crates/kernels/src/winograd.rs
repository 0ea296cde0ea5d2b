//! Convolution with stride 1 or 2 in fewer multiplications: nested minimal filtering on two or three axes.
//!
//! Source: S. Winograd, "Arithmetic Complexity of Computations", 1980; A. Lavin and S. Gray, "Fast Algorithms for
//! Convolutional Neural Networks", CVPR 2016. Differs: three axes with their own tile sizes, and interpolation
//! points 0, ±3/4, ±3/2, ∞ for tiles of four, whose constants are exact in f32 and whose error is several times
//! smaller than that of 0, ±1, ±2, ∞.
//!
//! With stride 2 the odd voxels of an axis see a kernel of two taps and the even ones of one ("polyphase"): F(4, 2)
//! with the points ±1/2, ±5/4, ∞ beside F(4, 1).
//!
//! A tile of `m` outputs per axis becomes `m + 2` frequencies (stride 2: `2 m + 1`). Per block of tiles the domain is laid out
//! `[g][channel block][tile][fx][16]` with `g = (fz, fy)`: a tile then touches few, long runs of memory.

mod forward;
mod gradient_tile;
mod input_tile;
mod output_tile;
mod tiling;
mod transform;
mod weight_gradient;
mod weights;

pub(crate) use forward::{SMALL_WEIGHTS, Winograd};
pub(crate) use tiling::{Axis, Tile, Tiling};
pub(crate) use weight_gradient::WinogradWeightGradient;
pub(crate) use weights::{pack, packed_len};
