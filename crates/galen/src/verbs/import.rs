//! `galen import`: datasets of other layouts into nnU-Net's raw layout, models of other software into Galen's form.

use super::import_dataset;
use super::predict::WhichModel;
use crate::dicom;
use crate::session::{Exit, Session};
use galen_core::Result;
use serde_json::json;
use std::path::PathBuf;

/// Bring a dataset of another layout into nnU-Net's raw layout, DICOM series into volumes, or a model of nnU-Net into
/// Galen's form.
///
/// Examples:
///   galen import --as BraTS2023-MET train/ --out data/Dataset050_Mets
///   galen import --as pairs polyps/ --out data/Dataset051_Polyps --threshold 128 --labels 1=polyp
///   galen import dicom study/ --out volumes/
///   galen import msd Task04_Hippocampus --out data/Dataset004_Hippocampus
///   galen import nnunet exported.zip --config 3d_fullres --out models/hippo
#[derive(clap::Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    layout: Option<Layout>,
    #[command(flatten)]
    dataset: import_dataset::AsDataset,
}

#[derive(clap::Subcommand)]
enum Layout {
    /// Medical Segmentation Decathlon: dataset.json, imagesTr, labelsTr; 4D images are split into channels
    Msd(Msd),
    Dicom(dicom::Import),
    /// A model of nnU-Net v2: its results folder or exported zip, or a dataset in $nnUNet_results
    Nnunet(NnUnet),
}

#[derive(clap::Args)]
struct NnUnet {
    /// Model folder or zip, or a dataset's name or number in $nnUNet_results
    model: PathBuf,
    #[command(flatten)]
    which: WhichModel,
    /// New model folder
    #[arg(long, short)]
    out: PathBuf,
    /// Folds to keep (default: all that are there)
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    folds: Vec<String>,
}

#[derive(clap::Args)]
struct Msd {
    /// Folder with dataset.json
    folder: PathBuf,
    /// New dataset folder, by custom named DatasetNNN_Name
    #[arg(long, short)]
    out: PathBuf,
    /// Leave incomplete cases out instead of refusing the dataset
    #[arg(long)]
    keep_going: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    match &arguments.layout {
        Some(Layout::Msd(msd)) => dataset(msd, session),
        Some(Layout::Dicom(series)) => dicom::import(series, session),
        Some(Layout::Nnunet(nnunet)) => model(nnunet, session),
        None => arguments.dataset.run(session),
    }
}

fn model(nnunet: &NnUnet, session: &Session) -> Result<Exit> {
    let bundle = nnunet.which.open(&nnunet.model)?;
    let folds = super::export::folds(&bundle, &nnunet.folds, &nnunet.model)?;
    bundle.import(&folds, &nnunet.out)?;
    session
        .document(&json!({ "model": nnunet.out, "folds": folds, "configuration": bundle.configuration }))?;
    session.say(format!("{}: {}, folds {}", nnunet.out.display(), bundle.configuration, folds.join(", ")));
    Ok(Exit::Done)
}

fn dataset(msd: &Msd, session: &Session) -> Result<Exit> {
    let progress = session.progress("import", 0);
    let imported = galen_data::import_msd(&msd.folder, &msd.out, msd.keep_going, &|done, total| {
        progress.at(done, total)
    })?;
    progress.finish();
    import_dataset::tell(&imported, &msd.out, session)
}
