//! Operations in terms of Burn's own, for every backend and for automatic differentiation.
//!
//! Tensors are `[n, c, z, y, x]`, the order in which Burn's convolutions read, or `[n, tokens, c]`. What an operation is
//! called and how it is set comes from the kernels, so that both speak of the same thing.

pub mod convolution;
pub mod norm;
pub mod pool;
pub mod sampling;
pub mod scan;
pub mod tokens;
