//! The frame: a header in msgpack, chunks, an index of chunks, a trailer; and where a chunk's voxels go.
//!
//! Numbers of the header are big-endian (msgpack), those of chunks little-endian.

use super::chunk;

/// Largest array that is read: more than any scan, less than what makes a machine fail.
const BYTES_MAX: usize = 1 << 34;
/// Chunks have their length in 32 bits with a sign.
const CHUNK_MAX: usize = i32::MAX as usize;
const CHUNKS_MAX: usize = 1 << 24;
const AXES_MAX: usize = 8;

/// An open frame.
pub(super) struct Frame<'a> {
    pub shape: Vec<usize>,
    pub dtype: String,
    /// Bytes of a decoded chunk, its padding included.
    pub chunk_bytes: usize,
    chunk_shape: Vec<usize>,
    block_shape: Vec<usize>,
    element: usize,
    /// All chunks, one behind the other.
    chunks: &'a [u8],
    /// Where each chunk begins in `chunks`; negative for chunks that are one value.
    offsets: Vec<i64>,
}

impl<'a> Frame<'a> {
    /// Reads header and index.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut header = Cursor { bytes, at: 0 };
        if header.array() != Ok(14) || header.text() != Ok(b"b2frame\0".as_slice()) {
            return Err("no Blosc2 frame of a version that is known".into());
        }
        let (header_size, frame_size) = (header.size()?, header.size()?);
        if bytes.len() < frame_size {
            return Err(format!("the file ends after {} of {frame_size} bytes", bytes.len()));
        }
        let flags = header.text()?;
        if flags.len() != 4 || flags[0] & 0x40 != 0 || flags[1] & 0x0f != 0 {
            return Err("chunks of variable length or in several files, which Galen does not read".into());
        }
        let (_, stored, element) = (header.size()?, header.size()?, header.size()?);
        for _ in 0..4 {
            header.size()?; // sizes of blocks and chunks, which the chunks repeat, and threads
        }
        header.take(1 + 2 + 16)?; // is there a trailer of metalayers; filters, which the chunks repeat
        let layer = array_layer(bytes, &mut header)?;
        let mut frame = Self::of_layer(layer, element)?;
        let index_at = header_size.checked_add(stored).ok_or("the header is damaged")?;
        frame.chunks = bytes.get(header_size..index_at).ok_or("the header is damaged")?;
        let index_bytes = 8 * frame.count().ok_or("more chunks than a scan has")?;
        let behind = bytes.get(index_at..).ok_or("the index of chunks is missing")?;
        // Before memory is taken for what a damaged header claims.
        if chunk::claimed(behind) != Some(index_bytes) {
            return Err("the index of chunks does not fit the shape of the array".into());
        }
        let mut index = vec![0u8; index_bytes];
        chunk::decode(behind, &mut index).map_err(|what| format!("index of chunks: {what}"))?;
        let number = |eight: &[u8]| i64::from_le_bytes(eight.try_into().unwrap_or_default());
        frame.offsets = index.chunks_exact(8).map(number).collect();
        Ok(frame)
    }

    /// Shapes and type, from the `b2nd` metalayer.
    fn of_layer(layer: &[u8], element: usize) -> Result<Self, String> {
        let mut layer = Cursor { bytes: layer, at: 0 };
        let parts = layer.array()?;
        if !matches!(parts, 5 | 7) {
            return Err("the description of the array is damaged".into());
        }
        layer.size()?; // version
        let axes = layer.size()?;
        let mut lengths = || -> Result<Vec<usize>, String> {
            if layer.array()? != axes || !(1..=AXES_MAX).contains(&axes) {
                return Err(format!("{axes} axes, expected 1 to {AXES_MAX}"));
            }
            (0..axes).map(|_| layer.size()).collect()
        };
        let (shape, chunk_shape, block_shape) = (lengths()?, lengths()?, lengths()?);
        let dtype = if parts == 7 {
            layer.size()?; // 0: as numpy writes it
            String::from_utf8_lossy(layer.text()?).into_owned()
        } else {
            String::new()
        };
        let bytes_of = |lengths: &[usize]| {
            lengths.iter().try_fold(element, |n, &length| n.checked_mul(length)).filter(|&n| n <= BYTES_MAX)
        };
        let padded: Vec<usize> = chunk_shape
            .iter()
            .zip(&block_shape)
            .map(|(&c, &b)| c.div_ceil(b.max(1)).saturating_mul(b))
            .collect();
        let zero = [&shape, &chunk_shape, &block_shape].iter().any(|lengths| lengths.contains(&0));
        match (bytes_of(&shape), bytes_of(&padded)) {
            (Some(_), Some(chunk_bytes)) if !zero && element > 0 && chunk_bytes <= CHUNK_MAX => Ok(Self {
                shape,
                dtype,
                chunk_bytes,
                chunk_shape,
                block_shape,
                element,
                chunks: &[],
                offsets: Vec::new(),
            }),
            _ => Err(format!(
                "an array of {shape:?} in chunks of {chunk_shape:?} and blocks of {block_shape:?}"
            )),
        }
    }

    /// Bytes of the array.
    pub fn bytes(&self) -> usize {
        self.element * self.shape.iter().product::<usize>()
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.offsets.len()
    }

    fn grid(&self) -> Vec<usize> {
        self.shape.iter().zip(&self.chunk_shape).map(|(&n, &c)| n.div_ceil(c)).collect()
    }

    fn count(&self) -> Option<usize> {
        self.grid().iter().try_fold(1usize, |n, &length| n.checked_mul(length)).filter(|&n| n <= CHUNKS_MAX)
    }

    /// Decodes a chunk: blocks one behind the other, each whole.
    pub fn chunk(&self, number: usize, out: &mut [u8]) -> Result<(), String> {
        let offset = self.offsets[number];
        match usize::try_from(offset) {
            Ok(offset) => chunk::decode(self.chunks.get(offset..).ok_or("it begins behind the end")?, out),
            // The kind of value is in the uppermost byte.
            Err(_) => chunk::fill((offset >> 56) as u8 & 7, self.element, &[], out),
        }
    }

    /// Copies a decoded chunk to its place in the array.
    pub fn place(&self, number: usize, chunk: &[u8], all: &mut [u8]) {
        let axes = self.shape.len();
        let at = unravel(number, &self.grid());
        let blocks: Vec<usize> =
            (0..axes).map(|a| self.chunk_shape[a].div_ceil(self.block_shape[a])).collect();
        let block_elements: usize = self.block_shape.iter().product();
        for block in 0..blocks.iter().product() {
            let inside = unravel(block, &blocks);
            let within: Vec<usize> = (0..axes).map(|a| inside[a] * self.block_shape[a]).collect();
            let origin: Vec<usize> = (0..axes).map(|a| at[a] * self.chunk_shape[a] + within[a]).collect();
            // What lies beyond the chunk or the array is padding.
            let length = |a: usize| {
                let left = self.shape[a].saturating_sub(origin[a]);
                self.block_shape[a].min(self.chunk_shape[a] - within[a]).min(left)
            };
            let extent: Vec<usize> = (0..axes).map(length).collect();
            let row = extent[axes - 1] * self.element;
            for r in 0..extent[..axes - 1].iter().product::<usize>() {
                let mut index = unravel(r, &extent[..axes - 1]);
                index.push(0);
                let from = block * block_elements + ravel(&index, &self.block_shape);
                let there: Vec<usize> = (0..axes).map(|a| origin[a] + index[a]).collect();
                let to = ravel(&there, &self.shape) * self.element;
                let from = from * self.element;
                all[to..to + row].copy_from_slice(&chunk[from..from + row]);
            }
        }
    }
}

