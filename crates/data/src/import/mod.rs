//! Datasets of other layouts into nnU-Net's raw layout.

mod found;
mod msd;
mod pairs;
mod subjects;
mod target;

pub use found::{Found, Masks, Wishes, import_found};
pub use msd::import_msd;
pub use pairs::find_pairs;
pub use subjects::{find_bids, find_subjects};

/// What an import brought over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Training cases.
    pub training: usize,
    /// Test cases.
    pub test: usize,
    /// Incomplete cases that were left out, one line each.
    pub left_out: Vec<String>,
    /// What was changed or assumed, one line each.
    pub notes: Vec<String>,
}
