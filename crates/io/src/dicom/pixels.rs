//! Pixels: from the bytes of a frame, native or compressed, to typed samples. Source: DICOM PS3.3, C.7.6.3, and
//! PS3.5, section 8 and annex A.
//!
//! A frame that cannot be decoded exactly as it was meant is refused: a wrong pixel looks like any other.

use super::dataset::{Dataset, Encoding};
use super::syntax::{Syntax, Wrapping};
use super::{colour, fragments, jpeg, jpeg2000, jpegls, rle, tags};
use bytemuck::Pod;
use flate2::read::DeflateDecoder;
use galen_core::{Error, Result, Scalar};
use std::borrow::Cow;
use std::io::Read;

/// Samples of a compressed frame that are believed whatever its size ...
const SMALL: u64 = 1 << 22;
/// ... or for each compressed byte: an even picture takes one bit for some thousand pixels.
const MAX_EXPANSION: u64 = 2048;

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// One bit.
    Bit,
    /// Unsigned numbers of this many bytes.
    Unsigned(usize),
    /// Signed numbers of this many bytes.
    Signed(usize),
    /// Floating point of this many bytes.
    Float(usize),
}

/// What the image pixel module says.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelFormat {
    /// Rows of a frame.
    pub rows: usize,
    /// Columns of a frame.
    pub columns: usize,
    /// Frames.
    pub frames: usize,
    /// Samples per pixel.
    pub samples: usize,
    /// Bits that each sample takes.
    pub allocated: usize,
    /// Bits that count.
    pub stored: usize,
    /// Place of the highest bit that counts.
    pub high: usize,
    /// Colour by colour instead of pixel by pixel.
    pub planar: bool,
    /// Photometric interpretation, e.g. `MONOCHROME2`.
    pub photometric: String,
    /// Type of the samples.
    pub sample: Sample,
}

/// A decoded sample type.
pub trait Stored: Scalar + Pod {
    /// The value, of which the lowest bits are kept.
    fn from_bits(bits: i64) -> Self;
}

macro_rules! stored {
    ($($type:ty),*) => {$(impl Stored for $type {
        fn from_bits(bits: i64) -> Self {
            bits as $type
        }
    })*};
}
stored!(u8, i8, u16, i16, u32, i32, f32, f64);

impl PixelFormat {
    /// Reads the module; `pixels` is the tag of the pixel element.
    pub fn read(set: &Dataset, pixels: u32, place: &str) -> Result<Self> {
        let missing = |name: &str| {
            let what = format!("has pixels, but {name} is missing or no number");
            Error::input(place, what, "the header is damaged: get the file from its source again")
        };
        let short = |tag: u32, name: &str| set.short(tag).map(usize::from).ok_or_else(|| missing(name));
        let (rows, columns) = (short(tags::ROWS, "Rows")?, short(tags::COLUMNS, "Columns")?);
        let allocated = short(tags::BITS_ALLOCATED, "Bits Allocated")?;
        let frames = match (set.integer(tags::FRAMES), set.text(tags::FRAMES)) {
            (Some(frames), _) => usize::try_from(frames.max(1)).map_err(|_| missing("Number of Frames"))?,
            (None, Some(_)) => return Err(missing("Number of Frames")),
            (None, None) => 1,
        };
        let samples = set.short(tags::SAMPLES).map_or(1, usize::from);
        let stored = set.short(tags::BITS_STORED).map_or(allocated, usize::from);
        let high = set.short(tags::HIGH_BIT).map_or(stored.saturating_sub(1), usize::from);
        let signed = set.short(tags::PIXEL_REPRESENTATION) == Some(1);
        let photometric = set.text(tags::PHOTOMETRIC).unwrap_or_else(|| "MONOCHROME2".into());
        let sample = match (pixels, allocated) {
            (tags::FLOAT_PIXELS, 32) => Sample::Float(4),
            (tags::DOUBLE_PIXELS, 64) => Sample::Float(8),
            (tags::PIXELS, 1) => Sample::Bit,
            (tags::PIXELS, 8 | 16 | 32) if signed => Sample::Signed(allocated / 8),
            (tags::PIXELS, 8 | 16 | 32) => Sample::Unsigned(allocated / 8),
            _ => {
                let what =
                    format!("stores pixels in {allocated} bits; 1, 8, 16, 32 and floating point are read");
                return Err(Error::input(place, what, "convert it to 16 bits"));
            }
        };
        let whole = rows > 0 && columns > 0 && (1..=4).contains(&samples);
        if !whole || stored == 0 || stored > allocated || high >= allocated || high + 1 < stored {
            let what = format!(
                "says {rows} x {columns} pixels of {samples} samples with {stored} of {allocated} bits, the highest being {high}"
            );
            return Err(Error::input(
                place,
                what,
                "the header is damaged: get the file from its source again",
            ));
        }
        let planar = set.short(tags::PLANAR) == Some(1) && samples > 1;
        Ok(Self { rows, columns, frames, samples, allocated, stored, high, planar, photometric, sample })
    }

