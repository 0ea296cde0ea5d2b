//! What one file says about its images: which series, where each frame lies, how stored values become true ones.
//!
//! Source: DICOM PS3.3, C.7.6.2 (planes), C.7.6.16 (functional groups of frames), C.8 (modalities). Of the patient
//! nothing is kept but what standardised uptake needs.

use super::colour::Palette;
use super::dataset::{Dataset, Encoding};
use super::file::Opened;
use super::pet::Pet;
use super::pixels::{PixelFormat, wrapping};
use super::syntax::{Syntax, Wrapping};
use super::tags;
use galen_core::Result;
use std::path::PathBuf;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file of its own.
    File(PathBuf),
    /// An entry of a zip archive.
    Zipped(PathBuf, String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Zipped(archive, entry) => write!(f, "{}!{entry}", archive.display()),
        }
    }
}

/// The plane of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plane {
    /// Centre of the first pixel, LPS millimetres.
    pub position: [f64; 3],
    /// Unit vector along a row, to the next column.
    pub row: [f64; 3],
    /// Unit vector along a column, to the next row.
    pub column: [f64; 3],
}

/// What tells images of one position apart.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moment {
    /// Diffusion weighting, s/mm².
    pub b_value: Option<f64>,
    /// Direction of the diffusion gradient.
    pub gradient: Option<[f64; 3]>,
    /// Echo time, ms.
    pub echo: Option<f64>,
    /// Index of the time point.
    pub temporal: Option<f64>,
    /// Time since the trigger, ms.
    pub trigger: Option<f64>,
    /// Number of the acquisition.
    pub acquisition: Option<f64>,
    /// Seconds since midnight of the acquisition.
    pub time: Option<f64>,
    /// Number of the image in its series.
    pub instance: Option<f64>,
}

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Its plane, where the file says it.
    pub plane: Option<Plane>,
    /// Millimetres between rows and between columns.
    pub spacing: Option<[f64; 2]>,
    /// Thickness of the slice in millimetres.
    pub thickness: Option<f64>,
    /// Factor from stored to true values.
    pub slope: f64,
    /// Offset from stored to true values.
    pub intercept: f64,
    /// What tells it from others of its position.
    pub moment: Moment,
}

/// Where the pixels of a file are.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelPlace {
    /// Byte where the element's value begins.
    pub start: usize,
    /// How numbers are written.
    pub encoding: Encoding,
    /// How pixels are wrapped.
    pub wrapping: Wrapping,
    /// Value representation.
    pub vr: [u8; 2],
    /// How they are stored.
    pub format: PixelFormat,
}

/// One file of a study.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Where it is.
    pub place: Place,
    /// Class of the object.
    pub sop_class: String,
    /// Unique identifier of the object.
    pub sop_instance: String,
    /// Unique identifier of the study.
    pub study: String,
    /// Unique identifier of the series.
    pub series: String,
    /// Modality, e.g. `CT`.
    pub modality: String,
    /// Description of the series.
    pub description: String,
    /// Number of the series.
    pub number: Option<i64>,
    /// Words of the image type, e.g. `ORIGINAL\PRIMARY\AXIAL`.
    pub image_type: String,
    /// Transfer syntax, where the file names one.
    pub syntax: Option<&'static Syntax>,
    /// Its pixels; `None` when it has none, and why they cannot be read when they cannot.
    pub pixels: Option<Result<PixelPlace>>,
    /// One for each frame.
    pub frames: Vec<Frame>,
    /// Colours of its values.
    pub palette: Option<Palette>,
    /// What uptake values need.
    pub pet: Option<Pet>,
    /// Stored values go through a table before they mean something.
    pub lookup: bool,
}

/// Frames whose descriptions are kept; more than any scanner makes.
const MAX_FRAMES: usize = 1 << 20;

