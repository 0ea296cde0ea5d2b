//! One binary for all tests of the crate: linking one for each file took most of the time of a test run.

mod nnunet_models;
mod tables;