    /// Samples of a frame.
    pub fn frame_samples(&self) -> usize {
        self.rows * self.columns * self.samples
    }

    /// Two pixels share their chroma.
    fn halved_chroma(&self) -> bool {
        self.photometric == "YBR_FULL_422" && self.samples == 3
    }

    /// Bits of an uncompressed frame; frames of single bits follow each other without a gap.
    fn native_bits(&self) -> usize {
        let samples = if self.halved_chroma() { self.rows * self.columns * 2 } else { self.frame_samples() };
        samples * self.allocated
    }

    /// Bytes of all uncompressed frames.
    pub fn native_bytes(&self) -> Option<usize> {
        Some(self.native_bits().checked_mul(self.frames)?.div_ceil(8))
    }
}

/// Where pixels are and how they are written.
pub struct Source<'a> {
    /// Bytes that hold the pixel element, or its value alone.
    pub bytes: &'a [u8],
    /// Where its value begins.
    pub start: usize,
    /// How numbers are written.
    pub encoding: Encoding,
    /// How pixels are wrapped.
    pub wrapping: Wrapping,
    /// Value representation of the element; zeros when implicit.
    pub vr: [u8; 2],
}

impl Source<'_> {
    /// True where frames lie in fragments.
    fn encapsulated(&self) -> bool {
        !matches!(self.wrapping, Wrapping::Native | Wrapping::Deflated)
    }

    /// Bytes of each frame, compressed or not.
    pub fn frames(&self, format: &PixelFormat, place: &str) -> Result<Vec<Cow<'_, [u8]>>> {
        if self.encapsulated() {
            return fragments::frames(self.bytes, self.start, format.frames, place);
        }
        let have = self.bytes.len().saturating_sub(self.start);
        let need = format.native_bytes().unwrap_or(usize::MAX);
        if have < need {
            let what = format!(
                "holds {have} bytes of pixels; {} frames of {} x {} need {need}",
                format.frames, format.rows, format.columns
            );
            return Err(Error::input(place, what, "the copy is incomplete: copy it again"));
        }
        let bits = format.native_bits();
        let all = &self.bytes[self.start..];
        // Words of eight-bit samples are swapped too where the order is big endian.
        let turned = (self.encoding.big && &self.vr == b"OW" && format.allocated <= 8)
            .then(|| swapped(&all[..need.next_multiple_of(2).min(have)]));
        let frame = |k: usize| {
            let (from, to) = (k * bits, (k + 1) * bits);
            let range = from / 8..to.div_ceil(8);
            match (&turned, from % 8) {
                (None, 0) => Cow::Borrowed(&all[range]),
                (None, skip) => Cow::Owned(aligned(&all[range], skip)),
                (Some(turned), skip) => Cow::Owned(aligned(&turned[range], skip)),
            }
        };
        Ok((0..format.frames).map(frame).collect())
    }
}

