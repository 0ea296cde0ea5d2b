//! 2D images: PNG, JPEG and BMP through `image`.
//!
//! Colours become channels; spacing is unknown to these formats and given as 1 mm.

use crate::bytes::{Type, count, interleaved, planar, raw};
use crate::{Format, Header};
use galen_core::{Error, Geometry, Result, Scalar, Volume, Voxels};
use image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::borrow::Cow;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

/// Entry of the format list.
pub const FORMAT: Format = Format {
    name: "PNG, JPEG, BMP",
    endings: &[".png"],
    // Lossy, or never used for label maps.
    other_endings: &[".jpg", ".jpeg", ".bmp"],
    sniff: |start| {
        // A bitmap's reserved bytes are zero, so that text which begins with BM is none.
        let bitmap = start.starts_with(b"BM") && start.get(6..10) == Some(&[0; 4]);
        start.starts_with(b"\x89PNG\r\n\x1a\n") || start.starts_with(&[0xff, 0xd8, 0xff]) || bitmap
    },
    header,
    files: crate::alone,
    read,
    write: Some(write),
};

/// A blank JPEG expands most: two bits per block of 64 three-byte pixels.
const MAX_EXPANSION: u64 = 2048;

/// The error of a file that a decoder gave up on.
pub fn damaged(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::input(
        path.display(),
        format!("cannot be decoded ({error})"),
        "copy it again, or save it again as PNG",
    )
}

/// Grid of a 2D image.
pub fn flat(height: usize, width: usize) -> Geometry {
    Geometry { flat: true, ..Geometry::axis_aligned([1, height, width], [1.0; 3]) }
}

/// Refuses an image that is larger than a file of this size can be.
pub fn plausible(path: &Path, bytes: u64) -> Result<()> {
    let stored = path.metadata().map_err(|error| Error::system(path.display(), &error))?.len();
    if bytes <= stored.saturating_mul(MAX_EXPANSION) {
        return Ok(());
    }
    let what = format!("the header claims {bytes} bytes of pixels, which {stored} bytes cannot hold");
    Err(Error::input(path.display(), what, "the copy is incomplete or the header damaged: copy it again"))
}

/// Format and decoder, with sizes checked.
fn open<'a, R: BufRead + Seek + 'a>(path: &'a Path, content: R) -> Result<(&'static str, impl ImageDecoder)> {
    let reader = ImageReader::new(content).with_guessed_format();
    let mut reader = reader.map_err(|error| Error::system(path.display(), &error))?;
    let format = match reader.format() {
        Some(ImageFormat::Png) => "PNG",
        Some(ImageFormat::Jpeg) => "JPEG",
        _ => "BMP",
    };
    // The file's own size bounds the image, below; a fixed bound would refuse large slides.
    reader.limits(Limits::no_limits());
    let decoder = reader.into_decoder().map_err(|error| damaged(path, error))?;
    let (width, height) = decoder.dimensions();
    count(path, &[height as usize, width as usize])?;
    plausible(path, decoder.total_bytes())?;
    Ok((format, decoder))
}

/// Decoders fill what is missing of a cut file with grey; its end mark tells. Within the data of a JPEG no
/// marker can occur, so the end mark behind the last scan is the image's own and not that of a thumbnail.
fn complete(format: &str, content: &[u8]) -> bool {
    let last = |mark: &[u8]| content.windows(mark.len()).rposition(|bytes| bytes == mark);
    match format {
        "PNG" => last(b"IEND\xaeB`\x82").is_some(),
        "JPEG" => last(&[0xff, 0xd9]) > last(&[0xff, 0xda]),
        _ => true,
    }
}

fn header(path: &Path) -> Result<Header> {
    let file = std::fs::File::open(path).map_err(|error| Error::system(path.display(), &error))?;
    let (format, decoder) = open(path, BufReader::new(file))?;
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let voxel_type = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => u8::NAME,
        _ => u16::NAME,
    };
    let geometry = flat(height as usize, width as usize);
    Ok(Header { format, geometry, channels: color.channel_count().into(), voxel_type })
}

fn read(path: &Path) -> Result<Volume> {
    let content = std::fs::read(path).map_err(|error| Error::system(path.display(), &error))?;
    let (format, decoder) = open(path, Cursor::new(&content))?;
    if !complete(format, &content) {
        return Err(Error::input(
            path.display(),
            "ends without its end mark",
            "the copy is incomplete: copy it again",
        ));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(path, error))?;
    let geometry = flat(image.height() as usize, image.width() as usize);
    let channels = usize::from(image.color().channel_count());
    let voxels = match image {
        DynamicImage::ImageLuma8(v) => u8::wrap(v.into_raw()),
        DynamicImage::ImageLumaA8(v) => u8::wrap(v.into_raw()),
        DynamicImage::ImageRgb8(v) => u8::wrap(v.into_raw()),
        DynamicImage::ImageRgba8(v) => u8::wrap(v.into_raw()),
        DynamicImage::ImageLuma16(v) => u16::wrap(v.into_raw()),
        DynamicImage::ImageLumaA16(v) => u16::wrap(v.into_raw()),
        DynamicImage::ImageRgb16(v) => u16::wrap(v.into_raw()),
        DynamicImage::ImageRgba16(v) => u16::wrap(v.into_raw()),
        other => return Err(damaged(path, format!("colour type {:?}", other.color()))),
    };
    let voxels = if channels > 1 { planar(&voxels, channels) } else { voxels };
    Ok(Volume { geometry, channels, voxels, slope: 1.0, intercept: 0.0 })
}

fn write<'a>(path: &Path, volume: &'a Volume) -> Result<Vec<Cow<'a, [u8]>>> {
    let volume = &crate::true_values(volume);
    let refuse = |what: String| Err(Error::input(path.display(), what, "write .nii.gz or .tif"));
    let [z, y, x] = volume.geometry.size;
    let (Ok(width), Ok(height)) = (u32::try_from(x), u32::try_from(y)) else {
        return refuse(format!("{x} x {y} pixels are too many for PNG"));
    };
    let color = match (&volume.voxels, volume.channels) {
        (Voxels::U8(_), 1) => ExtendedColorType::L8,
        (Voxels::U8(_), 3) => ExtendedColorType::Rgb8,
        (Voxels::U8(_), 4) => ExtendedColorType::Rgba8,
        (Voxels::U16(_), 1) => ExtendedColorType::L16,
        (Voxels::U16(_), 3) => ExtendedColorType::Rgb16,
        (Voxels::U16(_), 4) => ExtendedColorType::Rgba16,
        (other, n) => {
            let kind = Type::of(other).name();
            return refuse(format!("PNG holds uint8 and uint16 in 1, 3 or 4 channels, not {kind} in {n}"));
        }
    };
    if z != 1 {
        return refuse(format!("PNG holds one plane, not {z}"));
    }
    let mut bytes = Cursor::new(Vec::new());
    let pixels = interleaved(&volume.voxels, volume.channels);
    image::write_buffer_with_format(&mut bytes, raw(&pixels), width, height, color, ImageFormat::Png)
        .map_err(|error| Error::bug(path.display(), error))?;
    Ok(vec![bytes.into_inner().into()])
}
