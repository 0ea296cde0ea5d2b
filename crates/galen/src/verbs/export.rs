//! `galen export`: Galen's models as other software reads them.

use super::predict::WhichModel;
use crate::nnunet_roots;
use crate::session::{Exit, Session};
use galen_core::{Error, Result};
use galen_models::{Bundle, Network};
use galen_prep::Plans;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write a model as other software reads it.
///
/// Examples:
///   galen export nnunet runs/hippo --out exported
///   nnUNet_results=/data/results galen export nnunet runs/hippo     (into the results folder, nnU-Net's naming)
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(subcommand)]
    form: Form,
}

#[derive(clap::Subcommand)]
enum Form {
    /// nnU-Net v2: plans.json, dataset.json, fold_N/checkpoint_final.pth; for nnUNetv2_predict_from_modelfolder
    Nnunet(NnUnet),
}

#[derive(clap::Args)]
struct NnUnet {
    /// Model folder or zip
    model: PathBuf,
    #[command(flatten)]
    which: WhichModel,
    /// New model folder (default: $nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION)
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Folds to write (default: all that are there)
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    folds: Vec<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let Form::Nnunet(nnunet) = &arguments.form;
    let bundle = nnunet.which.open(&nnunet.model)?;
    let folds = folds(&bundle, &nnunet.folds, &nnunet.model)?;
    let out = match &nnunet.out {
        Some(out) => out.clone(),
        None => nnunet_roots::new_model(&bundle)?,
    };
    bundle.export_nnunet(&folds, &out)?;
    session.document(&json!({ "model": out, "folds": folds, "trainer": bundle.nnunet_trainer() }))?;
    session.say(format!("{}: folds {}, for nnU-Net v2", out.display(), folds.join(", ")));
    Ok(Exit::Done)
}

/// The folds to convert, once their weights have proved to fit the plans.
pub fn folds(bundle: &Bundle, asked: &[String], model: &Path) -> Result<Vec<String>> {
    let folds = if asked.is_empty() { bundle.folds()? } else { asked.to_vec() };
    if folds.is_empty() {
        return Err(Error::input(model.display(), "it has no trained fold", "train a fold first"));
    }
    let configuration = Plans::from_json(&bundle.plans_json)?.configuration(&bundle.configuration)?;
    let network = Network::new(&configuration.architecture, bundle.inputs, bundle.outputs)?;
    for fold in &folds {
        network.check(&bundle.weights(fold)?).map_err(|error| error.within(format!("fold {fold}")))?;
    }
    Ok(folds)
}
