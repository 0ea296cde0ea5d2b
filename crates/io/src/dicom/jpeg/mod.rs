//! JPEG as DICOM uses it: baseline and extended sequential (8 and 12 bits), and lossless (up to 16 bits).
//!
//! Source: ITU-T T.81. No image crate reads 12 bits or every lossless predictor, hence this one. Cosine transform and
//! upsampling are computed as libjpeg computes them by default, so that lossy images agree with most readers bit by bit.

mod bits;
mod cosine;
mod lossless;
mod sampling;

use bits::{Bits, Huffman};

/// A decoded frame.
pub struct Picture {
    /// Samples, `[y, x, component]`.
    pub samples: Vec<u16>,
    /// Bits per sample.
    pub precision: u8,
    /// Whether the stream itself says that its components are luma and chroma; `None` when it is silent.
    pub says_ycc: Option<bool>,
    /// Coded with a cosine transform.
    pub lossy: bool,
}

/// One component of the frame.
#[derive(Debug, Clone, Default)]
struct Component {
    id: u8,
    /// Samples per unit of the frame, across and down.
    h: usize,
    v: usize,
    table: usize,
    /// Decoded plane, in whole blocks.
    plane: Vec<u16>,
    /// Samples in a row of the plane.
    stride: usize,
    done: bool,
}

/// What the frame header says.
#[derive(Debug, Default)]
struct Frame {
    lossless: bool,
    precision: u8,
    width: usize,
    height: usize,
    components: Vec<Component>,
    h_max: usize,
    v_max: usize,
}

/// Tables in force.
struct Tables {
    quantisation: [[u16; 64]; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart: usize,
}

/// One entry of a scan header.
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// Position in the block of the coefficients, in the order in which they are stored.
static ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

fn word(stream: &[u8], at: usize) -> Result<usize, String> {
    let two = stream.get(at..at + 2).ok_or("the stream ends within a header")?;
    Ok(usize::from(two[0]) << 8 | usize::from(two[1]))
}

/// The next marker from `at` on, and the place behind it. Between segments there may be fill bytes, and behind scans what a
/// decoder did not need.
fn next_marker(stream: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = stream.get(at..)?;
    let step = rest.windows(2).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xff | 0xd0..=0xd7))?;
    Some((rest[step + 1], at + step + 2))
}

/// Decodes a frame that must have this size and number of components.
pub fn decode(stream: &[u8], height: usize, width: usize, components: usize) -> Result<Picture, String> {
    let mut tables =
        Tables { quantisation: [[0; 64]; 4], dc: Default::default(), ac: Default::default(), restart: 0 };
    let (mut frame, mut adobe, mut jfif) = (None::<Frame>, None, false);
    let mut at = stream.windows(2).position(|two| two == [0xff, 0xd8]).ok_or("no start mark FFD8")? + 2;
    while let Some((marker, behind)) = next_marker(stream, at) {
        at = behind;
        if marker == 0xd9 {
            break;
        }
        let length = word(stream, at)?;
        let body = stream.get(at + 2..at + length).ok_or("the stream ends within a header")?;
        match marker {
            0xc0 | 0xc1 | 0xc3 => {
                if frame.is_some() {
                    return Err("two frame headers".into());
                }
                frame = Some(header(body, marker == 0xc3, [height, width, components])?);
            }
            0xc4 => huffman(body, &mut tables)?,
            0xc2 | 0xc5..=0xcf => {
                return Err(format!("JPEG process {marker:#04x} (progressive, hierarchical or arithmetic)"));
            }
            0xdb => quantisation(body, &mut tables)?,
            0xdd => tables.restart = word(body, 0)?,
            0xee if body.starts_with(b"Adobe") => adobe = body.get(11).map(|&transform| transform != 0),
            0xe0 if body.starts_with(b"JFIF") => jfif = true,
            0xda => {
                let frame = frame.as_mut().ok_or("a scan before its frame header")?;
                let data = &stream[at + length..];
                at += length + scan(body, data, frame, &tables)?;
                continue;
            }
            _ => {}
        }
        at += length;
    }
    let mut frame = frame.ok_or("no frame header")?;
    if let Some(missing) = frame.components.iter().position(|component| !component.done) {
        return Err(format!("component {missing} has no scan"));
    }
    let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
    let says_ycc = adobe.or((ids == b"RGB").then_some(false)).or(jfif.then_some(true));
    Ok(Picture {
        samples: sampling::interleave(&mut frame),
        precision: frame.precision,
        says_ycc,
        lossy: !frame.lossless,
    })
}

