//! The second kind of protocol: predictions made elsewhere. Every case of the reference counts for every method: one
//! without a usable prediction is named and counts as a failure, with the worst value there is.

use super::board::{Board, Column, Field, Values};
use super::cells::{POLICY, columns, diagonal, ranked, value};
use super::protocol::{DatasetEntry, Kind, Method, Protocol};
use super::record::{CaseRecord, Out};
use crate::report::overlay;
use crate::scans::{case_name, images};
use crate::session::Session;
use crate::verbs::{self, Columns};
use galen_core::{Error, LabelMap, Labels, Result};
use galen_metrics::classification::roc;
use galen_metrics::detection::coco::{self, Detection, Target};
use galen_metrics::score_case;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Measures all methods on all datasets; pictures of masks go to `out`.
pub fn board(protocol: &Protocol, out: &Out, session: &Session) -> Result<Board> {
    let (columns, policy) = match protocol.kind {
        Kind::Masks => (columns(protocol)?, POLICY),
        Kind::Scores => (chosen(protocol, score_columns())?, SCORES_POLICY),
        _ => (chosen(protocol, coco_columns())?, COCO_POLICY),
    };
    let mut notes = vec![policy.to_owned()];
    let mut fields = Vec::new();
    for dataset in &protocol.datasets {
        let field = match protocol.kind {
            Kind::Masks => masks(protocol, dataset, out, session, &mut notes),
            Kind::Scores => scores(protocol, dataset, &columns),
            _ => boxes(protocol, dataset, &columns),
        };
        fields.push(field.map_err(|error| error.within(format!("dataset {}", dataset.name)))?);
    }
    for field in &fields {
        for (method, failures) in protocol.methods.iter().zip(&field.failures) {
            if let Some((first, reason)) = failures.first() {
                notes.push(format!(
                    "{} failed on {} of {} cases of {} and gets the worst value there: first {first} ({reason}).",
                    method.name,
                    failures.len(),
                    field.cases.len(),
                    field.dataset
                ));
            }
        }
    }
    let mut facts = vec![("seed".to_owned(), protocol.seed.to_string())];
    if protocol.kind == Kind::Masks {
        facts.push(("tolerance of NSD".to_owned(), format!("{} mm", protocol.tolerance_mm)));
    }
    Ok(Board {
        title: protocol.title.clone(),
        methods: protocol.contenders(),
        columns,
        fields,
        draws: protocol.draws,
        seed: protocol.seed,
        facts,
        notes,
    })
}

fn predictions(protocol: &Protocol, method: &Method, dataset: &DatasetEntry) -> PathBuf {
    protocol.place(method.predictions.get(&dataset.name).map_or(Path::new(""), PathBuf::as_path))
}

fn reference(protocol: &Protocol, dataset: &DatasetEntry) -> PathBuf {
    protocol.place(dataset.reference.as_deref().unwrap_or(Path::new("")))
}

/// Label maps of a folder by case; an empty folder has none.
fn maps(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    if std::fs::read_dir(folder).map_err(|e| Error::system(folder.display(), &e))?.next().is_none() {
        return Ok(BTreeMap::new());
    }
    Ok(images(folder)?.into_iter().map(|file| (case_name(&file), file)).collect())
}

fn masks(
    protocol: &Protocol,
    dataset: &DatasetEntry,
    out: &Out,
    session: &Session,
    notes: &mut Vec<String>,
) -> Result<Field> {
    let folder = reference(protocol, dataset);
    let references = maps(&folder)?;
    if references.is_empty() {
        return Err(Error::input(folder.display(), "holds no label map", "give the folder of references"));
    }
    let scans = match &dataset.images {
        Some(images) => maps(&protocol.place(images))?,
        None => BTreeMap::new(),
    };
    let labels = match &dataset.labels {
        Some(file) => galen_data::read_labels_of(&protocol.place(file))?,
        None => {
            let pairs: Vec<verbs::Pair> = references
                .iter()
                .map(|(case, file)| verbs::Pair {
                    case: case.clone(),
                    reference: file.clone(),
                    prediction: file.clone(),
                })
                .collect();
            verbs::labels_for(None, &folder, &folder, &pairs)?
        }
    };
    let (mut values, mut failures) = (Vec::new(), Vec::new());
    for method in &protocol.methods {
        session.check_stop("nothing is half-written; run it again")?;
        let found = maps(&predictions(protocol, method, dataset))
            .map_err(|error| error.within(format!("method {}", method.name)))?;
        let extra = found.keys().filter(|case| !references.contains_key(*case)).count();
        if extra > 0 {
            notes.push(format!(
                "{}: {extra} predictions for {} have no reference and are not scored.",
                method.name, dataset.name
            ));
        }
        let one = |(case, file): (&String, &PathBuf)| {
            let truth = galen_io::read_label_map(file)?;
            let (scores, prediction, failure) =
                scored(&truth, found.get(case), &labels, protocol.tolerance_mm)?;
            let image = match scans.get(case).or_else(|| scans.get(&format!("{case}_0000"))) {
                Some(file) => galen_io::read(file).map_err(|error| error.within(case))?,
                None => truth.to_volume(),
            };
            let title = format!("{}, {case}: {}", dataset.name, method.name);
            let truth_here = (image.geometry.size == truth.geometry.size).then_some(&truth);
            let svg = overlay(&title, &image, truth_here, truth_here.and(prediction.as_ref()), &labels)?;
            let picture = out.folder.join(picture(&dataset.name, &method.name, case));
            galen_io::replace_file(&picture, svg.as_bytes())?;
            let record = CaseRecord { case: case.clone(), diagonal_mm: diagonal(&truth.geometry), scores };
            Ok((record, failure))
        };
        let all = references.par_iter().map(one).collect::<Result<Vec<_>>>()?;
        let strange: Vec<&str> = all
            .iter()
            .filter(|(record, _)| record.scores.unnamed[1] > 0)
            .map(|(record, _)| record.case.as_str())
            .collect();
        if let Some(first) = strange.first() {
            notes.push(format!(
                "{}: predictions of {} cases of {} hold labels that the reference does not know, first {first}; those \
                 voxels count as background.",
                method.name,
                strange.len(),
                dataset.name
            ));
        }
        let column = |entry: &&galen_metrics::Entry| {
            Values::PerCase(all.iter().map(|(record, _)| value(entry, record)).collect())
        };
        values.push(ranked(protocol).iter().map(column).collect());
        failures.push(
            all.into_iter()
                .filter_map(|(record, failure)| failure.map(|reason| (record.case, reason)))
                .collect(),
        );
    }
    Ok(Field { dataset: dataset.name.clone(), cases: references.into_keys().collect(), values, failures })
}

