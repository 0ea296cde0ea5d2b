//! JPEG-LS, lossless and near-lossless, all interleavings. Source: ITU-T T.87.
//!
//! No pure-Rust crate decodes it, and the C++ one needs cmake in every build.

/// Context lengths of run codes.
const RUN_BITS: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Contexts of the regular mode; the two of run interruptions follow.
const REGULAR: usize = 365;

/// Samples `[y, x, component]` and their bits.
pub struct Picture {
    pub samples: Vec<u16>,
    pub precision: u8,
}

/// Bits of a scan: after a byte of ones comes a stuffed zero bit.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    made_up: u32,
}

impl Bits<'_> {
    fn fill(&mut self) -> Result<(), String> {
        while self.count <= 48 {
            let after_ones = self.at > 0 && self.data[self.at - 1] == 0xff;
            let byte = self.data.get(self.at).copied().filter(|byte| !after_ones || *byte < 0x80);
            let end = byte.is_none()
                || (byte == Some(0xff) && self.data.get(self.at + 1).is_some_and(|next| *next >= 0x80));
            if end {
                self.made_up += 8;
                if self.made_up > 256 {
                    return Err("the stream ends before its last pixel".into());
                }
                self.count += 8;
                continue;
            }
            let (byte, bits) = (u64::from(byte.unwrap_or(0)), if after_ones { 7 } else { 8 });
            self.at += 1;
            self.held |= byte << (64 - bits - self.count);
            self.count += bits;
        }
        Ok(())
    }

    fn take(&mut self, bits: u32) -> Result<i32, String> {
        if bits == 0 {
            return Ok(0);
        }
        if self.count < bits {
            self.fill()?;
        }
        let value = (self.held >> (64 - bits)) as i32;
        self.held <<= bits;
        self.count -= bits;
        Ok(value)
    }

    /// Zeros before the next one, which is taken too; at most `most`.
    fn zeros(&mut self, most: u32) -> Result<u32, String> {
        let mut zeros = 0;
        loop {
            if self.count < 32 {
                self.fill()?;
            }
            let lead = self.held.leading_zeros().min(self.count);
            if lead < self.count {
                zeros += lead;
                self.held <<= lead;
                self.held <<= 1;
                self.count -= lead + 1;
                return if zeros <= most { Ok(zeros) } else { Err("a code that is too long".into()) };
            }
            zeros += lead;
            (self.held, self.count) = (0, 0);
            if zeros > most {
                return Err("a code that is too long".into());
            }
        }
    }
}

/// Parameters of a scan and what it has learnt.
struct Coder {
    max: i32,
    near: i32,
    range: i32,
    bits_of_range: u32,
    limit: u32,
    thresholds: [i32; 3],
    reset: i32,
    a: [i32; REGULAR + 2],
    n: [i32; REGULAR + 2],
    b: [i32; REGULAR],
    c: [i32; REGULAR],
    negative: [i32; 2],
}

/// Presets of a stream; zeros stand for the defaults.
#[derive(Default, Clone, Copy)]
struct Presets {
    max: i32,
    thresholds: [i32; 3],
    reset: i32,
}

impl Coder {
    fn new(precision: u8, near: i32, presets: Presets) -> Result<Self, String> {
        let max = if presets.max > 0 { presets.max } else { (1 << precision) - 1 };
        if near < 0 || near > 255.min(max / 2) || max >= 1 << precision {
            return Err(format!("tolerance {near} for values up to {max}"));
        }
        let clamp = |value: i32, least: i32| if value > max || value < least { least } else { value };
        let basic = |scaled: [i32; 3]| {
            let one = clamp(scaled[0], near + 1);
            let two = clamp(scaled[1], one);
            [one, two, clamp(scaled[2], two)]
        };
        let mut thresholds = if max >= 128 {
            let factor = (max.min(4095) + 128) / 256;
            basic([factor + 2 + 3 * near, 4 * factor + 3 + 5 * near, 17 * factor + 4 + 7 * near])
        } else {
            let factor = 256 / (max + 1);
            basic([2.max(3 / factor + 3 * near), 3.max(7 / factor + 5 * near), 4.max(21 / factor + 7 * near)])
        };
        for (own, preset) in thresholds.iter_mut().zip(presets.thresholds) {
            if preset > 0 {
                *own = preset;
            }
        }
        let range = (max + 2 * near) / (2 * near + 1) + 1;
        let bits = |values: i32| 32 - (values - 1).leading_zeros();
        let bits_of_value = bits(max + 1).max(2);
        let start = 2.max((range + 32) / 64);
        Ok(Self {
            max,
            near,
            range,
            bits_of_range: bits(range),
            limit: 2 * (bits_of_value + bits_of_value.max(8)),
            thresholds,
            reset: if presets.reset > 2 { presets.reset } else { 64 },
            a: [start; REGULAR + 2],
            n: [1; REGULAR + 2],
            b: [0; REGULAR],
            c: [0; REGULAR],
            negative: [0; 2],
        })
    }