/// Reads a frame header, refuses other sizes than the file's, and makes room for the planes.
fn header(body: &[u8], lossless: bool, expected: [usize; 3]) -> Result<Frame, String> {
    let short = "the frame header is cut";
    let (precision, count) = (*body.first().ok_or(short)?, usize::from(*body.get(5).ok_or(short)?));
    let (height, width) = (word(body, 1)?, word(body, 3)?);
    let known = if lossless { (2..=16).contains(&precision) } else { matches!(precision, 8 | 12) };
    if !known {
        return Err(format!("{precision} bits per sample"));
    }
    if [height, width, count] != expected {
        return Err(format!(
            "the stream holds {height} x {width} x {count} samples, the file says {} x {} x {}",
            expected[0], expected[1], expected[2]
        ));
    }
    let mut frame = Frame { lossless, precision, width, height, ..Frame::default() };
    for entry in body[6..].chunks_exact(3).take(count) {
        let (h, v) = (usize::from(entry[1] >> 4), usize::from(entry[1] & 15));
        if !(1..=4).contains(&h) || !(1..=4).contains(&v) || entry[2] > 3 || (lossless && (h, v) != (1, 1)) {
            return Err(format!("sampling {h} x {v} with table {}", entry[2]));
        }
        frame.components.push(Component {
            id: entry[0],
            h,
            v,
            table: entry[2].into(),
            ..Component::default()
        });
    }
    if frame.components.len() != count || count == 0 {
        return Err(short.into());
    }
    frame.h_max = frame.components.iter().map(|component| component.h).max().unwrap_or(1);
    frame.v_max = frame.components.iter().map(|component| component.v).max().unwrap_or(1);
    let unit = if lossless { 1 } else { 8 };
    let (across, down) = (width.div_ceil(unit * frame.h_max), height.div_ceil(unit * frame.v_max));
    for component in &mut frame.components {
        component.stride = across * component.h * unit;
        component.plane = vec![0; component.stride * down * component.v * unit];
    }
    Ok(frame)
}

fn huffman(mut body: &[u8], tables: &mut Tables) -> Result<(), String> {
    while let Some((&kind, rest)) = body.split_first() {
        let counts: &[u8; 16] =
            rest.get(..16).and_then(|counts| counts.try_into().ok()).ok_or("a Huffman table is cut")?;
        let total = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
        let symbols = rest.get(16..16 + total).ok_or("a Huffman table is cut")?;
        let table = Some(Huffman::new(counts, symbols)?);
        match (kind >> 4, usize::from(kind & 15)) {
            (0, slot @ 0..=3) => tables.dc[slot] = table,
            (1, slot @ 0..=3) => tables.ac[slot] = table,
            _ => return Err(format!("Huffman table of class and place {kind:#04x}")),
        }
        body = &rest[16 + total..];
    }
    Ok(())
}

fn quantisation(mut body: &[u8], tables: &mut Tables) -> Result<(), String> {
    while let Some((&kind, rest)) = body.split_first() {
        let (size, slot) = (1 + usize::from(kind >> 4 & 1), usize::from(kind & 15));
        let values = rest.get(..64 * size).ok_or("a quantisation table is cut")?;
        let table = tables.quantisation.get_mut(slot).ok_or("a quantisation table has no place")?;
        for (k, value) in values.chunks_exact(size).enumerate() {
            table[usize::from(ZIGZAG[k])] = value.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte));
        }
        body = &rest[64 * size..];
    }
    Ok(())
}

