//! From the images of a series to a stack: which of them lie on one grid, in which order, and what is in the way.
//!
//! Slices are ordered by their positions along the normal; file names and image numbers say nothing. Images that share
//! a position are further channels (time points, diffusion weightings, echoes) when every position has as many.

use super::instance::{Frame, Instance, Moment, Plane};
use galen_core::Geometry;
use std::collections::{BTreeMap, HashSet};

/// Positions closer than this are the same, in millimetres.
const SAME: f64 = 0.01;
/// Distances between slices may differ by this part of the usual one.
const UNEVEN: f64 = 0.05;
/// Sideways shift per slice, as a part of the slice distance, from which a stack counts as tilted.
const TILTED: f64 = 0.01;

/// One image: file of the series and frame in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Index of the file in its series.
    pub instance: usize,
    /// Frame of the file.
    pub frame: usize,
}

/// Images in order on one grid.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The grid.
    pub geometry: Geometry,
    /// Images, `[moment, z]`.
    pub slots: Vec<Slot>,
    /// Images of one position.
    pub moments: usize,
    /// What tells them apart, e.g. `b-value`; empty for one.
    pub axis: String,
    /// What each of them is, e.g. `b 1000`.
    pub names: Vec<String>,
    /// What one should know: duplicates and localizers left out, uneven distances.
    pub notes: Vec<String>,
    /// Sideways shift from slice to slice along rows and columns, in millimetres, of a tilted gantry.
    pub shear: Option<[f64; 2]>,
}

pub fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] - b[i])
}

/// Arranges the images of a series, or says why they are no volume.
pub fn arrange(instances: &[Instance]) -> Result<Stack, String> {
    let mut notes = Vec::new();
    let used = eligible(instances, &mut notes)?;
    let first = &instances[used[0]];
    let format = match &first.pixels {
        Some(Ok(found)) => &found.format,
        _ => return Err("has no pixels".into()),
    };
    let mut slots: Vec<(Slot, &Frame)> = Vec::new();
    for &instance in &used {
        let frames = instances[instance].frames.iter().enumerate();
        slots.extend(frames.map(|(frame, about)| (Slot { instance, frame }, about)));
    }
    let size = [format.rows, format.columns];
    let spacing = slots[0].1.spacing;
    let uneven = |other: Option<[f64; 2]>| match (spacing, other) {
        (Some(a), Some(b)) => a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-4),
        (a, b) => a.is_some() != b.is_some(),
    };
    if slots.iter().any(|(_, frame)| uneven(frame.spacing)) {
        return Err("its images have different pixel spacings".into());
    }
    let planes: Option<Vec<Plane>> = slots.iter().map(|(_, frame)| frame.plane).collect();
    let Some(planes) = planes else { return flat(&slots, used.len(), size, spacing, notes) };
    let lead = planes[0];
    let turned =
        |plane: &Plane| dot(plane.row, lead.row) < 1.0 - 1e-4 || dot(plane.column, lead.column) < 1.0 - 1e-4;
    let other = planes.iter().filter(|plane| turned(plane)).count();
    if other > 0 {
        return Err(format!("{other} of its {} images are turned against the others", planes.len()));
    }
    let spacing = spacing.ok_or("its images have a position but no pixel spacing")?;
    let normal = cross(lead.row, lead.column);
    let positions = positions(&slots, &planes, normal);
    let (depths, groups): (Vec<f64>, Vec<Vec<usize>>) = positions.into_iter().unzip();
    let moments = same_count(&depths, &groups)?;
    let (axis, names, order) = moments_of(&groups, &slots, moments);
    let distance = distance(&depths, slots[0].1.thickness, &mut notes)?;
    let shear = shear(&groups, &planes, lead, distance)?;
    if let Some(shift) = shear {
        let degrees = (shift[0].hypot(shift[1]) / distance).atan().to_degrees();
        notes.push(format!("the gantry is tilted by {degrees:.1} degrees"));
    }
    let origin = planes[groups[0][0]].position;
    let geometry = Geometry {
        size: [groups.len(), size[0], size[1]],
        spacing: [distance, spacing[0], spacing[1]],
        origin,
        direction: [normal, lead.column, lead.row],
        flat: false,
    };
    let slots = order.into_iter().map(|k| slots[k].0).collect();
    Ok(Stack { geometry, slots, moments, axis, names, notes, shear })
}

/// VL Whole Slide Microscopy Image Storage.
const WHOLE_SLIDE: &str = "1.2.840.10008.5.1.4.1.1.77.1.6";

