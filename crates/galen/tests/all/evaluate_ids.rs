//! One door for all numbers: every promised id comes out of `galen evaluate --kind`, whatever the kind.

use crate::house::House;
use galen_core::{Geometry, LabelMap};
use std::fs;

/// Ids that every release must print, by kind.
const PROMISED: &str = include_str!("../../../metrics/tests/goldens/ids.tsv");

/// Input files of a kind, and the arguments that measure them.
fn prepare(house: &House, kind: &str) -> Vec<&'static str> {
    let table = |name: &str, text: &str| fs::write(house.path().join(name), text).unwrap();
    let map = |name: &str, block: [std::ops::Range<usize>; 3]| {
        let size = [6, 9, 9];
        let inside = |i: usize| {
            let at = [i / 81, i / 9 % 9, i % 9];
            u8::from((0..3).all(|axis| block[axis].contains(&at[axis])))
        };
        let map = LabelMap::new(
            Geometry::axis_aligned(size, [2.0, 1.0, 1.0]),
            (0..6 * 81).map(inside).collect::<Vec<u8>>(),
        );
        galen_io::write_label_map(&house.path().join(name), &map).unwrap();
    };
    match kind {
        "seg" | "lesion" => {
            map("r.nii", [1..5, 1..6, 2..7]);
            map("p.nii", [1..5, 2..7, 2..7]);
            vec!["--pred", "p.nii", "--ref", "r.nii"]
        }
        "binary" | "fairness" => {
            table(
                "t.csv",
                "label,score,group\n0,.1,a\n0,.4,b\n1,.35,a\n1,.8,b\n0,.4,a\n1,.4,b\n0,.2,b\n1,.9,a\n",
            );
            vec!["--input", "t.csv"]
        }
        "multiclass" => {
            table("t.csv", "label,p0,p1,p2\n0,.7,.2,.1\n1,.2,.7,.1\n2,.1,.2,.7\n1,.5,.3,.2\n");
            vec!["--input", "t.csv"]
        }
        "multilabel" => {
            table("t.csv", "y0,y1,s0,s1\n1,0,.9,.1\n0,1,.2,.8\n1,1,.4,.6\n");
            vec!["--input", "t.csv"]
        }
        "conformal" => {
            table("t.csv", "label,p0,p1\n0,.7,.3\n1,.2,.8\n0,.6,.4\n1,.4,.6\n");
            vec!["--calibration", "t.csv", "--test", "t.csv", "--alpha", "0.3"]
        }
        "survival" => {
            table(
                "t.csv",
                "time,event,risk,group\n1,1,.9,a\n2,1,.5,b\n3,1,.6,a\n4,0,.1,b\n5,1,.2,a\n6,0,.3,b\n",
            );
            table("s.csv", "1.5,2.5\n.2,.1\n.7,.4\n.6,.5\n.9,.8\n.8,.7\n.7,.7\n");
            vec!["--input", "t.csv", "--survival", "s.csv"]
        }
        "agreement" => {
            table("t.csv", "1,2,1\n2,2,3\n3,4,3\n5,5,4\n");
            vec!["--input", "t.csv"]
        }
        "tests" => {
            table("ab.csv", "a,b\n.1,.2\n.5,.3\n.9,.4\n.7,.8\n");
            table("p.csv", "p\n.01\n.04\n");
            table("n.csv", "50,3\n9,20\n");
            vec!["--input", "ab.csv", "--input", "p.csv", "--input", "n.csv"]
        }
        "text" => {
            let line =
                r#"{"ref": "stable nodule in the right upper lobe", "hyp": "a nodule in the right lobe"}"#;
            table("t.jsonl", line);
            vec!["--input", "t.jsonl"]
        }
        "detection2d" => {
            let target = r#""image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]"#;
            table(
                "gt.json",
                &format!(
                    r#"{{"images": [{{"id": 1}}], "categories": [{{"id": 1}}], "annotations": [{{{target}}}]}}"#
                ),
            );
            table("dt.json", &format!(r#"[{{{target}, "score": 0.5}}]"#));
            vec!["--pred", "dt.json", "--ref", "gt.json"]
        }
        "froc" => {
            table("t.csv", "score,hit\n.9,1\n.8,0\n.7,1\n.3,0\n");
            vec!["--input", "t.csv", "--targets", "3", "--images", "2"]
        }
        "image" => {
            house.array("a.npy", &[12, 13], &|i| (i % 17) as f64 / 17.0);
            house.array("b.npy", &[12, 13], &|i| (i % 19) as f64 / 19.0);
            vec!["--pred", "a.npy", "--ref", "b.npy", "--data-range", "1"]
        }
        "features" => {
            house.array("a.npy", &[12, 3], &|i| (i % 7) as f64);
            house.array("b.npy", &[9, 3], &|i| (i % 5) as f64);
            vec!["--pred", "a.npy", "--ref", "b.npy"]
        }
        other => panic!("no input for {other}"),
    }
}

#[test]
fn every_promised_id_comes_out_of_its_kind() {
    let mut kinds: Vec<&str> = PROMISED.lines().map(|line| line.split('\t').next().unwrap()).collect();
    kinds.dedup();
    assert!(kinds.len() >= 15, "{kinds:?}");
    for kind in kinds {
        let house = House::empty();
        let mut arguments =
            vec!["evaluate", "--kind", kind, "--conventions", "all", "--json", "--definitions"];
        arguments.extend(prepare(&house, kind));
        let output = house.galen(&arguments);
        assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let values = found["values"].as_object().unwrap();
        for id in PROMISED.lines().filter_map(|line| line.strip_prefix(&format!("{kind}\t"))) {
            assert!(values.contains_key(id), "{kind}: {id} is not printed");
        }
        // Every number that is printed is explained.
        assert_eq!(found["definitions"].as_array().unwrap().len(), values.len(), "{kind}");
    }
}