    fn level(&self, gradient: i32) -> i32 {
        let [one, two, three] = self.thresholds;
        let size = gradient.abs();
        let level = if size <= self.near {
            0
        } else if size < one {
            1
        } else if size < two {
            2
        } else if size < three {
            3
        } else {
            4
        };
        // Thresholds belong to the upper level on both sides.
        if gradient < 0 { -level } else { level }
    }

    fn golomb(&self, bits: &mut Bits, k: u32, limit: u32) -> Result<i32, String> {
        let escape = limit.checked_sub(self.bits_of_range + 1).ok_or("impossible parameters")?;
        let zeros = bits.zeros(escape)?;
        if zeros < escape {
            Ok(((zeros as i32) << k) | bits.take(k)?)
        } else {
            Ok(bits.take(self.bits_of_range)? + 1)
        }
    }

    /// The value that a prediction and an error stand for.
    fn value(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = prediction + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.max + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.max)
    }

    fn regular(
        &mut self,
        bits: &mut Bits,
        context: i32,
        [left, above, corner]: [i32; 3],
    ) -> Result<i32, String> {
        let (sign, q) = if context < 0 { (-1, -context as usize) } else { (1, context as usize) };
        let guess = if corner >= left.max(above) {
            left.min(above)
        } else if corner <= left.min(above) {
            left.max(above)
        } else {
            left + above - corner
        };
        let guess = (guess + sign * self.c[q]).clamp(0, self.max);
        let k = self.code_length(q, self.a[q])?;
        let mapped = self.golomb(bits, k, self.limit)?;
        let mut error = if mapped & 1 == 0 { mapped >> 1 } else { -((mapped + 1) >> 1) };
        if self.near == 0 && k == 0 && 2 * self.b[q] <= -self.n[q] {
            error = -error - 1;
        }
        self.b[q] += error * (2 * self.near + 1);
        self.a[q] += error.abs();
        if self.n[q] == self.reset {
            (self.a[q], self.b[q], self.n[q]) = (self.a[q] >> 1, self.b[q] >> 1, self.n[q] >> 1);
        }
        self.n[q] += 1;
        let n = self.n[q];
        if self.b[q] <= -n {
            self.b[q] = (self.b[q] + n).max(1 - n);
            self.c[q] = (self.c[q] - 1).max(-128);
        } else if self.b[q] > 0 {
            self.b[q] = (self.b[q] - n).min(0);
            self.c[q] = (self.c[q] + 1).min(127);
        }
        Ok(self.value(guess, sign * error))
    }

    fn code_length(&self, q: usize, a: i32) -> Result<u32, String> {
        (0..24).find(|&k| self.n[q] << k >= a).ok_or_else(|| "errors that grow without end".into())
    }

    /// The sample that ends a run; `alike` when its neighbours left and above agree.
    fn interruption(
        &mut self,
        bits: &mut Bits,
        left: i32,
        above: i32,
        alike: bool,
        run: usize,
    ) -> Result<i32, String> {
        let (kind, q) = (usize::from(alike), REGULAR + usize::from(alike));
        let a = self.a[q] + if alike { self.n[q] >> 1 } else { 0 };
        let k = self.code_length(q, a)?;
        let mapped = self.golomb(bits, k, self.limit - RUN_BITS[run] - 1)?;
        let code = mapped + kind as i32;
        let odd = code & 1 == 1;
        let size = (code + 1) >> 1;
        let negative = (k != 0 || 2 * self.negative[kind] >= self.n[q]) == odd;
        let error = if negative { -size } else { size };
        if error < 0 {
            self.negative[kind] += 1;
        }
        self.a[q] += (mapped + 1 - kind as i32) >> 1;
        if self.n[q] == self.reset {
            self.a[q] >>= 1;
            self.n[q] >>= 1;
            self.negative[kind] >>= 1;
        }
        self.n[q] += 1;
        Ok(if alike {
            self.value(left, error)
        } else {
            self.value(above, if left > above { -error } else { error })
        })
    }
}

