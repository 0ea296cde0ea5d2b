//! One binary for all tests of the crate: linking one for each file took most of the time of a test run.

mod assemblies;
mod bad_input;
mod bad_tables;
mod cohort;
mod datasets;
mod evaluate_ids;
mod evaluate_kinds;
mod find_best;
mod house;
mod kill_and_resume;
mod nnunet_drop_in;
mod pretrained;
mod rate;
mod verify;