/// Images that can be part of a volume: no localizers, none twice, all of one kind.
fn eligible(instances: &[Instance], notes: &mut Vec<String>) -> Result<Vec<usize>, String> {
    let mut seen = HashSet::new();
    let (mut used, mut twice, mut localizers, mut bare) = (Vec::new(), 0, 0, 0);
    for (k, instance) in instances.iter().enumerate() {
        if !instance.sop_instance.is_empty() && !seen.insert(&instance.sop_instance) {
            twice += 1;
        } else if instance.pixels.is_none() {
            bare += 1;
        } else if instance.is("LOCALIZER") || instance.is("SCOUT") {
            localizers += 1;
        } else {
            used.push(k);
        }
    }
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    for (count, what) in [(twice, "duplicate"), (localizers, "localizer"), (bare, "object without pixel")] {
        if count > 0 && !used.is_empty() {
            notes.push(format!("left out: {}", plural(count, what)));
        }
    }
    if used.is_empty() {
        let kind = match instances.first().map(|instance| instance.modality.as_str()) {
            Some("RTSTRUCT") => "contours (RTSTRUCT)",
            Some("SR") => "a structured report",
            Some("PR") => "a presentation state",
            Some("KO") => "a selection of key objects",
            Some("RTPLAN") => "a treatment plan",
            _ if localizers > 0 => "localizers only",
            _ => "objects without pixels",
        };
        return Err(format!("holds {kind}"));
    }
    let lead = &instances[used[0]];
    for &k in &used {
        let instance = &instances[k];
        match &instance.pixels {
            Some(Err(error)) => return Err(error.to_string()),
            _ if instance.sop_class == WHOLE_SLIDE => {
                return Err(
                    "is a DICOM whole-slide image: its frames are tiles of one picture, not slices".into()
                );
            }
            _ if instance.is("MOSAIC") => {
                return Err(
                    "its images are mosaics of many slices (Siemens): export it as enhanced or plain slices"
                        .into(),
                );
            }
            _ if instance.lookup => {
                return Err("its stored values go through a lookup table (Modality LUT)".into());
            }
            _ => {}
        }
        let (Some(Ok(a)), Some(Ok(b))) = (&lead.pixels, &instance.pixels) else { continue };
        let (a, b) = (&a.format, &b.format);
        if (a.rows, a.columns) != (b.rows, b.columns) {
            return Err(format!(
                "its images have different sizes: {} x {} and {} x {}",
                a.rows, a.columns, b.rows, b.columns
            ));
        }
        if (a.samples, a.sample, &a.photometric) != (b.samples, b.sample, &b.photometric) {
            return Err("its images store pixels in different ways (type or colours)".into());
        }
    }
    if used.iter().any(|&k| instances[k].frames.is_empty()) {
        return Err("an image has no frame".into());
    }
    Ok(used)
}

/// Images without planes: one file is an image, or a film whose frames are channels.
fn flat(
    slots: &[(Slot, &Frame)],
    files: usize,
    size: [usize; 2],
    spacing: Option<[f64; 2]>,
    notes: Vec<String>,
) -> Result<Stack, String> {
    if files > 1 {
        return Err(format!("its {files} images carry no position in the patient"));
    }
    let spacing = spacing.unwrap_or([1.0; 2]);
    let geometry = Geometry {
        flat: true,
        ..Geometry::axis_aligned([1, size[0], size[1]], [1.0, spacing[0], spacing[1]])
    };
    let axis = if slots.len() > 1 { "frame" } else { "" };
    let names = (0..slots.len()).map(|k| format!("frame {}", k + 1)).collect();
    let moments = slots.len();
    let slots = slots.iter().map(|(slot, _)| *slot).collect();
    Ok(Stack { geometry, slots, moments, axis: axis.into(), names, notes, shear: None })
}

/// Depths along the normal, ascending, with the images of each.
fn positions(slots: &[(Slot, &Frame)], planes: &[Plane], normal: [f64; 3]) -> Vec<(f64, Vec<usize>)> {
    let depth: Vec<f64> = planes.iter().map(|plane| dot(plane.position, normal)).collect();
    let instance = |k: usize| slots[k].1.moment.instance.unwrap_or(0.0);
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by(|&a, &b| depth[a].total_cmp(&depth[b]).then(instance(a).total_cmp(&instance(b))));
    let mut groups: Vec<(f64, Vec<usize>)> = Vec::new();
    for k in order {
        match groups.last_mut() {
            Some((at, group)) if depth[k] - *at < SAME => group.push(k),
            _ => groups.push((depth[k], vec![k])),
        }
    }
    groups
}

/// Images per position, when all have as many.
fn same_count(depths: &[f64], groups: &[Vec<usize>]) -> Result<usize, String> {
    let mut counts = BTreeMap::new();
    groups.iter().for_each(|group| *counts.entry(group.len()).or_insert(0usize) += 1);
    if counts.len() == 1 {
        return Ok(groups[0].len());
    }
    let usual = counts.iter().max_by_key(|(_, times)| **times).map_or(1, |(count, _)| *count);
    let odd = groups.iter().position(|group| group.len() != usual).unwrap_or(0);
    Err(format!(
        "{} images lie at {:.2} mm along its axis, {usual} at most other positions: an image is missing or there twice",
        groups[odd].len(),
        depths[odd]
    ))
}

/// Numbers that tell images of one position apart, in the order in which channels are sorted.
fn keys(moment: &Moment) -> [f64; 8] {
    let number = |value: Option<f64>| value.unwrap_or(-1.0);
    let [x, y, z] = moment.gradient.unwrap_or([0.0; 3]);
    [
        number(moment.echo),
        number(moment.temporal),
        number(moment.trigger),
        number(moment.b_value),
        x,
        y,
        z,
        number(moment.acquisition),
    ]
}

