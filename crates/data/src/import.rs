//! From the layout of the Medical Segmentation Decathlon to nnU-Net's raw layout.
//!
//! 3D images are linked (copied where that is impossible), 4D images are split into one file per channel, masks
//! are copied: they are what people correct afterwards, and many tools write in place, through the link. All is
//! built in a folder beside the target and renamed, so the target is complete or not there.

use crate::Progress;
use crate::dataset::{Case, Dataset, Layout, Problem, ProblemKind};
use crate::description::write_json;
use crate::work_queue::{all_or_first, for_each_case};
use galen_core::{Error, Result, Voxels, with_voxels};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an import brought over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Training cases.
    pub training: usize,
    /// Test cases.
    pub test: usize,
    /// Incomplete cases that were left out, one line each.
    pub left_out: Vec<String>,
}

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
    let parent = parent_of(to)?;
    let start = format!(".{}.import-", to.file_name().unwrap_or_default().to_string_lossy());
    remove_unfinished(&parent, &start);
    let system = |error: std::io::Error| Error::system(to.display(), &error);
    let unfinished = tempfile::Builder::new().prefix(&start).tempdir_in(&parent).map_err(system)?;
    let lock = fs::File::create(unfinished.path().join(LOCK)).map_err(system)?;
    lock.try_lock().ok();
    fill(&dataset, unfinished.path(), progress)?;
    fs::remove_file(unfinished.path().join(LOCK)).map_err(system)?;
    place(unfinished, to)?;
    Ok(Imported { training: dataset.training.len(), test: dataset.test.len(), left_out })
}

/// File in an unfinished folder that its maker holds locked.
const LOCK: &str = ".lock";

fn parent_of(to: &Path) -> Result<PathBuf> {
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(|error| Error::system(parent.display(), &error))?;
    Ok(parent)
}

/// Removes what killed imports into the same target left behind; those of running ones are locked.
fn remove_unfinished(parent: &Path, start: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(start) {
            let lock = fs::File::open(entry.path().join(LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
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

/// A hard link where the file system can, else a copy. Never onto a file that is there: it may be a link to
/// another image of the source, which a copy would overwrite.
fn link(from: &Path, to: &Path) -> Result<()> {
    let source = from.canonicalize().map_err(|error| Error::system(from.display(), &error))?;
    if fs::hard_link(&source, to).is_ok() { Ok(()) } else { copy(&source, to) }
}

/// Refuses a header whose voxels lie in files of their own: alone it would be no image.
fn one_file(file: &Path) -> Result<()> {
    match galen_io::files_of(file)?.as_slice() {
        [_] => Ok(()),
        others => {
            let names: Vec<String> = others[1..].iter().map(|file| file.display().to_string()).collect();
            let what = format!(
                "its voxels are in other files ({}), which a link would leave behind",
                names.join(", ")
            );
            Err(Error::input(file.display(), what, "convert it to .nii.gz, .nrrd or .mha first"))
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::system(to.display(), &error);
    let mut source = fs::File::open(from).map_err(|error| Error::system(from.display(), &error))?;
    let mut target = fs::File::options().write(true).create_new(true).open(to).map_err(failed)?;
    std::io::copy(&mut source, &mut target).map(|_| ()).map_err(failed)
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

/// Renames the finished folder; an existing target must hold the same files.
fn place(unfinished: tempfile::TempDir, to: &Path) -> Result<()> {
    let system = |error: std::io::Error| Error::system(to.display(), &error);
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) || to.is_file() {
        if same_tree(unfinished.path(), to).unwrap_or(false) {
            return Ok(());
        }
        let remedy = "choose another folder, or move this one away";
        return Err(Error::input(to.display(), "already exists and holds something else", remedy));
    }
    readable(unfinished.path());
    fs::rename(unfinished.path(), to).map_err(system)?;
    // What was renamed is no longer there to be removed.
    let _ = unfinished.keep();
    Ok(())
}

/// Temporary folders are private; a dataset is readable like any folder.
fn readable(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).ok();
    }
    let _ = folder;
}

/// True when every file of `new` is in `old` with the same bytes; `old` may hold more (preprocessed cases).
fn same_tree(new: &Path, old: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(new)? {
        let entry = entry?;
        let other = old.join(entry.file_name());
        let same = if entry.file_type()?.is_dir() {
            other.is_dir() && count(&entry.path())? == count(&other)? && same_tree(&entry.path(), &other)?
        } else {
            same_file(&entry.path(), &other)?
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn count(folder: &Path) -> std::io::Result<usize> {
    Ok(fs::read_dir(folder)?.count())
}

fn same_file(a: &Path, b: &Path) -> std::io::Result<bool> {
    Ok(fs::metadata(a)?.len() == fs::metadata(b)?.len() && fs::read(a)? == fs::read(b)?)
}