impl Instance {
    /// Reads the header.
    pub fn read(place: Place, opened: &Opened) -> Result<Self> {
        let name = place.to_string();
        let set = opened.dataset(&name)?;
        let text = |tag| set.text(tag).unwrap_or_default();
        let pixels = pixel_place(opened, &set, &name);
        let count = match &pixels {
            Some(Ok(found)) => found.format.frames,
            _ => 0,
        };
        Ok(Self {
            sop_class: text(tags::SOP_CLASS),
            sop_instance: text(tags::SOP_INSTANCE),
            study: text(tags::STUDY_UID),
            series: text(tags::SERIES_UID),
            modality: text(tags::MODALITY),
            description: text(tags::SERIES_DESCRIPTION),
            number: set.integer(tags::SERIES_NUMBER),
            image_type: text(tags::IMAGE_TYPE),
            syntax: opened.syntax,
            frames: frames(&set, count.min(MAX_FRAMES))?,
            palette: Palette::read(&set),
            pet: Pet::read(&set),
            lookup: set.find(tags::MODALITY_LUT).is_some(),
            pixels,
            place,
        })
    }

    /// Does the image type hold this word?
    pub fn is(&self, word: &str) -> bool {
        self.image_type.split('\\').any(|part| part.trim() == word)
    }
}

/// Finds the pixel element behind the data set that was read.
fn pixel_place(opened: &Opened, set: &Dataset, place: &str) -> Option<Result<PixelPlace>> {
    let encoding = set.encoding;
    let bytes = &opened.bytes;
    let tag = encoding.tag(bytes, set.end).filter(|tag| (tags::FLOAT_PIXELS..=tags::PIXELS).contains(tag))?;
    let letters = [*bytes.get(set.end + 4)?, *bytes.get(set.end + 5)?];
    let explicit = encoding.explicit && letters.iter().all(u8::is_ascii_uppercase);
    let (vr, start) = if explicit { (letters, set.end + 12) } else { ([0; 2], set.end + 8) };
    let wrapping = wrapping(opened.syntax);
    let make = |format| PixelPlace { start, encoding, wrapping, vr, format };
    Some(PixelFormat::read(set, tag, place).map(make))
}

/// Frames of a file: its own description, or one for each from the functional groups.
fn frames(set: &Dataset, count: usize) -> Result<Vec<Frame>> {
    let shared = set.item(tags::SHARED_GROUPS);
    let each = set.items(tags::FRAME_GROUPS)?;
    if each.is_empty() && shared.is_none() {
        return Ok(plain(set, count));
    }
    let own = plain(set, 1).pop();
    let frame = |k: usize| {
        let group = |tag| {
            let own = each.get(k).and_then(|groups| groups.item(tag));
            own.or_else(|| shared.as_ref().and_then(|groups| groups.item(tag)))
        };
        let (measures, values) = (group(tags::PIXEL_MEASURES), group(tags::PIXEL_VALUE_TRANSFORMATION));
        let orientation =
            group(tags::PLANE_ORIENTATION).and_then(|item| item.vector::<6>(tags::IMAGE_ORIENTATION));
        let position = group(tags::PLANE_POSITION).and_then(|item| item.vector::<3>(tags::IMAGE_POSITION));
        let content = group(tags::FRAME_CONTENT);
        let diffusion = group(tags::MR_DIFFUSION);
        let gradient = diffusion.as_ref().and_then(|item| item.item(tags::DIFFUSION_GRADIENT_SEQUENCE));
        let value = |tag| values.as_ref().and_then(|item| item.number(tag));
        Frame {
            plane: position.zip(orientation).and_then(|(position, six)| plane(position, six)),
            spacing: measures
                .as_ref()
                .and_then(|item| item.vector::<2>(tags::PIXEL_SPACING))
                .filter(positive),
            thickness: measures.as_ref().and_then(|item| item.number(tags::SLICE_THICKNESS)),
            slope: value(tags::SLOPE).or(own.as_ref().map(|own| own.slope)).unwrap_or(1.0),
            intercept: value(tags::INTERCEPT).or(own.as_ref().map(|own| own.intercept)).unwrap_or(0.0),
            moment: Moment {
                b_value: diffusion.as_ref().and_then(|item| item.number(tags::DIFFUSION_B_VALUE)),
                gradient: gradient.and_then(|item| item.vector(tags::DIFFUSION_GRADIENT)),
                echo: group(tags::MR_ECHO).and_then(|item| item.number(tags::EFFECTIVE_ECHO_TIME)),
                temporal: content
                    .as_ref()
                    .and_then(|item| item.long(tags::TEMPORAL_POSITION_INDEX))
                    .map(f64::from),
                instance: Some(k as f64),
                ..Moment::default()
            },
        }
    };
    Ok((0..count).map(frame).collect())
}

