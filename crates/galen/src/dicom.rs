//! DICOM studies on the command line: the list of series, and series into volumes.

use crate::session::{Exit, Session};
use comfy_table::Table;
use galen_core::{Error, Result, Scalar, Volume, Voxels, with_voxels};
use galen_io::dicom::{Reading, Series, Study, Uptake};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every DICOM series of a folder, zip or DICOMDIR that is a volume, one file each
///
/// Slices are sorted by position; a series with gaps, missing images or turned slices is left out and the reason
/// said. Several volumes of one series (time points, b-values, echoes) become one file with as many channels.
///
/// Examples:
///   galen import dicom study/ --out volumes/
///   galen import dicom export.zip --out volumes/ --series 3,4 --ending .nrrd
///   galen import dicom pet/ --out volumes/ --suv bw
///   galen import dicom dti/ --out volumes/ --split              (NAME_0000.nii.gz, NAME_0001.nii.gz, ...)
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Import {
    /// Folder, zip archive, DICOMDIR or file
    study: PathBuf,
    /// Folder for the volumes; files are named NUMBER_MODALITY_DESCRIPTION
    #[arg(long, short)]
    out: PathBuf,
    /// Only the series with these numbers or identifiers (see `galen info`)
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    series: Vec<String>,
    /// Format of the volumes
    #[arg(long, default_value = ".nii.gz", value_name = "ENDING")]
    ending: String,
    /// One file per channel instead of one file with all
    #[arg(long)]
    split: bool,
    /// PET: standardised uptake instead of activity, by body weight or by lean body mass
    #[arg(long, value_enum, value_name = "MASS")]
    suv: Option<Suv>,
    /// Move the slices of a tilted gantry above each other (linear interpolation, float32) instead of refusing them
    #[arg(long)]
    untilt: bool,
    /// Turn the values of images around whose low values are bright (MONOCHROME1)
    #[arg(long)]
    invert_monochrome1: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Suv {
    /// Body weight
    Bw,
    /// Lean body mass (Janmahasatian)
    Lbm,
}

/// Reads all headers, with progress.
pub fn open(path: &Path, session: &Session) -> Result<Study> {
    let progress = session.progress("headers", 0);
    let study = Study::open(path, &|done, total| progress.at(done, total))?;
    progress.finish();
    Ok(study)
}

/// Number of each series' study, from 1 on; identifiers would lead to the patient.
fn studies(study: &Study) -> BTreeMap<&str, usize> {
    let all: BTreeSet<&str> = study.series.iter().map(Series::study_uid).collect();
    all.into_iter().zip(1..).collect()
}

/// Prints what a study holds.
pub fn info(study: &Study, session: &Session) -> Result<Exit> {
    let numbers = studies(study);
    let facts: Vec<Value> =
        study.series.iter().map(|series| facts(series, numbers[series.study_uid()])).collect();
    let unreadable: Vec<String> = study.unreadable.iter().map(Error::to_string).collect();
    session.document(&json!({
        "what": "DICOM", "studies": numbers.len(), "series": facts, "unreadable": unreadable,
        "other files": study.others,
    }))?;
    let mut table = Table::new();
    table.set_header(["study", "series", "modality", "description", "images", "volume"]);
    for (series, facts) in study.series.iter().zip(&facts) {
        let number = series.number().map_or_else(|| "-".into(), |number| number.to_string());
        let mut verdict = match &series.stack {
            Ok(stack) => {
                let g = &stack.geometry;
                let [z, y, x] = g.size;
                let mm = g.spacing.map(|mm| format!("{mm:.3}"));
                let channels = match (series.channels(), &stack.axis[..]) {
                    (0 | 1, _) => String::new(),
                    (count, "") => format!(", {count} channels"),
                    (count, axis) => format!(", {count} channels by {axis}"),
                };
                let mm = if g.flat { format!("2D, {} x {}", mm[1], mm[2]) } else { mm.join(" x ") };
                format!("{z} x {y} x {x}, {mm} mm, {}{channels}", series.voxel_type())
            }
            Err(why) => format!("no: {why}"),
        };
        for note in series.stack.iter().flat_map(|stack| &stack.notes) {
            verdict.push_str("; ");
            verdict.push_str(note);
        }
        table.add_row([
            facts["study"].to_string(),
            number,
            series.modality().to_owned(),
            series.description().to_owned(),
            series.images().to_string(),
            verdict,
        ]);
    }
    if !study.series.is_empty() {
        session.say(table.to_string());
    }
    for error in &unreadable {
        session.say(format!("cannot be read: {error}"));
    }
    if study.others > 0 {
        session.say(format!("{} other files are no DICOM", study.others));
    }
    Ok(if unreadable.is_empty() { Exit::Done } else { Exit::Problems })
}

fn facts(series: &Series, study: usize) -> Value {
    let mut facts = json!({
        "study": study, "number": series.number(), "modality": series.modality(), "description": series.description(),
        "images": series.images(), "files": series.instances(), "transfer syntax": series.syntax(),
        "photometric": series.photometric(), "type": series.voxel_type(), "volume": series.stack.is_ok(),
    });
    match &series.stack {
        Ok(stack) => {
            let g = &stack.geometry;
            facts["size (z y x)"] = json!(g.size);
            facts["spacing (z y x) mm"] = json!(g.spacing);
            facts["origin LPS"] = json!(g.origin);
            facts["direction"] = json!(g.direction);
            facts["2D"] = json!(g.flat);
            facts["channels"] = json!(series.channels());
            facts["channels by"] = json!(stack.axis);
            facts["channel names"] = json!(stack.names);
            facts["tilted"] = json!(stack.shear.is_some());
            facts["notes"] = json!(stack.notes);
        }
        Err(why) => facts["why not"] = json!(why),
    }
    facts
}

/// Writes volumes.
pub fn import(arguments: &Import, session: &Session) -> Result<Exit> {
    if !galen_io::FORMATS
        .iter()
        .any(|format| format.write.is_some() && format.endings.contains(&&*arguments.ending))
    {
        let what = "names no format that can be written";
        return Err(Error::input(format!("--ending {}", arguments.ending), what, ".nii.gz, .nrrd or .mha"));
    }
    let study = open(&arguments.study, session)?;
    let chosen = |series: &&Series| {
        let number = series.number().map(|number| number.to_string());
        let named = |name: &String| Some(name) == number.as_ref() || name == series.uid();
        arguments.series.is_empty() || arguments.series.iter().any(named)
    };
    let chosen: Vec<&Series> = study.series.iter().filter(chosen).collect();
    if chosen.is_empty() {
        let error = match study.unreadable.first() {
            Some(error) if study.series.is_empty() => error.clone(),
            _ if study.series.is_empty() => {
                Error::input(arguments.study.display(), "holds no DICOM file", "give a folder of images")
            }
            _ => Error::input("--series", "names none of the series", "see `galen info` for their numbers"),
        };
        return Err(error);
    }
    std::fs::create_dir_all(&arguments.out)
        .map_err(|error| Error::system(arguments.out.display(), &error))?;
    let numbers = studies(&study);
    let reading = Reading {
        uptake: arguments.suv.map(|suv| match suv {
            Suv::Bw => Uptake::BodyWeight,
            Suv::Lbm => Uptake::LeanBodyMass,
        }),
        invert_monochrome1: arguments.invert_monochrome1,
        untilt: arguments.untilt,
    };
    let progress = session.progress("series", chosen.len());
    let (mut written, mut left_out, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (done, series) in chosen.iter().enumerate() {
        session.check_stop("volumes written so far are whole")?;
        let name = unused(name(series, &numbers), &mut names);
        let volume = match series.read(reading) {
            Ok(volume) => volume,
            Err(error) => {
                left_out.push(json!({ "series": name, "why": error.to_string() }));
                progress.line(&format!("left out: {name}: {error}"));
                continue;
            }
        };
        for (file, volume) in parts(&name, volume, arguments) {
            galen_io::write(&file, &volume)?;
            progress.line(&format!("{}", file.display()));
            written.push(
                json!({ "file": file, "study": numbers[series.study_uid()], "number": series.number() }),
            );
        }
        progress.at(done + 1, chosen.len());
    }
    progress.finish();
    let unreadable: Vec<String> = study.unreadable.iter().map(Error::to_string).collect();
    for error in &unreadable {
        session.say(format!("cannot be read: {error}"));
    }
    session.say(format!(
        "{}: {} files, {} series left out",
        arguments.out.display(),
        written.len(),
        left_out.len()
    ));
    session.document(&json!({ "written": written, "left_out": left_out, "unreadable": unreadable }))?;
    Ok(if written.is_empty() || !unreadable.is_empty() { Exit::SomeFailed } else { Exit::Done })
}

/// `3_CT_Thorax`, behind the study's number where there are several.
fn name(series: &Series, studies: &BTreeMap<&str, usize>) -> String {
    let mut words = Vec::new();
    if studies.len() > 1 {
        words.push(format!("study{}", studies[series.study_uid()]));
    }
    words.extend(series.number().map(|number| number.to_string()));
    words.extend([series.modality(), series.description()].map(str::to_owned));
    let plain = |word: &String| {
        let marked: String = word.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        marked
            .split('-')
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("-")
            .chars()
            .take(60)
            .collect::<String>()
    };
    let words: Vec<String> = words.iter().map(plain).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "series".into() } else { words.join("_") }
}

/// The name, with a number behind it when it is taken.
fn unused(name: String, taken: &mut BTreeSet<String>) -> String {
    let mut free = name.clone();
    for k in 2.. {
        if taken.insert(free.clone()) {
            break;
        }
        free = format!("{name}_{k}");
    }
    free
}

/// Files of a volume: one, or one for each channel.
fn parts(name: &str, volume: Volume, arguments: &Import) -> Vec<(PathBuf, Volume)> {
    let file = |name: String| arguments.out.join(format!("{name}{}", arguments.ending));
    if !arguments.split {
        return vec![(file(name.to_owned()), volume)];
    }
    (0..volume.channels).map(|k| (file(format!("{name}_{k:04}")), channel(&volume, k))).collect()
}

/// One channel as an image of its own, in its stored type.
fn channel(volume: &Volume, channel: usize) -> Volume {
    fn part<T: Scalar>(voxels: &[T]) -> Voxels {
        T::wrap(voxels.to_vec())
    }
    let n = volume.geometry.voxels();
    let voxels = with_voxels!(&volume.voxels, v => part(&v[channel * n..(channel + 1) * n]));
    Volume { geometry: volume.geometry.clone(), channels: 1, voxels, ..*volume }
}
