//! What the search writes for people and programs: `inference_information.json` and the commands that predict.

use super::candidate::Candidate;
use super::merged::Merged;
use galen_core::Result;
use galen_metrics::postprocessing::Determined;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The result of a search.
pub struct Found<'a> {
    /// Name and scores of all that took part, in order.
    pub results: Vec<(String, Merged)>,
    /// Index of the best.
    pub best: usize,
    /// The models of the best: one, or two that are averaged.
    pub models: Vec<&'a Candidate>,
    /// Its post-processing.
    pub postprocessing: Determined,
}

impl Found<'_> {
    fn folder(&self) -> &Path {
        &self.results[self.best].1.folder
    }

    /// Contents of nnU-Net's `inference_information.json`.
    pub fn information(&self, considered: &[Candidate], folds: &[String], ensembling: bool) -> Value {
        let folds: Vec<Value> = folds
            .iter()
            .map(|fold| fold.parse::<u64>().map_or_else(|_| json!(fold), |number| json!(number)))
            .collect();
        let results: serde_json::Map<String, Value> =
            self.results.iter().map(|(name, merged)| (name.clone(), json!(merged.dice))).collect();
        let selected: Vec<Value> = self
            .models
            .iter()
            .map(|m| json!({ "configuration": m.configuration, "plans_identifier": m.plans, "trainer": m.trainer }))
            .collect();
        let considered: Vec<Value> = considered
            .iter()
            .map(|m| json!({ "configuration": m.configuration, "plans": m.plans, "trainer": m.trainer }))
            .collect();
        json!({
            "all_results": results,
            "best_model_or_ensemble": {
                "postprocessing_file": self.folder().join("postprocessing.pkl"),
                "result_on_crossval_post_pp": self.postprocessing.after.foreground_mean.Dice,
                "result_on_crossval_pre_pp": self.postprocessing.before.foreground_mean.Dice,
                "selected_model_or_models": selected,
                "some_plans_file": self.folder().join("plans.json"),
            },
            "considered_models": considered,
            "dataset_name_or_id": self.models[0].dataset,
            "ensembling_allowed": ensembling,
            "folds": folds,
        })
    }

    /// Galen's commands from a folder of scans to post-processed label maps.
    pub fn commands(&self, considered: &[Candidate], folds: &[String]) -> Result<Vec<String>> {
        let folds = folds.join(",");
        let several = self.models.len() > 1;
        let mut commands = Vec::new();
        let mut outputs = Vec::new();
        for (number, model) in self.models.iter().enumerate() {
            let out =
                if several { format!("OUTPUT_FOLDER_MODEL_{}", number + 1) } else { "OUTPUT_FOLDER".into() };
            let mut command = format!(
                "galen predict INPUT_FOLDER --model {} --folds {folds} --out {out}",
                quoted(&model.folder)
            );
            if let Some(first) = first_stage(model, considered) {
                let before = format!("{out}_PREV_STAGE");
                commands.push(format!(
                    "galen predict INPUT_FOLDER --model {} --folds {folds} --out {before}",
                    quoted(&first)
                ));
                command += &format!(" --previous {before}");
            }
            command += if several { " --save-probabilities" } else { "" };
            outputs.push(out);
            commands.push(command);
        }
        if several {
            commands.push(format!(
                "galen ensemble {} --labels {} --out OUTPUT_FOLDER",
                outputs.join(" "),
                quoted(&self.folder().join("dataset.json"))
            ));
        }
        if !self.postprocessing.steps.is_empty() {
            let last = commands.last_mut().expect("there is a model");
            *last += &format!(" --postprocessing {}", quoted(&self.folder().join("postprocessing.json")));
        }
        Ok(commands)
    }
}

/// Folder of a cascade's first stage: among the considered models, or where nnU-Net would keep it.
fn first_stage(model: &Candidate, considered: &[Candidate]) -> Option<PathBuf> {
    let previous = model.previous.as_ref()?;
    let same = |other: &&Candidate| {
        other.configuration == *previous && other.plans == model.plans && other.trainer == model.trainer
    };
    Some(match considered.iter().find(same) {
        Some(first) => first.folder.clone(),
        None => model.folder.with_file_name(format!("{}__{}__{previous}", model.trainer, model.plans)),
    })
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=,@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted(Path::new("a/b_1.json")), "a/b_1.json");
        assert_eq!(quoted(Path::new("a b/it's")), r"'a b/it'\''s'");
    }
}
