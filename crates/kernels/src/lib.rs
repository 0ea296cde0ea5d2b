//! The CPU engine on plain slices: convolutions and their gradients, norms, losses, distance transforms, connected components.

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
mod lanes;
pub mod loss;
pub mod norm;
#[cfg(test)]
mod plain;
pub mod pool;
mod product;
pub mod residual;
mod scratch;
mod tensor_blocks;
mod transposed;
mod weight_view;
mod winograd;

pub use conv::{Conv, Grid, LANES, Packed, Pending, Sink, Source, padded};
pub use cpu::Cpu;
pub use depthwise::DepthwiseConv;
pub use transposed::TransposedConv;
