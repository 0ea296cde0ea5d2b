//! Colours: luma and chroma to RGB, palettes to RGB. Source: DICOM PS3.3, C.7.6.3.1.2 and C.7.6.3.1.5.

use super::dataset::Dataset;
use super::tags;

/// YCbCr with the full range to RGB, in place, three bytes a pixel.
pub fn to_rgb(pixels: &mut [u8]) {
    let round = |value: f64| (value + 0.5).floor().clamp(0.0, 255.0) as u8;
    for pixel in pixels.chunks_exact_mut(3) {
        let (y, b, r) = (f64::from(pixel[0]), f64::from(pixel[1]) - 128.0, f64::from(pixel[2]) - 128.0);
        let green = y - 0.114 * 1.772 / 0.587 * b - 0.299 * 1.402 / 0.587 * r;
        pixel.copy_from_slice(&[round(y + 1.402 * r), round(green), round(y + 1.772 * b)]);
    }
}

/// Colours for the values of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    first: i64,
    /// Red, green, blue of `first`, `first + 1`, ...; 8 or 16 bits.
    entries: Vec<[u16; 3]>,
    bits: u16,
}

impl Palette {
    /// The palette of an image that is not segmented.
    pub fn read(set: &Dataset) -> Option<Self> {
        let mut planes = Vec::new();
        let (mut first, mut bits) = (0, 16);
        for colour in 0..3 {
            let descriptor = set.shorts(tags::PALETTE_DESCRIPTOR + colour);
            let [count, start, depth] = descriptor[..] else { return None };
            let count = if count == 0 { 1 << 16 } else { usize::from(count) };
            (first, bits) = (i64::from(start), depth);
            let raw = set.value(tags::PALETTE + colour)?;
            // Eight-bit entries may be packed into words or take one each.
            let values = set.shorts(tags::PALETTE + colour);
            planes.push(match depth {
                8 if values.len() < count => {
                    raw.iter().take(count).map(|&byte| u16::from(byte)).collect::<Vec<_>>()
                }
                8 | 16 => values.into_iter().take(count).collect(),
                _ => return None,
            });
        }
        let count = planes.iter().map(Vec::len).min().filter(|&count| count > 0)?;
        let entries = (0..count).map(|k| [planes[0][k], planes[1][k], planes[2][k]]).collect();
        Some(Self { first, entries, bits })
    }

    /// Bytes of red, green and blue for a value; values outside take the nearest entry.
    pub fn colour(&self, value: i64) -> [u8; 3] {
        let place = (value - self.first).clamp(0, self.entries.len() as i64 - 1) as usize;
        self.entries[place].map(|entry| if self.bits > 8 { (entry >> 8) as u8 } else { entry as u8 })
    }
}
