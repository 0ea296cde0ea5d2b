//! `galen find-best`: which configuration or ensemble was best in cross-validation, and with which post-processing.

mod candidate;
mod instructions;
mod merged;

use crate::nnunet_roots;
use crate::scans::case_name;
use crate::session::{Exit, Session};
use candidate::{CONFIGURATIONS, Candidate, Wanted, folders};
use galen_core::{Error, Result};
use instructions::Found;
use merged::Merged;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Find the best configuration or pair of configurations by cross-validation, and its post-processing.
///
/// Merges the validation predictions of all folds per model, averages the probabilities of every pair of models,
/// scores all of them, and decides for the best one which labels are better reduced to their largest component.
/// Writes what nnUNetv2_find_best_configuration writes: MODEL/crossval_results_folds_*/, ensembles/,
/// inference_information.json and inference_instructions.txt (with Galen's commands).
///
/// Examples:
///   galen find-best results/Dataset004_Hippocampus --ref raw/Dataset004_Hippocampus/labelsTr
///   nnUNet_results=/data/results nnUNet_raw=/data/raw galen find-best 4 --folds 0,1,2
///   galen find-best runs/fullres runs/2d --ref labelsTr --out runs/best
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Results folder of a dataset (or its name or number in $nnUNet_results), or several model folders
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Reference label maps (default: labelsTr in $nnUNet_raw, else gt_segmentations in $nnUNet_preprocessed)
    #[arg(long = "ref", value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Where ensembles/ and inference_information.json go (default: the results folder)
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Folds whose validation cases count
    #[arg(long, value_delimiter = ',', value_name = "N,N", default_value = "0,1,2,3,4")]
    folds: Vec<String>,
    /// Configurations of a results folder that take part, in this order [default: those that are there]
    #[arg(long, short, value_delimiter = ',', value_name = "NAME,NAME")]
    config: Vec<String>,
    /// Trainer classes of a results folder that take part
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME", default_value = "nnUNetTrainer")]
    trainer: Vec<String>,
    /// Plans of a results folder that take part
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME", default_value = "nnUNetPlans")]
    plans: Vec<String>,
    /// Single models only; probabilities are not needed then
    #[arg(long)]
    no_ensembles: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let (models, out) = candidates(arguments)?;
    let (singles, averaged) = references(arguments, &models[0])?;
    check(&models, &singles, &averaged, !arguments.no_ensembles)?;
    let found = search(arguments, session, &models, &out, &singles, &averaged)?;
    let information = found.information(&models, &arguments.folds, !arguments.no_ensembles);
    galen_data::write_json(&out.join("inference_information.json"), &information)?;
    let commands = found.commands(&models, &arguments.folds)?;
    let text = commands.join("\n") + "\n";
    galen_io::replace_file(&out.join("inference_instructions.txt"), text.as_bytes())?;
    session.document(&document(&information, &found, &commands))?;
    tell(session, &found, &commands);
    Ok(Exit::Done)
}

fn candidates(arguments: &Arguments) -> Result<(Vec<Candidate>, PathBuf)> {
    let one_of = |folder: &Path| folder.join("plans.json").is_file() || folder.join("model.json").is_file();
    let (folders, out) = match arguments.models.as_slice() {
        [results] if !one_of(results) => {
            let results = nnunet_roots::model(results)?;
            let usual = || CONFIGURATIONS.map(str::to_owned).to_vec();
            let configurations = if arguments.config.is_empty() { usual() } else { arguments.config.clone() };
            let wanted = Wanted {
                trainers: &arguments.trainer,
                plans: &arguments.plans,
                configurations: &configurations,
            };
            (folders(&results, &wanted)?, arguments.out.clone().unwrap_or(results))
        }
        given => {
            let out = arguments.out.clone().ok_or_else(|| {
                let what = "model folders were given, and no place for what belongs to all of them";
                Error::input("--out", what, "give a folder with --out")
            })?;
            (given.to_vec(), out)
        }
    };
    let models =
        folders.iter().map(|folder| Candidate::open(folder, &arguments.folds)).collect::<Result<Vec<_>>>()?;
    Ok((models, out))
}

type References = BTreeMap<String, PathBuf>;

/// References of single models and of ensembles, by case. As nnU-Net, raw labels come first for the former and
/// preprocessed ones for the latter; they are copies of each other.
fn references(arguments: &Arguments, model: &Candidate) -> Result<(References, References)> {
    if let Some(folder) = &arguments.reference {
        let all = by_case(folder)?;
        return Ok((all.clone(), all));
    }
    let [raw, preprocessed] = nnunet_roots::references(&model.dataset);
    let there: Vec<PathBuf> = [raw, preprocessed].into_iter().flatten().filter(|p| p.is_dir()).collect();
    let (Some(first), Some(last)) = (there.first(), there.last()) else {
        let what =
            format!("neither given, nor found for {} in $nnUNet_raw or $nnUNet_preprocessed", model.dataset);
        return Err(Error::input("--ref", what, "give the folder of reference label maps"));
    };
    Ok((by_case(first)?, by_case(last)?))
}

