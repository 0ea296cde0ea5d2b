//! Which ids belong to which kind of evaluation, and which tool's convention an id follows.

use crate::measures::Definition;
use crate::{
    agreement, classification, conformal, detection, fairness, features, generation, image, masks,
    registration, statistics, survival, text,
};

/// Kinds of evaluation, as on the command line.
pub const KINDS: &[&str] = &[
    "seg",
    "lesion",
    "binary",
    "multiclass",
    "multilabel",
    "detection2d",
    "detection3d",
    "froc",
    "image",
    "features",
    "survival",
    "text",
    "agreement",
    "fairness",
    "conformal",
    "tests",
    "registration",
];

/// Tools whose name in an id marks a convention; other ids are the same everywhere.
pub const TOOLS: &[(&str, &str)] = &[
    ("monai", "monai"),
    ("deepmind", "deepmind"),
    ("metrics-reloaded", "metricsreloaded"),
    ("nnunet", "nnunet"),
    ("sklearn", "sklearn"),
    ("itk", "itk"),
    ("medpy", "medpy"),
    ("coco", "coco"),
    ("skimage", "skimage"),
    ("lifelines", "lifelines"),
    ("scikit-survival", "scikit-survival"),
    ("nltk", "nltk"),
    ("sacrebleu", "sacrebleu"),
];

/// Definitions of a kind, in the order of its families.
pub fn definitions(kind: &str) -> Vec<&'static Definition> {
    let families: &[&'static [Definition]] = match kind {
        "seg" => &[masks::conventions::DEFINITIONS],
        "lesion" => &[masks::lesions::DEFINITIONS],
        "detection2d" => &[detection::coco::DEFINITIONS, detection::coco::OPERATING],
        "detection3d" => &[detection::coco::DEFINITIONS_3D, detection::coco::OPERATING],
        "froc" => &[detection::froc::DEFINITIONS],
        "image" => image::DEFINITIONS,
        "features" => &[features::DEFINITIONS, generation::DEFINITIONS],
        "registration" => &[registration::DEFINITIONS],
        "text" => text::DEFINITIONS,
        "binary" => classification::binary::DEFINITIONS,
        "multiclass" => &[
            classification::multiclass::DEFINITIONS,
            classification::coverage::DEFINITIONS,
            classification::recalibration::MULTICLASS,
        ],
        "multilabel" => &[classification::multilabel::DEFINITIONS],
        "survival" => survival::DEFINITIONS,
        "agreement" => agreement::DEFINITIONS,
        "fairness" => &[fairness::DEFINITIONS],
        "conformal" => &[conformal::DEFINITIONS],
        "tests" => statistics::DEFINITIONS,
        _ => &[],
    };
    families.iter().flat_map(|family| family.iter()).collect()
}

/// Definition of an id; a threshold behind `@` may be any.
pub fn definition(kind: &str, id: &str) -> Option<&'static Definition> {
    let all = definitions(kind);
    let stem = |id: &str| id.split_once('@').map(|(stem, _)| stem.to_owned());
    let exact = all.iter().find(|d| d.id == id);
    exact.or_else(|| all.iter().find(|d| stem(id).is_some() && stem(d.id) == stem(id))).copied()
}

/// Tool (a name of [`TOOLS`]) whose convention the id follows.
pub fn tool(id: &str) -> Option<&'static str> {
    let words: Vec<&str> = id.split(['/', ' ', '(', ')', '-', ',']).collect();
    let named = |mark: &str| words.contains(&mark) || (mark.contains('-') && id.contains(mark));
    TOOLS
        .iter()
        .find(|(_, mark)| named(mark) || id.contains("coco101") && *mark == "coco")
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_whole_and_every_id_is_there_once() {
        for kind in KINDS {
            let all = definitions(kind);
            assert!(!all.is_empty(), "{kind}");
            for d in &all {
                let texts = [d.id, d.definition, d.range, d.empty, d.pitfall, d.source];
                assert!(texts.iter().all(|text| !text.is_empty()), "{kind} {}", d.id);
                assert_eq!(all.iter().filter(|other| other.id == d.id).count(), 1, "{kind} {}", d.id);
            }
        }
    }

    #[test]
    fn conventions_are_read_from_ids() {
        assert_eq!(tool("c/harrell/exact ties (lifelines)"), Some("lifelines"));
        assert_eq!(tool("c/harrell/tied_tol1e-8 (scikit-survival)"), Some("scikit-survival"));
        assert_eq!(tool("ap@.5/coco101"), Some("coco"));
        assert_eq!(tool("auroc"), None);
        assert_eq!(definition("binary", "accuracy@.3").unwrap().id, "accuracy@.5");
    }
}
