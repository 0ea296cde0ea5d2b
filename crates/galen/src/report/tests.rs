//! Promises of the page.

use super::*;
use galen_core::{Geometry, LabelValue};

fn report() -> Report {
    let geometry = Geometry::axis_aligned([4, 8, 8], [3.0, 1.0, 1.0]);
    let scan: Vec<i16> = (0..256).collect();
    let map = |value: u8| {
        LabelMap::new(geometry.clone(), (0..256).map(|i| if i % 8 > 3 { value } else { 0 }).collect())
    };
    let entries = vec![("background".into(), LabelValue::One(0)), ("<liver>".into(), LabelValue::One(1))];
    let estimate =
        Estimate { mean: Some(0.5), low: Some(0.25), high: Some(0.75), n: 2, undefined: 1, infinite: 0 };
    Report {
        title: "Test".into(),
        subtitle: String::new(),
        verdict: Verdict { tone: Tone::Neutral, text: "Fine".into() },
        headline: vec![],
        notes: vec![],
        labels: Labels::new(entries, None).unwrap(),
        pictures: vec![Picture {
            case: "b".into(),
            note: String::new(),
            image: Volume::new(geometry.clone(), scan),
            window: Window::SOFT_TISSUE,
            truth: Some(map(1)),
            prediction: Some(map(1)),
        }],
        metrics: vec![Metric {
            name: "Dice".into(),
            unit: String::new(),
            decimals: 3,
            best: 1.0,
            range: [0.0, 1.0],
            definition: "Overlap.".into(),
        }],
        rows: vec![Row { label: "<liver>".into(), estimates: vec![estimate] }],
        average: None,
        intervals: String::new(),
        cases: [("a", 0.75), ("b", f64::NAN), ("c", 0.25)]
            .map(|(case, v)| CaseRow { case: case.into(), values: vec![vec![v]] })
            .into(),
        figures: Vec::new(),
        charts: vec![],
        facts: vec![],
        next: vec![],
        footer: String::new(),
    }
}

#[test]
fn the_page_holds_everything_and_asks_for_nothing() {
    let text = render(&report()).unwrap();
    assert!(!text.contains("<script") && !text.contains("http://") && !text.contains("https://"));
    assert!(text.contains("&lt;liver&gt;") && !text.contains("<liver>"));
    assert!(text.contains("0.250 to 0.750") && text.contains("1 undefined"));
    assert_eq!(text.matches("data:image/png;base64,").count(), 2);
}

#[test]
fn a_flat_image_with_many_regions_and_no_reference_has_one_view() {
    let mut report = report();
    let mut geometry = Geometry::axis_aligned([1, 6, 9], [1.0, 0.5, 0.5]);
    geometry.flat = true;
    let region = |first: u16| (format!("region {first}"), LabelValue::Region(vec![first, first + 1]));
    let entries = std::iter::once(("background".into(), LabelValue::One(0))).chain((1..40).map(region));
    report.labels = Labels::new(entries.collect(), Some((1..40).collect())).unwrap();
    report.pictures[0].image = Volume::new(geometry.clone(), vec![f32::NAN; 54]);
    report.pictures[0].window = Window::Percentiles;
    report.pictures[0].truth = None;
    report.pictures[0].prediction = Some(LabelMap::new(geometry, (0..54).map(|i| i % 40).collect()));
    let text = render(&report).unwrap();
    assert_eq!(text.matches("data:image/png;base64,").count(), 1);
    assert!(text.contains("<title>region 39, prediction</title>"));
}

#[test]
fn the_same_report_is_the_same_bytes() {
    assert_eq!(render(&report()).unwrap(), render(&report()).unwrap());
}

#[test]
fn the_worst_case_comes_first_and_the_undefined_last() {
    let report = report();
    let order: Vec<&str> = table::worst_first(&report).iter().map(|case| case.case.as_str()).collect();
    assert_eq!(order, ["c", "a", "b"]);
}

#[test]
fn a_map_on_another_grid_is_refused_with_the_case() {
    let mut report = report();
    report.pictures[0].truth = Some(LabelMap::new(Geometry::axis_aligned([1, 1, 1], [1.0; 3]), vec![0]));
    assert!(render(&report).unwrap_err().to_string().starts_with("b: the reference"));
}

#[test]
fn signed_metrics_show_their_sign_and_odd_values_a_symbol() {
    let signed =
        Metric { range: [f64::NEG_INFINITY, f64::INFINITY], decimals: 1, ..report().metrics.remove(0) };
    let values = [1.25, -1.25, 0.01, -0.01, f64::NAN, f64::INFINITY];
    assert_eq!(values.map(|value| signed.format(value)), ["+1.2", "−1.2", "0.0", "0.0", "–", "∞"]);
}

#[test]
fn a_report_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    write(&file, &report()).unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().ends_with("</html>"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(write(&file.join("report.html"), &report()).is_err(), "a file is no folder");
}
