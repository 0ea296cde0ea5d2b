//! One file per verb: arguments, calls, printing; nothing else.

mod batch;
mod check;
mod datasets;
mod ensemble;
mod evaluate;
mod export;
mod find_best;
mod import;
mod import_dataset;
mod info;
mod plan;
mod predict;
mod quickstart;
mod rate;
mod scaling;
mod train;
mod verify;

pub use evaluate::{Columns, Pair, coco, coco_images, labels_for, unnamed};
pub use train::Screen;
pub use verify::planner;

use crate::session::{Exit, Session};
use galen_core::Result;

/// What Galen does. Each verb's own documentation is its help, so the variants carry none: it would hide the examples.
#[derive(clap::Subcommand)]
pub enum Verb {
    Quickstart(quickstart::Arguments),
    Info(info::Arguments),
    Datasets(datasets::Arguments),
    Import(import::Arguments),
    Export(export::Arguments),
    Check(check::Arguments),
    Plan(plan::Arguments),
    Train(train::Arguments),
    #[command(visible_alias = "segment")]
    Predict(Box<predict::Arguments>),
    Ensemble(ensemble::Arguments),
    Batch(batch::Arguments),
    FindBest(find_best::Arguments),
    Evaluate(Box<evaluate::Arguments>),
    Verify(verify::Arguments),
}

/// Runs a verb.
pub fn run(verb: Verb, session: &Session) -> Result<Exit> {
    match verb {
        Verb::Quickstart(arguments) => quickstart::run(&arguments, session),
        Verb::Info(arguments) => info::run(&arguments, session),
        Verb::Datasets(arguments) => datasets::run(&arguments, session),
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