/// Where the picture of a case goes, relative to the folder.
pub fn picture(dataset: &str, method: &str, case: &str) -> PathBuf {
    Out::picture(dataset, method, "none", case)
}

/// Scores of a case. What cannot be compared scores as a map without any label, and its reason is told.
fn scored(
    truth: &LabelMap,
    prediction: Option<&PathBuf>,
    labels: &Labels,
    tolerance: f64,
) -> Result<(galen_metrics::CaseScores, Option<LabelMap>, Option<String>)> {
    let read =
        match prediction {
            None => Err("there is no prediction".to_owned()),
            Some(file) => galen_io::read_label_map(file).map_err(|error| error.to_string()).and_then(|map| {
                match score_case(truth, &map, labels, tolerance) {
                    Ok(scores) => Ok((scores, map)),
                    Err(error) => Err(error.to_string()),
                }
            }),
        };
    match read {
        Ok((scores, map)) => Ok((scores, Some(map), None)),
        Err(reason) => {
            let empty = LabelMap::new(truth.geometry.clone(), vec![0; truth.geometry.voxels()]);
            Ok((score_case(truth, &empty, labels, tolerance)?, None, Some(reason)))
        }
    }
}

const SCORES_POLICY: &str = "A case without a usable probability counts as if the method had been sure of the wrong \
    class. Draws without both classes are left out of intervals.";

const COCO_POLICY: &str = "Images without detections count: their targets are missed. Draws are of images; a result \
    file that names unknown images or classes is refused.";

fn chosen(protocol: &Protocol, mut columns: Vec<Column>) -> Result<Vec<Column>> {
    let Some(primary) = &protocol.primary else { return Ok(columns) };
    match columns.iter().position(|column| column.id == *primary) {
        Some(at) => {
            columns[..=at].rotate_right(1);
            Ok(columns)
        }
        None => {
            let known: Vec<&str> = columns.iter().map(|column| column.id.as_str()).collect();
            let what = format!("`{primary}` is no metric of this kind");
            Err(Error::input("primary", what, format!("choose from {}", known.join(", "))))
        }
    }
}

fn defined(kind: &str, id: &str, name: &str, up: bool) -> Column {
    let definition = galen_metrics::catalogue::definition(kind, id).map_or_else(String::new, |d| {
        format!(
            "{}. Convention: {}. Empty: {}. Pitfall: {}. Source: {}.",
            d.definition, d.id, d.empty, d.pitfall, d.source
        )
    });
    Column {
        id: id.into(),
        name: name.into(),
        unit: String::new(),
        higher_is_better: up,
        decimals: 3,
        definition,
    }
}

fn score_columns() -> Vec<Column> {
    vec![
        defined("binary", "auroc", "AUROC", true),
        defined("binary", "average-precision/step", "average precision", true),
        defined("binary", "brier", "Brier score", false),
    ]
}

fn coco_columns() -> Vec<Column> {
    vec![
        defined("detection2d", "ap@[.5:.95]/coco101", "AP@[.5:.95]", true),
        defined("detection2d", "ap@.5/coco101", "AP@.5", true),
        defined("detection2d", "ar@100", "AR@100", true),
    ]
}

/// Cases and a column of numbers of a CSV, in file order.
fn table(file: &Path, names: &[&str]) -> Result<Vec<(String, f64)>> {
    let table = Columns::read(file)?;
    let cases = table.texts(&["case", "id", "image", "patient"])?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = cases.iter().find(|case| !seen.insert(case.as_str())) {
        return Err(Error::input(file.display(), format!("the case {twice} is there twice"), "keep one row"));
    }
    Ok(cases.into_iter().zip(table.numbers(names)?).collect())
}

