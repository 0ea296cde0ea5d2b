//! `galen predict --model FILE.toml`: several models and the steps around them.

use super::{Arguments, LogitSums};
use crate::assembly;
use crate::precision::Precision;
use crate::scans::Scan;
use crate::session::{Exit, Progress, Session};
use galen_core::{Error, Result};
use galen_infer::Prediction;
use serde_json::{Map, json};

/// Runs the verb with the models of a description.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    refuse_what_has_no_meaning(arguments)?;
    let (list, _) = arguments.scans(1)?;
    let mirroring = arguments.no_mirroring.then_some(false);
    let loaded = assembly::load(&arguments.model, arguments.step, mirroring)?;
    tracing::info!("{} models, {} labels", loaded.assembly.parts.len(), loaded.numbers.len());
    let segment = |scan: &Scan, progress: &Progress| {
        let image = galen_io::read_channels(&scan.images)?;
        let note = |tile: usize, tiles: usize| progress.note(format!("{} tile {tile}/{tiles}", scan.case));
        let labels = loaded.assembly.predict(&image, &note).map_err(|error| error.within(&scan.case))?;
        Ok(Prediction { labels, probabilities: None })
    };
    let labels: Map<_, _> = loaded.numbers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    arguments.each(&list, &segment, json!({ "labels": labels }), session)
}

/// Options that say something about one model.
fn refuse_what_has_no_meaning(arguments: &Arguments) -> Result<()> {
    let which = &arguments.which;
    let chosen = [&which.config, &which.trainer, &which.plans, &which.checkpoint];
    let given = [
        ("--folds", !arguments.folds.is_empty()),
        ("--config, --trainer, --plans and --checkpoint", chosen.iter().any(|choice| choice.is_some())),
        ("--save-probabilities", arguments.save_probabilities),
        ("--previous", arguments.previous.is_some()),
        ("--logits", arguments.logits != LogitSums::Auto),
        ("--memory", arguments.memory.is_some()),
        ("--precision", arguments.precision != Precision::F32),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => {
            let what = "is about one model, and --model describes several";
            Err(Error::input(option, what, "leave it out, or say it in the description"))
        }
    }
}
