//! `galen predict`: scans in, label maps out.

use crate::nnunet_roots;
use crate::scans::{Scan, scans};
use crate::session::{Exit, Progress, Session};
use galen_core::{Error, Kind, Result, Volume};
use galen_infer::{Options, Prediction, Predictor, Probabilities};
use galen_models::{Bundle, BundleForm, Choice};
use npyz::WriterBuilder;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Segment scans with a trained model.
///
/// The model is a folder that `galen train` wrote, an nnU-Net v2 results folder
/// (plans.json, dataset.json, fold_0/checkpoint_final.pth), a zip of nnUNetv2_export_model_to_zip, or the
/// name or number of a dataset in the folder that the environment variable nnUNet_results names.
///
/// Examples:
///   galen predict scan.nii.gz --model runs/hippo --out labels.nii.gz
///   galen predict imagesTs/ --model runs/hippo --out preds/ --folds 0,1,2
///   galen predict flair.nii.gz t1.nii.gz --model runs/brain --out labels.nii.gz   (channels in the model's order)
///   galen predict imagesTs/ --model exported.zip --out preds/
///   nnUNet_results=/data/results galen predict imagesTs/ --model 4 --config 3d_fullres --out preds/
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// One scan (its channels as files, in the model's order), or a folder of scans
    #[arg(required = true)]
    scans: Vec<PathBuf>,
    /// Model: a folder, a zip, or a dataset in $nnUNet_results
    #[arg(long, short)]
    model: PathBuf,
    #[command(flatten)]
    which: WhichModel,
    /// Label map to write; for a folder of scans, the folder that gets one label map per scan
    #[arg(long, short)]
    out: PathBuf,
    /// Folds to average (default: all that are there)
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    folds: Vec<String>,
    /// Also write class probabilities (CASE.npz, float32, key `probabilities`)
    #[arg(long)]
    save_probabilities: bool,
    /// No test-time mirroring: up to eight times faster, a little less accurate
    #[arg(long)]
    no_mirroring: bool,
    /// Step of the sliding window as a part of the patch
    #[arg(long, default_value_t = 0.5, value_name = "PART")]
    step: f64,
    /// Precision of summed logits: nnU-Net's models were made with float16 sums and agree with it best so
    #[arg(long, value_enum, default_value_t = LogitSums::Auto, value_name = "SUMS")]
    logits: LogitSums,
    /// Skip scans whose label map is already there
    #[arg(long = "continue")]
    skip_done: bool,
}

/// Which model, where a folder or zip holds several.
#[derive(Debug, clap::Args)]
pub struct WhichModel {
    /// Configuration, where the folder or zip holds several models
    #[arg(long, short, value_name = "NAME")]
    config: Option<String>,
    /// Trainer class, where there are several
    #[arg(long, value_name = "NAME")]
    trainer: Option<String>,
    /// Plans, where there are several
    #[arg(long, value_name = "NAME")]
    plans: Option<String>,
    /// Checkpoint of nnU-Net's folders [default: checkpoint_final.pth]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<String>,
}

impl WhichModel {
    /// Opens the model.
    pub fn open(&self, given: &Path) -> Result<Bundle> {
        let choice = Choice {
            configuration: self.config.clone(),
            trainer: self.trainer.clone(),
            plans: self.plans.clone(),
            checkpoint: self.checkpoint.clone(),
        };
        Bundle::open_chosen(&nnunet_roots::model(given)?, &choice)
    }
}

/// Precision in which tiles, mirrored copies and folds are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogitSums {
    /// float16 for nnU-Net's model folders, float32 for Galen's
    Auto,
    /// float16, rounded where nnU-Net rounds
    F16,
    /// float32
    F32,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    if !(arguments.step > 0.0 && arguments.step <= 1.0) {
        return Err(Error::input(
            "--step",
            format!("{} is not in (0, 1]", arguments.step),
            "0.5 is nnU-Net's",
        ));
    }
    let bundle = arguments.which.open(&arguments.model)?;
    let list = scans(&arguments.scans, &arguments.out, bundle.channel_names.len())?;
    let options = Options {
        mirror: !arguments.no_mirroring,
        step: arguments.step,
        compat_f16: match arguments.logits {
            LogitSums::Auto => bundle.form == BundleForm::NnUnet,
            LogitSums::F16 => true,
            LogitSums::F32 => false,
        },
    };
    let folds = if arguments.folds.is_empty() { bundle.folds()? } else { arguments.folds.clone() };
    let predictor = Predictor::new(&bundle, &folds, options)?;
    let progress = session.progress("predict", list.len());
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (number, scan) in list.iter().enumerate() {
        session.check_stop(&format!("{number} of {} scans are done; --continue goes on", list.len()))?;
        if arguments.skip_done && scan.out.exists() {
            continue;
        }
        progress.note(scan.case.clone());
        match one(&predictor, scan, arguments.save_probabilities, &progress) {
            Ok(()) => done.push(scan.out.clone()),
            Err(error) if list.len() == 1 || error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => {
                progress.line(&format!("galen: {error}"));
                failed.push(json!({ "case": scan.case, "error": error.to_string() }));
            }
        }
        progress.at(number + 1, list.len());
    }
    progress.finish();
    session.document(&json!({ "written": done, "failed": failed, "folds": folds }))?;
    session.say(format!("{} label maps written, {} scans failed", done.len(), failed.len()));
    Ok(if failed.is_empty() { Exit::Done } else { Exit::SomeFailed })
}

fn one(predictor: &Predictor, scan: &Scan, probabilities: bool, progress: &Progress) -> Result<()> {
    let image = read(scan)?;
    let note = |tile: usize, tiles: usize| progress.note(format!("{} tile {tile}/{tiles}", scan.case));
    let prediction =
        predictor.predict(&image, probabilities, &note).map_err(|error| error.within(&scan.case))?;
    write(&prediction, &scan.out)
}

/// Reads the channels of a scan; they must share one grid.
pub fn read(scan: &Scan) -> Result<Volume> {
    let images = scan.images.iter().map(|file| galen_io::read(file)).collect::<Result<Vec<_>>>()?;
    for (file, image) in scan.images.iter().zip(&images).skip(1) {
        if let Some(mismatch) = images[0].geometry.differs(&image.geometry) {
            return Err(Error::input(
                file.display(),
                format!("its grid differs from {} in {mismatch}", scan.images[0].display()),
                "resample the channels onto one grid",
            ));
        }
    }
    Volume::stack(images).ok_or_else(|| Error::bug(&scan.case, "channels of one grid do not stack"))
}

fn write(prediction: &Prediction, out: &Path) -> Result<()> {
    if let Some(probabilities) = &prediction.probabilities {
        let file = out.with_file_name(format!("{}.npz", crate::scans::case_name(out)));
        galen_io::replace_file(&file, &npz(probabilities)?)?;
    }
    galen_io::write_label_map(out, &prediction.labels)
}

/// As nnU-Net writes them: key `probabilities`, float32 `[class, z, y, x]`, compressed.
fn npz(probabilities: &Probabilities) -> Result<Vec<u8>> {
    let [z, y, x] = probabilities.size;
    let shape = [probabilities.classes, z, y, x].map(|n| n as u64);
    let write = || -> std::io::Result<Vec<u8>> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        archive.start_file("probabilities.npy", zip::write::SimpleFileOptions::default().large_file(true))?;
        let mut array =
            npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut archive).begin_nd()?;
        array.extend(probabilities.values.iter().copied())?;
        array.finish()?;
        Ok(archive.finish()?.into_inner())
    };
    write().map_err(|error| Error::bug("probabilities", error))
}
