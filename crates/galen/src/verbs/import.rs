//! `galen import`: other layouts into nnU-Net's raw layout.

use crate::session::{Exit, Session};
use galen_core::Result;
use serde_json::json;
use std::path::PathBuf;

/// Bring a dataset of another layout into nnU-Net's raw layout.
///
/// Example: galen import msd Task04_Hippocampus --out data/Dataset004_Hippocampus
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    layout: Layout,
}

#[derive(clap::Subcommand)]
enum Layout {
    /// Medical Segmentation Decathlon: dataset.json, imagesTr, labelsTr; 4D images are split into channels
    Msd(Msd),
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
    let Layout::Msd(msd) = &arguments.layout;
    let progress = session.progress("import", 0);
    let imported = galen_data::import_msd(&msd.folder, &msd.out, msd.keep_going, &|done, total| {
        progress.at(done, total)
    })?;
    progress.finish();
    for line in &imported.left_out {
        session.say(format!("left out: {line}"));
    }
    session.say(format!(
        "{}: {} training cases, {} test cases. Next: galen check {}",
        msd.out.display(),
        imported.training,
        imported.test,
        msd.out.display()
    ));
    session.document(&json!({
        "dataset": msd.out, "training": imported.training, "test": imported.test, "left_out": imported.left_out,
    }))?;
    Ok(Exit::Done)
}
