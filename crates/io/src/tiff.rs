//! TIFF and BigTIFF: one page is a 2D image, several pages are a stack along z.
//!
//! Colours become channels; spacing is not taken from the file (its tags mean print resolution) and given as 1 mm.

use crate::bytes::{Type, count, planar};
use crate::raster::{damaged, flat, plausible};
use crate::{Format, Header};
use galen_core::{Error, Geometry, Result, Scalar, Volume, Voxels};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Cursor, Seek, Write};
use std::path::Path;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::encoder::{Compression, TiffEncoder, colortype};
use tiff::tags::{SampleFormat, Tag};

/// Entry of the format list.
pub const FORMAT: Format = Format {
    name: "TIFF",
    endings: &[".tif", ".tiff"],
    other_endings: &[],
    sniff: |start| {
        let magics: [&[u8]; 4] = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
        magics.iter().any(|magic| start.starts_with(magic))
    },
    header: |path| {
        let stack = open(path)?.1;
        Ok(Header {
            format: "TIFF",
            geometry: stack.geometry(),
            channels: stack.channels,
            voxel_type: stack.kind.name(),
        })
    },
    files: crate::alone,
    read,
    write: Some(write),
};

/// What all pages have in common, and how many there are.
#[derive(PartialEq)]
struct Stack {
    pages: usize,
    width: u32,
    height: u32,
    channels: usize,
    kind: Type,
}

impl Stack {
    fn geometry(&self) -> Geometry {
        let (y, x) = (self.height as usize, self.width as usize);
        if self.pages == 1 { flat(y, x) } else { Geometry::axis_aligned([self.pages, y, x], [1.0; 3]) }
    }

    /// Description of the page that the decoder stands at.
    fn of_page(path: &Path, decoder: &mut Decoder<BufReader<File>>) -> Result<Self> {
        let bad = |error: tiff::TiffError| damaged(path, error);
        let (width, height) = decoder.dimensions().map_err(bad)?;
        let color = decoder.colortype().map_err(bad)?;
        let format = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(bad)?;
        let format = format.and_then(|all| all.first().copied()).map(SampleFormat::from_u16_exhaustive);
        let kind = match (format.unwrap_or(SampleFormat::Uint), color.bit_depth()) {
            (SampleFormat::Uint, 1..=8) => Type::U8,
            (SampleFormat::Uint, 16) => Type::U16,
            (SampleFormat::Uint, 32) => Type::U32,
            (SampleFormat::Uint, 64) => Type::U64,
            (SampleFormat::Int, 8) => Type::I8,
            (SampleFormat::Int, 16) => Type::I16,
            (SampleFormat::Int, 32) => Type::I32,
            (SampleFormat::Int, 64) => Type::I64,
            (SampleFormat::IEEEFP, 32) => Type::F32,
            (SampleFormat::IEEEFP, 64) => Type::F64,
            (_, bits) => return Err(damaged(path, format!("{bits}-bit samples of a kind that is not read"))),
        };
        Ok(Self { pages: 1, width, height, channels: color.num_samples().into(), kind })
    }
}

/// A decoder at the first page, and the description of all pages.
fn open(path: &Path) -> Result<(Decoder<BufReader<File>>, Stack)> {
    let bad = |error: tiff::TiffError| damaged(path, error);
    let file = File::open(path).map_err(|error| Error::system(path.display(), &error))?;
    let mut decoder = Decoder::new(BufReader::new(file)).map_err(bad)?;
    let mut stack = Stack::of_page(path, &mut decoder)?;
    while decoder.more_images() {
        decoder.next_image().map_err(bad)?;
        let page = Stack::of_page(path, &mut decoder)?;
        if (Stack { pages: stack.pages, ..page }) != stack {
            return Err(damaged(path, "its pages differ in size or type, as in a pyramid"));
        }
        stack.pages += 1;
    }
    let sizes = [stack.pages, stack.height as usize, stack.width as usize, stack.channels, stack.kind.size()];
    let bytes = count(path, &sizes)?;
    plausible(path, bytes as u64)?;
    decoder.seek_to_image(0).map_err(bad)?;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = bytes;
    limits.intermediate_buffer_size = bytes.max(1 << 20);
    Ok((decoder.with_limits(limits), stack))
}

fn read(path: &Path) -> Result<Volume> {
    let (mut decoder, stack) = open(path)?;
    let bad = |error: tiff::TiffError| damaged(path, error);
    let mut pages = Vec::with_capacity(stack.pages);
    for page in 0..stack.pages {
        decoder.seek_to_image(page).map_err(bad)?;
        pages.push(decoder.read_image().map_err(bad)?);
    }
    let geometry = stack.geometry();
    let voxels = join(pages)
        .filter(|all| all.len() == geometry.voxels() * stack.channels && Type::of(all) == stack.kind);
    let voxels = voxels.ok_or_else(|| damaged(path, "samples that are packed or in separate planes"))?;
    let voxels = if stack.channels > 1 { planar(&voxels, stack.channels) } else { voxels };
    Ok(Volume { geometry, channels: stack.channels, voxels, slope: 1.0, intercept: 0.0 })
}

/// Pages in one; `None` when their types differ.
fn join(pages: Vec<DecodingResult>) -> Option<Voxels> {
    macro_rules! typed {
        ($($variant:ident)*) => {
            match pages.first()? {
                $(DecodingResult::$variant(_) => {
                    let count = pages.len();
                    let mut all = Vec::new();
                    for page in pages {
                        let DecodingResult::$variant(mut page) = page else { return None };
                        // Pages have one size, so the first, which is taken as it is, tells how much is to come.
                        if all.is_empty() {
                            page.reserve_exact(page.len() * (count - 1));
                            all = page
                        } else {
                            all.extend(page)
                        }
                    }
                    Some(Scalar::wrap(all))
                })*
                _ => None,
            }
        };
    }
    typed!(U8 U16 U32 U64 I8 I16 I32 I64 F32 F64)
}

fn write<'a>(path: &Path, volume: &'a Volume) -> Result<Vec<Cow<'a, [u8]>>> {
    let volume = &crate::true_values(volume);
    let [_, y, x] = volume.geometry.size;
    let (Ok(width), Ok(height), 1) = (u32::try_from(x), u32::try_from(y), volume.channels) else {
        let what = format!("{x} x {y} pixels in {} channels are not written as TIFF", volume.channels);
        return Err(Error::input(path.display(), what, "write .nii.gz"));
    };
    let mut bytes = Cursor::new(Vec::new());
    encode(&mut bytes, &volume.voxels, width, height).map_err(|error| match error {
        tiff::TiffError::IntSizeError => {
            Error::input(path.display(), "is larger than the 4 GB of a TIFF file", "write .nii.gz")
        }
        other => Error::bug(path.display(), other),
    })?;
    Ok(vec![bytes.into_inner().into()])
}

fn encode(out: impl Write + Seek, voxels: &Voxels, width: u32, height: u32) -> tiff::TiffResult<()> {
    let mut encoder = TiffEncoder::new(out)?.with_compression(Compression::Deflate(Default::default()));
    macro_rules! pages {
        ($($variant:ident $color:ident,)*) => {
            match voxels {
                $(Voxels::$variant(v) => {
                    for page in v.chunks(width as usize * height as usize) {
                        encoder.write_image::<colortype::$color>(width, height, page)?;
                    }
                })*
            }
        };
    }
    pages!(
        U8 Gray8, I8 GrayI8, U16 Gray16, I16 GrayI16, U32 Gray32, I32 GrayI32, U64 Gray64, I64 GrayI64,
        F32 Gray32Float, F64 Gray64Float,
    );
    Ok(())
}
