//! The same networks on Burn's backends: GPUs through Vulkan (feature `vulkan`), and Burn's own CPU backend (feature
//! `flex`) to compare with. Empty without a feature.
//!
//! A network is the op list of `galen-models`; `Accelerated` walks it with Burn tensors. `bodies` holds all operations
//! of the kernels in terms of Burn's; Burn's automatic differentiation of them checks the hand-written gradients of the
//! CPU engine.

#[cfg(any(feature = "flex", feature = "vulkan"))]
mod accelerated;
#[cfg(any(feature = "flex", feature = "vulkan"))]
pub mod bodies;
#[cfg(any(feature = "flex", feature = "vulkan"))]
mod device;

#[cfg(any(feature = "flex", feature = "vulkan"))]
pub use accelerated::Accelerated;
#[cfg(any(feature = "flex", feature = "vulkan"))]
pub use device::Place;