fn scores(protocol: &Protocol, dataset: &DatasetEntry, columns: &[Column]) -> Result<Field> {
    let file = reference(protocol, dataset);
    let truth = table(&file, &["label", "y", "y_true", "target"])?;
    if let Some((case, label)) = truth.iter().find(|(_, label)| *label != 0.0 && *label != 1.0) {
        let what = format!("the label of {case} is {label}, neither 0 nor 1");
        return Err(Error::input(file.display(), what, "give 1 for the positive class, 0 for the other"));
    }
    let labels: Arc<Vec<bool>> = Arc::new(truth.iter().map(|(_, label)| *label == 1.0).collect());
    if labels.iter().all(|l| *l) || labels.iter().all(|l| !*l) {
        let what = "all cases are of one class, so nothing can be told apart";
        return Err(Error::input(file.display(), what, "add cases of the other class"));
    }
    let (mut values, mut failures) = (Vec::new(), Vec::new());
    for method in &protocol.methods {
        let place = predictions(protocol, method, dataset);
        let given: BTreeMap<String, f64> =
            table(&place, &["score", "p", "prob", "probability", "y_score"])?.into_iter().collect();
        let unknown = given.keys().find(|case| !truth.iter().any(|(known, _)| known == *case));
        if let Some(case) = unknown {
            let what = format!("the case {case} is not in the reference");
            return Err(Error::input(place.display(), what, "use the case names of the reference"));
        }
        let mut failed = Vec::new();
        let found: Vec<f64> = truth
            .iter()
            .map(|(case, label)| match given.get(case) {
                Some(score) if (0.0..=1.0).contains(score) => *score,
                other => {
                    let reason = match other {
                        Some(score) => format!("the score {score} is outside [0, 1]"),
                        None => "there is no score".to_owned(),
                    };
                    failed.push((case.clone(), reason));
                    1.0 - label
                }
            })
            .collect();
        let found = Arc::new(found);
        let column = |column: &Column| {
            let (labels, found) = (labels.clone(), found.clone());
            if column.id == "brier" {
                let error = |(l, s): (&bool, &f64)| (s - f64::from(u8::from(*l))).powi(2);
                return Values::PerCase(labels.iter().zip(found.iter()).map(error).collect());
            }
            let statistic = if column.id == "auroc" { roc::auroc } else { roc::average_precision };
            Values::Pooled(Box::new(move |cases| {
                let l: Vec<bool> = cases.iter().map(|&c| labels[c]).collect();
                let s: Vec<f64> = cases.iter().map(|&c| found[c]).collect();
                // A draw of one class has no ranking.
                if l.iter().all(|v| *v) || !l.iter().any(|v| *v) { f64::NAN } else { statistic(&l, &s) }
            }))
        };
        values.push(columns.iter().map(column).collect());
        failures.push(failed);
    }
    Ok(Field {
        dataset: dataset.name.clone(),
        cases: truth.into_iter().map(|(case, _)| case).collect(),
        values,
        failures,
    })
}

fn boxes(protocol: &Protocol, dataset: &DatasetEntry, columns: &[Column]) -> Result<Field> {
    let truth = reference(protocol, dataset);
    let (mut values, mut failures) = (Vec::new(), Vec::new());
    let names = verbs::coco_images(&truth)?;
    for method in &protocol.methods {
        let place = predictions(protocol, method, dataset);
        let (targets, detections) = verbs::coco(&place, &truth)?;
        let by_image = |image: i64| {
            let t: Vec<Target> = targets.iter().filter(|t| t.image == image).cloned().collect();
            let d: Vec<Detection> = detections.iter().filter(|d| d.image == image).cloned().collect();
            (t, d)
        };
        let parts: Arc<Vec<(Vec<Target>, Vec<Detection>)>> =
            Arc::new(names.iter().map(|&image| by_image(image)).collect());
        let silent = parts.iter().zip(&names).filter(|((t, d), _)| !t.is_empty() && d.is_empty());
        failures
            .push(silent.map(|(_, image)| (image.to_string(), "there is no detection".to_owned())).collect());
        let column = |column: &Column| {
            let (parts, id) = (parts.clone(), column.id.clone());
            Values::Pooled(Box::new(move |drawn: &[usize]| {
                let (mut t, mut d) = (Vec::new(), Vec::new());
                // An image that is drawn twice is two images.
                for (number, &image) in drawn.iter().enumerate() {
                    let number = number as i64;
                    t.extend(parts[image].0.iter().map(|t| Target { image: number, ..t.clone() }));
                    d.extend(parts[image].1.iter().map(|d| Detection { image: number, ..d.clone() }));
                }
                coco::measure(&t, &d).number(&id)
            }))
        };
        values.push(columns.iter().map(column).collect());
    }
    Ok(Field {
        dataset: dataset.name.clone(),
        cases: names.iter().map(i64::to_string).collect(),
        values,
        failures,
    })
}
