//! `galen import --as`: a dataset of the catalogue, or of a layout that is named.

use crate::session::{Exit, Session};
use galen_core::{Error, Result};
use galen_data::{
    Family, Imported, Known, Wishes, find_bids, find_pairs, find_subjects, import_found, import_msd, known,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What `galen import --as` takes.
#[derive(Debug, clap::Args)]
pub struct AsDataset {
    /// A dataset of `galen datasets`, or a layout: pairs (images and masks that pair by folder or name),
    /// subject-folders (a folder per subject), bids, msd
    #[arg(long = "as", value_name = "DATASET|LAYOUT", requires_all = ["folder", "out"])]
    layout: Option<String>,
    /// Folder to import
    #[arg(requires = "layout")]
    folder: Option<PathBuf>,
    /// New dataset folder, by custom named DatasetNNN_Name
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Names of the image channels; `CT` is normalised unlike all others
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    channels: Vec<String>,
    /// subject-folders, bids: how the channel files of a subject end, in the order of the channels
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    files: Vec<String>,
    /// subject-folders, bids: how the mask file ends; with `/` the folder that holds one mask per label
    #[arg(long, value_name = "NAME")]
    mask: Option<String>,
    /// Values in the masks and what they are, in the order that the labels shall have
    #[arg(long, value_delimiter = ',', value_name = "1=NAME,2=NAME", value_parser = label)]
    labels: Vec<(u16, String)>,
    /// Mask values from this on are foreground, all others background
    #[arg(long, value_name = "VALUE")]
    threshold: Option<f64>,
    /// Leave incomplete cases out instead of refusing the dataset
    #[arg(long)]
    keep_going: bool,
}

fn label(text: &str) -> Result<(u16, String), String> {
    let pair = text.split_once('=').and_then(|(value, name)| Some((value.trim().parse().ok()?, name.trim())));
    match pair {
        Some((value, name)) if value > 0 && !name.is_empty() => Ok((value, name.to_owned())),
        _ => Err(format!("`{text}` is no label such as 1=liver")),
    }
}

impl AsDataset {
    /// Imports.
    pub fn run(&self, session: &Session) -> Result<Exit> {
        let (Some(layout), Some(folder), Some(out)) = (&self.layout, &self.folder, &self.out) else {
            return Err(Error::bug("import", "the command line promises layout, folder and target"));
        };
        let (family, of_catalog) = match Family::named(layout) {
            Some(family) => (family, None),
            None => known(layout).map(|one| (one.family, Some(one)))?,
        };
        let wishes = self.wishes(of_catalog);
        let progress = session.progress("import", 0);
        let at = |done: usize, total: usize| progress.at(done, total);
        let (files, mask) = self.names(of_catalog);
        let found = match family {
            Family::Msd => None,
            Family::Pairs => Some(find_pairs(folder)?),
            Family::SubjectFolders | Family::Bids => {
                let (Some(mask), false) = (mask, files.is_empty()) else {
                    let what = format!("how the files of a subject are called is not known for {layout}");
                    return Err(Error::input("--as", what, "say --files NAME,NAME --mask NAME"));
                };
                let find = if family == Family::Bids { find_bids } else { find_subjects };
                Some(find(folder, &files, &mask)?)
            }
            _ => return Err(none(layout, family)),
        };
        let imported = match found {
            None => import_msd(folder, out, self.keep_going, &at)?,
            Some((cases, incomplete)) => import_found(folder, cases, incomplete, &wishes, out, &at)?,
        };
        progress.finish();
        tell(&imported, out, session)
    }

    fn names(&self, of_catalog: Option<&Known>) -> (Vec<String>, Option<String>) {
        let files = match of_catalog {
            Some(one) if self.files.is_empty() => one.channels.clone(),
            _ => self.files.clone(),
        };
        (files, self.mask.clone().or_else(|| of_catalog?.mask.clone()))
    }

    fn wishes(&self, of_catalog: Option<&Known>) -> Wishes {
        let (files, _) = self.names(of_catalog);
        let channels = match of_catalog {
            _ if !self.channels.is_empty() => self.channels.clone(),
            // PET beside CT and the like: files name what they hold.
            _ if files.len() > 1 => {
                files.iter().map(|name| if name.starts_with("CT") { "CT" } else { name }.into()).collect()
            }
            Some(one) if one.modality.starts_with("CT") => vec!["CT".to_owned()],
            Some(one) => vec![one.modality.clone()],
            None => Vec::new(),
        };
        let labels = match of_catalog {
            Some(one) if self.labels.is_empty() => one.labels.clone(),
            _ => self.labels.clone(),
        };
        let about = of_catalog.map_or(Vec::new(), |one| {
            let sure =
                |text: &str, sure: bool| if sure { text.to_owned() } else { format!("{text} (not certain)") };
            let licence = one.licence.as_ref().map(|licence| ("licence", sure(&licence.text, licence.sure)));
            let all = [Some(("name", one.name.clone())), Some(("reference", one.home.text.clone())), licence];
            all.into_iter().flatten().map(|(key, text)| (key.to_owned(), text)).collect()
        });
        Wishes {
            channels,
            labels,
            threshold: self.threshold.or(of_catalog.and_then(|one| one.threshold)),
            keep_going: self.keep_going,
            about,
        }
    }
}

fn none(layout: &str, family: Family) -> Error {
    let all = galen_data::catalog();
    let what = match family {
        Family::NnUnet => "lies in nnU-Net's raw layout already".to_owned(),
        _ => format!("has the layout `{}`, which Galen does not import yet", family.name()),
    };
    let remedy = match family {
        Family::NnUnet => "use it as it is".to_owned(),
        _ => format!(
            "{} of the {} datasets of `galen datasets` can be imported",
            all.iter().filter(|one| one.is_imported()).count(),
            all.len()
        ),
    };
    Error::input(layout, what, remedy)
}

/// What was brought over, for people and programs.
pub fn tell(imported: &Imported, out: &Path, session: &Session) -> Result<Exit> {
    for line in &imported.left_out {
        session.say(format!("left out: {line}"));
    }
    imported.notes.iter().for_each(|note| session.say(format!("note: {note}")));
    session.say(format!(
        "{}: {} training cases, {} test cases. Next: galen check {}",
        out.display(),
        imported.training,
        imported.test,
        out.display()
    ));
    session.document(&json!({
        "dataset": out, "training": imported.training, "test": imported.test, "left_out": imported.left_out,
        "notes": imported.notes,
    }))?;
    Ok(Exit::Done)
}
