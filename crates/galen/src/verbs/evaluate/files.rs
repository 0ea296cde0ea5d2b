//! Files other than tables in: masks, images, features, boxes, candidates, texts.

use super::columns::Columns;
use super::inputs::array;
use faer::Mat;
use galen_core::{Error, LabelMap, Result};
use galen_metrics::detection::coco::{Detection, Target};
use galen_metrics::detection::froc::Candidates;
use galen_metrics::image::Images;
use galen_metrics::masks::Pair;
use galen_metrics::text::embedded::Vectors;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// The masks of one label, by its value.
pub struct Label {
    /// Value in the label maps.
    pub value: u16,
    /// Its masks.
    pub pair: Pair,
}

/// One pair of masks per foreground value of the reference; two empty maps give one empty pair of value 1.
pub fn masks(prediction: &Path, reference: &Path) -> Result<Vec<Label>> {
    let (p, r) = (galen_io::read_label_map(prediction)?, galen_io::read_label_map(reference)?);
    if let Some(mismatch) = r.geometry.differs(&p.geometry) {
        let what = format!(
            "its grid differs from the reference's in {mismatch} ({:?} and {:?} voxels, z y x)",
            p.geometry.size, r.geometry.size
        );
        return Err(Error::input(prediction.display(), what, "resample it onto the reference's grid first"));
    }
    let values = |map: &LabelMap| -> BTreeSet<u16> {
        map.histogram().into_iter().map(|(value, _)| value).filter(|v| *v != 0).collect()
    };
    let (known, found) = (values(&r), values(&p));
    // Without any reference label one predicted label is a false alarm, more are a mistake in the coding.
    let unknown: Vec<String> = found.difference(&known).map(u16::to_string).collect();
    let false_alarm = known.is_empty() && unknown.len() == 1;
    if !(unknown.is_empty() || false_alarm) {
        let what = format!("holds the labels {}, which the reference does not know", unknown.join(", "));
        return Err(Error::input(prediction.display(), what, "map its labels to those of the reference"));
    }
    let mut all: Vec<u16> = known.union(&found).copied().collect();
    if all.is_empty() {
        all.push(1);
    }
    let geometry = &r.geometry;
    let (reference, prediction) = (r.values(), p.values());
    all.into_iter()
        .map(|value| {
            let mask = |values: &[u16]| values.iter().map(|v| u8::from(*v == value)).collect();
            let (r, p) = (mask(&reference), mask(&prediction));
            Ok(Label { value, pair: Pair::new(geometry.size, geometry.spacing, geometry.flat, r, p)? })
        })
        .collect()
}

/// Two images of a format that Galen reads, or two `.npy` arrays of two or three axes.
pub fn images(image: &Path, reference: &Path, range: f64) -> Result<Images> {
    let ((size, r), (other, i)) = (voxels(reference)?, voxels(image)?);
    if size != other {
        let what = format!("{other:?} voxels, the reference has {size:?} (z y x)");
        return Err(Error::input(image.display(), what, "give two images of the same size"));
    }
    Images::new(size, r, i, range).map_err(|error| error.within(image.display()))
}

fn voxels(file: &Path) -> Result<([usize; 3], Vec<f64>)> {
    if file.extension().is_some_and(|e| e == "npy") {
        let array = array(file)?;
        let size = match array.shape[..] {
            [y, x] => [1, y, x],
            [z, y, x] => [z, y, x],
            _ => {
                let what = format!("has {} axes", array.shape.len());
                return Err(Error::input(file.display(), what, "give an image of two or three axes"));
            }
        };
        return Ok((size, array.values));
    }
    let volume = galen_io::read(file)?;
    if volume.channels != 1 {
        let what = format!("has {} channels", volume.channels);
        return Err(Error::input(file.display(), what, "give one channel at a time"));
    }
    Ok((volume.geometry.size, volume.channel_f32(0).iter().map(|v| f64::from(*v)).collect()))
}

/// Rows of a matrix in `.npy`.
pub fn rows(file: &Path) -> Result<Vec<Vec<f64>>> {
    let array = array(file)?;
    let [_, columns] = array.shape[..] else {
        let what = format!("has {} axes", array.shape.len());
        return Err(Error::input(file.display(), what, "give a matrix: images x classes"));
    };
    Ok(array.values.chunks(columns.max(1)).map(<[f64]>::to_vec).collect())
}

