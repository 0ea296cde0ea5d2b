//! nnU-Net v2 raw: `imagesTr/CASE_0000.EXT`, `labelsTr/CASE.EXT`, `imagesTs`, or an explicit `dataset` mapping.
//! Source: nnU-Net 2.8.1, `utilities/utils`.

use super::{Listing, channel_of, file_names};
use crate::dataset::{Case, ProblemKind};
use crate::description::Description;
use galen_core::{Error, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Channel number → file, per case.
type Channels = BTreeMap<String, BTreeMap<usize, PathBuf>>;

/// Lists the folder.
pub(crate) fn list(root: &Path, description: &Description) -> Result<Listing> {
    let ending = file_ending(root, description)?;
    let mut listing = Listing::new(ending.clone());
    if let Some(Value::Object(mapping)) = description.json.get("dataset") {
        list_mapping(root, mapping, &mut listing)?;
    } else {
        list_training(root, &ending, &mut listing)?;
    }
    for (id, channels) in image_files(&root.join("imagesTs"), &ending, &mut listing)? {
        listing.test.push(Case { id, images: channels.into_values().collect(), label: None });
    }
    Ok(listing.sorted())
}

fn file_ending(root: &Path, description: &Description) -> Result<String> {
    description.file_ending.clone().ok_or_else(|| {
        let place = root.join("dataset.json");
        Error::input(
            place.display(),
            "there is no `file_ending`",
            "add for example \"file_ending\": \".nii.gz\"",
        )
    })
}

fn list_training(root: &Path, ending: &str, listing: &mut Listing) -> Result<()> {
    let images = image_files(&root.join("imagesTr"), ending, listing)?;
    let label_folder = root.join("labelsTr");
    let names = file_names(&label_folder)?;
    let mut labels: BTreeSet<&str> = names.iter().filter_map(|name| name.strip_suffix(ending)).collect();
    let files_per_case =
        images.values().map(|channels| channels.keys().max().map_or(0, |m| m + 1)).max().unwrap_or(0);
    for (id, channels) in images {
        let missing: Vec<String> = (0..files_per_case)
            .filter(|index| !channels.contains_key(index))
            .map(|index| format!("imagesTr/{id}_{index:04}{ending}"))
            .collect();
        let labelled = labels.remove(id.as_str());
        if !missing.is_empty() {
            listing.problem(&id, ProblemKind::MissingChannel, format!("no {}", missing.join(", ")));
        }
        if !labelled {
            listing.problem(&id, ProblemKind::MissingLabel, format!("no labelsTr/{id}{ending}"));
        }
        if missing.is_empty() && labelled {
            let label = Some(label_folder.join(format!("{id}{ending}")));
            listing.training.push(Case { id, images: channels.into_values().collect(), label });
        }
    }
    for id in labels {
        let message = format!("labelsTr/{id}{ending} has no imagesTr/{id}_0000{ending}");
        listing.problem(id, ProblemKind::LabelWithoutImage, message);
    }
    Ok(())
}

/// Image files of a folder by case and channel; a name without channel number is a problem.
fn image_files(folder: &Path, ending: &str, listing: &mut Listing) -> Result<Channels> {
    let mut cases = Channels::new();
    for name in file_names(folder)? {
        let Some(stem) = name.strip_suffix(ending) else { continue };
        if let Some((id, channel)) = channel_of(stem) {
            cases.entry(id.to_owned()).or_default().insert(channel, folder.join(&name));
        } else {
            let message = format!("{name} has no channel number (expected {stem}_0000{ending})");
            listing.problem(stem, ProblemKind::UnlistedFile, message);
        }
    }
    Ok(cases)
}

fn list_mapping(root: &Path, mapping: &Map<String, Value>, listing: &mut Listing) -> Result<()> {
    let wrong = |id: &str| {
        let place = root.join("dataset.json");
        let remedy = "write \"CASE\": {\"images\": [\"...\"], \"label\": \"...\"}";
        Error::input(place.display(), format!("`dataset` entry {id} lacks images or label"), remedy)
    };
    for (id, entry) in mapping {
        let list = entry.get("images").and_then(Value::as_array).ok_or_else(|| wrong(id))?;
        let images = list
            .iter()
            .map(|file| file.as_str().map(|name| root.join(expand(name))).ok_or_else(|| wrong(id)))
            .collect::<Result<Vec<_>>>()?;
        let label = root.join(expand(entry.get("label").and_then(Value::as_str).ok_or_else(|| wrong(id))?));
        let missing: Vec<String> =
            images.iter().filter(|file| !file.exists()).map(|file| file.display().to_string()).collect();
        if missing.is_empty() && label.exists() && !images.is_empty() {
            listing.training.push(Case { id: id.clone(), images, label: Some(label) });
            continue;
        }
        if !missing.is_empty() || images.is_empty() {
            listing.problem(id, ProblemKind::MissingChannel, format!("no {}", missing.join(", ")));
        }
        if !label.exists() {
            listing.problem(id, ProblemKind::MissingLabel, format!("no {}", label.display()));
        }
    }
    Ok(())
}

/// Replaces `$NAME` and `${NAME}` by environment variables, as Python's `os.path.expandvars` does;
/// unknown names stay.
fn expand(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let end =
                    after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        let value = if name.is_empty() { None } else { std::env::var(name).ok() };
        match value {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..at + 1 + length]),
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_python_does() {
        let home = std::env::var("PATH").unwrap();
        assert_eq!(expand("a/$PATH/b"), format!("a/{home}/b"));
        assert_eq!(expand("${PATH}x"), format!("{home}x"));
        for same in ["$NO_SUCH_NAME_HERE/x", "${NO_SUCH_NAME_HERE}", "50$", "$/x", "${PATH", "plain"] {
            assert_eq!(expand(same), same);
        }
    }
}
