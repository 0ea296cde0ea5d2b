//! The CPU engine on plain slices: convolutions and their gradients, norms, losses, distance transforms, connected components, holes.

pub mod buffer;
mod choice;
pub mod components;
pub mod conv;
#[cfg(test)]
mod conv_tests;
pub mod cpu;
mod direct;
pub mod distance;
pub mod holes;
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
pub use transposed::TransposedConv;
