//! JPEG 2000 and high-throughput JPEG 2000, through `openjp2`, a port of OpenJPEG to Rust.
//!
//! Sizes, depth and sign are read here from the code stream's header and compared with the file's before the decoder
//! sees a byte: it would make room for whatever a stream claims.

use jpeg2k::{DecodeParameters, Image};

/// Samples `[y, x, component]`, their bits and sign as the code stream has them.
pub struct Picture {
    pub samples: Vec<i32>,
    pub precision: u8,
    pub signed: bool,
}

/// Tiles of a frame that are believed; a slide's frame is one tile.
const MAX_TILES: usize = 4096;

/// Decodes a frame that must have this size and number of components.
pub fn decode(stream: &[u8], height: usize, width: usize, components: usize) -> Result<Picture, String> {
    // The size segment directly follows the start mark, bare or in a JP2 file.
    let start = stream.windows(4).take(4096).position(|four| four == [0xff, 0x4f, 0xff, 0x51]);
    let size = start.and_then(|start| stream.get(start + 6..)).ok_or("no code stream")?;
    let number = |at: usize| -> Option<usize> {
        let four = size.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(four)).ok()
    };
    let cut = "the code stream is cut within its header";
    let [x_end, y_end, x_start, y_start, tile_x, tile_y] =
        [2, 6, 10, 14, 18, 22].map(number).map(|number| number.unwrap_or(0));
    let count = size.get(34..36).map(|two| usize::from(two[0]) << 8 | usize::from(two[1])).ok_or(cut)?;
    let found = [y_end.saturating_sub(y_start), x_end.saturating_sub(x_start), count];
    if found != [height, width, components] {
        return Err(format!(
            "the code stream holds {found:?} samples, the file says {height} x {width} x {components}"
        ));
    }
    if tile_x == 0 || tile_y == 0 || y_end.div_ceil(tile_y).saturating_mul(x_end.div_ceil(tile_x)) > MAX_TILES
    {
        return Err(format!("tiles of {tile_y} x {tile_x} for {height} x {width} pixels"));
    }
    let entries = size.get(36..36 + 3 * count).ok_or(cut)?;
    let depth = entries[0];
    if entries.chunks_exact(3).any(|entry| entry != [depth, 1, 1]) {
        return Err("components of different depth or resolution".into());
    }
    let (precision, signed) = ((depth & 0x7f) + 1, depth & 0x80 != 0);
    if precision > 16 {
        return Err(format!("{precision} bits per sample"));
    }
    let stream = &stream[start.unwrap_or(0)..];
    // The port indexes tables by what streams claim, so a damaged one may end in a panic; it is a damaged stream all the same.
    let decoded =
        std::panic::catch_unwind(|| Image::from_bytes_with(stream, DecodeParameters::new().strict(true)));
    let image =
        decoded.map_err(|_| "the code stream is damaged".to_owned())?.map_err(|error| error.to_string())?;
    let planes: Vec<&[i32]> = image.components().iter().map(|component| component.data()).collect();
    if planes.len() != components || planes.iter().any(|plane| plane.len() != height * width) {
        return Err(format!("{} components came out, or other sizes than {height} x {width}", planes.len()));
    }
    let samples = (0..height * width).flat_map(|at| planes.iter().map(move |plane| plane[at])).collect();
    Ok(Picture { samples, precision, signed })
}
