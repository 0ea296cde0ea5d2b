//! Series into volumes: what is sorted, what is refused, what values mean. Files are made by the tests.

use super::dicom_maker::{Maker, study};
use galen_core::Voxels;
use galen_io::dicom::{Reading, Study, Uptake, read_pixels};
use galen_io::{read, read_header};
use std::io::Write;
use std::path::Path;

fn open(folder: &Path) -> Study {
    Study::open(folder, &|_, _| {}).unwrap()
}

/// Slices whose pixels are all their number, 2 mm apart, given from the last to the first.
fn slices(count: usize) -> Vec<Maker> {
    (0..count).rev().map(|k| Maker::slice(k, 2.0 * k as f64, 2, 3, vec![k as u16; 6])).collect()
}

fn why_not(files: &[Maker]) -> String {
    let folder = study(files);
    open(folder.path()).series[0].stack.as_ref().unwrap_err().clone()
}

#[test]
fn slices_are_sorted_by_position_and_the_grid_is_theirs() {
    let folder = study(&slices(5));
    std::fs::write(folder.path().join("readme.txt"), "no image").unwrap();
    let volume = read(folder.path()).unwrap();
    let g = &volume.geometry;
    assert_eq!((g.size, g.spacing, g.origin), ([5, 2, 3], [2.0, 0.5, 0.75], [-10.0, 20.0, 0.0]));
    assert_eq!(g.direction, [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
    assert_eq!(
        volume.channel_f32(0).chunks(6).map(|slice| slice[5]).collect::<Vec<_>>(),
        [0.0, 1.0, 2.0, 3.0, 4.0]
    );
    let header = read_header(folder.path()).unwrap();
    assert_eq!((header.geometry, header.channels, header.voxel_type), (volume.geometry, 1, "uint16"));
    let study = open(folder.path());
    assert_eq!((study.series.len(), study.others, study.series[0].number()), (1, 1, Some(7)));
    assert!(!format!("{:?}", study.series).contains("Secret"), "no name of a patient is kept");
}

#[test]
fn gaps_missing_images_and_turned_slices_are_refused_with_the_reason() {
    let mut gap = slices(6);
    gap.remove(2);
    assert!(
        why_not(&gap).contains("slices 3 and 4 lie 4.000 mm apart, others 2.000 mm: 1 missing"),
        "{}",
        why_not(&gap)
    );
    let mut twice = slices(4);
    twice.push(Maker::slice(9, 2.0, 2, 3, vec![9; 6]));
    assert!(why_not(&twice).contains("2 images lie at 2.00 mm"), "{}", why_not(&twice));
    let mut turned = slices(4);
    turned[1].text(0x0020_0037, b"DS", "0\\1\\0\\0\\0\\-1");
    assert!(why_not(&turned).contains("turned against"));
    let mut sizes = slices(4);
    sizes[0] = Maker::slice(3, 6.0, 3, 2, vec![0; 6]);
    assert!(why_not(&sizes).contains("different sizes"));
    let mut nowhere = slices(2);
    nowhere.iter_mut().for_each(|slice| drop(slice.elements.remove(&0x0020_0032)));
    assert!(why_not(&nowhere).contains("no position"));
    let mut mosaic = slices(2);
    mosaic[0].text(0x0008_0008, b"CS", "ORIGINAL\\PRIMARY\\MOSAIC");
    assert!(why_not(&mosaic).contains("mosaic"));
    let folder = study(&twice);
    assert!(read(folder.path()).unwrap_err().to_string().contains("2 images lie"));
}

#[test]
fn copies_and_localizers_are_left_out_and_said() {
    let mut files = slices(3);
    files.push(files[0].clone());
    let mut localizer = Maker::slice(20, 50.0, 2, 3, vec![0; 6]);
    localizer.text(0x0008_0008, b"CS", "ORIGINAL\\PRIMARY\\LOCALIZER").text(
        0x0020_0037,
        b"DS",
        "0\\1\\0\\0\\0\\-1",
    );
    files.push(localizer);
    let folder = study(&files);
    let study = open(folder.path());
    let stack = study.series[0].stack.as_ref().unwrap();
    assert_eq!(
        (stack.geometry.size[0], &stack.notes[..]),
        (3, &["left out: 1 duplicate".to_owned(), "left out: 1 localizer".to_owned()][..])
    );
}

#[test]
fn images_of_one_position_become_channels_by_what_tells_them_apart() {
    let mut files = Vec::new();
    for k in 0..3 {
        for (b, value) in [(1000.0, 10), (0.0, 0)] {
            let number = files.len();
            let mut slice = Maker::slice(number, k as f64, 2, 3, vec![value + k; 6]);
            slice.double(0x0018_9087, b);
            files.push(slice);
        }
    }
    let folder = study(&files);
    let found = open(folder.path());
    let stack = found.series[0].stack.as_ref().unwrap();
    assert_eq!(
        (stack.moments, &stack.axis[..], &stack.names[..]),
        (2, "b-value", &["b-value 0".to_owned(), "b-value 1000".to_owned()][..])
    );
    let volume = read(folder.path()).unwrap();
    assert_eq!((volume.channels, volume.channel_f32(0)[12], volume.channel_f32(1)[12]), (2, 2.0, 12.0));
    // Without anything that tells them apart, the order of the images does.
    files.iter_mut().for_each(|file| drop(file.elements.remove(&0x0018_9087)));
    let folder = study(&files);
    let volume = read(folder.path()).unwrap();
    assert_eq!((volume.channels, volume.channel_f32(0)[0], volume.channel_f32(1)[0]), (2, 10.0, 0.0));
}

#[test]
fn a_tilted_gantry_is_refused_or_straightened() {
    let tilted: Vec<Maker> = (0..4)
        .map(|k| {
            // A column of bright pixels that is upright in the patient: each slice lies one row further down.
            let mut pixels = vec![0u16; 8 * 3];
            pixels[(6 - k) * 3..(6 - k) * 3 + 3].fill(100);
            let mut slice = Maker::slice(k, 2.0 * k as f64, 8, 3, pixels);
            slice.text(0x0020_0032, b"DS", &format!("0\\{}\\{}", 0.5 * k as f64, 2.0 * k as f64));
            slice
        })
        .collect();
    let folder = study(&tilted);
    assert!(read(folder.path()).unwrap_err().to_string().contains("--untilt"));
    let study = open(folder.path());
    assert!(study.series[0].stack.as_ref().unwrap().notes[0].contains("tilted by 14.0 degrees"));
    let volume = study.series[0].read(Reading { untilt: true, ..Reading::default() }).unwrap();
    let [planes, rows, columns] = volume.geometry.size;
    assert_eq!((planes, rows, columns), (4, 8 + 3, 3));
    let values = volume.channel_f32(0);
    for z in 0..4 {
        let bright: Vec<usize> = (0..rows).filter(|y| values[(z * rows + y) * columns] > 50.0).collect();
        assert_eq!(bright, [6], "slice {z}");
    }
}

#[test]
fn stored_values_become_true_ones() {
    // One slope for all: stored values stay as they are. Several: true values.
    let mut files = slices(2);
    for file in &mut files {
        file.text(0x0028_1053, b"DS", "2").text(0x0028_1052, b"DS", "-5");
    }
    let volume = read(study(&files).path()).unwrap();
    assert_eq!((volume.slope, volume.intercept, volume.channel_f32(0)[6]), (2.0, -5.0, -3.0));
    files[0].text(0x0028_1053, b"DS", "3");
    let volume = read(study(&files).path()).unwrap();
    assert_eq!((volume.channel_f32(0)[0], volume.channel_f32(0)[6]), (-5.0, -2.0));
    assert!(matches!(volume.voxels, Voxels::F32(_)));
    // Twelve signed bits of sixteen; what an overlay left above them does not count.
    let mut signed = Maker::slice(0, 0.0, 1, 3, vec![0x7fff, 0xf800, 0x0001]);
    signed.short(0x0028_0101, 12).short(0x0028_0102, 11).short(0x0028_0103, 1);
    let folder = study(&[signed]);
    assert_eq!(read(&folder.path().join("03.dcm")).unwrap().channel_f32(0), [-1.0, -2048.0, 1.0]);
    let mut xray = Maker::slice(0, 0.0, 1, 3, vec![0, 1, 4095]);
    xray.short(0x0028_0101, 12).short(0x0028_0102, 11).text(0x0028_0004, b"CS", "MONOCHROME1");
    let folder = study(&[xray]);
    let turned = open(folder.path()).series[0]
        .read(Reading { invert_monochrome1: true, ..Reading::default() })
        .unwrap();
    assert_eq!(turned.channel_f32(0), [4095.0, 4094.0, 0.0]);
}

#[test]
fn uptake_is_computed_or_what_it_lacks_is_said() {
    let mut files = slices(2);
    for file in &mut files {
        file.text(0x0008_0060, b"CS", "PT").text(0x0054_1001, b"CS", "BQML").text(
            0x0054_1102,
            b"CS",
            "START",
        );
        file.text(0x0008_0021, b"DA", "20240102").text(0x0008_0031, b"TM", "110000");
        file.text(0x0028_1053, b"DS", "10").text(0x0010_1030, b"DS", "80");
        file.sequence(
            0x0054_0016,
            &[(0x0018_1072, b"TM", "100000"), (0x0018_1074, b"DS", "4e8"), (0x0018_1075, b"DS", "3600")],
        );
    }
    let uptake = Reading { uptake: Some(Uptake::BodyWeight), ..Reading::default() };
    let folder = study(&files);
    let volume = open(folder.path()).series[0].read(uptake).unwrap();
    // One half-life between injection and scan: half of the dose is left.
    assert!((f64::from(volume.channel_f32(0)[6]) - 10.0 * 80_000.0 / 2e8).abs() < 1e-9);
    let lean = Reading { uptake: Some(Uptake::LeanBodyMass), ..uptake };
    assert!(open(folder.path()).series[0].read(lean).unwrap_err().to_string().contains("size is missing"));
    let folder = study(&slices(2));
    assert!(open(folder.path()).series[0].read(uptake).unwrap_err().to_string().contains("not PET"));
}

#[test]
fn colours_become_channels() {
    let mut file = Maker::slice(0, 0.0, 1, 2, Vec::new());
    file.pixels = vec![1, 2, 11, 12, 21, 22];
    for (tag, value) in
        [(0x0028_0002, 3), (0x0028_0006, 1), (0x0028_0100, 8), (0x0028_0101, 8), (0x0028_0102, 7)]
    {
        file.short(tag, value);
    }
    file.text(0x0028_0004, b"CS", "RGB");
    let folder = study(&[file.clone()]);
    let path = folder.path().join("03.dcm");
    let volume = read(&path).unwrap();
    assert_eq!((volume.channels, volume.channel_f32(1)), (3, vec![11.0, 12.0]));
    assert_eq!(read_pixels(&path).unwrap().unwrap().values, Voxels::U8(vec![1, 11, 21, 2, 12, 22].into()));
    // A palette: values 5 and 6 are red and blue.
    let mut file = Maker::slice(0, 0.0, 1, 2, Vec::new());
    file.pixels = vec![5, 6];
    for (tag, value) in [(0x0028_0100, 8), (0x0028_0101, 8), (0x0028_0102, 7)] {
        file.short(tag, value);
    }
    file.text(0x0028_0004, b"CS", "PALETTE COLOR");
    for (k, entries) in [[0xff00u16, 0], [0, 0], [0, 0xff00]].iter().enumerate() {
        let descriptor = [2u16, 5, 16].iter().flat_map(|v| v.to_le_bytes()).collect();
        file.elements.insert(0x0028_1101 + k as u32, (*b"US", descriptor));
        file.elements
            .insert(0x0028_1201 + k as u32, (*b"OW", entries.iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    let folder = study(&[file]);
    let volume = read(&folder.path().join("03.dcm")).unwrap();
    assert_eq!((volume.channel_f32(0), volume.channel_f32(2)), (vec![255.0, 0.0], vec![0.0, 255.0]));
}

#[test]
fn archives_and_directories_are_read_in_place() {
    let files = slices(3);
    let folder = study(&files);
    let zip = folder.path().join("export.zip");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&zip).unwrap());
    for (k, file) in files.iter().enumerate() {
        archive.start_file(format!("../{k}"), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&file.bytes()).unwrap();
    }
    archive.finish().unwrap();
    let zipped = read(&zip).unwrap();
    std::fs::remove_file(&zip).unwrap();
    assert_eq!(read(folder.path()).unwrap(), zipped);
    // A directory whose records point at themselves, outside, and at a file that is not there.
    let mut directory = Maker::slice(0, 0.0, 1, 1, Vec::new());
    directory.elements.clear();
    let mut items = Vec::new();
    for name in ["03.dcm", "10.dcm", "17.dcm", "..\\secret", "GONE"] {
        let padded = if name.len() % 2 == 0 { name.to_owned() } else { format!("{name} ") };
        let next = [&b"\x04\x00\x00\x14UL\x04\x00"[..], &142u32.to_le_bytes()].concat();
        let id =
            [&b"\x04\x00\x00\x15CS"[..], &(padded.len() as u16).to_le_bytes(), padded.as_bytes()].concat();
        items.extend(
            [&b"\xfe\xff\x00\xe0"[..], &((next.len() + id.len()) as u32).to_le_bytes(), &next, &id].concat(),
        );
    }
    directory.text(0x0008_0016, b"UI", "1.2.840.10008.1.3.10");
    directory.elements.insert(0x0004_1220, (*b"SQ", items));
    let path = folder.path().join("DICOMDIR");
    std::fs::write(&path, directory.bytes()).unwrap();
    let study = open(&path);
    assert_eq!((study.series.len(), study.series[0].images(), study.unreadable.len()), (1, 3, 2));
    assert!(study.unreadable[0].to_string().contains("outside"));
    assert_eq!(read(folder.path()).unwrap(), zipped, "the directory among its files is no image");
}
