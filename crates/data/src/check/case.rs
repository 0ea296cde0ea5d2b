//! Looks at the files of one case.

use super::finding::{Finding, FindingKind};
use super::traits::Traits;
use crate::dataset::{Case, Dataset};
use galen_core::{Geometry, LabelMap, Mismatch, Scalar, Volume, label_of, with_voxels};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A mask with more distinct values than this is a picture.
const MOST_LABELS: usize = 100;
/// Values listed in a message.
const MOST_LISTED: usize = 12;

/// What one case shows.
#[derive(Default)]
pub(super) struct Report {
    pub id: String,
    pub findings: Vec<Finding>,
    /// Hash of decoded voxels and grid; `None` when a file was unreadable.
    pub content: Option<[u8; 32]>,
    /// True for 2D; `None` when no image could be read.
    pub flat: Option<bool>,
    /// Label values present.
    pub values: Vec<u16>,
    /// Measures; `None` when no image could be read.
    pub traits: Option<Traits>,
}

impl Report {
    fn add(&mut self, kind: FindingKind, message: String) {
        let finding = Finding::new(&self.id, kind, message);
        self.findings.push(finding);
    }
}

/// Reads and judges one case.
pub(super) fn examine(dataset: &Dataset, case: &Case) -> Report {
    let mut report = Report { id: case.id.clone(), ..Report::default() };
    let mut hash = Sha256::new();
    let (mut grid, mut channels, mut whole) = (None::<Geometry>, 0, true);
    let mut first = None;
    for file in &case.images {
        let Some(image) = read(file, &mut report) else {
            whole = false;
            continue;
        };
        for channel in 0..image.channels {
            let values = image.channel_f32(channel);
            judge_values(&values, channels + channel, dataset, &mut report, &mut hash);
            let traits = report.traits.get_or_insert_with(|| Traits::of_grid(&case.id, &image.geometry));
            traits.add(&values, image.geometry.size);
            if case.label.is_some() {
                first.get_or_insert(values);
            }
        }
        channels += image.channels;
        match &grid {
            None => grid = Some(image.geometry),
            Some(first) => compare(first, &image.geometry, &name(file), &mut report),
        }
    }
    if whole && channels != dataset.channel_names.len() {
        let message = format!(
            "{channels} channels in {} files, but dataset.json names {}",
            case.images.len(),
            dataset.channel_names.len()
        );
        report.add(FindingKind::ChannelCount, message);
    }
    if let Some(grid) = &grid {
        report.flat = Some(grid.flat || grid.size[0] == 1);
        hash_grid(grid, &mut hash);
        report.content = whole.then(|| hash.finalize().into());
    }
    if let Some(file) = &case.label {
        examine_mask(dataset, file, grid.as_ref(), first.as_deref(), &mut report);
    }
    report
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(file: &Path, report: &mut Report) -> Option<Volume> {
    match galen_io::read(file) {
        Ok(volume) if volume.channels > 0 && volume.geometry.voxels() > 0 => Some(volume),
        Ok(_) => {
            report.add(FindingKind::Unreadable, format!("{} has no voxels", name(file)));
            None
        }
        Err(error) => {
            report.add(FindingKind::Unreadable, error.to_string());
            None
        }
    }
}

fn judge_values(values: &[f32], channel: usize, dataset: &Dataset, report: &mut Report, hash: &mut Sha256) {
    let title = match dataset.channel_names.get(channel) {
        Some(title) => format!("channel {channel} ({title})"),
        None => format!("channel {channel}"),
    };
    let wrong = values.iter().filter(|value| !value.is_finite()).count();
    if wrong > 0 {
        report.add(FindingKind::NotFinite, format!("{title}: {wrong} of {} voxels", values.len()));
    } else if values.iter().all(|&value| value == values[0]) {
        report.add(FindingKind::ConstantImage, format!("{title} is {} everywhere", values[0]));
    }
    let mut bytes = Vec::with_capacity(1 << 16);
    for part in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|value| value.to_le_bytes()));
        hash.update(&bytes);
    }
}

fn hash_grid(grid: &Geometry, hash: &mut Sha256) {
    for size in grid.size {
        hash.update((size as u64).to_le_bytes());
    }
    for number in grid.spacing.iter().chain(&grid.origin).chain(grid.direction.as_flattened()) {
        hash.update(number.to_le_bytes());
    }
}

/// Reports every way in which two grids of a case differ, not only the first.
fn compare(first: &Geometry, other: &Geometry, file: &str, report: &mut Report) {
    for mismatch in first.mismatches(other) {
        let message = match &mismatch {
            Mismatch::Size => {
                format!("{file}: {:?} voxels (z, y, x), the first image {:?}", other.size, first.size)
            }
            _ => format!("{file}: differs from the first image in {mismatch}"),
        };
        let kind = match mismatch {
            Mismatch::Size => FindingKind::SizeMismatch,
            Mismatch::Spacing(_) => FindingKind::SpacingMismatch,
            Mismatch::Direction(_) => FindingKind::DirectionMismatch,
            Mismatch::Origin(_) => FindingKind::OriginMismatch,
        };
        let finding = Finding::new(&report.id, kind, message);
        report.findings.push(if first.is_rounding(&mismatch) { finding.warning() } else { finding });
    }
}

