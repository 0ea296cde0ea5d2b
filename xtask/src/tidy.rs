//! Rules that no compiler holds: crate edges, orphan files, names, words, sizes.

use std::path::Path;
use std::process::Command;

/// Which crates of the house each crate may use. An edge that is not here is refused;
/// a new one is a decision and gets a line in ARCHITECTURE.md. `galen` may use all.
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("kernels", &[]),
    ("metrics", &["core", "kernels"]),
    ("prep", &["core", "kernels"]),
    ("io", &["core"]),
    ("data", &["core", "io", "prep"]),
    ("models", &["core", "kernels", "io"]),
    ("burn", &["core", "kernels", "models"]),
    ("infer", &["core", "kernels", "prep", "models"]),
    ("train", &["core", "io", "data", "prep", "metrics", "models", "infer"]),
];

/// Modules named like this hold whatever nobody found a place for.
const NO_PLACE: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

/// Stubs and leftovers; this file is exempt, since it must name them.
const BANNED: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "/root/", "/work/", "FIXME", "XXX"];

/// Dependencies of hundreds of crates that only a feature brings, and no default feature does.
const OPTIONAL: &[&str] = &["burn-tensor", "galen-burn"];

/// Largest tracked file: data and weights stay out of the repository.
const MAX_BYTES: u64 = 200 * 1024;

/// Runs every rule, prints every offence, returns whether there was none.
pub fn run(root: &Path) -> bool {
    let mut offences = Vec::new();
    edges(root, &mut offences);
    for file in tracked(root) {
        look_at(root, &file, &mut offences);
    }
    readme(root, &mut offences);
    for offence in &offences {
        eprintln!("tidy: {offence}");
    }
    println!("tidy: {} offences", offences.len());
    offences.is_empty()
}

fn edges(root: &Path, offences: &mut Vec<String>) {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name").trim_start_matches("galen-");
        heavy(package, name, offences);
        if name == "galen" || name == "xtask" {
            continue;
        }
        let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == name) else {
            offences.push(format!("crate {name} is not in the table of edges (xtask/src/tidy.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // Tests may read files and compare with neighbours; the shipped graph is what counts.
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let target = dependency["name"].as_str().expect("name");
            if let Some(target) = target.strip_prefix("galen-")
                && !allowed.contains(&target)
            {
                offences.push(format!("edge {name} -> {target} is not in the table (xtask/src/tidy.rs)"));
            }
        }
    }
}

/// Nothing heavy comes without being asked for.
fn heavy(package: &serde_json::Value, name: &str, offences: &mut Vec<String>) {
    for dependency in package["dependencies"].as_array().expect("dependencies") {
        let target = dependency["name"].as_str().expect("name");
        if OPTIONAL.contains(&target) && dependency["optional"] != true {
            offences.push(format!("crate {name}: {target} must be optional, or every build compiles it"));
        }
    }
    // Names here are without the prefix of the house.
    if ["burn", "galen"].contains(&name) && !package["features"]["default"].is_null() {
        offences.push(format!("crate {name}: default features would bring Burn into every build"));
    }
}

fn tracked(root: &Path) -> Vec<String> {
    let output =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root).output();
    let list = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    list.lines().map(str::to_owned).collect()
}

fn look_at(root: &Path, file: &str, offences: &mut Vec<String>) {
    let path = root.join(file);
    let Ok(meta) = path.metadata() else { return };
    // The lock lists what any feature may bring; it is neither data nor weights.
    if meta.len() > MAX_BYTES && file != "Cargo.lock" {
        offences.push(format!("{file}: {} KB; data and weights stay outside", meta.len() / 1024));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if file.ends_with(".rs") && NO_PLACE.contains(&stem.as_str()) {
        offences.push(format!("{file}: name it after what it does"));
    }
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    // Tables name files that are not ours.
    if file != "xtask/src/tidy.rs" && !file.ends_with(".tsv") {
        for banned in BANNED {
            if let Some(line) = text.lines().position(|line| line.contains(banned)) {
                offences.push(format!("{file}:{}: `{banned}`", line + 1));
            }
        }
    }
    if file.contains("/src/") && file.ends_with(".rs") {
        orphan(&path, file, &stem, offences);
        if !text.starts_with("//!") {
            offences.push(format!("{file}: begins without a line that says what it is"));
        }
    }
}

/// A source file that no `mod` line names is never compiled, so its tests never run.
fn orphan(path: &Path, file: &str, stem: &str, offences: &mut Vec<String>) {
    if ["main", "lib", "mod"].contains(&stem) || file.contains("/src/bin/") {
        return;
    }
    let folder = path.parent().expect("a file lies in a folder");
    let beside = folder.with_extension("rs");
    let parents = [folder.join("lib.rs"), folder.join("main.rs"), folder.join("mod.rs"), beside];
    let named = parents
        .iter()
        .filter_map(|parent| std::fs::read_to_string(parent).ok())
        .any(|text| text.lines().any(|line| line.trim_end().ends_with(&format!("mod {stem};"))));
    if !named {
        offences.push(format!("{file}: no `mod {stem};` names it, so it is not compiled"));
    }
}

fn readme(root: &Path, offences: &mut Vec<String>) {
    let lines = std::fs::read_to_string(root.join("README.md")).unwrap_or_default().lines().count();
    if !(1..=100).contains(&lines) {
        offences.push(format!("README.md has {lines} lines; between 1 and 100 is the promise"));
    }
}
