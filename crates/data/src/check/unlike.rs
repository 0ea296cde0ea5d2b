//! Cases unlike all others, cases like one another, and rare labels: what no single case shows.
//!
//! A measure is unlike the others where it lies many median absolute deviations from the median (Iglewicz and Hoaglin 1993);
//! sizes, volumes and grey values are compared by their logarithms, as they spread by factors.

use super::finding::{Finding, FindingKind};
use super::traits::Traits;
use crate::dataset::Dataset;
use rayon::prelude::*;

/// Fewer cases than this have no usual value.
const FEWEST: usize = 8;
/// Deviations from the median, 1.4826 MAD each, from which on a measure is unlike the others.
const FAR: f64 = 6.0;
/// Least deviation that counts, as a factor: rounding is no outlier.
const LEAST: f64 = 1.2;
/// Correlation of small copies from which on two images are nearly the same.
const ALIKE: f32 = 0.995;
/// A label in a smaller part of the cases is rare.
const RARE: f64 = 0.05;

pub(super) fn examine(dataset: &Dataset, traits: &[&Traits], same: &[[u8; 32]]) -> Vec<Finding> {
    let mut findings = Vec::new();
    // 2D among 3D, or the other way, has a finding of its own.
    let flat = 2 * traits.iter().filter(|one| one.is_flat()).count() > traits.len();
    let kept = || traits.iter().zip(same).filter(|(one, _)| one.is_flat() == flat);
    let (traits, same): (Vec<&Traits>, Vec<[u8; 32]>) = kept().map(|(one, content)| (*one, *content)).unzip();
    let (traits, same) = (traits.as_slice(), same.as_slice());
    let training: Vec<&Traits> = traits.iter().copied().filter(|one| !one.test).collect();
    findings.extend(spacing(traits));
    findings.extend(orientation(traits));
    findings.extend(grey_values(dataset, traits));
    findings.extend(volumes(dataset, &training));
    findings.extend(brightness(dataset, &training));
    findings.extend(near_duplicates(traits, same));
    findings.extend(rare_labels(dataset, &training));
    findings
}

/// Places of the values far from the median, with the median.
fn far(values: &[f64], least: f64) -> (f64, Vec<usize>) {
    if values.len() < FEWEST {
        return (0.0, Vec::new());
    }
    let median = median(values);
    let deviation =
        1.4826 * self::median(&values.iter().map(|value| (value - median).abs()).collect::<Vec<_>>());
    let limit = (FAR * deviation).max(least);
    (median, (0..values.len()).filter(|&i| (values[i] - median).abs() > limit).collect())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 { 0.0 } else { f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]) }
}

fn spacing(traits: &[&Traits]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (axis, name) in ["z", "y", "x"].into_iter().enumerate() {
        let values: Vec<f64> = traits.iter().map(|one| one.spacing[axis].ln()).collect();
        let (median, places) = far(&values, 2f64.ln());
        findings.extend(places.into_iter().map(|i| {
            let message = format!(
                "{:.3} mm along {name}, the median is {:.3} mm",
                traits[i].spacing[axis],
                median.exp()
            );
            Finding::new(&traits[i].case, FindingKind::SpacingOutlier, message)
        }));
    }
    findings
}

fn orientation(traits: &[&Traits]) -> Vec<Finding> {
    let count = |code: &str| traits.iter().filter(|one| one.orientation == code).count();
    let Some(usual) =
        traits.iter().map(|one| one.orientation.as_str()).max_by_key(|code| (count(code), *code))
    else {
        return Vec::new();
    };
    let most = count(usual);
    if traits.len() < FEWEST || 10 * most < 9 * traits.len() {
        return Vec::new();
    }
    let unlike = traits.iter().filter(|one| one.orientation != usual);
    unlike
        .map(|one| {
            let message = format!(
                "axes run to {}, those of {most} of {} cases to {usual}",
                one.orientation,
                traits.len()
            );
            Finding::new(&one.case, FindingKind::OrientationOutlier, message)
        })
        .collect()
}