/// Bytes whose first bits belong to the frame before, without those.
fn aligned(bytes: &[u8], skip: usize) -> Vec<u8> {
    if skip == 0 {
        return bytes.to_vec();
    }
    let next = bytes.iter().skip(1).copied().chain([0]);
    bytes.iter().zip(next).map(|(&low, high)| low >> skip | high << (8 - skip)).collect()
}

/// Decodes one frame into `out`, `[y, x, sample]`; colours come out as RGB.
pub fn decode_frame<T: Stored>(
    frame: &[u8],
    format: &PixelFormat,
    source: &Source,
    out: &mut [T],
) -> Result<(), String> {
    let (rows, columns, samples) = (format.rows, format.columns, format.samples);
    let mut ycc = format.photometric.starts_with("YBR_FULL") && samples == 3;
    match source.wrapping {
        Wrapping::Native | Wrapping::Deflated | Wrapping::NativeFragments => {
            native(frame, format, source.encoding.big, out)?;
        }
        Wrapping::DeflatedFrames => {
            let mut bytes = Vec::new();
            let most = format.native_bits().div_ceil(8) as u64;
            plausible(format, frame.len())?;
            let read = DeflateDecoder::new(frame).take(most).read_to_end(&mut bytes);
            read.map_err(|error| format!("its deflated frame cannot be inflated ({error})"))?;
            native(&bytes, format, false, out)?;
        }
        Wrapping::Rle => {
            let bytes = if format.sample == Sample::Bit {
                rle::decode(frame, (rows * columns).div_ceil(8), samples, 1)?
            } else {
                rle::decode(frame, rows * columns, samples, format.allocated / 8)?
            };
            native(&bytes, &PixelFormat { planar: false, ..format.clone() }, false, out)?;
        }
        Wrapping::Jpeg => {
            plausible(format, frame.len())?;
            let picture = jpeg::decode(frame, rows, columns, samples)?;
            fits(picture.precision, format)?;
            ycc = jpeg_is_ycc(&picture, format);
            let signed = matches!(format.sample, Sample::Signed(_));
            // A lossy sample may swing beyond the bits that count.
            let most = if picture.lossy && !signed {
                u16::MAX >> 16usize.saturating_sub(format.stored)
            } else {
                u16::MAX
            };
            put(
                picture
                    .samples
                    .iter()
                    .map(|&sample| signed_from(sample.min(most), picture.precision, signed)),
                out,
            );
        }
        Wrapping::JpegLs => {
            plausible(format, frame.len())?;
            let picture = jpegls::decode(frame, rows, columns, samples)?;
            fits(picture.precision, format)?;
            let signed = matches!(format.sample, Sample::Signed(_));
            put(picture.samples.iter().map(|&sample| signed_from(sample, picture.precision, signed)), out);
        }
        Wrapping::Jpeg2000 => {
            plausible(format, frame.len())?;
            let picture = jpeg2000::decode(frame, rows, columns, samples)?;
            fits(picture.precision, format)?;
            let signed = matches!(format.sample, Sample::Signed(_));
            // A code stream whose sign is not the header's holds the header's numbers all the same, cut to their bits.
            let wrap = |sample: i32| {
                if signed != picture.signed {
                    signed_from(sample as u16, picture.precision, signed)
                } else {
                    i64::from(sample)
                }
            };
            put(picture.samples.iter().map(|&sample| wrap(sample)), out);
        }
    }
    if ycc {
        if format.stored != 8 || size_of::<T>() != 1 {
            return Err(format!("{} in {} bits", format.photometric, format.stored));
        }
        colour::to_rgb(bytemuck::cast_slice_mut(out));
    }
    Ok(())
}

fn put<T: Stored>(samples: impl Iterator<Item = i64>, out: &mut [T]) {
    out.iter_mut().zip(samples).for_each(|(to, sample)| *to = T::from_bits(sample));
}

/// The lowest `bits` of a sample as a number with or without sign.
fn signed_from(sample: u16, bits: u8, signed: bool) -> i64 {
    let shift = 64 - u32::from(bits);
    let top = i64::from(sample) << shift;
    if signed { top >> shift } else { (top as u64 >> shift) as i64 }
}