const KEY_NAMES: [&str; 8] =
    ["echo time", "time", "trigger time", "b-value", "gradient", "gradient", "gradient", "acquisition"];

/// What tells channels apart, their names, and all images in the order `[moment, z]`.
fn moments_of(
    groups: &[Vec<usize>],
    slots: &[(Slot, &Frame)],
    moments: usize,
) -> (String, Vec<String>, Vec<usize>) {
    let moment = |k: usize| &slots[k].1.moment;
    let sorted = |of: &dyn Fn(usize) -> f64, group: &[usize]| {
        let mut values: Vec<f64> = group.iter().map(|&k| of(k)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    if moments == 1 {
        return (String::new(), Vec::new(), groups.iter().map(|group| group[0]).collect());
    }
    // A key counts when it takes the same values at each position, and not one value only.
    let counts = |key: usize| {
        let of = |k: usize| keys(moment(k))[key];
        let first = sorted(&of, &groups[0]);
        first[0] != first[moments - 1] && groups.iter().all(|group| sorted(&of, group) == first)
    };
    let used: Vec<usize> = (0..KEY_NAMES.len()).filter(|&key| counts(key)).collect();
    let by_keys = |a: usize, b: usize| {
        let (a, b) = (keys(moment(a)), keys(moment(b)));
        used.iter()
            .map(|&key| a[key].total_cmp(&b[key]))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    let mut groups = groups.to_vec();
    groups.iter_mut().for_each(|group| group.sort_by(|&a, &b| by_keys(a, b)));
    let distinct = groups.iter().all(|group| group.windows(2).all(|pair| by_keys(pair[0], pair[1]).is_lt()));
    let (axis, names) = if distinct && !used.is_empty() {
        let mut words: Vec<&str> = used.iter().map(|&key| KEY_NAMES[key]).collect();
        words.dedup();
        let name = |&k: &usize| {
            let values = keys(moment(k));
            let part = |&key: &usize| format!("{} {}", KEY_NAMES[key], values[key]);
            used.iter().filter(|&&key| !(4..7).contains(&key)).map(part).collect::<Vec<_>>().join(", ")
        };
        (words.join(" and "), groups[0].iter().map(name).collect())
    } else {
        // Then they were taken one after the other.
        let time = |k: usize| moment(k).time.unwrap_or(0.0);
        let number = |k: usize| moment(k).instance.unwrap_or(0.0);
        groups.iter_mut().for_each(|group| {
            group.sort_by(|&a, &b| time(a).total_cmp(&time(b)).then(number(a).total_cmp(&number(b))));
        });
        ("order of acquisition".to_owned(), (1..=moments).map(|k| format!("volume {k}")).collect())
    };
    let order =
        (0..moments).flat_map(|k| groups.iter().map(move |group| group[k]).collect::<Vec<_>>()).collect();
    (axis, names, order)
}

/// Distance between slices, when it is even.
fn distance(depths: &[f64], thickness: Option<f64>, notes: &mut Vec<String>) -> Result<f64, String> {
    if depths.len() == 1 {
        return Ok(thickness.filter(|mm| *mm > 0.0).unwrap_or(1.0));
    }
    let gaps: Vec<f64> = depths.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted[(sorted.len() - 1) / 2];
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    if let Some(at) = gaps.iter().position(|gap| (gap - usual).abs() > UNEVEN * usual) {
        let missing = (gaps[at] / usual).round() - 1.0;
        let whole = missing >= 1.0 && (gaps[at] / usual - missing - 1.0).abs() < UNEVEN;
        let guess = if whole { format!(": {missing} missing") } else { String::new() };
        return Err(format!(
            "slices {} and {} lie {:.3} mm apart, others {usual:.3} mm{guess}",
            at + 1,
            at + 2,
            gaps[at]
        ));
    }
    if most - least > 1e-3 * usual {
        notes.push(format!(
            "distances between slices vary from {least:.4} to {most:.4} mm; their mean is used"
        ));
    }
    Ok((depths[depths.len() - 1] - depths[0]) / gaps.len() as f64)
}

/// Sideways shift per slice along rows and columns; `None` when slices lie above each other.
fn shear(
    groups: &[Vec<usize>],
    planes: &[Plane],
    lead: Plane,
    distance: f64,
) -> Result<Option<[f64; 2]>, String> {
    let count = groups.len();
    if count < 2 {
        return Ok(None);
    }
    let start = planes[groups[0][0]].position;
    let aside = |k: usize| {
        let offset = minus(planes[groups[k][0]].position, start);
        [dot(offset, lead.row), dot(offset, lead.column)]
    };
    let step = aside(count - 1).map(|mm| mm / (count - 1) as f64);
    let straight = (0..count).all(|k| {
        let found = aside(k);
        (0..2).all(|axis| (found[axis] - k as f64 * step[axis]).abs() < UNEVEN * distance + SAME)
    });
    if !straight {
        return Err("its slices are shifted sideways, each by another distance".into());
    }
    Ok((step[0].hypot(step[1]) > TILTED * distance).then_some(step))
}
