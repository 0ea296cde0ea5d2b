//! One binary for all tests of the crate: linking one for each file took most of the time of a test run.

mod contract;
mod damage;
mod dicom;
mod dicom_damage;
mod dicom_golden;
mod dicom_maker;
mod golden;
mod variants;