/// A row and the one above it, with a sample of margin left and right.
struct Rows {
    now: Vec<i32>,
    above: Vec<i32>,
    run: usize,
}

impl Rows {
    fn neighbours(&self, x: usize) -> [i32; 4] {
        [self.now[x], self.above[x + 1], self.above[x], self.above[x + 2]]
    }

    /// Sets the margins of a new row.
    fn begin(&mut self) {
        std::mem::swap(&mut self.now, &mut self.above);
        let width = self.now.len() - 2;
        self.above[width + 1] = self.above[width];
        self.now[0] = self.above[1];
    }
}

fn context(coder: &Coder, [left, above, corner, right]: [i32; 4]) -> i32 {
    81 * coder.level(right - above) + 9 * coder.level(above - corner) + coder.level(corner - left)
}

/// One row of components that are coded sample by sample together.
fn row(coder: &mut Coder, bits: &mut Bits, rows: &mut [Rows], width: usize) -> Result<(), String> {
    rows.iter_mut().for_each(Rows::begin);
    let together = rows.len() > 1;
    let mut x = 0;
    while x < width {
        let contexts: [i32; 4] =
            std::array::from_fn(|k| rows.get(k).map_or(0, |rows| context(coder, rows.neighbours(x))));
        if contexts != [0; 4] {
            for (rows, context) in rows.iter_mut().zip(contexts) {
                let [left, above, corner, _] = rows.neighbours(x);
                rows.now[x + 1] = coder.regular(bits, context, [left, above, corner])?;
            }
            x += 1;
            continue;
        }
        // A run: whole powers of two first, then the rest of a length.
        let mut index = rows[0].run;
        let repeat = |rows: &mut [Rows], x: usize, count: usize| {
            for rows in rows {
                let value = rows.now[x];
                rows.now[x + 1..x + 1 + count].fill(value);
            }
        };
        let mut interrupted = true;
        while bits.take(1)? == 1 {
            let length = 1 << RUN_BITS[index];
            let count = length.min(width - x);
            repeat(rows, x, count);
            x += count;
            if count == length {
                index = (index + 1).min(31);
            }
            if x == width {
                interrupted = false;
                break;
            }
        }
        if interrupted {
            let count = bits.take(RUN_BITS[index])? as usize;
            if count >= width - x {
                return Err("a run beyond its row".into());
            }
            repeat(rows, x, count);
            x += count;
            for rows in rows.iter_mut() {
                let [left, above, ..] = rows.neighbours(x);
                let alike = !together && (left - above).abs() <= coder.near;
                rows.now[x + 1] = coder.interruption(bits, left, above, alike, index)?;
            }
            index = index.saturating_sub(1);
            x += 1;
        }
        rows[0].run = index;
    }
    Ok(())
}