fn positive(spacing: &[f64; 2]) -> bool {
    spacing.iter().all(|&mm| mm > 0.0)
}

/// The plane of a position and six direction cosines, made exactly orthonormal when they nearly are.
pub fn plane(position: [f64; 3], six: [f64; 6]) -> Option<Plane> {
    let (row, column) = ([six[0], six[1], six[2]], [six[3], six[4], six[5]]);
    let length = |v: [f64; 3]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let dot: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
    let sound = (length(row) - 1.0).abs() < 0.01 && (length(column) - 1.0).abs() < 0.01 && dot.abs() < 0.01;
    sound.then_some(Plane { position, row, column })
}

/// Frames of a file without functional groups: all alike, but for the offsets of a dose grid.
fn plain(set: &Dataset, count: usize) -> Vec<Frame> {
    let position = set.vector::<3>(tags::IMAGE_POSITION);
    let orientation = set.vector::<6>(tags::IMAGE_ORIENTATION);
    let spacing = set.vector::<2>(tags::PIXEL_SPACING).or_else(|| set.vector(tags::IMAGER_PIXEL_SPACING));
    let frame = Frame {
        plane: position.zip(orientation).and_then(|(position, six)| plane(position, six)),
        spacing: spacing.filter(positive).or_else(|| ultrasound_spacing(set)),
        thickness: set.number(tags::SLICE_THICKNESS),
        slope: set.number(tags::SLOPE).or_else(|| set.number(tags::DOSE_GRID_SCALING)).unwrap_or(1.0),
        intercept: set.number(tags::INTERCEPT).unwrap_or(0.0),
        moment: Moment {
            b_value: set.doubles(tags::DIFFUSION_B_VALUE).and_then(|all| all.first().copied()),
            gradient: set.doubles(tags::DIFFUSION_GRADIENT).and_then(|all| all.try_into().ok()),
            echo: set.number(tags::ECHO_TIME),
            temporal: set.number(tags::TEMPORAL_POSITION),
            trigger: set.number(tags::TRIGGER_TIME),
            acquisition: set.number(tags::ACQUISITION_NUMBER),
            time: set.text(tags::ACQUISITION_TIME).and_then(|text| seconds(&text)),
            instance: set.number(tags::INSTANCE_NUMBER),
        },
    };
    let offsets = set.numbers(tags::GRID_FRAME_OFFSETS).filter(|offsets| offsets.len() == count && count > 1);
    let moved = |k: usize| {
        let mut frame = frame.clone();
        match (&offsets, &mut frame.plane) {
            (Some(offsets), Some(plane)) => {
                let normal = super::stack::cross(plane.row, plane.column);
                let start = plane.position;
                // A first offset other than zero is a coordinate, not a distance from the position.
                let offset = offsets[k] - offsets[0];
                plane.position = std::array::from_fn(|i| start[i] + offset * normal[i]);
            }
            // Frames of one file without positions of their own are no stack.
            (None, plane) if count > 1 => *plane = None,
            _ => {}
        }
        frame
    };
    (0..count).map(moved).collect()
}

/// Millimetres of an ultrasound image with one calibrated region.
fn ultrasound_spacing(set: &Dataset) -> Option<[f64; 2]> {
    let regions = set.items(tags::US_REGIONS).ok()?;
    let [region] = &regions[..] else { return None };
    let centimetres = |tag| region.doubles(tag).and_then(|all| all.first().copied());
    let spacing = [centimetres(tags::PHYSICAL_DELTA_Y)? * 10.0, centimetres(tags::PHYSICAL_DELTA_X)? * 10.0];
    let spacing = spacing.map(f64::abs);
    positive(&spacing).then_some(spacing)
}

/// Seconds since midnight of a time such as `101530.25`.
pub fn seconds(text: &str) -> Option<f64> {
    let text = text.trim().replace(':', "");
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<f64>().ok());
    let rest = text.get(4..).filter(|rest| !rest.is_empty()).map_or(Some(0.0), |rest| rest.parse().ok())?;
    Some(part(0..2)? * 3600.0 + part(2..4).unwrap_or(0.0) * 60.0 + rest)
}