fn unravel(mut number: usize, lengths: &[usize]) -> Vec<usize> {
    let mut index = vec![0; lengths.len()];
    for (at, &length) in index.iter_mut().zip(lengths).rev() {
        *at = number % length;
        number /= length;
    }
    index
}

fn ravel(index: &[usize], lengths: &[usize]) -> usize {
    index.iter().zip(lengths).fold(0, |number, (&at, &length)| number * length + at)
}

/// The metalayer that describes the array.
fn array_layer<'a>(bytes: &'a [u8], header: &mut Cursor<'a>) -> Result<&'a [u8], String> {
    header.array()?;
    header.size()?; // bytes of the names
    for _ in 0..header.map()? {
        let (name, at) = (header.text()?, header.size()?);
        if name == b"b2nd" {
            return Cursor { bytes, at }.binary();
        }
    }
    Err("a Blosc2 frame without an array".into())
}

/// Reads msgpack as far as frames use it.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or("the header ends early")?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn big_endian(&mut self, bytes: usize) -> Result<usize, String> {
        let number = self.take(bytes)?.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        // A negative number is no size; as an unsigned one it is too large for what follows.
        usize::try_from(number).map_err(|_| "a number in the header is too large".into())
    }

    /// An integer that counts something.
    fn size(&mut self) -> Result<usize, String> {
        match self.byte()? {
            small @ 0..0x80 => Ok(small.into()),
            0xcc | 0xd0 => self.big_endian(1),
            0xcd | 0xd1 => self.big_endian(2),
            0xce | 0xd2 => self.big_endian(4),
            0xcf | 0xd3 => self.big_endian(8),
            other => Err(format!("the header has 0x{other:02x} where a number is expected")),
        }
    }

    fn array(&mut self) -> Result<usize, String> {
        match self.byte()? {
            short @ 0x90..0xa0 => Ok((short & 15).into()),
            0xdc => self.big_endian(2),
            other => Err(format!("the header has 0x{other:02x} where a list is expected")),
        }
    }

    fn map(&mut self) -> Result<usize, String> {
        match self.byte()? {
            short @ 0x80..0x90 => Ok((short & 15).into()),
            0xde => self.big_endian(2),
            other => Err(format!("the header has 0x{other:02x} where names are expected")),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], String> {
        let length = match self.byte()? {
            short @ 0xa0..0xc0 => (short & 31).into(),
            0xd9 => self.big_endian(1)?,
            0xda => self.big_endian(2)?,
            0xdb => self.big_endian(4)?,
            other => return Err(format!("the header has 0x{other:02x} where a text is expected")),
        };
        self.take(length)
    }

    fn binary(&mut self) -> Result<&'a [u8], String> {
        match self.byte()? {
            0xc6 => {
                let length = self.big_endian(4)?;
                self.take(length)
            }
            other => Err(format!("the header has 0x{other:02x} where bytes are expected")),
        }
    }
}
