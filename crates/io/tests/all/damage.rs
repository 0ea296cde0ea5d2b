//! Damaged and hostile files: an error in one line, never a panic, and no memory for voxels that are not there.

use galen_core::{Geometry, Scalar, Volume};
use galen_io::{FORMATS, read, read_header, write};
use std::path::{Path, PathBuf};

/// A small file per ending that is written, one as big-endian NIfTI-1, one as JPEG, one as BMP.
fn samples(folder: &Path) -> Vec<PathBuf> {
    let geometry = Geometry { flat: true, ..Geometry::axis_aligned([1, 6, 7], [1.0; 3]) };
    let image = Volume::new(geometry, (0..42).map(|i| i * i * 31).collect::<Vec<u16>>());
    let mut all = Vec::new();
    for ending in FORMATS.iter().filter(|f| f.write.is_some()).flat_map(|f| f.endings) {
        all.push(folder.join(format!("image{ending}")));
        write(all.last().unwrap(), &image).unwrap();
    }
    let little = std::fs::read(folder.join("image.nii")).unwrap();
    all.push(folder.join("turned.nii"));
    std::fs::write(all.last().unwrap(), turned(little)).unwrap();
    for ending in ["jpg", "bmp"] {
        all.push(folder.join(format!("image.{ending}")));
        image::RgbImage::from_fn(9, 8, |x, y| image::Rgb([x as u8 * 20, y as u8 * 20, 7]))
            .save(all.last().unwrap())
            .unwrap();
    }
    all
}

/// A NIfTI-1 file of 16-bit voxels in the other byte order.
fn turned(mut bytes: Vec<u8>) -> Vec<u8> {
    let fields =
        [(0, 1, 4), (32, 1, 4), (40, 8, 2), (56, 3, 4), (68, 4, 2), (76, 11, 4), (120, 1, 2), (124, 6, 4)];
    for (at, count, size) in fields.into_iter().chain([(252, 2, 2), (256, 18, 4)]) {
        bytes[at..at + count * size].chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    bytes[352..].chunks_exact_mut(2).for_each(<[u8]>::reverse);
    bytes
}

#[test]
fn the_other_byte_order_and_the_second_version_are_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let geometry =
        Geometry { origin: [3.0, -4.0, 5.5], ..Geometry::axis_aligned([3, 4, 5], [2.0, 1.5, 1.25]) };
    let image = Volume::new(geometry, (0..60).map(|i| i * 999).collect::<Vec<u16>>());
    let first = folder.path().join("first.nii");
    write(&first, &image).unwrap();
    let bytes = std::fs::read(&first).unwrap();
    let other = folder.path().join("turned.nii");
    std::fs::write(&other, turned(bytes.clone())).unwrap();
    assert_eq!(read(&other).unwrap(), image);

    let second = folder.path().join("second.nii");
    let mut header = vec![0u8; 544];
    let float = |at: usize| f64::from(f32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()));
    header[..4].copy_from_slice(&540i32.to_ne_bytes());
    header[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
    header[12..14].copy_from_slice(&512i16.to_ne_bytes());
    header[14..16].copy_from_slice(&16i16.to_ne_bytes());
    for (i, size) in [3i64, 5, 4, 3, 1, 1, 1, 1].into_iter().enumerate() {
        header[16 + 8 * i..24 + 8 * i].copy_from_slice(&size.to_ne_bytes());
        header[104 + 8 * i..112 + 8 * i].copy_from_slice(&float(76 + 4 * i).to_ne_bytes());
    }
    header[168..176].copy_from_slice(&544i64.to_ne_bytes());
    header[176..184].copy_from_slice(&1f64.to_ne_bytes());
    header[344..348].copy_from_slice(&1i32.to_ne_bytes());
    header[348..352].copy_from_slice(&1i32.to_ne_bytes());
    for i in 0..18 {
        header[352 + 8 * i..360 + 8 * i].copy_from_slice(&float(256 + 4 * i).to_ne_bytes());
    }
    header[500..504].copy_from_slice(&2i32.to_ne_bytes());
    header.extend(&bytes[352..]);
    std::fs::write(&second, header).unwrap();
    assert_eq!(read(&second).unwrap(), image);
}

#[test]
fn headers_that_run_on_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.nrrd");
    let head = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n";
    std::fs::write(&file, [head.as_bytes(), &b"key:=value\n".repeat(120_000), b"\n", &[0; 64]].concat())
        .unwrap();
    assert!(read(&file).unwrap_err().to_string().contains("longer than 1 MiB"));
    let skipping = format!("{head}line skip: 9223372036854775807\n\n");
    std::fs::write(&file, [skipping.as_bytes(), &[0; 64]].concat()).unwrap();
    assert!(read(&file).is_err());
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for sample in samples(folder.path()) {
        let whole = std::fs::read(&sample).unwrap();
        assert!(read(&sample).is_ok(), "{}", sample.display());
        for cut in 0..whole.len() {
            std::fs::write(&sample, &whole[..cut]).unwrap();
            let error =
                read(&sample).err().unwrap_or_else(|| panic!("{} cut at {cut} was read", sample.display()));
            let error = error.to_string();
            assert!(error.contains(". Try: ") && !error.contains('\n'), "cut at {cut}: {error}");
            let _ = read_header(&sample);
        }
    }
}

