//! Cases that a layout found, written as nnU-Net's raw layout.
//!
//! What masks mean is settled before anything is written: all of them are read once for their values. nnU-Net wants labels
//! without gaps, so values are renumbered where they have some, and the change is told.

use super::Imported;
use super::target::{build, copy, link, one_file};
use crate::Progress;
use crate::description::write_json;
use crate::work_queue::{all_or_first, for_each_case};
use galen_core::{Error, LabelMap, Result, label_of};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Most different values of masks whose labels nobody named: more are grey values, or objects by number.
const MOST_VALUES: usize = 64;
/// Endings that nnU-Net reads as volumes; others are converted.
const VOLUMES: [&str; 3] = [".nii.gz", ".nrrd", ".mha"];

/// A case as a layout lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Identifier, unique in its dataset.
    pub id: String,
    /// Image files in channel order.
    pub images: Vec<PathBuf>,
    /// Its masks.
    pub masks: Masks,
}

/// The masks of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masks {
    /// There are none: a case for testing.
    Absent,
    /// Files that hold label values; several are laid over each other, as objects of one image often are.
    Values(Vec<PathBuf>),
    /// One binary mask per label, by name.
    PerLabel(Vec<(String, PathBuf)>),
}

/// What the user, or the catalogue, says about a dataset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// Names of the channels; nnU-Net normalises by name, `CT` unlike all others.
    pub channels: Vec<String>,
    /// Values in the masks and names of the labels, in the order that they shall have.
    pub labels: Vec<(u16, String)>,
    /// Values from this on are the one label, all others background.
    pub threshold: Option<f64>,
    /// Leave incomplete cases out instead of refusing the dataset.
    pub keep_going: bool,
    /// Further entries of `dataset.json`.
    pub about: Vec<(String, String)>,
}

/// Writes cases as an nnU-Net raw dataset into the new folder `to`. `incomplete` are those that lack something, one line
/// each: an error that names them all, unless they shall be left out.
pub fn import_found(
    from: &Path,
    mut cases: Vec<Found>,
    mut incomplete: Vec<String>,
    wishes: &Wishes,
    to: &Path,
    progress: Progress,
) -> Result<Imported> {
    cases.iter_mut().for_each(|case| case.id = plain_id(&case.id));
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(pair) = cases.windows(2).find(|pair| pair[0].id == pair[1].id) {
        let file =
            |case: &Found| case.images.first().map_or(String::new(), |file| file.display().to_string());
        let what = format!("{} and {} both are case {}", file(&pair[0]), file(&pair[1]), pair[0].id);
        return Err(Error::input(
            from.display(),
            what,
            "rename one of them, or import the folders one by one",
        ));
    }
    if cases.iter().all(|case| case.masks == Masks::Absent) {
        let what = format!("no image with a mask was found ({} images without)", cases.len());
        let remedy = "check the folder, or choose another layout: `galen import --help` lists them";
        return Err(Error::input(from.display(), what, remedy));
    }
    // Two passes: looking at all, then writing.
    let looking = |done: usize, total: usize| progress(done, 2 * total);
    let seen = for_each_case(cases.len(), bytes(&cases), &looking, |index| look(&cases[index], wishes));
    let mut kept = Vec::new();
    for (case, seen) in cases.into_iter().zip(seen) {
        match seen {
            Ok(seen) => kept.push((case, seen)),
            Err(error) => incomplete.push(format!("{}: {error}", case.id)),
        }
    }
    if !incomplete.is_empty() && !wishes.keep_going {
        let what = format!("{} cases are no good: {}", incomplete.len(), incomplete.join("; "));
        return Err(Error::input(from.display(), what, "mend them, or leave them out with --keep-going"));
    }
    let (cases, seen): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let numbering = Numbering::of(&seen, wishes).map_err(|error| error.within(from.display()))?;
    let form = Form::of(&cases, &seen, wishes).map_err(|error| error.within(from.display()))?;
    let training = cases.iter().filter(|case| case.masks != Masks::Absent).count();
    let mut notes = numbering.notes();
    notes.extend(form.note());
    build(to, |folder| {
        for (name, needed) in [("imagesTr", true), ("labelsTr", true), ("imagesTs", training < cases.len())] {
            if needed {
                let path = folder.join(name);
                fs::create_dir(&path).map_err(|error| Error::system(path.display(), &error))?;
            }
        }
        let writing = |done: usize, total: usize| progress(total + done, 2 * total);
        let results = for_each_case(cases.len(), bytes(&cases), &writing, |index| {
            write_case(&cases[index], &form, &numbering, wishes, folder)
        });
        let ids: Vec<&str> = cases.iter().map(|case| case.id.as_str()).collect();
        all_or_first(results, &ids)?;
        write_json(&folder.join("dataset.json"), &description(training, &form, &numbering, wishes))
    })?;
    Ok(Imported { training, test: cases.len() - training, left_out: incomplete, notes })
}