fn by_case(folder: &Path) -> Result<References> {
    Ok(crate::scans::images(folder)?.into_iter().map(|file| (case_name(&file), file)).collect())
}

/// Everything that could fail later, before anything is written.
fn check(models: &[Candidate], singles: &References, averaged: &References, ensembles: bool) -> Result<()> {
    for model in models {
        let missing = model
            .predictions
            .keys()
            .find(|case| !singles.contains_key(*case) || !averaged.contains_key(*case));
        if let Some(case) = missing {
            let what = format!("{case} has no reference label map");
            return Err(Error::input(model.folder.display(), what, "check --ref"));
        }
    }
    if !ensembles || models.len() < 2 {
        return Ok(());
    }
    let first = &models[0];
    for model in &models[1..] {
        if model.labels != first.labels {
            let what = format!("its labels are not those of {}", first.folder.display());
            return Err(Error::input(
                model.folder.display(),
                what,
                "compare models of one dataset, or add --no-ensembles",
            ));
        }
        let differ = model.predictions.keys().find(|case| !first.predictions.contains_key(*case));
        let differ = differ.or(first.predictions.keys().find(|case| !model.predictions.contains_key(*case)));
        if let Some(case) = differ {
            let what = format!("{case} was predicted by only one of it and {}", first.folder.display());
            return Err(Error::input(
                model.folder.display(),
                what,
                "validate the same folds, or add --no-ensembles",
            ));
        }
    }
    models.iter().try_for_each(|model| model.probabilities().map(drop))
}

fn search<'a>(
    arguments: &Arguments,
    session: &Session,
    models: &'a [Candidate],
    out: &Path,
    singles: &References,
    averaged: &References,
) -> Result<Found<'a>> {
    let folds = arguments.folds.join("_");
    let pairs = if arguments.no_ensembles { 0 } else { models.len() * (models.len() - 1) / 2 };
    let progress = session.progress("find-best", models.len() + pairs);
    let stop = || session.check_stop("what is written is whole; run the command again");
    let mut results: Vec<(String, Merged)> = Vec::new();
    let mut members: Vec<Vec<&Candidate>> = Vec::new();
    for model in models {
        stop()?;
        progress.note(model.name.clone());
        let merged =
            merged::folds(model, &model.folder.join(format!("crossval_results_folds_{folds}")), singles)?;
        results.push((model.name.clone(), merged));
        members.push(vec![model]);
        progress.at(results.len(), models.len() + pairs);
    }
    for (i, first) in models.iter().enumerate().filter(|_| !arguments.no_ensembles) {
        for second in &models[i + 1..] {
            stop()?;
            let name = format!("ensemble___{}___{}___{folds}", first.name, second.name);
            progress.note(name.clone());
            let merged = merged::ensemble(&[first, second], &out.join("ensembles").join(&name), averaged)?;
            results.push((name, merged));
            members.push(vec![first, second]);
            progress.at(results.len(), models.len() + pairs);
        }
    }
    progress.finish();
    let best = first_best(results.iter().map(|(_, merged)| merged.dice));
    let models = members.swap_remove(best);
    let postprocessing = merged::postprocess(&results[best].1.folder, &models[0].labels, averaged)?;
    Ok(Found { results, best, models, postprocessing })
}

/// Index of the largest score, the first of equals; an undefined score is never the best of several.
fn first_best(scores: impl Iterator<Item = Option<f64>>) -> usize {
    let better = |best: (usize, f64), (index, score): (usize, Option<f64>)| match score {
        Some(score) if score > best.1 => (index, score),
        _ => best,
    };
    scores.enumerate().fold((0, f64::NEG_INFINITY), better).0
}

fn document(information: &Value, found: &Found, commands: &[String]) -> Value {
    let mut document = information.clone();
    document["postprocessing"] = json!(found.postprocessing.explanation);
    document["commands"] = json!(commands);
    document
}

fn tell(session: &Session, found: &Found, commands: &[String]) {
    let show = |dice: Option<f64>| dice.map_or("undefined".to_owned(), |dice| format!("{dice:.5}"));
    for (index, (name, merged)) in found.results.iter().enumerate() {
        let mark = if index == found.best { "  <- best" } else { "" };
        session.say(format!("{}  {name}{mark}", show(merged.dice)));
    }
    found.postprocessing.explanation.iter().for_each(|line| session.say(line));
    session.say("\nPredict like this:");
    commands.iter().for_each(|command| session.say(format!("  {command}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_scores_wins_and_undefined_ones_do_not() {
        let best = |scores: &[Option<f64>]| first_best(scores.iter().copied());
        assert_eq!(best(&[None, Some(0.5), Some(0.7), Some(0.7)]), 2);
        assert_eq!(best(&[None, None]), 0);
    }
}
