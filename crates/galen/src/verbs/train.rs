//! `galen train`: one fold, from dataset to model folder.

use super::evaluate::{self, Pair};
use super::plan::PlannerName;
use crate::nnunet_roots;
use crate::precision::TrainingPrecision;
use crate::probabilities;
use crate::session::{Exit, Progress, Session};
use crate::workspace::{CasesFrom, Workspace, read_plans};
use galen_core::{Error, Result};
use galen_data::{Dataset, Patients, Split, Splits};
use galen_infer::{Options as PredictOptions, Predictor};
use galen_metrics::{Evaluation, Summary};
use galen_models::{Bundle, Network, Pretrained};
use galen_prep::resample::TieRule;
use galen_prep::{Planner, Plans};
use galen_train::{Budget, EpochReport, Options, Watch};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Train one fold, then segment and score its validation cases.
///
/// Without --budget or --exact the schedule is 1000 epochs of 250 iterations, as with --exact.
///
/// Examples:
///   galen train data/Dataset004_Hippocampus --config 3d_fullres --fold 0 --budget 20m --out runs/hippo
///   galen train data/Dataset004_Hippocampus --fold 0 --out runs/hippo --resume
///   galen train data/Dataset004_Hippocampus --fold 0 --budget 2000it --out runs/hippo --patients '^(p\d+)_'
///   galen train data/Dataset005_Prostate --pretrained results/Dataset004_X/nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0 --budget 1h --out runs/prostate
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Dataset folder (nnU-Net raw or MSD), or a dataset's name or number in $nnUNet_raw
    dataset: PathBuf,
    /// Configuration of the plan: 2d, 3d_fullres, 3d_lowres
    #[arg(long, short, default_value = "3d_fullres")]
    config: String,
    /// Fold: 0 to 4, a higher number for a random 80:20 split, or `all`
    #[arg(long, short, default_value = "0")]
    fold: String,
    /// Model folder to write
    #[arg(long, short)]
    out: PathBuf,
    /// What training may cost: a time (20m, 1h30m, 90s) or iterations (1500it)
    #[arg(long, value_parser = parse_budget, conflicts_with = "exact")]
    budget: Option<Budget>,
    /// nnU-Net's plan and schedule to the letter
    #[arg(long)]
    exact: bool,
    /// Go on with the training in --out, to the same bytes as if it had never stopped
    #[arg(long)]
    resume: bool,
    /// Seed of weights, patches and augmentation
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How activations are stored until their gradients are made: bf16 takes less memory and a little less time
    #[arg(long, value_enum, default_value_t = TrainingPrecision::F32)]
    precision: TrainingPrecision,
    /// Which of nnU-Net's planners
    #[arg(long, value_enum, default_value_t = PlannerName::Default)]
    planner: PlannerName,
    /// Plan of another model (its folder, zip or plans.json) instead of one for this dataset, so that its weights fit:
    /// the same network, patch, spacing and normalisation
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["planner", "from_preprocessed"])]
    plans_of: Option<PathBuf>,
    /// Keep a patient's cases on one side: a regular expression whose first group is the patient, or a CSV table (case,patient)
    #[arg(long, value_name = "REGEX|CSV")]
    patients: Option<String>,
    /// Where fingerprint, plans and preprocessed cases go (default: DATASET/preprocessed; $nnUNet_preprocessed/DATASET for one that lies in $nnUNet_raw)
    #[arg(long, value_name = "DIR")]
    preprocessed: Option<PathBuf>,
    /// Cases that nnU-Net preprocessed, such as $nnUNet_preprocessed/DATASET/nnUNetPlans_3d_fullres: used as they are, with the plans beside that folder
    #[arg(long, value_name = "DIR")]
    from_preprocessed: Option<PathBuf>,
    /// Which label wins where several meet on the network's grid: those of nnU-Net's releases differ, and the model
    /// records the choice
    #[arg(long, value_enum, default_value_t = LabelRule::Largest, value_name = "RULE", conflicts_with = "from_preprocessed")]
    label_rule: LabelRule,
    /// Weights to begin with: a checkpoint (.pth) of nnU-Net or of nnssl (OpenMind), the folder of a fold, a model with one
    /// fold, or .safetensors. Segmentation layers start afresh, and so does an input layer for another number of channels;
    /// what was taken over is printed, and listed in fold_N/pretrained.json
    #[arg(long, value_name = "FILE|DIR")]
    pretrained: Option<PathBuf>,
    /// Do not segment and score the validation cases at the end
    #[arg(long)]
    no_validation: bool,
    /// Also write class probabilities of the validation cases, which ensembles of `galen find-best` need
    #[arg(long)]
    save_probabilities: bool,
}

/// Which label wins where several meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LabelRule {
    /// The largest score, the nearest voxel's label on ties: batchgenerators 0.25.5, today's nnU-Net
    Largest,
    /// Every label with one half or more, later ones on top: batchgenerators up to 0.25.1, for models trained with it
    Half,
}

