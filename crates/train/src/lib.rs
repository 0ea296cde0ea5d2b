//! Training: nnU-Net's recipe, a schedule that fits a budget, and checkpoints that resume bit for bit.
//!
//! The order of things: [`Setup`] says what a run is about, [`budget`](Budget) turns time into a
//! [`Schedule`], batches are made ahead on threads of their own, the loop trains, and the folder that comes out
//! is a [`galen_models::Bundle`]. Nothing here prints: a [`Watch`] is told.
//!
//! Knows no file format but its own run folder; never looks at raw images.

mod batch;
mod beginning;
mod budget;
mod checkpoint;
mod curves;
mod effective_plan;
mod fit;
mod prefetch;
mod run_folder;
mod sampler;
mod schedule;
mod setup;
mod store_cases;
mod watch;

pub use run_folder::{Machine, RunRecord, peak_memory};
pub use sampler::Cases;
pub use schedule::{Budget, Optimiser, Precision, Schedule};
pub use setup::{Options, Outcome, Setup, train};
pub use store_cases::fit;
pub use watch::{Epoch, EpochReport, Silent, Watch};
