//! From the layout of the Medical Segmentation Decathlon to nnU-Net's raw layout.
//!
//! 3D images are linked (copied where that is impossible), 4D images are split into one file per channel, masks
//! are copied: they are what people correct afterwards, and many tools write in place, through the link.

use super::Imported;
use super::target::{build, copy, link, one_file};
use crate::Progress;
use crate::dataset::{Case, Dataset, Layout, Problem, ProblemKind};
use crate::description::write_json;
use crate::work_queue::{all_or_first, for_each_case};
use galen_core::{Error, Result, Voxels, with_voxels};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Texts that are kept from the source's `dataset.json`.
const KEPT: [&str; 6] = ["name", "description", "reference", "licence", "license", "release"];

/// Writes the MSD dataset `from` as an nnU-Net raw dataset into the new folder `to`. Incomplete cases are an
/// error that names them all, unless `keep_going`. A target that already holds the same is left as it is.
pub fn import_msd(from: &Path, to: &Path, keep_going: bool, progress: Progress) -> Result<Imported> {
    let dataset = Dataset::open(from)?;
    if dataset.layout != Layout::Msd {
        let remedy = "use it as it is: nnU-Net's raw layout needs no import";
        return Err(Error::input(
            from.display(),
            "is no MSD dataset: dataset.json lists no `training`",
            remedy,
        ));
    }
    let incomplete = |problem: &&Problem| problem.kind != ProblemKind::UnlistedFile;
    let left_out: Vec<String> = dataset.problems.iter().filter(incomplete).map(ToString::to_string).collect();
    if !left_out.is_empty() && !keep_going {
        let what = format!("{} incomplete cases: {}", left_out.len(), left_out.join("; "));
        return Err(Error::input(
            from.display(),
            what,
            "add the missing files, or leave them out with --keep-going",
        ));
    }
    build(to, |folder| fill(&dataset, folder, progress))?;
    Ok(Imported { training: dataset.training.len(), test: dataset.test.len(), left_out, notes: Vec::new() })
}

fn fill(dataset: &Dataset, folder: &Path, progress: Progress) -> Result<()> {
    let folders = ["imagesTr", "labelsTr", "imagesTs"].map(|name| folder.join(name));
    let needed = if dataset.test.is_empty() { 2 } else { 3 };
    for path in &folders[..needed] {
        fs::create_dir(path).map_err(|error| Error::system(path.display(), &error))?;
    }
    let cases: Vec<(&Case, &Path)> = dataset
        .training
        .iter()
        .map(|case| (case, folders[0].as_path()))
        .chain(dataset.test.iter().map(|case| (case, folders[2].as_path())))
        .collect();
    let bytes = |index: usize| crate::check::expected_bytes(cases[index].0);
    let results = for_each_case(cases.len(), bytes, progress, |index| {
        let (case, images) = cases[index];
        import_case(dataset, case, images, &folders[1])
    });
    let ids: Vec<&str> = cases.iter().map(|(case, _)| case.id.as_str()).collect();
    all_or_first(results, &ids)?;
    write_json(&folder.join("dataset.json"), &description(dataset))
}

fn import_case(dataset: &Dataset, case: &Case, images: &Path, labels: &Path) -> Result<()> {
    let ending = &dataset.file_ending;
    case.images.iter().chain(&case.label).try_for_each(|file| one_file(file))?;
    let channel_file = |channel: usize| images.join(format!("{}_{channel:04}{ending}", case.id));
    if case.images.len() == 1
        && dataset.channel_names.len() > 1
        && galen_io::read_header(&case.images[0])?.channels > 1
    {
        split(dataset, &case.images[0], channel_file)?;
    } else {
        for (channel, file) in case.images.iter().enumerate() {
            link(file, &channel_file(channel))?;
        }
    }
    case.label.as_ref().map_or(Ok(()), |file| copy(file, &labels.join(format!("{}{ending}", case.id))))
}

/// One file per channel of a 4D image, in its stored type.
fn split(dataset: &Dataset, file: &Path, channel_file: impl Fn(usize) -> PathBuf) -> Result<()> {
    let image = galen_io::read(file)?;
    if image.channels != dataset.channel_names.len() {
        let what =
            format!("{} channels, but `modality` names {}", image.channels, dataset.channel_names.len());
        return Err(Error::input(file.display(), what, "correct `modality` in dataset.json"));
    }
    let n = image.geometry.voxels();
    for channel in 0..image.channels {
        let mut part = image.clone();
        part.channels = 1;
        part.voxels = cut(&image.voxels, channel * n, n);
        galen_io::write(&channel_file(channel), &part)?;
    }
    Ok(())
}

fn cut(voxels: &Voxels, start: usize, n: usize) -> Voxels {
    fn typed<T: galen_core::Scalar>(values: &Arc<Vec<T>>, start: usize, n: usize) -> Voxels {
        T::wrap(values[start..start + n].to_vec())
    }
    with_voxels!(voxels, values => typed(values, start, n))
}

/// `dataset.json` as nnU-Net writes it, with the source's names.
fn description(dataset: &Dataset) -> Value {
    let mut out = Map::new();
    let channels = dataset.channel_names.iter().enumerate();
    out.insert("channel_names".into(), channels.map(|(i, name)| (i.to_string(), json!(name))).collect());
    out.insert("labels".into(), dataset.labels.to_json());
    if let Some(order) = &dataset.labels.regions_class_order {
        out.insert("regions_class_order".into(), json!(order));
    }
    out.insert("numTraining".into(), json!(dataset.training.len()));
    out.insert("file_ending".into(), json!(dataset.file_ending));
    for key in KEPT {
        if let Some(text) = dataset.description.json.get(key) {
            out.insert(key.into(), text.clone());
        }
    }
    Value::Object(out)
}
