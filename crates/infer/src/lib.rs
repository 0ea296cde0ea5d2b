//! From a scan to a label map: sliding window, folds, export to the scan's grid.
//!
//! Volumes in, label maps out; no paths. `Predictor` ties the parts together.

mod assembly;
pub mod band;
mod ensemble;
pub mod export;
pub mod gaussian;
mod need;
mod predictor;
pub mod sliding;
pub mod tiles;

pub use assembly::{Assembly, Crop, Part};
pub use band::Place;
pub use ensemble::Ensemble;
pub use export::{Logits, Probabilities};
pub use need::Need;
pub use predictor::{Options, Parts, Prediction, Predictor, Progress};
pub use sliding::Precision;
