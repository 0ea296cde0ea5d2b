//! Post-processing of predicted label maps, from the file that `find-best` or nnU-Net wrote.

use galen_core::{Error, Result};
use galen_metrics::postprocessing::Step;
use std::path::Path;

/// Steps of a `postprocessing.json`; none when no file was named.
pub fn steps(file: Option<&Path>) -> Result<Vec<Step>> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            Error::input(file.display(), "no text", "give the postprocessing.json that lies beside the .pkl")
        }
        _ => Error::system(file.display(), &error),
    })?;
    // Python writes undefined means as a bare NaN, which is no JSON.
    let parsed = serde_json::from_str(&text.replace(": NaN", ": null"));
    let json = parsed.map_err(|error| {
        Error::input(file.display(), format!("no valid JSON: {error}"), "use the file that find-best wrote")
    })?;
    Step::all_from_json(&json).map_err(|error| error.within(file.display()))
}
