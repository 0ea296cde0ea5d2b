//! `galen datasets`: the catalogue of public datasets.

use crate::session::{Exit, Session};
use comfy_table::Table;
use galen_core::Result;
use galen_data::{Family, Known, Statement, catalog, known};
use serde_json::{Value, json};

/// List the public datasets that Galen knows: what they hold, where they live, and how to import them.
///
/// All filters must fit; each looks for the text anywhere in its column, whatever the case. What is not certain is
/// marked with a question mark: the home page decides.
///
/// Examples:
///   galen datasets --modality CT --task segmentation
///   galen datasets --group brain --json
///   galen datasets BraTS2023-MET
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// One dataset, with all that is known of it
    #[arg(conflicts_with_all = ["modality", "task", "group", "dimension", "family", "name"])]
    dataset: Option<String>,
    /// Modality: CT, MRI, X-ray, Pathology, ...
    #[arg(long, value_name = "TEXT")]
    modality: Option<String>,
    /// Task: segmentation, classification, detection, registration, ...
    #[arg(long, value_name = "TEXT")]
    task: Option<String>,
    /// Group: brain, eyes, thorax, abdomen, head-and-neck, vessel, skeleton, whole-body, lesion
    #[arg(long, value_name = "TEXT")]
    group: Option<String>,
    /// 2D or 3D
    #[arg(long, value_name = "TEXT")]
    dimension: Option<String>,
    /// Layout of the folder: msd, pairs, subject-folders, bids, ...
    #[arg(long, value_name = "TEXT")]
    family: Option<String>,
    /// Part of the name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    if let Some(name) = &arguments.dataset {
        let one = known(name)?;
        session.document(&json_of(one))?;
        lines(one).into_iter().for_each(|(what, text)| session.say(format!("{what:<10} {text}")));
        return Ok(Exit::Done);
    }
    let fits = |filter: &Option<String>, text: &str| {
        filter.as_ref().is_none_or(|filter| text.to_lowercase().contains(&filter.to_lowercase()))
    };
    let found: Vec<&Known> = catalog()
        .iter()
        .filter(|one| {
            fits(&arguments.modality, &one.modality)
                && fits(&arguments.task, &one.task)
                && fits(&arguments.group, &one.groups.join(","))
                && fits(&arguments.dimension, &one.dimension)
                && fits(&arguments.family, one.family.name())
                && fits(&arguments.name, &one.name)
        })
        .collect();
    session.document(&json!({ "datasets": found.iter().map(|one| json_of(one)).collect::<Vec<_>>() }))?;
    let mut table = Table::new();
    table.set_header(["dataset", "group", "", "modality", "task", "targets", "cases", "format", "layout"]);
    for one in &found {
        table.add_row([
            one.name.clone(),
            one.groups.join(", "),
            one.dimension.clone(),
            one.modality.clone(),
            one.task.clone(),
            one.targets.clone(),
            one.cases.clone(),
            one.format.clone(),
            format!("{}{}", one.family.name(), if one.is_imported() { "" } else { " (no importer)" }),
        ]);
    }
    session.say(table.to_string());
    session.say(format!("{} of {} datasets", found.len(), catalog().len()));
    Ok(Exit::Done)
}

fn how(one: &Known) -> String {
    match one.family {
        Family::NnUnet => "its folder is nnU-Net's raw layout: use it as it is".to_owned(),
        _ if one.is_imported() => {
            format!("galen import --as '{}' FOLDER --out data/DatasetNNN_Name", one.name)
        }
        Family::SubjectFolders | Family::Bids => {
            format!("galen import --as {} FOLDER --files NAMES --mask NAME --out ...", one.family.name())
        }
        _ => "there is no importer for its layout yet".to_owned(),
    }
}

fn said(statement: &Statement) -> String {
    format!("{}{}", statement.text, if statement.sure { "" } else { " (?)" })
}

fn lines(one: &Known) -> Vec<(&'static str, String)> {
    let labels: Vec<String> = one.labels.iter().map(|(value, name)| format!("{value} {name}")).collect();
    let mut lines = vec![
        ("dataset", one.name.clone()),
        ("group", one.groups.join(", ")),
        ("images", format!("{} {}, {} cases, {}", one.dimension, one.modality, one.cases, one.format)),
        ("task", format!("{}, {} targets", one.task, one.targets)),
        ("home page", said(&one.home)),
        ("licence", one.licence.as_ref().map_or("not known here".to_owned(), said)),
    ];
    lines.extend(one.citation.clone().map(|citation| ("cite", citation)));
    if !labels.is_empty() {
        lines.push(("labels", labels.join(", ")));
    }
    lines.push(("layout", one.family.name().to_owned()));
    lines.push(("import", how(one)));
    lines
}

fn json_of(one: &Known) -> Value {
    let statement = |s: &Statement| json!({ "text": s.text, "sure": s.sure });
    let labels: serde_json::Map<String, Value> =
        one.labels.iter().map(|(value, name)| (name.clone(), json!(value))).collect();
    json!({
        "name": one.name, "groups": one.groups, "dimension": one.dimension, "modality": one.modality,
        "task": one.task, "targets": one.targets, "cases": one.cases, "format": one.format,
        "layout": one.family.name(), "imported": one.is_imported(), "labels": labels,
        "home": statement(&one.home), "licence": one.licence.as_ref().map(statement), "citation": one.citation,
    })
}
