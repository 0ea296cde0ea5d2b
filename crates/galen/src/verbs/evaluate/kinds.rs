//! `galen evaluate --kind`: one table or pair of files in, every number of its family under its id out.

mod options;
mod pairs;
mod report;
mod text;

pub use options::Options;
pub use report::write_figures;

use super::{Arguments, files, inputs};
use crate::session::{Exit, Session};
use galen_core::{Error, Result};
use galen_metrics::catalogue::{definition, tool};
use galen_metrics::{Definition, Measures, conformal, fairness, text as texts};
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
    /// Name of the column that `values` and `groups` are about.
    #[serde(skip_serializing_if = "String::is_empty")]
    attribute: String,
    /// Groups of the first attribute, which `values` are about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<fairness::Group>,
    /// Gaps and groups of each attribute when there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    definitions: Vec<&'static Definition>,
}

/// A column that divides the cases, such as sex, age, site or scanner.
#[derive(Serialize)]
struct Attribute {
    name: String,
    values: Measures,
    groups: Vec<fairness::Group>,
}

impl Document {
    /// Each attribute with its groups; the first one alone has no entry of its own.
    fn attributes(&self) -> impl Iterator<Item = (&str, &[fairness::Group])> {
        let alone = self.attributes.is_empty() && !self.groups.is_empty();
        let first = alone.then_some((self.attribute.as_str(), &self.groups[..]));
        first.into_iter().chain(self.attributes.iter().map(|a| (a.name.as_str(), &a.groups[..])))
    }
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
        attribute: String::new(),
        groups: Vec::new(),
        attributes: Vec::new(),
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
    if kind == "features" && arguments.pred.is_none() && arguments.reference.is_none() {
        return pairs::generated_classes(options, document);
    }
    if ["seg", "lesion", "detection2d", "detection3d", "image", "features", "registration"].contains(&kind) {
        return pairs::two_files(arguments, kind, document);
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
            if let Some(calibration) = &options.calibration {
                settings.insert("fitted-on", calibration.display().to_string().into());
                values.append(table.recalibrated(&inputs::binary(calibration)?));
            }
            values
        }
        "multiclass" => {
            let table = inputs::multiclass(file)?;
            let mut values = table.measure();
            if let Some(calibration) = &options.calibration {
                settings.insert("fitted-on", calibration.display().to_string().into());
                let fitted = table.recalibrated(&inputs::multiclass(calibration)?);
                values.append(fitted.map_err(|error| error.within(file.display()))?);
            }
            values
        }
        "multilabel" => inputs::multilabel(file)?.measure(),
        "agreement" => inputs::ratings(file)?.measure(),
        "fairness" => {
            let threshold = probability("--threshold", options.threshold, 0.5, 1.0)?;
            let seed = options.seed.unwrap_or(0);
            settings.insert("seed", seed.into());
            let table = inputs::grouped(file, &options.by, &options.bands)?;
            let mut attributes = Vec::new();
            for (name, groups) in table.attributes {
                let (values, groups) =
                    fairness::measure(&table.labels, &table.scores, &groups, threshold, seed)
                        .map_err(|error| error.within(&name).within(file.display()))?;
                attributes.push(Attribute { name, values, groups });
            }
            let several = attributes.len() > 1;
            let Some(first) = attributes.first() else {
                return Err(Error::bug("fairness", "no column divides the cases"));
            };
            let values = first.values.clone();
            (document.attribute, document.groups) = (first.name.clone(), first.groups.clone());
            document.attributes = if several { attributes } else { Vec::new() };
            values
        }
        "text" => {
            let read = files::texts(file)?;
            let mut values = texts::measure(&read.pairs).map_err(|error| error.within(file.display()))?;
            if let Some(labels) = &read.labels {
                texts::labels::measure(labels, &mut values);
            }
            if let Some(vectors) = &read.vectors {
                texts::embedded::measure(vectors, &mut values)
                    .map_err(|error| error.within(file.display()))?;
            }
            values
        }
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
