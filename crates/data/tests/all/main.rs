//! One binary for all tests of the crate: linking one for each file took most of the time of a test run.

mod findings;
mod fingerprints;
mod folds;
mod import;
mod layouts;
mod layouts_in;
mod nnunet_preprocessed;
mod store;
mod synthetic;
