//! Small DICOM files for tests, explicit VR little endian, with what a test wants in them.

use std::collections::BTreeMap;

/// One file: elements by tag, each with its value representation and bytes.
#[derive(Clone)]
pub struct Maker {
    pub syntax: &'static str,
    pub elements: BTreeMap<u32, ([u8; 2], Vec<u8>)>,
    /// Value of the pixel element; fragments when the syntax wants them.
    pub pixels: Vec<u8>,
    pub fragments: Vec<Vec<u8>>,
}

fn push(out: &mut Vec<u8>, tag: u32, vr: &[u8; 2], value: &[u8]) {
    out.extend(((tag >> 16) as u16).to_le_bytes());
    out.extend((tag as u16).to_le_bytes());
    out.extend(vr);
    let padded = value.len().next_multiple_of(2);
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN" | b"OF") {
        out.extend([0, 0]);
        out.extend((padded as u32).to_le_bytes());
    } else {
        out.extend((padded as u16).to_le_bytes());
    }
    out.extend(value);
    if padded > value.len() {
        out.push(if vr == b"UI" { 0 } else { b' ' });
    }
}

impl Maker {
    /// A slice of `rows` x `columns` unsigned 16-bit pixels at z = `depth`.
    pub fn slice(number: usize, depth: f64, rows: u16, columns: u16, pixels: Vec<u16>) -> Self {
        let mut maker = Self {
            syntax: "1.2.840.10008.1.2.1",
            elements: BTreeMap::new(),
            pixels: pixels.iter().flat_map(|value| value.to_le_bytes()).collect(),
            fragments: Vec::new(),
        };
        maker.text(0x0008_0016, b"UI", "1.2.840.10008.5.1.4.1.1.2");
        maker.text(0x0008_0018, b"UI", &format!("1.2.3.{number}"));
        maker.text(0x0008_0060, b"CS", "CT");
        maker.text(0x0008_103e, b"LO", "made");
        maker.text(0x0010_0010, b"PN", "Secret^Name");
        maker.text(0x0018_0050, b"DS", "3");
        maker.text(0x0020_000d, b"UI", "1.2.3");
        maker.text(0x0020_000e, b"UI", "1.2.3.4");
        maker.text(0x0020_0011, b"IS", "7");
        maker.text(0x0020_0013, b"IS", &number.to_string());
        maker.text(0x0020_0032, b"DS", &format!("-10\\20\\{depth}"));
        maker.text(0x0020_0037, b"DS", "1\\0\\0\\0\\1\\0");
        maker.text(0x0028_0004, b"CS", "MONOCHROME2");
        maker.text(0x0028_0030, b"DS", "0.5\\0.75");
        for (tag, value) in [
            (0x0028_0002, 1),
            (0x0028_0010, rows),
            (0x0028_0011, columns),
            (0x0028_0100, 16),
            (0x0028_0101, 16),
            (0x0028_0102, 15),
            (0x0028_0103, 0),
        ] {
            maker.short(tag, value);
        }
        maker
    }

    pub fn text(&mut self, tag: u32, vr: &[u8; 2], text: &str) -> &mut Self {
        self.elements.insert(tag, (*vr, text.as_bytes().to_vec()));
        self
    }

    pub fn short(&mut self, tag: u32, value: u16) -> &mut Self {
        self.elements.insert(tag, (*b"US", value.to_le_bytes().to_vec()));
        self
    }

    pub fn double(&mut self, tag: u32, value: f64) -> &mut Self {
        self.elements.insert(tag, (*b"FD", value.to_le_bytes().to_vec()));
        self
    }

    /// A sequence of one item.
    pub fn sequence(&mut self, tag: u32, item: &[(u32, &[u8; 2], &str)]) -> &mut Self {
        let mut inner = Vec::new();
        item.iter().for_each(|(tag, vr, text)| push(&mut inner, *tag, vr, text.as_bytes()));
        let head = [&[0xfe, 0xff, 0x00, 0xe0][..], &(inner.len() as u32).to_le_bytes()].concat();
        self.elements.insert(tag, (*b"SQ", [head, inner].concat()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = [&[0u8; 128][..], b"DICM"].concat();
        push(&mut out, 0x0002_0010, b"UI", self.syntax.as_bytes());
        for (tag, (vr, value)) in &self.elements {
            push(&mut out, *tag, vr, value);
        }
        if self.fragments.is_empty() {
            push(&mut out, 0x7fe0_0010, b"OW", &self.pixels);
            return out;
        }
        out.extend(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0");
        for fragment in &self.fragments {
            out.extend([0xfe, 0xff, 0x00, 0xe0]);
            out.extend((fragment.len() as u32).to_le_bytes());
            out.extend(fragment);
        }
        out.extend(b"\xfe\xff\xdd\xe0\0\0\0\0");
        out
    }
}

/// Writes files into a new folder, named so that their names say nothing of their order.
pub fn study(files: &[Maker]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (k, file) in files.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{:02}.dcm", (k * 7 + 3) % 31)), file.bytes()).unwrap();
    }
    folder
}