/// A stack of feature maps `[image, channel, y, x]` with its places joined; `None` for arrays of other axes.
pub fn stack(file: &Path) -> Result<Option<([usize; 3], Vec<f64>)>> {
    let array = array(file)?;
    Ok(match array.shape[..] {
        [images, channels, y, x] => Some(([images, channels, y * x], array.values)),
        _ => None,
    })
}

/// A matrix of features, one row per image.
pub fn features(file: &Path) -> Result<Mat<f64>> {
    let array = array(file)?;
    let [rows, columns] = array.shape[..] else {
        let what = format!("has {} axes", array.shape.len());
        return Err(Error::input(file.display(), what, "give a matrix: images x features"));
    };
    Ok(Mat::from_fn(rows, columns, |i, j| array.values[i * columns + j]))
}

#[derive(Deserialize)]
struct Truth {
    images: Vec<Named>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: i64,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    category_id: i64,
    bbox: Vec<f64>,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Found {
    image_id: i64,
    category_id: i64,
    bbox: Vec<f64>,
    score: f64,
}

/// Numbers of the images of a COCO ground truth, sorted.
pub fn coco_images(truth: &Path) -> Result<Vec<i64>> {
    let known: Truth = json(truth, TRUTH)?;
    let images: BTreeSet<i64> = known.images.iter().map(|image| image.id).collect();
    if images.is_empty() {
        return Err(Error::input(truth.display(), "names no image", TRUTH));
    }
    Ok(images.into_iter().collect())
}

const TRUTH: &str = "give COCO ground truth: images, annotations, categories";

/// A box of `N` numbers; in one with the wrong number, or an impossible one, nothing is guessed.
fn bounds<const N: usize>(numbers: &[f64], place: &dyn Fn() -> String) -> Result<[f64; N]> {
    let remedy = if N == 6 {
        "boxes of volumes are x, y, z, width, height, depth"
    } else {
        "boxes are x, y, width, height (--kind detection3d takes six numbers)"
    };
    let Ok(bounds) = <[f64; N]>::try_from(numbers) else {
        return Err(Error::input(place(), format!("a box of {} numbers", numbers.len()), remedy));
    };
    if bounds.iter().any(|v| !v.is_finite()) || bounds[N / 2..].iter().any(|size| *size < 0.0) {
        return Err(Error::input(place(), "the box has a negative size, or is no number", remedy));
    }
    Ok(bounds)
}

/// Ground truth and results in COCO's JSON, with `N` numbers a box.
pub fn coco<const N: usize>(results: &Path, truth: &Path) -> Result<(Vec<Target<N>>, Vec<Detection<N>>)> {
    let known: Truth = json(truth, TRUTH)?;
    let found: Vec<Found> = json(results, "give COCO results: a list of image_id, category_id, bbox, score")?;
    let images: BTreeSet<i64> = known.images.iter().map(|i| i.id).collect();
    let annotated = known.annotations.iter().map(|a| a.category_id);
    let categories: BTreeSet<i64> = known.categories.iter().map(|c| c.id).chain(annotated).collect();
    for (row, d) in found.iter().enumerate() {
        let place = format!("{}: result {}", results.display(), row + 1);
        if !images.contains(&d.image_id) {
            let what = format!("the image {} is not in the ground truth", d.image_id);
            return Err(Error::input(place, what, "give results for the images of the ground truth"));
        }
        if !categories.contains(&d.category_id) {
            let what = format!("the category {} is unknown to the ground truth", d.category_id);
            return Err(Error::input(place, what, "use the category numbers of the ground truth"));
        }
        if !d.score.is_finite() {
            return Err(Error::input(place, format!("the score {} is no number", d.score), "give numbers"));
        }
    }
    let target = |(row, a): (usize, &Annotation)| {
        let place = || format!("{}: annotation {}", truth.display(), row + 1);
        if !images.contains(&a.image_id) {
            let what = format!("the image {} is not among the images", a.image_id);
            return Err(Error::input(place(), what, "list every image under images"));
        }
        Ok(Target {
            image: a.image_id,
            category: a.category_id,
            bounds: bounds(&a.bbox, &place)?,
            crowd: a.iscrowd != 0,
        })
    };
    let detection = |(row, d): (usize, &Found)| {
        let place = || format!("{}: result {}", results.display(), row + 1);
        Ok(Detection {
            image: d.image_id,
            category: d.category_id,
            bounds: bounds(&d.bbox, &place)?,
            score: d.score,
        })
    };
    let targets = known.annotations.iter().enumerate().map(target).collect::<Result<_>>()?;
    Ok((targets, found.iter().enumerate().map(detection).collect::<Result<_>>()?))
}

fn json<T: for<'de> Deserialize<'de>>(file: &Path, remedy: &str) -> Result<T> {
    let bytes = std::fs::read(file).map_err(|error| Error::system(file.display(), &error))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::input(file.display(), error, remedy))
}

