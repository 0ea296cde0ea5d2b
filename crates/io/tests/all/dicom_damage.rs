//! DICOM that is cut, changed or made to harm: one line of error, no panic, no memory for what is not there.

use super::dicom_maker::{Maker, study};
use super::golden::data;
use galen_io::dicom::{Study, read_pixels};
use galen_io::read;
use std::path::{Path, PathBuf};

/// A generator of changes that is the same in every run.
struct Changes(u64);

impl Changes {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }
}

/// Reads a file in every way and checks that errors are one line with a remedy.
fn survives(path: &Path) {
    let errors = [read_pixels(path).err(), read(path).err(), Study::open(path, &|_, _| {}).err()];
    for error in errors.into_iter().flatten() {
        let line = error.to_string();
        assert!(!line.contains('\n') && line.len() < 2000, "{line}");
    }
}

/// One small file per way of writing, from the test data when it is there.
fn samples() -> Vec<Vec<u8>> {
    let mut all = vec![Maker::slice(0, 0.0, 4, 5, (0..20).collect()).bytes()];
    let mut runs = Maker::slice(0, 0.0, 4, 4, Vec::new());
    runs.syntax = "1.2.840.10008.1.2.5";
    let mut stream = [2u32, 64, 66].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    stream.resize(64, 0);
    stream.extend([(1i32 - 16) as u8, 7, (1i32 - 16) as u8, 9]);
    runs.fragments = vec![stream];
    all.push(runs.bytes());
    let Some(data) = data() else { return all };
    let names = [
        "pydicom/MR_small_jpeg_ls_lossless.dcm",
        "pydicom/MR_small_jp2klossless.dcm",
        "pydicom/SC_rgb_jpeg_dcmtk.dcm",
        "pydicom/SC_rgb_dcmtk_+eb+cy+np.dcm",
        "pydicom/image_dfl.dcm",
        "pydicom/rtplan.dcm",
        "pydicom/MR_small_bigendian.dcm",
        "pydicom_charset/chrH31.dcm",
        "pydicom_data/liver_rle.dcm",
        "pydicom_data/liver_deflate.dcm",
    ];
    let files = names.iter().filter_map(|name| std::fs::read(data.join("dicom").join(name)).ok());
    all.extend(files.filter(|bytes| bytes.len() < 60_000));
    all
}

#[test]
fn files_cut_anywhere_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.dcm");
    for sample in samples() {
        let step = (sample.len() / 120).max(1);
        for cut in (0..sample.len()).step_by(step) {
            std::fs::write(&path, &sample[..cut]).unwrap();
            survives(&path);
        }
    }
    // Without its last pixel an image is refused, not padded.
    let whole = Maker::slice(0, 0.0, 4, 5, (0..20).collect()).bytes();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("copy is incomplete"), "{error}");
}

#[test]
fn changed_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.dcm");
    let mut changes = Changes(0x9e37_79b9_7f4a_7c15);
    for sample in samples() {
        for _ in 0..60 {
            let mut bytes = sample.clone();
            for _ in 0..=changes.next(6) {
                let at = changes.next(bytes.len());
                match changes.next(4) {
                    0 => bytes[at] = 0xff,
                    1 => bytes[at] = 0,
                    2 => bytes[at] ^= 1 << changes.next(8),
                    _ => bytes[at] = changes.next(256) as u8,
                }
            }
            std::fs::write(&path, &bytes).unwrap();
            survives(&path);
        }
    }
}

/// Files that claim more than they hold.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    let mut large = Maker::slice(0, 0.0, 65_535, 65_535, vec![0; 50]);
    all.push(("native, 65535 x 65535", large.bytes()));
    large.text(0x0028_0008, b"IS", "2000000000");
    all.push(("two thousand million frames", large.bytes()));
    for (name, syntax) in [
        ("RLE", "1.2.840.10008.1.2.5"),
        ("JPEG", "1.2.840.10008.1.2.4.70"),
        ("JPEG-LS", "1.2.840.10008.1.2.4.80"),
        ("JPEG 2000", "1.2.840.10008.1.2.4.90"),
        ("deflated frames", "1.2.840.10008.1.2.8.1"),
    ] {
        let mut file = Maker::slice(0, 0.0, 65_535, 65_535, Vec::new());
        file.syntax = syntax;
        file.fragments = vec![vec![0xff; 100]];
        all.push((name, file.bytes()));
    }
    let mut frames = Maker::slice(0, 0.0, 2048, 2048, Vec::new());
    frames.syntax = "1.2.840.10008.1.2.4.90";
    frames.text(0x0028_0008, b"IS", "5000").fragments = vec![vec![0xff; 8]; 5000];
    all.push(("five thousand empty frames", frames.bytes()));
    // A sequence in a sequence in a sequence ...
    let start = Maker::slice(0, 0.0, 1, 1, vec![0]).bytes();
    let nested = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff".repeat(50_000);
    all.push(("nested", [&start[..160], &nested].concat()));
    // An element of four thousand million bytes.
    all.push(("long element", [&start[..160], b"\x09\x00\x10\x10OB\0\0\xfe\xff\xff\xff\x01\x02"].concat()));
    // A deflated data set that grows a thousand times.
    let mut deflated = [&[0u8; 128][..], b"DICM\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"].concat();
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0u8; 1 << 20];
    (0..128).for_each(|_| std::io::Write::write_all(&mut packer, &block).unwrap());
    deflated.extend(packer.finish().unwrap());
    all.push(("deflate bomb", deflated));
    all
}

#[test]
fn claims_without_bytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in hostile() {
        let path: PathBuf = folder.path().join("hostile.dcm");
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).err().unwrap_or_else(|| panic!("{name} was read")).to_string();
        assert!(!error.contains('\n'), "{name}: {error}");
        survives(&path);
    }
    let folder = study(&[Maker::slice(0, 0.0, 1, 1, vec![0])]);
    std::fs::write(folder.path().join("bomb"), &hostile()[0].1).unwrap();
    assert_eq!(Study::open(folder.path(), &|_, _| {}).unwrap().series.len(), 1);
}

#[test]
fn a_syntax_that_is_not_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.dcm");
    let mut film = Maker::slice(0, 0.0, 1, 1, vec![0]);
    for (syntax, name) in
        [("1.2.840.10008.1.2.4.102", "video"), ("1.2.840.10008.1.2.4.110", "JPEG XL"), ("1.9.9", "unknown")]
    {
        film.syntax = syntax;
        std::fs::write(&path, film.bytes()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(syntax) && error.contains(name) && error.contains("gdcmconv"), "{error}");
    }
}
