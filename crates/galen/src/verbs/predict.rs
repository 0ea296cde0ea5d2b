//! `galen predict`: scans in, label maps out.

mod several;

use crate::assembly;
use crate::nnunet_roots;
use crate::postprocess;
use crate::precision::{self, Agreement, Precision};
use crate::probabilities;
use crate::scans::{Scan, Shard, case_name, images, scans};
use crate::session::{Exit, Progress, Session};
use galen_core::{Error, Kind, Result};
use galen_infer::{Options, Prediction, Predictor};
use galen_kernels::Cpu;
use galen_metrics::postprocessing::Step;
use galen_models::{Bundle, BundleForm, Choice, Storage};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Segment scans with a trained model.
///
/// The model is a folder that `galen train` wrote, an nnU-Net v2 results folder
/// (plans.json, dataset.json, fold_0/checkpoint_final.pth), a zip of nnUNetv2_export_model_to_zip, or the
/// name or number of a dataset in the folder that the environment variable nnUNet_results names.
/// It can also be a .toml file that describes several models and the steps around them (docs/totalsegmentator.md), or
/// one of the descriptions that come along: totalsegmentator (1.5 mm), totalsegmentator-fast (3 mm).
///
/// Examples:
///   galen predict scan.nii.gz --model runs/hippo --out labels.nii.gz
///   galen predict imagesTs/ --model runs/hippo --out preds/ --folds 0,1,2
///   galen predict flair.nii.gz t1.nii.gz --model runs/brain --out labels.nii.gz   (channels in the model's order)
///   galen predict imagesTs/ --model exported.zip --out preds/ --shard 2/8 --continue
///   galen predict ct_series/ --model runs/liver --out labels.nii.gz    (DICOM: a folder or zip with one series)
///   galen predict cases.json --model runs/hippo --out preds/     ({"CASE": ["ct.nii.gz"], ...}, paths relative to it)
///   nnUNet_results=/data/results galen predict imagesTs/ --model 4 --config 3d_fullres --out preds/
///   nnUNet_results=~/.totalsegmentator/nnunet/results galen predict ct.nii.gz --model totalsegmentator --out labels.nii.gz
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// One scan (its channels as files, in the model's order, or a folder or zip with one DICOM series), a folder of
    /// scans or of series, or a list of scans (.json, .txt)
    #[arg(required = true)]
    scans: Vec<PathBuf>,
    /// Model: a folder, a zip, a dataset in $nnUNet_results, or a description of several (.toml, totalsegmentator)
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
    /// For the second stage of a cascade: label map of the first stage, or a folder with one per scan
    #[arg(long, value_name = "LABELS")]
    previous: Option<PathBuf>,
    /// postprocessing.json of find-best or nnU-Net, applied to every label map
    #[arg(long, value_name = "FILE")]
    postprocessing: Option<PathBuf>,
    /// No test-time mirroring: up to eight times faster, a little less accurate
    #[arg(long)]
    no_mirroring: bool,
    /// Step of the sliding window as a part of the patch [default: 0.5; that of the description with several models]
    #[arg(long, value_name = "PART")]
    step: Option<f64>,
    /// How the network's activations are stored; auto decides on the first scan, which it segments twice more
    #[arg(long, value_enum, default_value_t = Precision::F32, value_name = "PRECISION")]
    precision: Precision,
    /// Precision of summed logits: nnU-Net's models were made with float16 sums and agree with it best so
    #[arg(long, value_enum, default_value_t = LogitSums::Auto, value_name = "SUMS")]
    logits: LogitSums,
    /// Memory that a scan may take, such as 2G or 800M: sums of logits go to a scratch file in the temporary folder
    /// where that is enough, else the bytes are named and nothing is done
    #[arg(long, value_parser = parse_bytes, value_name = "BYTES")]
    memory: Option<u64>,
    /// Part I of N of the scans, for N jobs that share them
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Skip scans whose label map is already there
    #[arg(long = "continue")]
    skip_done: bool,
}

