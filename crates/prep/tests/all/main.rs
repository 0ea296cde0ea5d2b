//! One binary for all tests of the crate: linking one for each file took most of the time of a test run.

mod golden_cases;
mod golden_plans;
mod golden_resampling;
mod golden_tables;
mod goldens;
