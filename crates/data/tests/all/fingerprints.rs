//! Fingerprints of whole datasets against nnU-Net's.

use galen_data::{Dataset, fingerprint, read_fingerprint, write_fingerprint};
use std::fs;

#[test]
fn golden_fingerprints_agree() {
    let Some(goldens) = crate::synthetic::goldens() else { return };
    for entry in fs::read_dir(goldens.join("nnunet/datasets")).unwrap() {
        let root = entry.unwrap().path();
        let file = root.join("dataset_fingerprint.json");
        if !file.is_file() || !root.join("raw/dataset.json").is_file() {
            continue;
        }
        let own = fingerprint(&Dataset::open(&root.join("raw")).unwrap(), &|_, _| {}).unwrap();
        let wanted = read_fingerprint(&file).unwrap();
        assert_eq!((&own.shapes_after_crop, &own.spacings), (&wanted.shapes_after_crop, &wanted.spacings));
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1e-3);
        for (channel, wanted) in &wanted.foreground_intensity_properties_per_channel {
            let own = own.foreground_intensity_properties_per_channel[channel];
            for (a, b) in [
                (own.mean, wanted.mean),
                (own.std, wanted.std),
                (own.median, wanted.median),
                (own.min, wanted.min),
                (own.max, wanted.max),
                (own.percentile_00_5, wanted.percentile_00_5),
                (own.percentile_99_5, wanted.percentile_99_5),
            ] {
                assert!(close(a, b), "{}: channel {channel}: {own:?} {wanted:?}", root.display());
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("dataset_fingerprint.json");
        write_fingerprint(&copy, &own).unwrap();
        assert_eq!(read_fingerprint(&copy).unwrap(), own);
    }
}