/// `2G`, `800M`, `64K` or a number of bytes.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size such as 2G, 800M or 1500000000");
    let (digits, shift) = match text.trim_end_matches(['b', 'B', 'i']).to_uppercase() {
        text if text.ends_with('G') => (text, 30),
        text if text.ends_with('M') => (text, 20),
        text if text.ends_with('K') => (text, 10),
        text => (text, 0),
    };
    let digits = if shift > 0 { &digits[..digits.len() - 1] } else { digits.as_str() };
    let size = digits.trim().parse::<f64>().ok().map(|number| number * f64::from(1u32 << shift));
    size.filter(|size| (1.0..1e18).contains(size)).map(|size| size as u64).ok_or_else(wrong)
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
    if let Some(step) = arguments.step.filter(|step| !(*step > 0.0 && *step <= 1.0)) {
        return Err(Error::input("--step", format!("{step} is not in (0, 1]"), "0.5 is nnU-Net's"));
    }
    if assembly::named(&arguments.model) {
        return several::run(arguments, session);
    }
    let bundle = arguments.which.open(&arguments.model)?;
    let (list, first) = arguments.scans(bundle.channel_names.len())?;
    let options = Options {
        mirror: !arguments.no_mirroring,
        step: arguments.step.unwrap_or(0.5),
        compat_f16: match arguments.logits {
            LogitSums::Auto => bundle.form == BundleForm::NnUnet,
            LogitSums::F16 => true,
            LogitSums::F32 => false,
        },
        activations: Storage::F32,
    };
    let folds = if arguments.folds.is_empty() { bundle.folds()? } else { arguments.folds.clone() };
    tracing::info!("configuration {}, folds {}", bundle.configuration, folds.join(", "));
    let open = |activations| Predictor::new(&bundle, &folds, Options { activations, ..options });
    let (activations, check) = activations(arguments, first.as_ref(), &open, session)?;
    let predictor = open(activations)?;
    let previous = previous_maps(arguments, &predictor, &list)?;
    let segment = |scan: &Scan, progress: &Progress| {
        one(&predictor, scan, previous.get(&scan.case), arguments, progress)
    };
    let precision = json!({ "activations": precision::name(activations), "check": check });
    arguments.each(&list, &segment, json!({ "folds": folds, "precision": precision }), session)
}

impl Arguments {
    /// The scans that this call is to segment, and the first of all shards.
    fn scans(&self, channels: usize) -> Result<(Vec<Scan>, Option<Scan>)> {
        let list = scans(&self.scans, &self.out, channels)?;
        let first = list.first().cloned();
        Ok((self.shard.map_or(list.clone(), |shard| shard.take(list)), first))
    }

    /// Segments scan after scan; what fails is told and passed over. `about` goes into the JSON document.
    fn each(
        &self,
        list: &[Scan],
        segment: &dyn Fn(&Scan, &Progress) -> Result<Prediction>,
        about: Value,
        session: &Session,
    ) -> Result<Exit> {
        let steps = postprocess::steps(self.postprocessing.as_deref())?;
        let progress = session.progress("predict", list.len());
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for (number, scan) in list.iter().enumerate() {
            session.check_stop(&format!("{number} of {} scans are done; --continue goes on", list.len()))?;
            let whole = !self.save_probabilities || probabilities::file_beside(&scan.out).exists();
            if self.skip_done && scan.out.exists() && whole {
                continue;
            }
            progress.note(scan.case.clone());
            let written =
                segment(scan, &progress).and_then(|prediction| write(prediction, &steps, &scan.out));
            match written {
                Ok(()) => done.push(scan.out.clone()),
                Err(error) if list.len() == 1 || error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => {
                    progress.failure(&format!("galen: {error}"));
                    failed.push(json!({ "case": scan.case, "error": error.to_string() }));
                }
            }
            progress.at(number + 1, list.len());
        }
        progress.finish();
        let mut document = json!({ "written": done, "failed": failed });
        if let (Some(document), Value::Object(about)) = (document.as_object_mut(), about) {
            document.extend(about);
        }
        session.document(&document)?;
        session.say(format!("{} label maps written, {} scans failed", done.len(), failed.len()));
        Ok(if failed.is_empty() { Exit::Done } else { Exit::SomeFailed })
    }
}

