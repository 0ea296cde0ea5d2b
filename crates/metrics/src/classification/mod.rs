//! Scores of classifiers: two classes, several, several labels at once.

pub mod binary;
pub mod calibration;
pub mod confusion;
pub mod coverage;
pub mod decision;
pub mod multiclass;
pub mod multilabel;
pub mod recalibration;
pub mod resampled;
pub mod roc;

pub use binary::Binary;
pub use multiclass::Multiclass;
pub use multilabel::Multilabel;
