//! Runs a network's operations on the CPU kernels.

mod inference;
mod layout;
mod planar;
mod steps;
mod tensors;
mod training;

pub use inference::Inference;
pub(crate) use layout::{Kernel, Layout};
pub(crate) use steps::{Plan, Step, head_rows};
pub use training::Training;