/// Decodes a frame that must have this size and number of components.
pub fn decode(stream: &[u8], height: usize, width: usize, components: usize) -> Result<Picture, String> {
    let word = |at: usize| stream.get(at..at + 2).map(|two| usize::from(two[0]) << 8 | usize::from(two[1]));
    if !stream.starts_with(&[0xff, 0xd8]) {
        return Err("no start mark FFD8".into());
    }
    let (mut at, mut precision, mut presets) = (2, None, Presets::default());
    let (mut ids, mut samples, mut done) = (Vec::new(), Vec::new(), 0);
    let cut = "the stream ends before its last component";
    while done < components {
        if stream.get(at) != Some(&0xff) {
            return Err(cut.into());
        }
        let (marker, length) = (*stream.get(at + 1).ok_or(cut)?, word(at + 2).ok_or(cut)?);
        if marker == 0xff {
            at += 1;
            continue;
        }
        let body = stream.get(at + 4..at + 2 + length).ok_or(cut)?;
        let short = word(at + 4).zip(body.get(..6)).ok_or(cut);
        match marker {
            0xf7 => {
                let (_, head) = short?;
                let found = [word(at + 5), word(at + 7), Some(usize::from(head[5]))];
                if found != [Some(height), Some(width), Some(components)] || body.len() < 6 + 3 * components {
                    return Err(format!(
                        "the stream holds {found:?} samples, the file says {height} x {width} x {components}"
                    ));
                }
                if !(2..=16).contains(&head[0]) || !(1..=4).contains(&components) {
                    return Err(format!("{} bits in {components} components", head[0]));
                }
                precision = Some(head[0]);
                ids = body[6..].chunks_exact(3).take(components).map(|entry| entry[0]).collect();
                samples = vec![0u16; height * width * components];
            }
            0xf8 if body.first() == Some(&1) && body.len() >= 11 => {
                let value = |k: usize| i32::from(body[k]) << 8 | i32::from(body[k + 1]);
                presets =
                    Presets { max: value(1), thresholds: [value(3), value(5), value(7)], reset: value(9) };
            }
            0xf8 => return Err("a mapping table".into()),
            0xdd if body.iter().any(|byte| *byte != 0) => return Err("restart intervals".into()),
            0xe8 if body.starts_with(b"mrfx") && body.get(4) != Some(&0) => {
                return Err("a colour transform of its own".into());
            }
            0xda => {
                let precision = precision.ok_or("a scan before its frame header")?;
                let count = usize::from(*body.first().ok_or(cut)?);
                let tail = body.get(1 + 2 * count..4 + 2 * count).ok_or(cut)?;
                let (near, interleaving, shift) = (i32::from(tail[0]), tail[1], tail[2] & 15);
                let mut members = Vec::new();
                for entry in body[1..].chunks_exact(2).take(count) {
                    let place =
                        ids.iter().position(|id| *id == entry[0]).filter(|place| !members.contains(place));
                    members.push(place.ok_or("a scan of a component that is not there")?);
                }
                if members.is_empty()
                    || (interleaving == 0) != (count == 1) && count > 1
                    || interleaving > 2
                    || shift >= precision
                {
                    return Err(format!("{count} components with interleaving {interleaving}"));
                }
                let mut coder = Coder::new(precision, near, presets)?;
                let mut bits =
                    Bits { data: &stream[at + 2 + length..], at: 0, held: 0, count: 0, made_up: 0 };
                let blank = || Rows { now: vec![0; width + 2], above: vec![0; width + 2], run: 0 };
                let mut rows: Vec<Rows> = members.iter().map(|_| blank()).collect();
                for y in 0..height {
                    if interleaving == 2 {
                        row(&mut coder, &mut bits, &mut rows, width)?;
                    } else {
                        rows.chunks_exact_mut(1)
                            .try_for_each(|one| row(&mut coder, &mut bits, one, width))?;
                    }
                    for (rows, &member) in rows.iter().zip(&members) {
                        let to = samples[y * width * components..][..width * components].iter_mut();
                        for (to, &value) in to.skip(member).step_by(components).zip(&rows.now[1..]) {
                            *to = (value as u16) << shift;
                        }
                    }
                }
                done += count;
                let data = &stream[at + 2 + length..];
                // Bytes that were read ahead are no marker, whose second byte is 128 or more.
                let next = data.windows(2).position(|two| two[0] == 0xff && two[1] >= 0x80);
                at += 2 + length + next.unwrap_or(data.len());
                continue;
            }
            _ => {}
        }
        at += 2 + length;
    }
    Ok(Picture { samples, precision: precision.ok_or("no frame header")? })
}