/// File names must be safe everywhere.
fn plain_id(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let mut plain: String = id.chars().map(safe).collect();
    while plain.contains("__") {
        plain = plain.replace("__", "_");
    }
    plain.trim_matches(['_', '.']).to_owned()
}

fn bytes(cases: &[Found]) -> impl Fn(usize) -> usize + Sync + '_ {
    |index| {
        let files = cases[index].images.iter();
        // Compressed images become several times as large.
        files.map(|file| fs::metadata(file).map_or(0, |meta| 8 * meta.len() as usize)).sum::<usize>()
            + (64 << 20)
    }
}

/// What one look at the files of a case shows.
struct Seen {
    flat: bool,
    /// Channels per image file.
    channels: usize,
    /// Values but 0 in the masks.
    values: BTreeSet<u16>,
    /// Names of its masks, where they have some.
    names: Vec<String>,
}

fn look(case: &Found, wishes: &Wishes) -> Result<Seen> {
    let headers = case.images.iter().map(|file| galen_io::read_header(file)).collect::<Result<Vec<_>>>()?;
    let Some(first) = headers.first() else { return Err(Error::bug(&case.id, "a case without images")) };
    for (file, header) in case.images.iter().zip(&headers).skip(1) {
        if let Some(mismatch) = first.geometry.conflicts(&header.geometry) {
            let what = format!("its grid differs from {} in {mismatch}", case.images[0].display());
            return Err(Error::input(file.display(), what, "resample the channels onto one grid"));
        }
    }
    let (mut values, mut names) = (BTreeSet::new(), Vec::new());
    let grid = |file: &Path, mask: &LabelMap| match first.geometry.conflicts(&mask.geometry) {
        Some(mismatch) => {
            let what = format!("its grid differs from the image in {mismatch}");
            Err(Error::input(file.display(), what, "resample it onto the image's grid"))
        }
        None => Ok(()),
    };
    match &case.masks {
        Masks::Absent => {}
        Masks::Values(files) => {
            for file in files {
                let mask = read_mask(file, wishes.threshold)?;
                grid(file, &mask)?;
                values
                    .extend(mask.histogram().into_iter().map(|(value, _)| value).filter(|&value| value > 0));
            }
        }
        Masks::PerLabel(files) => {
            for (name, file) in files {
                grid(file, &read_mask(file, wishes.threshold)?)?;
                names.push(name.clone());
            }
        }
    }
    Ok(Seen { flat: first.geometry.flat, channels: first.channels, values, names })
}

/// A mask with its label values. Pictures may repeat one grey value in three channels.
fn read_mask(file: &Path, threshold: Option<f64>) -> Result<LabelMap> {
    let volume = galen_io::read(file)?;
    let values = volume.channel_f32(0);
    // A fourth channel is opacity.
    if (1..volume.channels.min(3)).any(|channel| volume.channel_f32(channel) != values) {
        let what = "is a picture in colours, not a mask";
        return Err(Error::input(file.display(), what, "turn its colours into label values first"));
    }
    if let Some(threshold) = threshold {
        let labels = values.iter().map(|&value| u8::from(f64::from(value) >= threshold)).collect();
        return Ok(LabelMap::new(volume.geometry, labels));
    }
    let label = |&value: &f32| {
        label_of(value.into()).ok_or_else(|| {
            let what = format!("holds the value {value}, which is no label");
            Error::input(file.display(), what, "labels are whole numbers; --threshold T makes a binary mask")
        })
    };
    let labels = LabelMap::from_u16(volume.geometry, values.iter().map(label).collect::<Result<_>>()?);
    let found = labels.histogram();
    let lossy =
        file.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg"));
    if lossy && found.len() > 2 {
        let what = format!("holds {} grey values: it was compressed with loss", found.len());
        return Err(Error::input(file.display(), what, "--threshold 128 makes a binary mask of it"));
    }
    Ok(labels)
}

/// Which label each value becomes.
struct Numbering {
    /// Name, value in the masks, and label.
    labels: Vec<(String, u16, u16)>,
}