impl From<LabelRule> for TieRule {
    fn from(rule: LabelRule) -> Self {
        match rule {
            LabelRule::Largest => Self::Largest,
            LabelRule::Half => Self::Half,
        }
    }
}

/// `20m`, `1h30m`, `90s` or `1500it`.
fn parse_budget(text: &str) -> Result<Budget, String> {
    let wrong = || format!("`{text}` is neither a time (20m, 1h30m, 90s) nor iterations (1500it)");
    if let Some(iterations) = text.strip_suffix("it") {
        let iterations: usize = iterations.trim().parse().map_err(|_| wrong())?;
        return if iterations > 0 { Ok(Budget::Iterations(iterations)) } else { Err(wrong()) };
    }
    let (mut seconds, mut digits) = (0.0, String::new());
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' | '.' => {
                digits.push(letter);
                continue;
            }
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return Err(wrong()),
        };
        seconds += digits.parse::<f64>().map_err(|_| wrong())? * unit;
        digits.clear();
    }
    if !digits.is_empty() || !(1.0..1e8).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Budget::Time(std::time::Duration::from_secs_f64(seconds)))
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let dataset = Dataset::open(&nnunet_roots::dataset(&arguments.dataset)?)?;
    // Before the work of planning and preprocessing, so that a wrong file is told at once.
    let pretrained = arguments.pretrained.as_deref().map(Pretrained::open).transpose()?;
    let workspace = Workspace::of(&dataset, arguments.preprocessed.as_deref());
    let adopted = arguments.from_preprocessed.as_deref();
    let planner = arguments.planner.into();
    let plans = match (adopted, &arguments.plans_of) {
        (Some(cases), _) => plans_beside(cases, planner)?,
        (None, Some(model)) => plans_of(model, &dataset)?,
        (None, None) => workspace.plans(&dataset, planner, session)?,
    };
    let configuration = plans.configuration(&arguments.config)?;
    let (schemes, channels) = (configuration.normalization_schemes.len(), dataset.channel_names.len());
    if schemes != channels {
        let what = format!("the plan is for {schemes} channels, the dataset has {channels}");
        return Err(Error::input(
            &plans.plans_name,
            what,
            "leave --plans-of out, or use a plan of this dataset",
        ));
    }
    if let (Some(pretrained), false) = (&pretrained, arguments.resume) {
        let plan = &configuration.architecture;
        let exact = arguments.exact || arguments.budget.is_none();
        let architecture = if exact { plan.clone() } else { pretrained.narrowed(plan) };
        let network =
            Network::new(&architecture, dataset.channel_names.len(), dataset.labels.output_channels())?;
        pretrained.transfer(&network, network.initial_weights(0))?;
    }
    let split = split(arguments, &dataset, &workspace)?;
    let cases = adopted.map_or(CasesFrom::Scans(arguments.label_rule.into()), CasesFrom::NnUnet);
    let store = workspace.store(&dataset, &plans, &arguments.config, cases, session)?;
    let options = Options {
        fold: arguments.fold.clone(),
        budget: if arguments.exact { Budget::Exact } else { arguments.budget.unwrap_or(Budget::Exact) },
        seed: arguments.seed,
        precision: arguments.precision.into(),
        resume: arguments.resume,
        out: arguments.out.clone(),
        command: std::env::args().collect(),
        pretrained,
    };
    let mut screen = Screen::new(session);
    let outcome = galen_train::fit(&store, &plans, &configuration, &dataset, &split, &options, &mut screen);
    screen.end();
    let outcome = outcome?;
    let evaluation = if arguments.no_validation || split.val.is_empty() {
        None
    } else {
        Some(validate(
            &arguments.out,
            &arguments.fold,
            &dataset,
            &split,
            arguments.save_probabilities,
            session,
        )?)
    };
    session.document(&json!({ "model": arguments.out, "outcome": outcome, "validation": evaluation }))?;
    if let Some(evaluation) = &evaluation {
        session.say(evaluate::table(evaluation));
    }
    session.say(format!("model: {}", arguments.out.display()));
    Ok(Exit::Done)
}

/// The plans of another model for this dataset, as nnU-Net's `nnUNetv2_move_plans_between_datasets` moves them: network,
/// patch, spacing and intensities are the model's.
fn plans_of(model: &Path, dataset: &Dataset) -> Result<Plans> {
    let is_file = model.extension().is_some_and(|ending| ending == "json");
    let mut json = if is_file {
        read_plans(model)?.to_json()
    } else {
        Bundle::open(&nnunet_roots::model(model)?)?.plans_json
    };
    let text = |json: &serde_json::Value, key: &str| json[key].as_str().unwrap_or_default().to_owned();
    // A name of its own, so that the cases of both plans can lie side by side.
    let name = format!("{}_of_{}", text(&json, "plans_name"), text(&json, "dataset_name"));
    json["plans_name"] = name.into();
    json["dataset_name"] = dataset.name.clone().into();
    json["image_reader_writer"] = dataset.reader_name()?.into();
    Plans::from_json(&json)
}

