//! From dataset numbers to a plan, and from a scan to the network's grid: fingerprint, plan, crop, resample,
//! normalise, augment. Values in, values out; no file is opened here.

pub mod augment;
mod crop;
mod fingerprint;
mod foreground;
mod frugal;
mod normalise;
pub mod numpy;
mod planner;
mod plans;
mod prepare;
pub mod resample;
mod topology;

pub use fingerprint::{CaseStatistics, Fingerprint, Intensities};
pub use foreground::{ClassLocations, foreground_locations};
pub use normalise::Normalization;
pub use planner::{DatasetFacts, PlanOptions, Planner, plan, plan_with};
pub use plans::{Configuration, Plans};
pub use prepare::{Prepared, Undo, prepare, prepare_with, target_spacing};
