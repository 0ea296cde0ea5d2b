//! Lossless JPEG: each sample is predicted from its neighbours. Source: ITU-T T.81, annex H.

use super::bits::Bits;
use super::{Frame, Part, Tables};

/// Decodes a scan with the predictor that its header names; samples were shifted right by `shift` before coding.
pub fn scan(
    bits: &mut Bits,
    frame: &mut Frame,
    parts: &[Part],
    tables: &Tables,
    predictor: u8,
    shift: u8,
) -> Result<(), String> {
    if !(1..=7).contains(&predictor) || shift >= frame.precision {
        return Err(format!("predictor {predictor} with point transform {shift}"));
    }
    let start = 1i32 << (frame.precision - shift - 1);
    let (width, height) = (frame.width, frame.height);
    if !tables.restart.is_multiple_of(width) {
        return Err(format!("restarts every {} samples, within rows of {width}", tables.restart));
    }
    let rows_between = tables.restart / width;
    let mut codes = Vec::with_capacity(parts.len());
    for part in parts {
        codes.push(tables.dc[part.dc].as_ref().ok_or("a scan without its Huffman table")?);
    }
    // The first row after a restart is predicted as the first of all.
    let mut first = 0;
    for y in 0..height {
        if rows_between > 0 && y > 0 && y % rows_between == 0 {
            bits.restart()?;
            first = y;
        }
        for x in 0..width {
            for (part, code) in parts.iter().zip(&codes) {
                let plane = &mut frame.components[part.component].plane;
                let at = y * width + x;
                let sample = |at: usize| i32::from(plane[at]);
                let guess = match (y == first, x) {
                    (true, 0) => start,
                    (true, _) => sample(at - 1),
                    (false, 0) => sample(at - width),
                    _ => {
                        let (a, b, c) = (sample(at - 1), sample(at - width), sample(at - width - 1));
                        match predictor {
                            1 => a,
                            2 => b,
                            3 => c,
                            4 => a + b - c,
                            5 => a + ((b - c) >> 1),
                            6 => b + ((a - c) >> 1),
                            _ => (a + b) >> 1,
                        }
                    }
                };
                let difference = match bits.symbol(code)? {
                    16 => 32768,
                    size @ 0..16 => bits.signed(size),
                    _ => return Err("an impossible difference".into()),
                };
                plane[at] = (guess + difference) as u16;
            }
        }
    }
    if shift > 0 {
        for part in parts {
            frame.components[part.component].plane.iter_mut().for_each(|sample| *sample <<= shift);
        }
    }
    Ok(())
}
