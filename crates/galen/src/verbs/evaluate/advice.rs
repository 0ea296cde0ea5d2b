//! `galen evaluate --recommend`: which metrics fit a task.

use crate::session::{Exit, Session};
use comfy_table::Table;
use galen_core::{Error, Result};
use galen_metrics::recommend::{Advice, Task};
use std::path::Path;

/// Reads the properties of a task (TOML) and prints what to report, what to avoid, and why.
pub fn run(file: &Path, session: &Session) -> Result<Exit> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?;
    let task: Task = toml::from_str(&text).map_err(|error| {
        let remedy =
            "give level = \"image\", \"semantic\", \"detection\" or \"instance\", and properties = true";
        Error::input(file.display(), error.message(), remedy)
    })?;
    let found = task.recommend().map_err(|error| error.within(file.display()))?;
    session.document(&found)?;
    let table = |title: &str, advice: &[Advice]| {
        let mut table = Table::new();
        table.set_header([title, "--kind", "because"]);
        advice.iter().for_each(|a| {
            table.add_row([a.id, a.kind, a.why]);
        });
        session.say(table.to_string());
    };
    table("report", &found.report);
    if !found.avoid.is_empty() {
        table("avoid", &found.avoid);
    }
    found.aggregate.iter().for_each(|line| session.say(format!("aggregate: {line}")));
    Ok(Exit::Done)
}
