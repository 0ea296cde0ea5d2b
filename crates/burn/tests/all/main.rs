//! Networks and operations on Burn's backends beside Galen's CPU engine; empty without a feature. `cargo xtask vulkan`
//! runs them all.

#[cfg(any(feature = "flex", feature = "vulkan"))]
mod layout;
#[cfg(any(feature = "flex", feature = "vulkan"))]
mod networks;
#[cfg(any(feature = "flex", feature = "vulkan"))]
mod operations;