/// Candidates: columns `score` and `hit` (1: on a target), with a column `target` to name the target that is hit.
pub fn candidates(file: &Path, targets: usize, images: usize) -> Result<Candidates> {
    const HIT: &[&str] = &["hit", "tp", "is_tp", "label"];
    let table = Columns::read(file)?;
    let scores = table.numbers(&["score", "prob", "probability", "p"])?;
    let hits = if table.has(HIT) { Some(table.numbers(HIT)?) } else { None };
    let names = if table.has(&["target"]) { Some(table.texts(&["target"])?) } else { None };
    if hits.is_none() && names.is_none() {
        table.numbers(HIT)?;
    }
    if let Some(row) = hits.iter().flatten().position(|h| *h != 0.0 && *h != 1.0) {
        let place = format!("{}: row {}", file.display(), row + 1);
        return Err(Error::input(place, "hit is neither 0 nor 1", "1 is a candidate on a target"));
    }
    // The same name in another image is another target.
    let place = if table.has(&["image"]) { Some(table.texts(&["image"])?) } else { None };
    let rows: Vec<(f64, Option<String>)> = scores
        .into_iter()
        .enumerate()
        .map(|(row, score)| {
            let name = names.as_ref().map_or("", |names| names[row].as_str());
            let on_target = hits.as_ref().map_or(!name.is_empty(), |hits| hits[row] == 1.0);
            let image = place.as_ref().map_or("", |place| place[row].as_str());
            let full = if name.is_empty() { String::new() } else { format!("{image}/{name}") };
            (score, on_target.then_some(full))
        })
        .collect();
    Candidates::new(&rows, targets, images).map_err(|error| error.within(file.display()))
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "ref")]
    reference: String,
    hyp: String,
    ref_labels: Option<BTreeSet<String>>,
    hyp_labels: Option<BTreeSet<String>>,
    ref_vectors: Option<Vectors>,
    hyp_vectors: Option<Vectors>,
}

/// Texts with what a labeller or an encoder made of them.
pub struct Texts {
    /// `(reference, hypothesis)`.
    pub pairs: Vec<(String, String)>,
    /// Findings of both, when every line names them.
    pub labels: Option<Vec<(BTreeSet<String>, BTreeSet<String>)>>,
    /// Vectors of the words of both, when every line has them.
    pub vectors: Option<Vec<(Vectors, Vectors)>>,
}

/// Pairs of reference and hypothesis, one JSON object per line.
pub fn texts(file: &Path) -> Result<Texts> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (mut pairs, mut labels, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
    for (row, line) in lines {
        let place = || format!("{}: line {}", file.display(), row + 1);
        let line: Line = serde_json::from_str(line).map_err(|error| {
            Error::input(
                place(),
                error,
                "give one object with ref and hyp per line; a missing answer is \"\"",
            )
        })?;
        pairs.push((line.reference, line.hyp));
        labels.extend(line.ref_labels.zip(line.hyp_labels));
        vectors.extend(line.ref_vectors.zip(line.hyp_vectors));
        for (name, n) in [("labels", labels.len()), ("vectors", vectors.len())] {
            // On every line or on none: some would be an average of what is easy.
            if n != 0 && n != pairs.len() {
                let what = format!("ref_{name} and hyp_{name} are not on every line");
                return Err(Error::input(
                    place(),
                    what,
                    "give both on every line, empty lists where there are none",
                ));
            }
        }
    }
    let all = pairs.len();
    let whole = |n: usize| n == all && n > 0;
    Ok(Texts {
        labels: whole(labels.len()).then_some(labels),
        vectors: whole(vectors.len()).then_some(vectors),
        pairs,
    })
}
