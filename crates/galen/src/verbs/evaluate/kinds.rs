//! `galen evaluate --kind`: one table or pair of files in, every number of its family under its id out.

mod options;
mod report;
mod text;

pub use options::Options;
pub use report::write_figures;

use super::{Arguments, files, inputs};
use crate::session::{Exit, Session};
use galen_core::{Error, Result};
use galen_kernels::components::Connectivity;
use galen_metrics::catalogue::{definition, tool};
use galen_metrics::detection::coco;
use galen_metrics::masks::{conventions as mask_conventions, lesions};
use galen_metrics::{Definition, Measures, conformal, fairness, features, registration, text as texts};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is printed.
#[derive(Serialize)]
struct Document {
    format: u32,
    kind: String,
    conventions: Vec<String>,
    inputs: Vec<String>,
    /// Settings that decide the numbers.
    settings: BTreeMap<&'static str, serde_json::Value>,
    values: Measures,
    /// Numbers of each label when there are several; `values` are their means.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<u16, Measures>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<fairness::Group>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    definitions: Vec<&'static Definition>,
}

/// Measures what `--kind` says.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let options = &arguments.kinds;
    let kind = options.kind.as_deref().unwrap_or_default();
    options::refuse_unused(arguments, kind)?;
    let conventions = options::conventions(&options.conventions)?;
    let mut document = Document {
        format: 1,
        kind: kind.to_owned(),
        conventions: conventions.clone(),
        inputs: Vec::new(),
        settings: BTreeMap::new(),
        values: Measures::default(),
        labels: BTreeMap::new(),
        groups: Vec::new(),
        definitions: Vec::new(),
    };
    measure(arguments, kind, &mut document)?;
    let wanted = |id: &str| match tool(id) {
        Some(tool) => conventions.iter().any(|wanted| wanted == "all" || wanted == tool),
        None => true,
    };
    document.values.retain(wanted);
    document.labels.values_mut().for_each(|values| values.retain(wanted));
    if options.definitions {
        document.definitions = document.values.iter().filter_map(|(id, _)| definition(kind, id)).collect();
    }
    if let Some(file) = &arguments.report {
        report::write(file, arguments, kind, &document)?;
    }
    session.document(&document)?;
    session.say(text::table(&document));
    Ok(Exit::Done)
}

fn measure(arguments: &Arguments, kind: &str, document: &mut Document) -> Result<()> {
    let options = &arguments.kinds;
    if kind == "conformal" {
        return conformal_sets(options, document);
    }
    if ["seg", "lesion", "detection2d", "image", "features", "registration"].contains(&kind) {
        return two_files(arguments, kind, document);
    }
    let files: Vec<PathBuf> = options.input.iter().chain(&arguments.pred).cloned().collect();
    let Some(file) = files.first() else {
        return Err(Error::input(
            format!("--kind {kind}"),
            "there is nothing to measure",
            "give the table with --input",
        ));
    };
    if files.len() > 1 && kind != "tests" {
        return Err(Error::input(
            "--input",
            "is given more than once",
            format!("--kind {kind} measures one table"),
        ));
    }
    document.inputs = files.iter().map(|file| file.display().to_string()).collect();
    let settings = &mut document.settings;
    let mut probability = |name: &'static str, given: Option<f64>, default: f64, most: f64| {
        let value = given.unwrap_or(default);
        if !(0.0..=most).contains(&value) {
            return Err(Error::input(
                name,
                format!("{value} is no probability to decide at"),
                format!("give for example {default}"),
            ));
        }
        settings.insert(&name[2..], value.into());
        Ok(value)
    };
    document.values = match kind {
        "binary" => {
            let threshold = probability("--threshold", options.threshold, 0.5, 1.0)?;
            let pt = probability("--pt", options.pt, 0.2, 0.999_999)?;
            let seed = options.seed.unwrap_or(0);
            settings.insert("seed", seed.into());
            let (table, patients) = inputs::binary_of_patients(file)?;
            let mut values = table.measure(threshold, pt);
            values.append(table.intervals(patients.as_deref(), seed));
            values
        }
        "multiclass" => inputs::multiclass(file)?.measure(),
        "multilabel" => inputs::multilabel(file)?.measure(),
        "agreement" => inputs::ratings(file)?.measure(),
        "fairness" => {
            let threshold = probability("--threshold", options.threshold, 0.5, 1.0)?;
            let (labels, scores, groups) = inputs::groups(file)?;
            let (values, groups) = fairness::measure(&labels, &scores, &groups, threshold)
                .map_err(|error| error.within(file.display()))?;
            document.groups = groups;
            values
        }
        "text" => texts::measure(&files::texts(file)?).map_err(|error| error.within(file.display()))?,
        "froc" => {
            let (Some(targets), Some(images)) = (options.targets, options.images) else {
                let remedy = "add --targets N --images N: candidates alone do not say what was missed";
                return Err(Error::input("--kind froc", "needs the numbers of targets and images", remedy));
            };
            settings.insert("targets", targets.into());
            settings.insert("images", images.into());
            files::candidates(file, targets, images)?.measure()
        }
        "tests" => {
            let seed = options.seed.unwrap_or(0);
            settings.insert("seed", seed.into());
            inputs::tests(&files, seed)?
        }
        _ => survival(file, options, settings)?,
    };
    Ok(())
}