/// Decodes one scan; how many bytes of `data` it took.
fn scan(body: &[u8], data: &[u8], frame: &mut Frame, tables: &Tables) -> Result<usize, String> {
    let short = "the scan header is cut";
    let count = usize::from(*body.first().ok_or(short)?);
    let tail = body.get(1 + 2 * count..4 + 2 * count).ok_or(short)?;
    let mut parts = Vec::new();
    for entry in body[1..].chunks_exact(2).take(count) {
        let component =
            frame.components.iter().position(|component| component.id == entry[0] && !component.done);
        let component = component.ok_or("a scan of a component that is not there")?;
        let (dc, ac) = (usize::from(entry[1] >> 4), usize::from(entry[1] & 15));
        if dc > 3 || ac > 3 || parts.iter().any(|part: &Part| part.component == component) {
            return Err("a scan with impossible tables or a component twice".into());
        }
        parts.push(Part { component, dc, ac });
    }
    if parts.is_empty() {
        return Err(short.into());
    }
    let mut bits = Bits::new(data);
    if frame.lossless {
        lossless::scan(&mut bits, frame, &parts, tables, tail[0], tail[2] & 15)?;
    } else {
        blocks(&mut bits, frame, &parts, tables)?;
    }
    parts.iter().for_each(|part| frame.components[part.component].done = true);
    Ok(bits.position())
}

/// Blocks of a sequential scan.
fn blocks(bits: &mut Bits, frame: &mut Frame, parts: &[Part], tables: &Tables) -> Result<(), String> {
    // A scan of one component holds its own blocks only, others whole units of the frame.
    let alone = parts.len() == 1;
    let (mut across, mut down) =
        (frame.width.div_ceil(8 * frame.h_max), frame.height.div_ceil(8 * frame.v_max));
    if alone {
        let component = &frame.components[parts[0].component];
        across = (frame.width * component.h).div_ceil(8 * frame.h_max);
        down = (frame.height * component.v).div_ceil(8 * frame.v_max);
    }
    let center = 1i32 << (frame.precision - 1);
    let mut last = vec![0i32; parts.len()];
    for unit in 0..across * down {
        if tables.restart > 0 && unit > 0 && unit % tables.restart == 0 {
            bits.restart()?;
            last.fill(0);
        }
        let (row, column) = (unit / across, unit % across);
        for (part, last) in parts.iter().zip(&mut last) {
            let component = &mut frame.components[part.component];
            let dc = tables.dc[part.dc].as_ref().ok_or("a scan without its Huffman table")?;
            let ac = tables.ac[part.ac].as_ref().ok_or("a scan without its Huffman table")?;
            let (h, v) = if alone { (1, 1) } else { (component.h, component.v) };
            for sub in 0..h * v {
                let mut block = [0i32; 64];
                coefficients(bits, dc, ac, last, &mut block, &tables.quantisation[component.table])?;
                let (y, x) = ((row * v + sub / h) * 8, (column * h + sub % h) * 8);
                let at = y * component.stride + x;
                cosine::inverse(&block, center, &mut component.plane[at..], component.stride);
            }
        }
    }
    Ok(())
}

/// One block: coefficients times their quantisation.
fn coefficients(
    bits: &mut Bits,
    dc: &Huffman,
    ac: &Huffman,
    last: &mut i32,
    block: &mut [i32; 64],
    table: &[u16; 64],
) -> Result<(), String> {
    let category = bits.symbol(dc)?;
    if category > 16 {
        return Err("an impossible difference".into());
    }
    *last = last.wrapping_add(bits.signed(category));
    block[0] = last.wrapping_mul(i32::from(table[0]));
    let mut k = 1;
    while k < 64 {
        let symbol = bits.symbol(ac)?;
        let (run, size) = (usize::from(symbol >> 4), symbol & 15);
        if size == 0 {
            if run < 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += run;
        let place = usize::from(*ZIGZAG.get(k).ok_or("a block with more than 64 coefficients")?);
        block[place] = bits.signed(size).wrapping_mul(i32::from(table[place]));
        k += 1;
    }
    Ok(())
}