impl Numbering {
    fn of(seen: &[Seen], wishes: &Wishes) -> Result<Self> {
        let names: BTreeSet<&String> = seen.iter().flat_map(|seen| &seen.names).collect();
        if !names.is_empty() {
            let labels =
                names.into_iter().zip(1..).map(|(name, label)| (name.clone(), label, label)).collect();
            return Ok(Self { labels });
        }
        let values: BTreeSet<u16> = seen.iter().flat_map(|seen| seen.values.iter().copied()).collect();
        if wishes.threshold.is_some() || wishes.labels.is_empty() {
            if values.len() > MOST_VALUES {
                let what =
                    format!("the masks hold {} values: grey values, or objects by number", values.len());
                let remedy =
                    "name the labels (--labels 1=liver,2=tumour), or make binary masks (--threshold 1)";
                return Err(Error::input("masks", what, remedy));
            }
            let single = values.len() == 1;
            let name = |value: u16| match wishes.labels.first() {
                Some((_, name)) if single => name.clone(),
                _ if single => "foreground".to_owned(),
                _ => format!("label_{value}"),
            };
            let labels = values.iter().zip(1..).map(|(&value, label)| (name(value), value, label)).collect();
            return Ok(Self { labels });
        }
        let mut named = wishes.labels.clone();
        // A single label is often written as 255.
        if let ([(value, _)], Some(&only)) = (named.as_mut_slice(), values.first())
            && values.len() == 1
        {
            *value = only;
        }
        if let Some(value) = values.iter().find(|&value| named.iter().all(|(known, _)| known != value)) {
            let list: Vec<String> = named.iter().map(|(value, name)| format!("{value} {name}")).collect();
            let what = format!("the masks hold the value {value}, the labels are {}", list.join(", "));
            return Err(Error::input("masks", what, "name all values: --labels 1=liver,2=tumour"));
        }
        let labels = named.into_iter().zip(1..).map(|((value, name), label)| (name, value, label)).collect();
        Ok(Self { labels })
    }

    fn label(&self, value: u16) -> u16 {
        self.labels.iter().find(|(_, known, _)| *known == value).map_or(0, |(_, _, label)| *label)
    }

    fn changes(&self) -> bool {
        self.labels.iter().any(|(_, value, label)| value != label)
    }

    fn notes(&self) -> Vec<String> {
        if !self.changes() {
            return Vec::new();
        }
        let moved = self.labels.iter().filter(|(_, value, label)| value != label);
        let moved: Vec<String> =
            moved.map(|(name, value, label)| format!("{value} became {label} ({name})")).collect();
        vec![format!("labels were renumbered without gaps: {}", moved.join(", "))]
    }
}

/// How images are stored.
struct Form {
    ending: String,
    flat: bool,
    channels: Vec<String>,
    named: bool,
}

impl Form {
    fn of(cases: &[Found], seen: &[Seen], wishes: &Wishes) -> Result<Self> {
        let flat = seen.first().is_some_and(|seen| seen.flat);
        let shape = |(case, seen): (&Found, &Seen)| (seen.flat, case.images.len(), seen.channels);
        let all: BTreeMap<_, &Found> = cases.iter().zip(seen).map(|pair| (shape(pair), pair.0)).collect();
        if all.len() > 1 {
            let kinds: Vec<String> = all
                .iter()
                .map(|((flat, files, channels), case)| {
                    let kind = if *flat { "2D" } else { "3D" };
                    format!("{} is {kind} with {files} files of {channels} channels", case.id)
                })
                .collect();
            let what = format!("the images are not alike: {}", kinds.join(", "));
            return Err(Error::input("images", what, "import each kind by itself"));
        }
        let (files, stored) = (cases[0].images.len(), seen[0].channels);
        if !flat && stored > 1 {
            let what = format!("{} channels in one 3D file", stored);
            return Err(Error::input("images", what, "use the layout `msd`, which splits them"));
        }
        let count = files * stored;
        let channels = match wishes.channels.as_slice() {
            [one] if count == 3 && flat => ["red", "green", "blue"].map(|c| format!("{one} {c}")).to_vec(),
            given if given.len() == count => given.to_vec(),
            [] if count == 3 && flat => ["R", "G", "B"].map(str::to_owned).to_vec(),
            [] => {
                (0..count).map(|c| if count == 1 { "image".into() } else { format!("channel {c}") }).collect()
            }
            given => {
                let what = format!("{} names for {count} channels", given.len());
                return Err(Error::input("channels", what, "give one name per channel: --channels T1,T2"));
            }
        };
        let ending = |file: &PathBuf| galen_io::ending(file).map(|(ending, _)| ending.to_lowercase());
        let mut endings: Vec<_> = cases.iter().flat_map(|case| case.images.iter().map(ending)).collect();
        endings.dedup();
        let ending = match endings.as_slice() {
            _ if flat => ".png".to_owned(),
            [Some(one)] if VOLUMES.contains(&one.as_str()) => one.clone(),
            _ => ".nii.gz".to_owned(),
        };
        Ok(Self { ending, flat, channels, named: !wishes.channels.is_empty() })
    }