/// Kinds that compare a file with a reference.
fn two_files(arguments: &Arguments, kind: &str, document: &mut Document) -> Result<()> {
    let options = &arguments.kinds;
    if kind == "registration" {
        return registered(arguments, document);
    }
    let (Some(pred), Some(reference), []) = (&arguments.pred, &arguments.reference, &options.input[..])
    else {
        let place = format!("--kind {kind}");
        return Err(Error::input(place, "compares two files", "give --pred FILE --ref FILE"));
    };
    document.inputs = [pred, reference].map(|file| file.display().to_string()).to_vec();
    let settings = &mut document.settings;
    document.values = match kind {
        "seg" => {
            let tolerance = arguments.tolerance.unwrap_or(1.0);
            if !(tolerance >= 0.0 && tolerance.is_finite()) {
                return Err(Error::input("--tolerance", "not a distance", "give millimetres, for example 1"));
            }
            settings.insert("tolerance-mm", tolerance.into());
            per_label(files::masks(pred, reference)?, &mut document.labels, |pair| {
                mask_conventions::measure(pair, tolerance)
            })
        }
        "lesion" => {
            let number = options.connectivity.unwrap_or(26);
            let connectivity = match number {
                4 | 6 => Connectivity::Faces,
                18 => Connectivity::Edges,
                8 | 26 => Connectivity::Corners,
                _ => {
                    let what = format!("{number} is no neighbourhood");
                    return Err(Error::input(
                        "--connectivity",
                        what,
                        "give 6, 18 or 26 (4 or 8 in flat images)",
                    ));
                }
            };
            settings.insert("connectivity", number.into());
            per_label(files::masks(pred, reference)?, &mut document.labels, |pair| {
                lesions::measure(pair, connectivity)
            })
        }
        "detection2d" => {
            let (targets, detections) = files::coco(pred, reference)?;
            coco::measure(&targets, &detections)
        }
        "image" => {
            let Some(range) = options.data_range else {
                let remedy =
                    "add --data-range, e.g. 255, or the window in HU: PSNR and SSIM mean nothing without it";
                return Err(Error::input("--kind image", "needs the range of the values", remedy));
            };
            settings.insert("data-range", range.into());
            files::images(pred, reference, range)?.measure()?
        }
        _ => {
            let (generated, real) = (files::features(pred)?, files::features(reference)?);
            features::measure(real.as_ref(), generated.as_ref())
                .map_err(|error| error.within(pred.display()))?
        }
    };
    Ok(())
}

/// Landmarks before and after, a displacement field, or both.
fn registered(arguments: &Arguments, document: &mut Document) -> Result<()> {
    let files = [&arguments.pred, &arguments.reference].into_iter().flatten().chain(&arguments.kinds.input);
    document.inputs = files.map(|file| file.display().to_string()).collect();
    let landmarks = match (&arguments.pred, &arguments.reference) {
        (Some(moved), Some(fixed)) => {
            let (fixed, moved) = (inputs::landmarks(fixed)?, inputs::landmarks(moved)?);
            Some(registration::landmarks(&fixed, &moved)?)
        }
        (None, None) => None,
        _ => {
            let what = "landmarks are compared with those of the other image";
            return Err(Error::input("--kind registration", what, "give --pred and --ref, or neither"));
        }
    };
    let field = match &arguments.kinds.input[..] {
        [] => None,
        [file] => Some(inputs::displacements(file)?),
        _ => return Err(Error::input("--input", "is given more than once", "give one displacement field")),
    };
    if landmarks.is_none() && field.is_none() {
        let remedy = "give landmarks with --pred and --ref (CSV x,y,z in mm), or a field with --input (.npy)";
        return Err(Error::input("--kind registration", "there is nothing to measure", remedy));
    }
    [landmarks, field].into_iter().flatten().for_each(|values| document.values.append(values));
    Ok(())
}

/// Measures each label; several labels are kept apart and their mean over labels with a number is the value.
fn per_label(
    labels: Vec<files::Label>,
    apart: &mut BTreeMap<u16, Measures>,
    of: impl Fn(&galen_metrics::masks::Pair) -> Measures + Sync,
) -> Measures {
    let mut all: Vec<(u16, Measures)> =
        labels.par_iter().map(|label| (label.value, of(&label.pair))).collect();
    if all.len() == 1 {
        return all.remove(0).1;
    }
    let measures: Vec<Measures> = all.iter().map(|(_, m)| m.clone()).collect();
    apart.extend(all);
    Measures::mean(&measures)
}

fn survival(
    file: &Path,
    options: &Options,
    settings: &mut BTreeMap<&'static str, serde_json::Value>,
) -> Result<Measures> {
    let table = inputs::survival(file)?;
    let times = (!options.times.is_empty()).then_some(&options.times[..]);
    let predicted = options.survival.as_ref().map(|file| inputs::predicted(file, times)).transpose()?;
    let training = options.train.as_ref().map(|file| inputs::survival(file)).transpose()?;
    let censoring = options.train.as_deref().unwrap_or(file);
    settings.insert("censoring-curve-from", censoring.display().to_string().into());
    let tau = options.tau.unwrap_or(f64::INFINITY);
    if tau.is_nan() || tau <= 0.0 {
        return Err(Error::input("--tau", format!("{tau} is no time"), "give a time inside the follow-up"));
    }
    table
        .measure(tau, times, predicted.as_ref(), training.as_ref())
        .map_err(|error| error.within(file.display()))
}

fn conformal_sets(options: &Options, document: &mut Document) -> Result<()> {
    let (calibration, test) = match (&options.calibration, &options.test, &options.input[..]) {
        (Some(calibration), Some(test), []) => (calibration, test),
        (None, None, [calibration, test]) => (calibration, test),
        _ => {
            let remedy = "give --calibration FILE --test FILE (columns label,p0,p1,..)";
            return Err(Error::input("--kind conformal", "needs two tables", remedy));
        }
    };
    document.inputs = [calibration, test].map(|file| file.display().to_string()).to_vec();
    let alpha = options.alpha.unwrap_or(0.1);
    document.values =
        conformal::measure(&inputs::multiclass(calibration)?, &inputs::multiclass(test)?, alpha)?;
    Ok(())
}
