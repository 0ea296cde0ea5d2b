//! Bits of entropy-coded segments and Huffman codes. Source: ITU-T T.81, annexes B, C and F.

/// Codes up to this length are found with one look.
const QUICK: u32 = 9;
/// Bits beyond the end that are read as zeros before a stream counts as cut.
const BEYOND: usize = 64;

/// A Huffman table.
pub struct Huffman {
    /// Length and symbol of the code that each `QUICK` bits begin with; length 0 for longer codes.
    quick: Vec<(u8, u8)>,
    /// Per length: one more than its last code, moved to 16 bits.
    limit: [u32; 17],
    /// Per length: what to subtract from a code to get its symbol's place.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// Table from the number of codes of each length and their symbols.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, String> {
        let mut table = Self {
            quick: vec![(0, 0); 1 << QUICK],
            limit: [0; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offset[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                if code >= 1 << length {
                    return Err("a Huffman table has more codes than fit".into());
                }
                if length <= QUICK {
                    let (first, copies) = ((code << (QUICK - length)) as usize, 1usize << (QUICK - length));
                    table.quick[first..first + copies].fill((length as u8, symbols[place]));
                }
                code += 1;
                place += 1;
            }
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }
}

/// Reads bits, most significant first; stuffed zeros are dropped, a marker ends them.
pub struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// Zero bits that were made up behind the end.
    made_up: usize,
}

impl<'a> Bits<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, held: 0, count: 0, made_up: 0 }
    }

    /// Bytes that were taken.
    pub fn position(&self) -> usize {
        self.at.min(self.data.len())
    }

    fn fill(&mut self) -> Result<(), String> {
        while self.count <= 48 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.made_up += 8;
                    if self.made_up > BEYOND + 64 {
                        return Err("the stream ends before its last pixel".into());
                    }
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        Ok(())
    }

    fn take(&mut self, bits: u32) -> u32 {
        let value = if bits == 0 { 0 } else { (self.held >> (64 - bits)) as u32 };
        self.held <<= bits;
        self.count -= bits;
        value
    }

    /// Next symbol of a table.
    pub fn symbol(&mut self, table: &Huffman) -> Result<u8, String> {
        if self.count < 32 {
            self.fill()?;
        }
        let (length, symbol) = table.quick[(self.held >> (64 - QUICK)) as usize];
        if length > 0 {
            self.take(length.into());
            return Ok(symbol);
        }
        let next = (self.held >> 48) as u32;
        for length in QUICK + 1..=16 {
            if next < table.limit[length as usize] {
                let place = self.take(length) as i32 + table.offset[length as usize];
                return table.symbols.get(place as usize).copied().ok_or_else(|| "an unknown code".into());
            }
        }
        Err("an unknown code".into())
    }

    /// A signed number of `size` bits, as differences and coefficients are coded.
    pub fn signed(&mut self, size: u8) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.take(size.into()) as i32;
        if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
    }

    /// Goes on behind the next restart marker.
    pub fn restart(&mut self) -> Result<(), String> {
        (self.held, self.count, self.made_up) = (0, 0, 0);
        let found = self.data[self.position()..]
            .windows(2)
            .position(|two| two[0] == 0xff && matches!(two[1], 0xd0..=0xd7));
        self.at = self.position() + found.ok_or("a restart mark is missing")? + 2;
        Ok(())
    }
}