/// The plans that nnU-Net's preprocessed cases were made with: they lie beside the folder of the cases.
fn plans_beside(cases: &Path, planner: Planner) -> Result<Plans> {
    let name = format!("{}.json", planner.plans_name());
    let whole = cases.canonicalize().map_err(|error| Error::system(cases.display(), &error))?;
    let file = whole.parent().unwrap_or(&whole).join(&name);
    if !file.is_file() {
        let what = format!("there is no {name} beside it");
        return Err(Error::input(
            cases.display(),
            what,
            "choose its planner with --planner, or copy the plans",
        ));
    }
    read_plans(&file)
}

fn split(arguments: &Arguments, dataset: &Dataset, workspace: &Workspace) -> Result<Split> {
    let Some(given) = &arguments.patients else {
        return workspace.splits(dataset)?.fold(&arguments.fold);
    };
    let ids = dataset.training_ids();
    let patients = Patients::from_argument(given, &ids)?;
    let listed = dataset.root.join("splits_final.json");
    let splits = if listed.is_file() {
        Splits::read_with_patients(&listed, &ids, Some(&patients))?
    } else {
        Splits::by_patient(&ids, &patients)?
    };
    splits.fold(&arguments.fold)
}

/// Segments the fold's validation cases from their scans with the predictor that ships, and scores them.
pub fn validate(
    model: &Path,
    fold: &str,
    dataset: &Dataset,
    split: &Split,
    save_probabilities: bool,
    session: &Session,
) -> Result<Evaluation> {
    let bundle = Bundle::open(model)?;
    let predictor = Predictor::new(&bundle, &[fold.to_owned()], PredictOptions::default())?;
    let folder = model.join(format!("fold_{fold}")).join("validation");
    let progress = session.progress("validate", split.val.len());
    let mut pairs = Vec::new();
    for (number, id) in split.val.iter().enumerate() {
        session.check_stop("the model is trained; `galen predict` and `galen evaluate` can validate it")?;
        let known = dataset.training.iter().find(|case| case.id == *id);
        let case = known.ok_or_else(|| Error::bug(id, "a validation case that the dataset does not have"))?;
        let image = dataset.read_image(case)?;
        let prediction =
            predictor.predict(&image, save_probabilities, &|_, _| ()).map_err(|error| error.within(id))?;
        let file = folder.join(format!("{id}{}", dataset.file_ending));
        if let Some(values) = &prediction.probabilities {
            probabilities::write(&probabilities::file_beside(&file), values)?;
        }
        galen_io::write_label_map(&file, &prediction.labels)?;
        let reference = case.label.clone().unwrap_or_default();
        pairs.push(Pair { case: id.clone(), reference, prediction: file });
        progress.at(number + 1, split.val.len());
    }
    progress.finish();
    let evaluation = evaluate::evaluate(&pairs, &dataset.labels, 1.0, session)?;
    galen_io::replace_file(&folder.join("summary.json"), Summary::new(&evaluation).to_json().as_bytes())?;
    Ok(evaluation)
}

/// Shows a training on the terminal.
pub struct Screen<'a> {
    session: &'a Session,
    progress: Option<Progress>,
    dice: f64,
}

impl<'a> Screen<'a> {
    /// Nothing shown yet.
    pub fn new(session: &'a Session) -> Self {
        Self { session, progress: None, dice: f64::NAN }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }
}

impl Watch for Screen<'_> {
    fn on_start(&mut self, explanation: &[String]) {
        explanation.iter().for_each(|sentence| self.session.say(sentence));
    }

    fn on_iteration(&mut self, iteration: usize, total: usize, loss: f64) {
        let progress = self.progress.get_or_insert_with(|| self.session.progress("train", total));
        progress.at(iteration, total);
        let dice = if self.dice.is_nan() { "-".to_owned() } else { format!("{:.3}", self.dice) };
        progress.note(format!("loss {loss:.3}, Dice {dice}"));
    }

    fn on_epoch(&mut self, report: &EpochReport) {
        self.dice = report.epoch.mean_pseudo_dice;
        let e = &report.epoch;
        let line = format!(
            "epoch {}/{}: loss {:.3}, validation loss {:.3}, pseudo-Dice {:.3} (average {:.3}{}), {:.0} s, {:.1} min left",
            e.epoch,
            report.epochs,
            e.train_loss,
            e.val_loss,
            e.mean_pseudo_dice,
            e.ema_pseudo_dice,
            if e.is_best { ", best" } else { "" },
            report.seconds,
            report.seconds_left / 60.0
        );
        if let Some(progress) = &self.progress {
            progress.line(&line);
        }
    }

    fn should_stop(&mut self) -> bool {
        self.session.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn budgets_are_times_or_iterations() {
        assert_eq!(parse_budget("20m"), Ok(Budget::Time(Duration::from_secs(1200))));
        assert_eq!(parse_budget("1h30m"), Ok(Budget::Time(Duration::from_secs(5400))));
        assert_eq!(parse_budget("1500it"), Ok(Budget::Iterations(1500)));
        for wrong in ["", "20", "m", "0it", "-5m", "20x", "0s"] {
            assert!(parse_budget(wrong).is_err(), "{wrong}");
        }
    }
}
