//! Spellings of the text formats that the writers do not make: detached files, lists, text, hex, skips, spaces.

use galen_core::{Scalar, Volume, Voxels};
use galen_io::{read, write};

/// Writes files into a fresh folder and reads the first.
fn read_of(files: &[(&str, &[u8])]) -> galen_core::Result<Volume> {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    read(&folder.path().join(files[0].0))
}

fn nrrd(fields: &str, data: &[u8]) -> Vec<u8> {
    [
        format!("NRRD0005\n# comment\ntype: int16\ndimension: 3\nsizes: 3 2 1\n{fields}\nkey:=value: 7\n\n")
            .as_bytes(),
        data,
    ]
    .concat()
}

fn six() -> Voxels {
    i16::wrap(vec![1, -2, 3, 256, 5, 6])
}

fn little() -> Vec<u8> {
    [1i16, -2, 3, 256, 5, 6].iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn big() -> Vec<u8> {
    [1i16, -2, 3, 256, 5, 6].iter().flat_map(|v| v.to_be_bytes()).collect()
}

#[test]
fn nrrd_encodings_and_skips() {
    let tail = [&b"rubbish"[..], &little()].concat();
    let cases: &[(&str, Vec<u8>)] = &[
        ("endian: little\nencoding: raw", little()),
        ("endian: big\nencoding: raw", big()),
        ("encoding: text", b"1 -2 3\n256, 5 6\n".to_vec()),
        ("encoding: text\nbyte skip: 7", b"rubbish1 -2 3\n256, 5 6\n".to_vec()),
        ("endian: big\nencoding: hex", b"0001FFfe 0003\n0100 0005 0006".to_vec()),
        ("endian: little\nencoding: raw\nbyte skip: 7", tail.clone()),
        ("endian: little\nencoding: raw\nbyteskip: -1", tail.clone()),
        ("endian: little\nencoding: raw\nline skip: 2\nbyte skip: 7", [&b"one\ntwo\n"[..], &tail].concat()),
    ];
    for (fields, data) in cases {
        let volume = read_of(&[("a.nrrd", &nrrd(fields, data))]).unwrap();
        assert_eq!(volume.voxels, six(), "{fields}");
        assert_eq!(volume.geometry.size, [1, 2, 3]);
    }
}

#[test]
fn nrrd_in_several_files() {
    let (one, two) = (little()[..6].to_vec(), little()[6..].to_vec());
    for place in ["data file: LIST\nx.raw\ny.raw", "data file: %02d.raw 8 9 1"] {
        let header = nrrd(&format!("endian: little\nencoding: raw\n{place}"), b"");
        // The list runs to the end of the header, so it comes last.
        let header = String::from_utf8(header).unwrap().replace("key:=value: 7\n", "");
        let files: [(&str, &[u8]); 5] = [
            ("a.nhdr", header.as_bytes()),
            ("x.raw", &one),
            ("y.raw", &two),
            ("08.raw", &one),
            ("09.raw", &two),
        ];
        assert_eq!(read_of(&files).unwrap().voxels, six(), "{place}");
    }
    // A comment that only mentions a list.
    let commented = nrrd("# LISTED by the scanner\nendian: little\nencoding: raw\ndata file: x.raw", b"");
    assert_eq!(read_of(&[("a.nhdr", &commented), ("x.raw", &little())]).unwrap().voxels, six());
    let missing = read_of(&[("a.nhdr", &nrrd("endian: little\nencoding: raw\ndata file: no.raw", b""))]);
    assert!(missing.unwrap_err().to_string().contains("no.raw"));
}

#[test]
fn nrrd_spaces_turn_to_lps() {
    for (space, flip) in
        [("left-posterior-superior", [1.0, 1.0]), ("RAS", [-1.0, -1.0]), ("LAS", [1.0, -1.0])]
    {
        let fields = format!(
            "encoding: raw\nendian: little\nspace: {space}\nspace origin: (10,20,30)\nspace directions: (0,2,0) (3,0,0) (0, 0, 4)"
        );
        let g = read_of(&[("a.nrrd", &nrrd(&fields, &little()))]).unwrap().geometry;
        assert_eq!(
            (g.spacing, g.origin),
            ([4.0, 3.0, 2.0], [10.0 * flip[0], 20.0 * flip[1], 30.0]),
            "{space}"
        );
        assert_eq!(g.direction, [[0.0, 0.0, 1.0], [flip[0], 0.0, 0.0], [0.0, flip[1], 0.0]], "{space}");
    }
}

#[test]
fn nrrd_axes_without_direction_are_channels() {
    let fields = "encoding: raw\nendian: little\nspace dimension: 2\nspace directions: none (1,0) (0,1)";
    let colours = read_of(&[("a.nrrd", &nrrd(fields, &little()))]).unwrap();
    assert_eq!((colours.channels, colours.geometry.size, colours.geometry.flat), (3, [1, 1, 2], true));
    assert_eq!(colours.voxels, i16::wrap(vec![1, 256, -2, 5, 3, 6]));
    let kinds =
        read_of(&[("a.nrrd", &nrrd("encoding: raw\nendian: little\nkinds: domain domain list", &little()))]);
    assert_eq!(kinds.unwrap().geometry.size, [1, 2, 3]);
}

fn metaimage(fields: &str, place: &str, data: &[u8]) -> Vec<u8> {
    let header = format!(
        "ObjectType = Image\nNDims = 3\nDimSize = 3 2 1\nElementType = MET_SHORT\n{fields}ElementDataFile = {place}\n"
    );
    [header.as_bytes(), data].concat()
}

#[test]
fn metaimage_spellings() {
    let cases: &[(&str, Vec<u8>)] = &[
        ("", little()),
        ("BinaryDataByteOrderMSB = True\n", big()),
        ("ElementByteOrderMSB = True\n", big()),
        ("BinaryData = False\n", b"1 -2 3 256 5 6".to_vec()),
        ("HeaderSize = -1\n", [&b"rubbish"[..], &little()].concat()),
    ];
    for (fields, data) in cases {
        assert_eq!(
            read_of(&[("a.mha", &metaimage(fields, "LOCAL", data))]).unwrap().voxels,
            six(),
            "{fields}"
        );
        assert_eq!(
            read_of(&[("a.mhd", &metaimage(fields, "b.raw", b"")), ("b.raw", data)]).unwrap().voxels,
            six()
        );
    }
    let halves = [&little()[..6], &little()[6..]];
    for place in ["LIST\nb1.raw\nb2.raw", "b%d.raw 1 2 1", "b%d.raw 1 2"] {
        let header = metaimage("", place, b"");
        let files: [(&str, &[u8]); 3] = [("a.mhd", &header), ("b1.raw", halves[0]), ("b2.raw", halves[1])];
        assert_eq!(read_of(&files).unwrap().voxels, six(), "{place}");
    }
}

#[test]
fn metaimage_grid_and_channels() {
    let fields = "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nPosition = 7 8 9\nElementSpacing = 0.5 0.6 0.7\n";
    let g = read_of(&[("a.mha", &metaimage(fields, "LOCAL", &little()))]).unwrap().geometry;
    assert_eq!((g.spacing, g.origin), ([0.7, 0.6, 0.5], [7.0, 8.0, 9.0]));
    assert_eq!(g.direction, [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    let two = String::from_utf8(metaimage("ElementNumberOfChannels = 2\n", "LOCAL", b"")).unwrap();
    let two = [two.replace("3 2 1", "3 1 1").as_bytes(), &little()].concat();
    let two = read_of(&[("a.mha", &two)]).unwrap();
    assert_eq!((two.channels, two.voxels), (2, i16::wrap(vec![1, 3, 5, -2, 256, 6])));
}

/// A NIfTI-1 file of this module's six voxels, changed by `edit`.
fn nifti(edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.nii");
    let geometry = galen_core::Geometry::axis_aligned([1, 2, 3], [1.0, 2.0, 3.0]);
    write(&path, &Volume::new(geometry, vec![1i16, -2, 3, 256, 5, 6])).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    edit(&mut bytes);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[test]
fn nifti_pairs_extensions_members_and_scaling() {
    let pair = nifti(|b| {
        put(b, 344, b"ni1\0");
        put(b, 108, &0f32.to_le_bytes());
    });
    assert_eq!(read_of(&[("a.hdr", &pair[..348]), ("a.img", &little())]).unwrap().voxels, six());

    let extended = nifti(|b| {
        put(b, 108, &368f32.to_le_bytes());
        b.splice(352..352, [0; 16]);
    });
    assert_eq!(read_of(&[("a.nii", &extended)]).unwrap().voxels, six());

    let pack = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, bytes).unwrap();
        packed.finish().unwrap()
    };
    let whole = nifti(|_| ());
    let members: Vec<u8> = whole.chunks(50).flat_map(pack).collect();
    assert_eq!(read_of(&[("a.nii.gz", &members)]).unwrap().voxels, six());

    for (slope, intercept, want) in [
        (0.0, 5.0, (1.0, 0.0)),
        (f32::NAN, f32::NAN, (1.0, 0.0)),
        (f32::INFINITY, 0.0, (1.0, 0.0)),
        (2.0, -1.0, (2.0, -1.0)),
    ] {
        let scaled = nifti(|b| {
            put(b, 112, &slope.to_le_bytes());
            put(b, 116, &intercept.to_le_bytes());
        });
        let volume = read_of(&[("a.nii", &scaled)]).unwrap();
        assert_eq!((volume.slope, volume.intercept), want, "{slope}");
    }
}

#[test]
fn nifti_types_that_are_no_image_are_named() {
    for (code, name) in
        [(32i16, "complex"), (1792, "complex"), (1536, "128-bit"), (1, "one bit"), (77, "unknown")]
    {
        let error =
            read_of(&[("a.nii", &nifti(|b| put(b, 70, &code.to_le_bytes())))]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let colours = nifti(|b| {
        put(b, 70, &128i16.to_le_bytes());
        put(b, 40, &[3i16, 2, 2, 1].map(i16::to_le_bytes).concat());
    });
    let volume = read_of(&[("a.nii", &colours)]).unwrap();
    assert_eq!((volume.channels, volume.voxels.type_name()), (3, "uint8"));
    assert_eq!(volume.voxels, u8::wrap(vec![1, 255, 0, 0, 0, 3, 1, 6, 254, 0, 5, 0]));
}

/// Transforms of one header as ITK 5.4 (SimpleITK 2.5.7) chose between them: codes, then direction of x and origin.
#[test]
fn golden_nifti_transforms_are_chosen_as_itk_chooses() {
    let qform = ([-0.74, -0.5964, -0.3109], [-1.0, -2.0, 3.0]);
    let sform = ([-0.9553, -0.2955, 0.0], [-10.0, -20.0, 30.0]);
    let none = ([1.0, 0.0, 0.0], [0.0; 3]);
    for (q, s, shear, (x, origin)) in [
        (0i16, 0i16, 0.0f32, none),
        (0, 1, 0.0, sform),
        (0, 4, 0.0, sform),
        (1, 0, 0.0, qform),
        (1, 1, 0.0, sform),
        (2, 1, 0.0, sform),
        (1, 2, 0.0, qform),
        (2, 4, 0.0, qform),
        (1, 1, 0.1, qform),
    ] {
        let bytes = nifti(|b| {
            put(b, 76, &[1.0f32, 0.9, 1.1, 2.5].map(f32::to_le_bytes).concat());
            put(b, 252, &q.to_le_bytes());
            put(b, 254, &s.to_le_bytes());
            put(b, 256, &[0.1f32, 0.2, 0.3, 1.0, 2.0, 3.0].map(f32::to_le_bytes).concat());
            let (c, n) = (0.3f32.cos(), 0.3f32.sin());
            let rows =
                [0.9 * c, -1.1 * n + shear, 0.0, 10.0, 0.9 * n, 1.1 * c, 0.0, 20.0, 0.0, 0.0, 2.5, 30.0];
            put(b, 280, &rows.map(f32::to_le_bytes).concat());
        });
        let g = read_of(&[("a.nii", &bytes)]).unwrap().geometry;
        assert!(
            g.direction[2].iter().zip(x).all(|(a, b)| (a - b).abs() < 1e-4),
            "{q} {s}: {:?}",
            g.direction
        );
        assert_eq!((g.origin, g.spacing), (origin, [2.5, f64::from(1.1f32), f64::from(0.9f32)]), "{q} {s}");
    }
}

#[test]
fn nifti_units_are_scaled_to_millimetres() {
    for (unit, factor) in [(1u8, 1e3), (2, 1.0), (3, 1e-3), (0, 1.0)] {
        let g = read_of(&[("a.nii", &nifti(|b| b[123] = unit))]).unwrap().geometry;
        assert_eq!(g.spacing, [factor, 2.0 * factor, 3.0 * factor]);
    }
}

#[test]
fn a_missing_half_of_a_pair_is_named() {
    let header = nifti(|b| put(b, 344, b"ni1\0"));
    let error = read_of(&[("scan.hdr", &header[..348])]).unwrap_err().to_string();
    assert!(error.contains("scan.img"), "{error}");
}
