//! Datasets: layouts in, checks, splits, fingerprints, and the store of preprocessed cases.
//!
//! This crate knows folders and files; it knows no network. Array axes are `(z, y, x)`.

mod catalog;
mod check;
mod dataset;
mod description;
mod fingerprint;
mod import;
mod layouts;
mod memory;
mod patients;
mod reader_name;
mod splits;
mod store;
mod work_queue;

pub use catalog::{Family, Known, Statement, catalog, known};
pub use check::{
    Coverage, Criterion, Finding, FindingKind, Intensity, LabelTally, LabelTraits, Severity, Survey, Traits,
    check, coverage, patient_leaks, survey,
};
pub use dataset::{Case, Dataset, Problem, ProblemKind};
pub use description::{read_labels_of, write_json};
pub use fingerprint::{fingerprint, read_fingerprint, write_fingerprint};
pub use import::{
    Found, Imported, Masks, Wishes, find_bids, find_pairs, find_subjects, import_found, import_msd,
};
pub use layouts::channel_of;
pub use memory::available_bytes;
pub use patients::Patients;
pub use splits::{Split, Splits};
pub use store::{Entry, Store};

/// Told how many cases are done, and of how many.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);