/// How activations are stored, and what the check case said. It is the first scan of all, so that all shards of a cohort
/// decide alike.
fn activations(
    arguments: &Arguments,
    first: Option<&Scan>,
    open: &dyn Fn(Storage) -> Result<Predictor>,
    session: &Session,
) -> Result<(Storage, Value)> {
    let scan = match (arguments.precision, first) {
        (Precision::F32, _) | (_, None) => return Ok((Storage::F32, Value::Null)),
        (Precision::Bf16, _) => return Ok((Storage::Bf16, Value::Null)),
        (Precision::Auto, _) if !Cpu::detected().gains_from_bf16() => {
            session
                .say(format!("precision f32: the path {} gains nothing from bf16", Cpu::detected().name()));
            return Ok((Storage::F32, Value::Null));
        }
        (Precision::Auto, Some(scan)) => scan,
    };
    let progress = session.progress("check precision", 2);
    let mut maps = Vec::new();
    for storage in [Storage::F32, Storage::Bf16] {
        // One after the other: two would take twice the memory.
        let predictor = open(storage)?;
        let previous = previous_maps(arguments, &predictor, std::slice::from_ref(scan))?;
        maps.push(one(&predictor, scan, previous.get(&scan.case), arguments, &progress)?.labels);
        progress.at(maps.len(), 2);
    }
    progress.finish();
    let agreement = Agreement::of(&maps[0], &maps[1]);
    let chosen = if agreement.is_enough() { Storage::Bf16 } else { Storage::F32 };
    session.say(format!("precision {}: {}", precision::name(chosen), agreement.sentence(&scan.case)));
    Ok((chosen, agreement.json(&scan.case)))
}

/// Label map of the first stage per case; nothing for models that need none.
fn previous_maps(
    arguments: &Arguments,
    predictor: &Predictor,
    scans: &[Scan],
) -> Result<BTreeMap<String, PathBuf>> {
    let Some(given) = &arguments.previous else { return Ok(BTreeMap::new()) };
    if !predictor.needs_previous_stage() {
        let what = "the model is no second stage, so it reads no label map";
        return Err(Error::input("--previous", what, "leave it out"));
    }
    if let (true, [scan]) = (given.is_file(), scans) {
        return Ok([(scan.case.clone(), given.clone())].into());
    }
    let maps: BTreeMap<String, PathBuf> =
        images(given)?.into_iter().map(|file| (case_name(&file), file)).collect();
    match scans.iter().find(|scan| !maps.contains_key(&scan.case)) {
        None => Ok(maps),
        Some(scan) => {
            let what = format!("no label map for {}", scan.case);
            Err(Error::input(given.display(), what, "predict all scans with the first stage"))
        }
    }
}

fn one(
    predictor: &Predictor,
    scan: &Scan,
    previous: Option<&PathBuf>,
    arguments: &Arguments,
    progress: &Progress,
) -> Result<Prediction> {
    let image = galen_io::read_channels(&scan.images)?;
    let previous = previous.map(|file| galen_io::read_label_map(file)).transpose()?;
    let need = predictor.need(&image, arguments.save_probabilities);
    // What the scan takes is taken already.
    let free = galen_data::available_bytes().map(|free| free as u64 + need.scan);
    let limit = arguments.memory.or(free.map(|free| need.limit(free)));
    let place = need.place(limit).map_err(|error| error.within(&scan.case))?;
    tracing::info!("{}: needs up to {} MB of memory, sums in {place:?}", scan.case, need.in_memory >> 20);
    let note = |tile: usize, tiles: usize| progress.note(format!("{} tile {tile}/{tiles}", scan.case));
    predictor
        .predict_placed(&image, previous.as_ref(), arguments.save_probabilities, place, &note)
        .map_err(|error| error.within(&scan.case))
}

/// Probabilities stay as they are; post-processing is for label maps.
fn write(mut prediction: Prediction, steps: &[Step], out: &Path) -> Result<()> {
    steps.iter().for_each(|step| step.apply(&mut prediction.labels));
    if let Some(probabilities) = &prediction.probabilities {
        probabilities::write(&probabilities::file_beside(out), probabilities)?;
    }
    galen_io::write_label_map(out, &prediction.labels)
}
