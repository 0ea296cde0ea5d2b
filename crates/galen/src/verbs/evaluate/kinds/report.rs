//! The page of a kind: its figures, every number, and every definition.

use super::super::{Arguments, files, inputs};
use super::{Document, text};
use crate::figure::{self, Figure};
use crate::report;
use galen_core::{Error, Result};
use galen_metrics::catalogue::definition;
use std::path::{Path, PathBuf};

/// Writes the page, and each figure as SVG into the folder beside it that is named after it.
pub(super) fn write(file: &Path, arguments: &Arguments, kind: &str, document: &Document) -> Result<()> {
    let figures = figures(arguments, kind, document)?;
    let rows = document.values.iter().map(|(id, value)| {
        let about = definition(kind, id).map_or_else(String::new, |d| {
            format!(
                "{}. Range {}. Empty: {}. Beware: {}. Source: {}.",
                d.definition, d.range, d.empty, d.pitfall, d.source
            )
        });
        report::Number { id: id.to_owned(), value: text::cell(value), about }
    });
    let settings = document.settings.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}: {text}"),
        None => format!("{name}: {value}"),
    });
    let page = report::Numbers {
        title: format!("Evaluation, {kind}"),
        subtitle: document.inputs.join(", "),
        notes: settings.collect(),
        rows: rows.collect(),
        tables: text::groups(document),
        figures: &figures,
    };
    galen_io::replace_file(file, page.html().as_bytes())?;
    write_figures(file, &figures)
}

/// Writes figures into `REPORT-figures/` beside a page.
pub fn write_figures(page: &Path, figures: &[Figure]) -> Result<()> {
    let stem = page.file_stem().unwrap_or_default().to_string_lossy();
    let folder = page.with_file_name(format!("{stem}-figures"));
    figures.iter().try_for_each(|figure| figure.write(&folder))
}

fn figures(arguments: &Arguments, kind: &str, document: &Document) -> Result<Vec<Figure>> {
    let options = &arguments.kinds;
    let table = || -> Result<&PathBuf> {
        let first = options.input.iter().chain(&arguments.pred).next();
        first.ok_or_else(|| Error::bug("report", "a table that was measured is not there"))
    };
    Ok(match kind {
        "binary" => {
            let table = inputs::binary(table()?)?;
            let mut all = figure::binary(&table, options.seed.unwrap_or(0));
            if let Some(calibration) = &options.calibration {
                all.push(figure::recalibrated(&table, &inputs::binary(calibration)?));
            }
            all
        }
        "multiclass" => figure::multiclass(&inputs::multiclass(table()?)?),
        "fairness" => document.attributes().map(|(name, groups)| figure::groups(name, groups)).collect(),
        "agreement" => vec![figure::bland_altman(&inputs::ratings(table()?)?)],
        "survival" => vec![figure::survival(&inputs::survival(table()?)?, &inputs::group_names(table()?)?)],
        "froc" => match (options.targets, options.images) {
            (Some(targets), Some(images)) => {
                vec![figure::froc(&files::candidates(table()?, targets, images)?)]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    })
}
