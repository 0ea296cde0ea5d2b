//! Cohorts in parts: lists of scans, shards, and job files whose commands do what they promise.

use crate::house::{House, files};
use galen_kernels::Cpu;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Five scans in `in/`.
fn cohort() -> House {
    let house = House::with_model();
    for case in ["a", "b", "c", "d", "e"] {
        house.scan(&format!("in/{case}_0000.nii.gz"));
    }
    house
}

/// Runs a shell command line in the house with this binary first on the path.
fn shell(house: &House, script: &str, variable: &str, value: &str) {
    let binary = Path::new(env!("CARGO_BIN_EXE_galen")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(house.path()).env("PATH", path).env(variable, value);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn printed(house: &House, arguments: &[&str]) -> String {
    let output = house.galen(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const PREDICT: [&str; 7] = ["predict", "in", "--model", "model", "--out", "it's out", "--no-mirroring"];

#[test]
fn the_parts_of_a_slurm_array_make_the_cohort() {
    let house = cohort();
    let before = ["batch", "slurm", "--parts", "2", "--cores", "1", "--"];
    let script = printed(&house, &[&before[..], &PREDICT].concat());
    assert!(script.starts_with("#!/bin/bash\n") && script.contains("#SBATCH --array=1-2\n"), "{script}");
    let last = script.lines().last().unwrap();
    shell(&house, last, "SLURM_ARRAY_TASK_ID", "1");
    assert_eq!(files(&house.path().join("it's out")), ["a.nii.gz", "c.nii.gz", "e.nii.gz"]);
    shell(&house, last, "SLURM_ARRAY_TASK_ID", "2");
    assert_eq!(files(&house.path().join("it's out")).len(), 5);
}

#[test]
fn the_pods_of_a_kubernetes_job_make_the_cohort() {
    let house = cohort();
    let before = ["batch", "kubernetes", "--parts", "3", "--image", "galen:1", "--volume", "claim", "--"];
    let job: serde_json::Value =
        serde_json::from_str(&printed(&house, &[&before[..], &PREDICT].concat())).unwrap();
    assert_is_a_job(&job);
    assert_eq!((&job["spec"]["completions"], &job["spec"]["completionMode"]), (&3.into(), &"Indexed".into()));
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let command = container["command"][2].as_str().unwrap();
    for index in ["0", "1", "2"] {
        shell(&house, command, "JOB_COMPLETION_INDEX", index);
    }
    assert_eq!(files(&house.path().join("it's out")).len(), 5);
}

/// What batch/v1 asks of a Job, field by field, with the limits of Kubernetes' own reference.
fn assert_is_a_job(job: &serde_json::Value) {
    let keys =
        |value: &serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let only = |value: &serde_json::Value, known: &[&str]| {
        let unknown: Vec<String> =
            keys(value).into_iter().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {value}");
    };
    let name = |value: &serde_json::Value| {
        let text = value.as_str().unwrap();
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!((1..=63).contains(&text.len()) && text.chars().all(fine), "{text}");
        assert!(!text.starts_with('-') && !text.ends_with('-'), "{text}");
    };
    let quantity = |value: &serde_json::Value| {
        let text = value.as_str().unwrap();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        assert!(digits.parse::<u64>().is_ok_and(|n| n > 0), "{text}");
        assert!(["", "m", "Ki", "Mi", "Gi", "Ti"].contains(&&text[digits.len()..]), "{text}");
    };
    only(job, &["apiVersion", "kind", "metadata", "spec"]);
    assert_eq!((&job["apiVersion"], &job["kind"]), (&"batch/v1".into(), &"Job".into()));
    only(&job["metadata"], &["name"]);
    name(&job["metadata"]["name"]);
    let spec = &job["spec"];
    only(spec, &["completionMode", "completions", "parallelism", "backoffLimit", "template"]);
    assert_eq!(spec["completionMode"], "Indexed");
    let count = |key: &str| spec[key].as_u64().unwrap_or_else(|| panic!("{key} is no count: {spec}"));
    assert!(count("completions") > 0 && count("parallelism") <= count("completions"));
    assert!(count("backoffLimit") <= i32::MAX as u64 && count("completions") <= 100_000);
    only(&spec["template"], &["spec"]);
    let pod = &spec["template"]["spec"];
    only(pod, &["restartPolicy", "volumes", "containers"]);
    assert!(["Never", "OnFailure"].contains(&pod["restartPolicy"].as_str().unwrap()));
    let volumes: Vec<&serde_json::Value> = pod["volumes"].as_array().into_iter().flatten().collect();
    for volume in &volumes {
        only(volume, &["name", "persistentVolumeClaim"]);
        name(&volume["name"]);
        name(&volume["persistentVolumeClaim"]["claimName"]);
    }
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    let container = &pod["containers"][0];
    only(container, &["name", "image", "command", "resources", "volumeMounts"]);
    name(&container["name"]);
    assert!(!container["image"].as_str().unwrap().is_empty());
    assert!(container["command"].as_array().unwrap().iter().all(serde_json::Value::is_string));
    only(&container["resources"], &["requests", "limits"]);
    for kind in ["requests", "limits"] {
        let asked = &container["resources"][kind];
        only(asked, &["cpu", "memory"]);
        asked.as_object().unwrap().values().for_each(quantity);
    }
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        only(mount, &["name", "mountPath"]);
        assert!(mount["mountPath"].as_str().unwrap().starts_with('/'));
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount} of no volume");
    }
}

#[test]
fn a_kubernetes_job_has_every_field_that_is_asked_for_and_no_other() {
    let house = House::empty();
    for more in [&[][..], &["--volume", "claim-1"], &["--memory", "800M", "--cores", "1", "--name", "a-b"]] {
        let before = ["batch", "kubernetes", "--parts", "8", "--image", "registry.example/galen:1"];
        let printed = printed(&house, &[&before[..], more, &["--"], &PREDICT].concat());
        assert_is_a_job(&serde_json::from_str(&printed).unwrap());
    }
}

#[test]
fn a_list_names_the_scans() {
    let house = cohort();
    fs::write(
        house.path().join("cases.json"),
        r#"{"first": ["in/a_0000.nii.gz"], "last": ["in/e_0000.nii.gz"]}"#,
    )
    .unwrap();
    let arguments = ["predict", "cases.json", "--model", "model", "--out", "out", "--no-mirroring"];
    printed(&house, &arguments);
    assert_eq!(files(&house.path().join("out")), ["first.nii.gz", "last.nii.gz"]);
}

#[test]
fn memory_is_kept_or_the_bytes_are_named() {
    let house = cohort();
    let run = |memory: &str, out: &str| {
        let arguments = ["predict", "in/a_0000.nii.gz", "--model", "model", "--out", out, "--memory", memory];
        house.galen(&arguments)
    };
    assert!(run("1G", "one.nii.gz").status.success());
    let output = run("20K", "two.nii.gz");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("bytes of memory") && stderr.contains("the limit is 20480"), "{stderr}");
    assert!(!house.path().join("two.nii.gz").exists());
    // The bytes that it names are enough, with the sums in a scratch file, and change nothing.
    let named = stderr.split("needs ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(run(named, "two.nii.gz").status.success());
    let read = |name: &str| fs::read(house.path().join(name)).unwrap();
    assert_eq!(read("one.nii.gz"), read("two.nii.gz"));
}

#[test]
fn precision_is_decided_by_the_first_scan_of_all() {
    let house = cohort();
    let run = |precision: &str, out: &str, shard: &str| -> serde_json::Value {
        let before =
            ["predict", "in", "--model", "model", "--json", "--no-mirroring", "--precision", precision];
        serde_json::from_str(&printed(&house, &[&before[..], &["--out", out, "--shard", shard]].concat()))
            .unwrap()
    };
    let wide = run("f32", "f32", "1/1");
    assert_eq!(wide["precision"], serde_json::json!({ "activations": "f32", "check": null }));
    assert_eq!(run("bf16", "bf16", "1/1")["precision"]["activations"], "bf16");
    let read = |name: &str| galen_io::read_label_map(&house.path().join(name)).unwrap().values();
    let (a, b) = (read("f32/a.nii.gz"), read("bf16/a.nii.gz"));
    let same = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
    assert!(same > 0.9 && same < 1.0, "an untrained network is near its decision everywhere: {same}");
    // The scan that decides belongs to the other shard.
    let auto = run("auto", "auto", "2/2");
    if Cpu::detected().gains_from_bf16() {
        assert_eq!(auto["precision"]["check"]["case"], "a");
        assert_eq!(auto["precision"]["check"]["same_voxels"], same);
    }
    let chosen = auto["precision"]["activations"].as_str().unwrap();
    assert_eq!(chosen, if same >= 0.999 { "bf16" } else { "f32" });
    assert_eq!(files(&house.path().join("auto")), ["b.nii.gz", "d.nii.gz"]);
    assert_eq!(read("auto/b.nii.gz"), read(&format!("{chosen}/b.nii.gz")));
}

#[test]
fn what_no_job_can_run_is_refused() {
    let house = House::empty();
    for (arguments, word) in [
        (&["batch", "slurm", "--parts", "2", "--", "train", "data"][..], "predict"),
        (&["batch", "slurm", "--parts", "2", "--", "predict", "in", "--shard", "1/2"], "--shard"),
        (&["batch", "kubernetes", "--parts", "2", "--", "predict", "in"], "--image"),
        (&["batch", "slurm", "--parts", "0", "--", "predict", "in"], "parts"),
        (&["batch", "slurm", "--parts", "2", "--memory", "8 G; rm", "--", "predict", "in"], "memory"),
    ] {
        let output = house.galen(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{arguments:?}");
    }
}
