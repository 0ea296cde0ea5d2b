//! Direct convolution: any kernel and stride, forward and back, as products over the taps of a packed halo.
//!
//! The gradient with respect to the input of a strided convolution is taken by residues of the stride ("polyphase"):
//! each residue is a small convolution with stride 1 of its own.

mod few_places;
mod forward;
mod halo;
mod pattern;
mod weight_gradient;
mod weights;

pub(crate) use forward::{Direct, Moments};
pub(crate) use halo::packs_single_channels;
pub(crate) use pattern::Pattern;
pub(crate) use weight_gradient::DirectWeightGradient;
pub(crate) use weights::{pack, packed_len};
