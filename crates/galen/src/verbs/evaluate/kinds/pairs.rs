//! Kinds that compare one file with another: masks, boxes, images, features, landmarks.

use super::super::{Arguments, files, inputs};
use super::{Document, Options};
use galen_core::{Error, Result};
use galen_kernels::components::Connectivity;
use galen_metrics::detection::coco;
use galen_metrics::image::tissue;
use galen_metrics::masks::{conventions as mask_conventions, lesions};
use galen_metrics::{Measures, features, generation, registration};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Kinds that compare a file with a reference.
pub(super) fn two_files(arguments: &Arguments, kind: &str, document: &mut Document) -> Result<()> {
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
            let mut values = coco::measure(&targets, &detections);
            let (threshold, iou) = operating_point(options, 0.5, settings)?;
            let images = files::coco_images(reference)?.len();
            values.append(coco::operating(&targets, &detections, images, threshold, iou));
            values
        }
        "detection3d" => {
            let (targets, detections) = files::coco::<6>(pred, reference)?;
            let mut values = coco::measure_volumes(&targets, &detections);
            let (threshold, iou) = operating_point(options, 0.1, settings)?;
            let images = files::coco_images(reference)?.len();
            values.append(coco::operating(&targets, &detections, images, threshold, iou));
            values
        }
        "image" => {
            let Some(range) = options.data_range else {
                let remedy =
                    "add --data-range, e.g. 255, or the window in HU: PSNR and SSIM mean nothing without it";
                return Err(Error::input("--kind image", "needs the range of the values", remedy));
            };
            settings.insert("data-range", range.into());
            let images = files::images(pred, reference, range)?;
            let mut values = images.measure()?;
            if let Some(map) = &options.tissue_map {
                let &[a, b] = &options.tissues[..] else {
                    let what = format!("{} values", options.tissues.len());
                    return Err(Error::input("--tissues", what, "give two values of --tissue-map, e.g. 1,2"));
                };
                settings.insert("tissues", vec![a, b].into());
                let tissues = galen_io::read_label_map(map)?.values();
                let found = tissue::measure(&images.reference, &images.image, &tissues, [a, b]);
                values.append(found.map_err(|error| error.within(map.display()))?);
            }
            values
        }
        _ => match (files::stack(pred)?, files::stack(reference)?) {
            (Some((shape, image)), Some((other, real))) => {
                if shape != other {
                    let what = format!("has the shape {shape:?}, the reference {other:?} (places joined)");
                    return Err(Error::input(
                        pred.display(),
                        what,
                        "give features of the same images and layer",
                    ));
                }
                generation::perceptual(&real, &image, shape).map_err(|error| error.within(pred.display()))?
            }
            _ => {
                let (generated, real) = (files::features(pred)?, files::features(reference)?);
                let mut values = features::measure(real.as_ref(), generated.as_ref())
                    .map_err(|error| error.within(pred.display()))?;
                if options.class_probabilities.is_some() {
                    values.append(inception(options)?);
                }
                values
            }
        },
    };
    Ok(())
}

/// Score and overlap of the operating point of a detector.
fn operating_point(
    options: &Options,
    iou: f64,
    settings: &mut BTreeMap<&'static str, serde_json::Value>,
) -> Result<(f64, f64)> {
    let threshold = options.threshold.unwrap_or(0.5);
    if !threshold.is_finite() {
        return Err(Error::input("--threshold", format!("{threshold} is no score"), "give for example 0.5"));
    }
    let iou = options.iou.unwrap_or(iou);
    if !(iou > 0.0 && iou <= 1.0) {
        return Err(Error::input("--iou", format!("{iou} is no overlap"), "give a share above 0, up to 1"));
    }
    settings.insert("operating-threshold", threshold.into());
    settings.insert("operating-iou", iou.into());
    Ok((threshold, iou))
}

/// Inception score of the file of class probabilities.
fn inception(options: &Options) -> Result<Measures> {
    let Some(file) = &options.class_probabilities else {
        let remedy = "give --pred and --ref, or --class-probabilities";
        return Err(Error::input("--kind features", "there is nothing to measure", remedy));
    };
    generation::inception(&files::rows(file)?).map_err(|error| error.within(file.display()))
}

/// Class probabilities alone: no features to compare.
pub(super) fn generated_classes(options: &Options, document: &mut Document) -> Result<()> {
    if let Some(file) = options.input.first() {
        return Err(Error::input(file.display(), "features are compared", "give --pred FILE --ref FILE"));
    }
    document.values = inception(options)?;
    document.inputs = options.class_probabilities.iter().map(|file| file.display().to_string()).collect();
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
