//! Runs a network's operations on the CPU kernels.

mod inference;
mod layout;
pub(crate) use layout::{Kernel, Layout};
mod planar;
mod tensors;
mod training;

pub use inference::Inference;
pub use training::Training;
