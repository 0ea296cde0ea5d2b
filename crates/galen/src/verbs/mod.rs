//! One file per verb: arguments, calls, printing; nothing else.

mod batch;
mod check;
mod ensemble;
mod evaluate;
mod export;
mod find_best;
mod import;
mod info;
mod plan;
mod predict;
mod quickstart;
mod train;
mod verify;

pub use evaluate::{Columns, Pair, coco, coco_images, labels_for, unnamed};
pub use train::Screen;
pub use verify::planner;

use crate::session::{Exit, Session};
use galen_core::Result;

/// What Galen does.
#[derive(clap::Subcommand)]
pub enum Verb {
    /// The whole workflow on a built-in phantom; ends in an HTML report
    Quickstart(quickstart::Arguments),
    /// What is this file, dataset or model?
    Info(info::Arguments),
    /// Bring in datasets of other layouts and models of nnU-Net
    Import(import::Arguments),
    /// Write a model as nnU-Net reads it
    Export(export::Arguments),
    /// Every problem of a dataset, with its remedy
    Check(check::Arguments),
    /// Fingerprint and plan of a dataset, as nnU-Net v2 makes them
    Plan(plan::Arguments),
    /// Train one fold
    Train(train::Arguments),
    /// Segment scans with a trained model (alias: segment)
    #[command(visible_alias = "segment")]
    Predict(Box<predict::Arguments>),
    /// Label maps from the mean probabilities of several models
    Ensemble(ensemble::Arguments),
    /// Print a job file that runs a verb over a cohort on a cluster
    Batch(batch::Arguments),
    /// The best configuration or pair of them in cross-validation, and its post-processing
    FindBest(find_best::Arguments),
    /// Compare label maps with a reference
    Evaluate(Box<evaluate::Arguments>),
    /// Compare methods under one protocol
    Verify(verify::Arguments),
}

/// Runs a verb.
pub fn run(verb: Verb, session: &Session) -> Result<Exit> {
    match verb {
        Verb::Quickstart(arguments) => quickstart::run(&arguments, session),
        Verb::Info(arguments) => info::run(&arguments, session),
        Verb::Import(arguments) => import::run(&arguments, session),
        Verb::Export(arguments) => export::run(&arguments, session),
        Verb::Check(arguments) => check::run(&arguments, session),
        Verb::Plan(arguments) => plan::run(&arguments, session),
        Verb::Train(arguments) => train::run(&arguments, session),
        Verb::Predict(arguments) => predict::run(&arguments, session),
        Verb::Batch(arguments) => batch::run(&arguments, session),
        Verb::Ensemble(arguments) => ensemble::run(&arguments, session),
        Verb::FindBest(arguments) => find_best::run(&arguments, session),
        Verb::Evaluate(arguments) => evaluate::run(&arguments, session),
        Verb::Verify(arguments) => verify::run(&arguments, session),
    }
}