fn swapped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
    bytes
}

/// Refuses samples that do not fit where the file says they belong.
fn fits(precision: u8, format: &PixelFormat) -> Result<(), String> {
    if usize::from(precision) <= format.allocated {
        return Ok(());
    }
    Err(format!("the code stream holds {precision} bits, the file allocates {}", format.allocated))
}

/// Refuses a frame that is larger than so many bytes can hold.
fn plausible(format: &PixelFormat, bytes: usize) -> Result<(), String> {
    let samples = format.frame_samples() as u64;
    if samples <= SMALL.max((bytes as u64).saturating_mul(MAX_EXPANSION)) {
        return Ok(());
    }
    Err(format!("the header claims {samples} samples, which {bytes} bytes cannot hold"))
}

/// Are the components luma and chroma? The file's word and the stream's may differ; see PS3.5, 8.2.1.
fn jpeg_is_ycc(picture: &jpeg::Picture, format: &PixelFormat) -> bool {
    if format.samples != 3 || !picture.lossy {
        return format.samples == 3 && format.photometric.starts_with("YBR_FULL");
    }
    picture.says_ycc.unwrap_or(format.photometric.starts_with("YBR"))
}

/// Uncompressed samples.
fn native<T: Stored>(frame: &[u8], format: &PixelFormat, big: bool, out: &mut [T]) -> Result<(), String> {
    let count = out.len();
    let need = format.native_bits().div_ceil(8);
    if frame.len() < need {
        return Err(format!("the frame ends after {} of {need} bytes", frame.len()));
    }
    if format.sample == Sample::Bit {
        put((0..count).map(|k| i64::from(frame[k / 8] >> (k % 8) & 1)), out);
        return Ok(());
    }
    if format.halved_chroma() {
        if format.allocated != 8 || !format.columns.is_multiple_of(2) {
            return Err(format!(
                "YBR_FULL_422 with {} bits and {} columns",
                format.allocated, format.columns
            ));
        }
        let pairs =
            frame.chunks_exact(4).flat_map(|four| [four[0], four[2], four[3], four[1], four[2], four[3]]);
        put(pairs.map(i64::from), out);
        return Ok(());
    }
    let width = format.allocated / 8;
    if width != size_of::<T>() {
        return Err(format!("{width} bytes per sample"));
    }
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
    if format.planar {
        let (pixels, samples) = (format.rows * format.columns, format.samples);
        for k in 0..count {
            let from = (k % samples * pixels + k / samples) * width;
            bytes[k * width..][..width].copy_from_slice(&frame[from..from + width]);
        }
    } else {
        bytes.copy_from_slice(&frame[..count * width]);
    }
    finish_native(format, big, out);
    Ok(())
}

/// Brings samples that were copied as they lay in the file into this machine's order, and clears bits that do not count.
pub fn finish_native<T: Stored>(format: &PixelFormat, big: bool, out: &mut [T]) {
    if big != cfg!(target_endian = "big") {
        crate::bytes::swap(out);
    }
    let signed = match format.sample {
        Sample::Signed(_) => true,
        Sample::Unsigned(_) => false,
        _ => return,
    };
    if format.stored == format.allocated {
        return;
    }
    let (up, down) = (63 - format.high as u32, 64 - format.stored as u32);
    // Eight bytes hold any of the integer types, so that one shift up and one down leave the bits that count.
    for value in out {
        let mut raw = [0u8; 8];
        let bytes = bytemuck::bytes_of(value);
        raw[..bytes.len()].copy_from_slice(bytes);
        let top = i64::from_ne_bytes(raw) << up;
        *value = T::from_bits(if signed { top >> down } else { (top as u64 >> down) as i64 });
    }
}

/// The wrapping of a file's pixels, from its syntax; a file without one has them as they are.
pub fn wrapping(syntax: Option<&Syntax>) -> Wrapping {
    syntax.map_or(Wrapping::Native, |syntax| syntax.wrapping)
}
