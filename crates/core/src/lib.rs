//! The nouns of Galen. This crate knows no file format and no tensor.
//!
//! Arrays are C-ordered `[channel, z, y, x]`; a 2D image has `z = 1`. Index order is `(z, y, x)`
//! everywhere; world coordinates are millimetres on LPS axes (as in DICOM and ITK).

mod architecture;
mod dataset_json;
mod error;
mod geometry;
mod label_map;
mod labels;
mod orientation;
mod volume;

pub use architecture::{Architecture, NetworkClass};
pub use dataset_json::{channel_names, integer};
pub use error::{Error, Kind, Result};
pub use geometry::{Geometry, Mismatch};
pub use label_map::{LabelMap, LabelVoxels, label_of};
pub use labels::{LabelValue, Labels};
pub use orientation::Orientation;
pub use volume::{Scalar, Volume, Voxels};