    fn note(&self) -> Option<String> {
        let told = self.named || self.flat;
        let name = self.channels.first()?;
        (!told).then(|| {
            format!("channel `{name}` will be normalised by its mean and deviation; for CT say --channels CT")
        })
    }
}

fn write_case(
    case: &Found,
    form: &Form,
    numbering: &Numbering,
    wishes: &Wishes,
    folder: &Path,
) -> Result<()> {
    let images = if case.masks == Masks::Absent { "imagesTs" } else { "imagesTr" };
    for (channel, file) in case.images.iter().enumerate() {
        let to = folder.join(images).join(format!("{}_{channel:04}{}", case.id, form.ending));
        let same =
            galen_io::ending(file).is_some_and(|(ending, _)| ending.eq_ignore_ascii_case(&form.ending));
        if same && one_file(file).is_ok() {
            link(file, &to)?;
        } else {
            galen_io::write(&to, &galen_io::read(file)?)?;
        }
    }
    let to = folder.join("labelsTr").join(format!("{}{}", case.id, form.ending));
    match &case.masks {
        Masks::Absent => Ok(()),
        Masks::Values(files) => {
            let same = |file: &Path| {
                galen_io::ending(file).is_some_and(|(e, _)| e.eq_ignore_ascii_case(&form.ending))
            };
            if let ([file], false, None) = (files.as_slice(), numbering.changes(), wishes.threshold)
                && same(file)
                && one_file(file).is_ok()
                && galen_io::read_header(file)?.channels == 1
            {
                return copy(file, &to);
            }
            let mut out: Option<(LabelMap, Vec<u16>)> = None;
            for file in files {
                let mask = read_mask(file, wishes.threshold)?;
                let (_, labels) = out.get_or_insert_with(|| (mask.clone(), vec![0; mask.geometry.voxels()]));
                overlay(labels, &mask, |value| numbering.label(value));
            }
            write_labels(out, &to)
        }
        Masks::PerLabel(files) => {
            let mut out: Option<(LabelMap, Vec<u16>)> = None;
            for (name, file) in files {
                let mask = read_mask(file, wishes.threshold)?;
                let own =
                    numbering.labels.iter().find(|(known, ..)| known == name).map_or(0, |(.., label)| *label);
                let (_, labels) = out.get_or_insert_with(|| (mask.clone(), vec![0; mask.geometry.voxels()]));
                let again = overlay(labels, &mask, |_| own);
                if again > 0 {
                    let what = format!("{again} of its voxels belong to another mask too");
                    let remedy = "overlapping masks are no label map: import them as datasets of their own";
                    return Err(Error::input(file.display(), what, remedy));
                }
            }
            write_labels(out, &to)
        }
    }
}

/// Writes the labels of a mask's foreground; returns how many voxels had one before.
fn overlay(labels: &mut [u16], mask: &LabelMap, label: impl Fn(u16) -> u16) -> usize {
    let mut again = 0;
    for (i, to) in labels.iter_mut().enumerate() {
        let value = mask.get(i);
        if value > 0 {
            again += usize::from(*to > 0);
            *to = label(value);
        }
    }
    again
}

fn write_labels(labels: Option<(LabelMap, Vec<u16>)>, to: &Path) -> Result<()> {
    let Some((first, labels)) = labels else { return Err(Error::bug(to.display(), "a case without a mask")) };
    galen_io::write_label_map(to, &LabelMap::from_u16(first.geometry, labels))
}

/// `dataset.json` as nnU-Net writes it.
fn description(training: usize, form: &Form, numbering: &Numbering, wishes: &Wishes) -> Value {
    let mut out = Map::new();
    let channels = form.channels.iter().enumerate();
    out.insert("channel_names".into(), channels.map(|(i, name)| (i.to_string(), json!(name))).collect());
    let mut labels = Map::from_iter([("background".to_owned(), json!(0))]);
    labels.extend(numbering.labels.iter().map(|(name, _, label)| (name.clone(), json!(label))));
    out.insert("labels".into(), Value::Object(labels));
    out.insert("numTraining".into(), json!(training));
    out.insert("file_ending".into(), json!(form.ending));
    out.extend(wishes.about.iter().map(|(key, text)| (key.clone(), json!(text))));
    Value::Object(out)
}
