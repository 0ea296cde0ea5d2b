//! `galen ensemble`: label maps from the mean probabilities of several predictions.

use crate::postprocess;
use crate::probabilities;
use crate::scans::{case_name, images};
use crate::session::{Exit, Session};
use galen_core::{Error, Labels, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Average the probabilities of several models and write the label maps.
///
/// Every folder holds label maps and CASE.npz files of the same cases, as `galen predict --save-probabilities` and
/// nnUNetv2_predict --save_probabilities write them. Grids come from the label maps of the first folder.
///
/// Example:
///   galen ensemble preds_2d/ preds_3d/ --labels model/dataset.json --out preds/ --postprocessing postprocessing.json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Folders of predictions with probabilities
    #[arg(required = true, num_args = 2..)]
    folders: Vec<PathBuf>,
    /// dataset.json with the labels (default: the one in the first folder)
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Folder that gets the label maps
    #[arg(long, short)]
    out: PathBuf,
    /// postprocessing.json of find-best or nnU-Net, applied to every label map
    #[arg(long, value_name = "FILE")]
    postprocessing: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let first = &arguments.folders[0];
    let named = arguments.labels.clone().unwrap_or_else(|| first.join("dataset.json"));
    if !named.is_file() {
        let what = "no dataset.json that says what the channels mean";
        return Err(Error::input(named.display(), what, "give the model's with --labels"));
    }
    let labels = galen_data::read_labels_of(&named)?;
    let steps = postprocess::steps(arguments.postprocessing.as_deref())?;
    let maps: BTreeMap<String, PathBuf> =
        images(first)?.into_iter().map(|file| (case_name(&file), file)).collect();
    let cases = cases(&arguments.folders, &maps)?;
    let progress = session.progress("ensemble", cases.len());
    let mut written = Vec::new();
    for (number, (case, files)) in cases.iter().enumerate() {
        session.check_stop(&format!("{number} of {} cases are done", cases.len()))?;
        progress.note(case.clone());
        written.push(one(&maps[case], files, &labels, &steps, &arguments.out)?);
        progress.at(number + 1, cases.len());
    }
    progress.finish();
    session.document(&json!({ "written": written }))?;
    session.say(format!("{} label maps written", written.len()));
    Ok(Exit::Done)
}

fn one(
    map: &Path,
    files: &[PathBuf],
    labels: &Labels,
    steps: &[galen_metrics::postprocessing::Step],
    out: &Path,
) -> Result<PathBuf> {
    let geometry = galen_io::read_header(map)?.geometry;
    let mut labels =
        probabilities::ensemble(files, labels, geometry).map_err(|error| error.within(case_name(map)))?;
    steps.iter().for_each(|step| step.apply(&mut labels));
    let target = out.join(map.file_name().unwrap_or_default());
    galen_io::write_label_map(&target, &labels)?;
    Ok(target)
}

/// The files of every case; each folder must have each case.
fn cases(folders: &[PathBuf], maps: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder).map_err(|error| Error::system(folder.display(), &error))?;
        for file in entries.flatten().map(|entry| entry.path()) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(case) = name.strip_suffix(".npz") {
                found.entry(case.to_owned()).or_default().push(file);
            }
        }
    }
    let bad = |what: String, remedy: &str| Err(Error::input(folders[0].display(), what, remedy));
    if found.is_empty() {
        return bad("no folder holds probabilities (CASE.npz)".into(), "predict with --save-probabilities");
    }
    for (case, files) in &found {
        if files.len() != folders.len() {
            let what = format!("{case} has probabilities in {} of {} folders", files.len(), folders.len());
            return bad(what, "predict the same cases with every model");
        }
        if !maps.contains_key(case) {
            return bad(
                format!("{case} has no label map, which gives the grid"),
                "keep label maps beside CASE.npz",
            );
        }
    }
    Ok(found)
}