fn grey_values(dataset: &Dataset, traits: &[&Traits]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (channel, name) in dataset.channel_names.iter().enumerate() {
        let with: Vec<(&Traits, f64)> = traits
            .iter()
            .filter_map(|one| Some((*one, one.channels.get(channel)?.deviation)))
            .filter(|(_, deviation)| *deviation > 0.0)
            .collect();
        let values: Vec<f64> = with.iter().map(|(_, deviation)| deviation.ln()).collect();
        let (median, places) = far(&values, 3f64.ln());
        findings.extend(places.into_iter().map(|i| {
            let harmless = if name.eq_ignore_ascii_case("ct") {
                ""
            } else {
                "; training normalises each image by itself"
            };
            let message = format!(
                "channel {channel} ({name}) spreads by {:.3}, the median is {:.3}{harmless}",
                with[i].1,
                median.exp()
            );
            Finding::new(&with[i].0.case, FindingKind::IntensityOutlier, message)
        }));
    }
    findings
}

/// Name of a label value.
fn name(dataset: &Dataset, value: u16) -> String {
    let named = dataset.labels.entries.iter().find(|(_, label)| label.values() == [value]);
    named.map_or_else(|| format!("label {value}"), |(name, _)| name.clone())
}

fn volumes(dataset: &Dataset, training: &[&Traits]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for value in dataset.labels.foreground() {
        let with: Vec<(&Traits, f64)> = training
            .iter()
            .filter_map(|one| Some((*one, one.labels.iter().find(|label| label.value == value)?.volume)))
            .collect();
        let values: Vec<f64> = with.iter().map(|(_, volume)| volume.ln()).collect();
        let (median, places) = far(&values, LEAST.ln());
        findings.extend(places.into_iter().map(|i| {
            let (volume, usual, name) = (with[i].1, median.exp(), name(dataset, value));
            let unit = with[i].0.unit();
            let message = format!("{name} has {volume:.0} {unit}, the median is {usual:.0} {unit}");
            Finding::new(&with[i].0.case, FindingKind::VolumeOutlier, message)
        }));
    }
    findings
}

/// A label over tissue of another brightness than elsewhere may lie in the wrong place.
fn brightness(dataset: &Dataset, training: &[&Traits]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for value in dataset.labels.foreground() {
        let of = |one: &Traits| one.labels.iter().find(|label| label.value == value)?.brightness;
        let with: Vec<(&Traits, f64)> = training.iter().filter_map(|one| Some((*one, of(one)?))).collect();
        let values: Vec<f64> = with.iter().map(|(_, brightness)| *brightness).collect();
        let (median, places) = far(&values, 0.5);
        findings.extend(places.into_iter().map(|i| {
            let message = format!(
                "{} lies {:.2} deviations from the image's mean, usually {median:.2}",
                name(dataset, value),
                with[i].1
            );
            Finding::new(&with[i].0.case, FindingKind::LabelNoise, message)
        }));
    }
    findings
}

/// Pairs whose small copies correlate; exact duplicates have a finding of their own.
fn near_duplicates(traits: &[&Traits], same: &[[u8; 32]]) -> Vec<Finding> {
    let pair = |i: usize| -> Vec<Finding> {
        let mut found = Vec::new();
        for j in i + 1..traits.len() {
            let (a, b) = (traits[i], traits[j]);
            if a.small.is_empty() || a.small.len() != b.small.len() || same[i] == same[j] {
                continue;
            }
            let alike: f32 = a.small.iter().zip(&b.small).map(|(a, b)| a * b).sum();
            if alike >= ALIKE {
                let side = if a.test == b.test { "" } else { ": one is for training, the other for testing" };
                let message =
                    format!("is nearly the same image as {} (correlation {alike:.4}){side}", b.case);
                found.push(Finding::new(&a.case, FindingKind::NearDuplicate, message).beside(&b.case));
            }
        }
        found
    };
    (0..traits.len()).into_par_iter().flat_map_iter(pair).collect()
}

fn rare_labels(dataset: &Dataset, training: &[&Traits]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for value in dataset.labels.foreground() {
        let count = training.iter().filter(|one| one.labels.iter().any(|label| label.value == value)).count();
        let rare = (count as f64) < RARE * training.len() as f64 || count < 5;
        if count > 0 && rare && training.len() >= FEWEST {
            let message =
                format!("{} is in {count} of {} training cases", name(dataset, value), training.len());
            findings.push(Finding::new("dataset.json", FindingKind::RareLabel, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_no_outlier_and_a_factor_is() {
        let mut values = vec![0.0; 20];
        values[3] = 0.001;
        assert_eq!(far(&values, LEAST.ln()).1, Vec::<usize>::new());
        values[7] = 1.0;
        assert_eq!(far(&values, LEAST.ln()).1, [7]);
        assert_eq!(far(&values[..7], 0.1).1, Vec::<usize>::new(), "seven cases have no usual value");
    }
}
