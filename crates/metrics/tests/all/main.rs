//! One binary for all tests of the crate: linking one for each file took most of the time of a test run.

mod goldens;
mod nnunet_summary;
mod surface_conventions;
mod table;
mod tally;
