//! `galen plan`: fingerprint and plan of a dataset.

use crate::nnunet_roots;
use crate::session::{Exit, Session};
use crate::workspace::Workspace;
use comfy_table::Table;
use galen_core::{Error, Result};
use galen_data::Dataset;
use galen_prep::{Planner, Plans};
use serde_json::json;
use std::path::PathBuf;

/// Fingerprint and plan of a dataset, as nnU-Net v2 makes them.
///
/// Writes dataset_fingerprint.json, the plans and splits_final.json into DATASET/preprocessed.
///
/// Example: galen plan data/Dataset004_Hippocampus --planner resenc-m
#[derive(clap::Args)]
pub struct Arguments {
    /// Dataset folder (nnU-Net raw or MSD), or a dataset's name or number in $nnUNet_raw
    dataset: PathBuf,
    /// Which of nnU-Net's planners
    #[arg(long, value_enum, default_value_t = PlannerName::Default)]
    planner: PlannerName,
    /// Memory target in GB (default: the planner's own)
    #[arg(long, value_name = "GB")]
    gpu_memory: Option<f64>,
    /// Where fingerprint, plans and preprocessed cases go (default: DATASET/preprocessed; $nnUNet_preprocessed/DATASET for one that lies in $nnUNet_raw)
    #[arg(long, value_name = "DIR")]
    preprocessed: Option<PathBuf>,
    /// Compute the fingerprint again even if it is there
    #[arg(long)]
    clean: bool,
}

/// Planner presets by the names that users know.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum PlannerName {
    /// nnUNetPlans
    Default,
    /// nnUNetResEncUNetMPlans, 8 GB
    ResencM,
    /// nnUNetResEncUNetLPlans, 24 GB
    ResencL,
    /// nnUNetResEncUNetXLPlans, 40 GB
    ResencXl,
}

impl From<PlannerName> for Planner {
    fn from(name: PlannerName) -> Self {
        match name {
            PlannerName::Default => Self::Default,
            PlannerName::ResencM => Self::ResEncM,
            PlannerName::ResencL => Self::ResEncL,
            PlannerName::ResencXl => Self::ResEncXL,
        }
    }
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    if arguments.gpu_memory.is_some_and(|gb| !(gb > 0.0 && gb.is_finite())) {
        return Err(Error::input("--gpu-memory", "not a positive number of GB", "give for example 8"));
    }
    let dataset = Dataset::open(&nnunet_roots::dataset(&arguments.dataset)?)?;
    let workspace = Workspace::of(&dataset, arguments.preprocessed.as_deref());
    let fingerprint = workspace.fingerprint(&dataset, arguments.clean, session)?;
    let plans = workspace.plan(&dataset, &fingerprint, arguments.planner.into(), arguments.gpu_memory)?;
    workspace.splits(&dataset)?;
    session.document(&json!({ "folder": workspace.folder, "fingerprint": fingerprint, "plans": plans }))?;
    session.say(table(&plans)?);
    session.say(format!("plans: {}", workspace.plans_file(&plans.plans_name).display()));
    Ok(Exit::Done)
}

/// The plan as a table, one column per configuration.
pub fn table(plans: &Plans) -> Result<String> {
    let names: Vec<String> =
        plans.configuration_names().into_iter().filter(|name| !name.contains("cascade")).collect();
    let configurations = names.iter().map(|name| plans.configuration(name)).collect::<Result<Vec<_>>>()?;
    let mut table = Table::new();
    let mut header = vec!["".to_owned()];
    header.extend(names);
    table.set_header(header);
    let mut row = |name: &str, cell: &dyn Fn(&galen_prep::Configuration) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(configurations.iter().map(cell));
        table.add_row(cells);
    };
    row("patch (z, y, x)", &|c| format!("{:?}", c.patch_size));
    row("batch", &|c| c.batch_size.to_string());
    row("spacing, mm", &|c| list(&c.spacing));
    row("median size", &|c| list(&c.median_image_size_in_voxels));
    row("network", &|c| format!("{:?}", c.architecture.class));
    row("features", &|c| format!("{:?}", c.architecture.features));
    row("strides", &|c| c.architecture.strides.iter().map(|s| digits(s)).collect::<Vec<_>>().join(" "));
    row("kernels", &|c| c.architecture.kernels.iter().map(|k| digits(k)).collect::<Vec<_>>().join(" "));
    row("normalisation", &|c| format!("{:?}", c.normalization_schemes));
    row("batch Dice", &|c| c.batch_dice.to_string());
    Ok(table.to_string())
}

fn list(values: &[f64]) -> String {
    values.iter().map(|v| format!("{}", (v * 1e4).round() / 1e4)).collect::<Vec<_>>().join(" × ")
}

fn digits(axes: &[usize]) -> String {
    axes.iter().map(ToString::to_string).collect()
}
