//! The CPU engine on plain slices: convolutions and their gradients, norms, losses, distance transforms.

pub mod buffer;
pub mod conv;
pub mod distance;
pub mod loss;
pub mod norm;
pub mod pool;
pub mod residual;

pub use conv::{Conv, Grid, LANES, Packed, Pending, Sink, Source, TransposedConv, padded};
