//! One binary for all tests of the crate: linking one for each file took most of the time of a test run.

mod bundles;
mod golden;
mod losses;
mod networks;
mod pretrained;
mod train_steps;
