//! The CPU engine on plain slices: convolutions and their gradients, norms, losses, distance transforms, connected components, holes.

pub mod attention;
pub mod average_pool;
pub mod buffer;
mod choice;
pub mod components;
pub mod conv;
#[cfg(test)]
mod conv_tests;
pub mod cpu;
mod depthwise;
mod direct;
pub mod distance;
pub mod gelu;
pub mod grid_sample;
mod grouped;
pub mod holes;
pub mod interpolation;
mod lanes;
pub mod layer_norm;
pub mod loss;
pub mod max_pool;
pub mod norm;
pub mod paths;
#[cfg(test)]
mod plain;
pub mod pool;
mod product;
pub mod residual;
mod scratch;
pub mod selective_scan;
pub mod shared_norm;
mod slabs;
mod tensor_blocks;
mod transposed;
mod weight_view;
mod winograd;

pub use attention::Attention;
pub use average_pool::AveragePool;
pub use conv::{Conv, Grid, LANES, Packed, Pending, Sink, Source, padded};
pub use cpu::Cpu;
pub use depthwise::DepthwiseConv;
pub use gelu::Gelu;
pub use grid_sample::{GridSample, Padding};
pub use grouped::{GroupedConv, PackedGroups};
pub use interpolation::Interpolation;
pub use layer_norm::LayerNorm;
pub use max_pool::MaxPool;
pub use selective_scan::SelectiveScan;
pub use slabs::{End, SlabSource, Upsampled};
pub use transposed::TransposedConv;
