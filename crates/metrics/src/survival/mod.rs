//! Time to event: ranking, calibration over time, survival curves.

pub mod brier;
pub mod concordance;
pub mod dynamic_auc;
pub mod kaplan_meier;
pub mod log_rank;
mod table;

pub use table::{Predicted, Survival};

use crate::measures::Definition;

/// Definitions of the ids of `--kind survival`.
pub static DEFINITIONS: &[&[Definition]] = &[
    table::DEFINITIONS,
    concordance::DEFINITIONS,
    dynamic_auc::DEFINITIONS,
    brier::DEFINITIONS,
    kaplan_meier::DEFINITIONS,
    log_rank::DEFINITIONS,
];