#[test]
fn a_cut_file_says_how_much_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.nii");
    write(&path, &Volume::new(Geometry::axis_aligned([2, 3, 4], [1.0; 3]), vec![7i16; 24])).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..390]).unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("ends after 390 of 400 bytes") && error.contains("copy it again"), "{error}");
}

#[test]
fn flipped_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    for sample in samples(folder.path()) {
        let whole = std::fs::read(&sample).unwrap();
        for at in 0..whole.len() {
            for flip in [0xff, 0x01] {
                let mut broken = whole.clone();
                broken[at] ^= flip;
                std::fs::write(&sample, &broken).unwrap();
                let _ = (read(&sample), read_header(&sample));
            }
        }
    }
}

/// Most address space that this process ever had; grows with a claim even when no page of it is touched.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmPeak:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Headers that claim far more than their files hold.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let mut nifti1 = vec![0u8; 400];
    nifti1[0..4].copy_from_slice(&348i32.to_le_bytes());
    for (i, size) in [3i16, 32767, 32767, 32767].iter().enumerate() {
        nifti1[40 + 2 * i..42 + 2 * i].copy_from_slice(&size.to_le_bytes());
    }
    nifti1[70..72].copy_from_slice(&2i16.to_le_bytes());
    nifti1[344..348].copy_from_slice(b"n+1\0");
    let mut nifti2 = vec![0u8; 600];
    nifti2[0..4].copy_from_slice(&540i32.to_le_bytes());
    nifti2[4..8].copy_from_slice(b"n+2\0");
    nifti2[12..14].copy_from_slice(&64i16.to_le_bytes());
    for (i, size) in [3i64, 1_000_000, 1_000_000, 1_000_000].iter().enumerate() {
        nifti2[16 + 8 * i..24 + 8 * i].copy_from_slice(&size.to_le_bytes());
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, &nifti1).unwrap();
    let nrrd = |encoding: &str| {
        format!(
            "NRRD0004\ntype: double\ndimension: 3\nsizes: 9999 9999 99\nendian: little\nencoding: {encoding}\n\n1 2 3"
        )
    };
    let mha = "NDims = 3\nDimSize = 9999 9999 99\nElementType = MET_DOUBLE\nCompressedData = True\nElementDataFile = LOCAL\n12";
    // 65500 x 65500 pixels of 16 bit, in a file without data.
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let chunk = [&b"IHDR"[..], &65500u32.to_be_bytes(), &65500u32.to_be_bytes(), &[16, 0, 0, 0, 0]].concat();
    png.extend(13u32.to_be_bytes());
    png.extend(&chunk);
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    png.extend(crc.sum().to_be_bytes());
    png.extend([0, 0, 0, 9]);
    png.extend(b"IDAT123456789");
    vec![
        ("32767 a side.nii", nifti1),
        ("a million a side.nii", nifti2),
        ("32767 a side.nii.gz", packed.finish().unwrap()),
        ("raw.nrrd", nrrd("raw").into()),
        ("packed.nrrd", nrrd("gzip").into()),
        ("text.nrrd", nrrd("ascii").into()),
        ("hex.nrrd", nrrd("hex").into()),
        ("packed.mha", mha.into()),
        ("plain.png", png),
        ("plain.tif", tiff_claiming(60_000)),
    ]
}

/// A TIFF of one uncompressed 16-bit page with this side and 4 bytes of data.
fn tiff_claiming(side: u32) -> Vec<u8> {
    let tags: [(u16, u32); 8] =
        [(256, side), (257, side), (258, 16), (259, 1), (262, 1), (273, 8), (278, side), (279, 4)];
    let mut file =
        [&b"II*\0"[..], &12u32.to_le_bytes(), &[1, 2, 3, 4], &(tags.len() as u16).to_le_bytes()].concat();
    for (tag, value) in tags {
        file.extend(
            [&tag.to_le_bytes()[..], &4u16.to_le_bytes(), &1u32.to_le_bytes(), &value.to_le_bytes()].concat(),
        );
    }
    file.extend([0; 4]);
    file
}

#[test]
fn hostile_headers_are_refused_before_allocation() {
    let folder = tempfile::tempdir().unwrap();
    let before = peak_bytes();
    for (name, content) in hostile() {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = read(&path).err().unwrap_or_else(|| panic!("{name} was read")).to_string();
        assert!(
            ["cannot hold", "ends after", "more than any file"].iter().any(|e| error.contains(e)),
            "{error}"
        );
    }
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        // Threads of the test harness reserve some; the smallest claim is 7 GB.
        assert!(
            after - before < 1 << 30,
            "{} bytes were reserved for voxels that are not there",
            after - before
        );
    }
}

#[test]
fn a_volume_is_read_into_one_allocation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.nii.gz");
    let values: Vec<i16> = (0..10_000).collect();
    write(&path, &Volume::new(Geometry::axis_aligned([10, 50, 20], [1.0; 3]), values.clone())).unwrap();
    let voxels = read(&path).unwrap().voxels;
    assert_eq!(voxels, i16::wrap(values));
    let galen_core::Voxels::I16(v) = voxels else { unreachable!() };
    // The 352 bytes of the header were inflated into the same vector, and nothing else was.
    assert_eq!(v.capacity(), 10_000 + 352 / 2);
}
