//! Which reader class nnU-Net would choose; its name stands in plans as `image_reader_writer`.
//! Source: nnU-Net 2.8.1, `imageio/reader_writer_registry`. Differs: for endings that only Galen reads,
//! the name is SimpleITKIO, whose array order Galen shares.

use crate::dataset::Dataset;
use galen_core::Result;

/// nnU-Net's reader classes in the order in which it tries them, with their endings.
const READERS: [(&str, &[&str]); 4] = [
    ("NaturalImage2DIO", &[".png", ".bmp", ".tif"]),
    ("SimpleITKIO", &[".nii.gz", ".nrrd", ".mha", ".gipl"]),
    ("Tiff3DIO", &[".tif", ".tiff"]),
    ("NibabelIO", &[".nii", ".nii.gz"]),
];

/// Names that `overwrite_image_reader_writer` may give.
const KNOWN: [&str; 6] = [
    "NaturalImage2DIO",
    "SimpleITKIO",
    "SimpleITKIOWithReorient",
    "Tiff3DIO",
    "NibabelIO",
    "NibabelIOWithReorient",
];

pub(crate) fn reader_name(dataset: &Dataset) -> Result<String> {
    if let Some(chosen) = dataset.description.chosen_reader() {
        if KNOWN.contains(&chosen) {
            return Ok(chosen.to_owned());
        }
        tracing::warn!("dataset.json names the unknown reader {chosen}; choosing by file ending");
    }
    let ending = dataset.file_ending.to_lowercase();
    let mut fitting = READERS.iter().filter(|(_, endings)| endings.contains(&ending.as_str()));
    let name = match fitting.next() {
        None => "SimpleITKIO",
        // A stack of pages is no natural image: nnU-Net's reader fails on it and the next one is tried.
        Some(("NaturalImage2DIO", _)) if ending == ".tif" && !first_image_is_flat(dataset)? => "Tiff3DIO",
        Some((name, _)) => name,
    };
    Ok(name.to_owned())
}

fn first_image_is_flat(dataset: &Dataset) -> Result<bool> {
    match dataset.training.iter().chain(&dataset.test).find_map(|case| case.images.first()) {
        Some(file) => Ok(galen_io::read_header(file)?.geometry.size[0] == 1),
        None => Ok(true),
    }
}