fn examine_mask(
    dataset: &Dataset,
    file: &Path,
    grid: Option<&Geometry>,
    first: Option<&[f32]>,
    report: &mut Report,
) {
    let Some(mask) = read(file, report) else { return };
    if let Some(grid) = grid {
        compare(grid, &mask.geometry, &name(file), report);
    }
    if mask.channels > 1 {
        let message = format!("{}: {} channels; a mask has one", name(file), mask.channels);
        return report.add(FindingKind::GreyMask, message);
    }
    match LabelMap::from_volume(&mask) {
        Ok(map) => {
            if let Some(traits) = &mut report.traits {
                traits.add_labels(&map, first);
            }
            judge_labels(dataset, file, &map, report);
        }
        Err(example) => {
            let message = format!("{}: {} voxels, e.g. {example}", name(file), not_labels(&mask));
            report.add(FindingKind::FractionalLabels, message);
        }
    }
}

/// Voxels that are no whole number from 0 to 65535.
fn not_labels(mask: &Volume) -> usize {
    let wrong = |stored: f64| label_of(stored * mask.slope + mask.intercept).is_none();
    with_voxels!(&mask.voxels, v => v.iter().filter(|x| wrong(x.as_f64())).count())
}

fn judge_labels(dataset: &Dataset, file: &Path, map: &LabelMap, report: &mut Report) {
    let mut known = dataset.labels.all();
    known.extend(dataset.labels.ignore());
    let histogram = map.histogram();
    report.values = histogram.iter().map(|&(value, _)| value).collect();
    let strange: Vec<(u16, usize)> = histogram.iter().copied().filter(|(v, _)| !known.contains(v)).collect();
    if strange.is_empty() {
        let background = |value: &u16| *value == 0 || Some(*value) == dataset.labels.ignore();
        if report.values.iter().all(background) {
            report.add(FindingKind::EmptyMask, format!("{} holds no foreground", name(file)));
        }
        return;
    }
    let listed: Vec<String> =
        strange.iter().take(MOST_LISTED).map(|(v, n)| format!("{v} ({n} voxels)")).collect();
    let more = if strange.len() > MOST_LISTED { ", ..." } else { "" };
    if histogram.len() > MOST_LABELS || is_smeared(&histogram) {
        let message =
            format!("{}: {} distinct values: {}{more}", name(file), histogram.len(), listed.join(", "));
        report.add(FindingKind::GreyMask, message);
    } else {
        report.add(FindingKind::UnexpectedLabels, format!("{}: {}{more}", name(file), listed.join(", ")));
    }
}

/// JPEG or smooth resizing of a mask: many rare values close to few frequent ones.
fn is_smeared(histogram: &[(u16, usize)]) -> bool {
    let total: usize = histogram.iter().map(|&(_, n)| n).sum();
    let mut counts: Vec<usize> = histogram.iter().map(|&(_, n)| n).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    histogram.len() >= 12
        && counts.iter().take(4).sum::<usize>() * 10 > total * 8
        && histogram_is_dense(histogram)
}

/// Neighbouring values are present, as rounding to near values makes them.
fn histogram_is_dense(histogram: &[(u16, usize)]) -> bool {
    let near = histogram.windows(2).filter(|pair| pair[1].0 - pair[0].0 <= 2).count();
    near * 2 >= histogram.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_differences_of_two_grids_are_reported() {
        let first = Geometry::axis_aligned([4, 5, 6], [1.0; 3]);
        let mut other = Geometry::axis_aligned([4, 5, 7], [1.0, 1.0, 2.0]);
        other.origin[0] = 0.1;
        other.direction[2][0] = -1.0;
        let mut report = Report::default();
        compare(&first, &other, "x", &mut report);
        let kinds: Vec<FindingKind> = report.findings.iter().map(|finding| finding.kind).collect();
        use FindingKind::*;
        assert_eq!(kinds, [SizeMismatch, SpacingMismatch, DirectionMismatch, OriginMismatch]);
        assert_eq!(report.findings[3].severity, super::super::Severity::Warning);
    }

    #[test]
    fn a_jpeg_mask_is_smeared_and_an_organ_atlas_is_not() {
        let mut jpeg: Vec<(u16, usize)> =
            (0..8).map(|v| (v, 20)).chain((248..256).map(|v| (v, 10))).collect();
        (jpeg[0].1, jpeg[15].1) = (9000, 3000);
        assert!(is_smeared(&jpeg));
        let atlas: Vec<(u16, usize)> = (0..60).map(|v| (v, 500)).collect();
        assert!(!is_smeared(&atlas));
    }
}
