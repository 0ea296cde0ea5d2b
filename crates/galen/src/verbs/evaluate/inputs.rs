//! Files of the tables in, checked tables of `galen_metrics` out.

use super::columns::Columns;
use galen_core::{Error, Result};
use galen_metrics::agreement::Ratings;
use galen_metrics::classification::{Binary, Multiclass, Multilabel};
use galen_metrics::statistics::{correlation, delong, mcnemar, multiplicity, permutation, wilcoxon};
use galen_metrics::survival::{Predicted, Survival};
use galen_metrics::{Measures, registration};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LABEL: &[&str] = &["label", "y", "y_true", "target"];
const SCORE: &[&str] = &["score", "p", "prob", "probability", "y_score"];

/// Columns `label,score`.
pub fn binary(file: &Path) -> Result<Binary> {
    let table = Columns::read(file)?;
    Binary::new(&table.numbers(LABEL)?, &table.numbers(SCORE)?).map_err(|e| e.within(file.display()))
}

/// The same, with the patients of a column `patient` where there is one.
pub fn binary_of_patients(file: &Path) -> Result<(Binary, Option<Vec<String>>)> {
    let table = Columns::read(file)?;
    let patients = table.has(&["patient"]).then(|| table.texts(&["patient"])).transpose()?;
    Ok((binary(file)?, patients))
}

/// Landmarks `[z, y, x]` in mm: columns `x,y,z`.
pub fn landmarks(file: &Path) -> Result<Vec<[f64; 3]>> {
    let table = Columns::read(file)?;
    let (x, y, z) = (table.numbers(&["x"])?, table.numbers(&["y"])?, table.numbers(&["z"])?);
    Ok((0..x.len()).map(|i| [z[i], y[i], x[i]]).collect())
}

/// Numbers of a displacement field `[3, z, y, x]` in voxels.
pub fn displacements(file: &Path) -> Result<Measures> {
    let array = array(file)?;
    let [3, z, y, x] = array.shape[..] else {
        let what = format!("has the shape {:?}", array.shape);
        return Err(Error::input(file.display(), what, "give [3, z, y, x]: parts along z, y, x in voxels"));
    };
    registration::deformation(&array.values, [z, y, x]).map_err(|error| error.within(file.display()))
}

/// Columns `label,p0,p1,..`.
pub fn multiclass(file: &Path) -> Result<Multiclass> {
    let table = Columns::read(file)?;
    Multiclass::new(&table.numbers(LABEL)?, table.numbered("p")?).map_err(|e| e.within(file.display()))
}

/// Columns `y0,..,s0,..`.
pub fn multilabel(file: &Path) -> Result<Multilabel> {
    let table = Columns::read(file)?;
    Multilabel::new(&table.numbered("y")?, table.numbered("s")?).map_err(|e| e.within(file.display()))
}

/// Labels and scores with the columns that divide the cases.
pub struct Grouped {
    /// 0 or 1.
    pub labels: Vec<f64>,
    /// Probabilities.
    pub scores: Vec<f64>,
    /// Name of each column and the group of each case in it.
    pub attributes: Vec<(String, Vec<String>)>,
}

/// Columns `label,score` and those of `by` (without any: `group`); `bands` cut columns of numbers.
pub fn grouped(file: &Path, by: &[String], bands: &[String]) -> Result<Grouped> {
    let table = Columns::read(file)?;
    let names = if by.is_empty() { vec!["group".to_owned()] } else { by.to_vec() };
    let mut limits = BTreeMap::new();
    for text in bands {
        let wrong = || {
            let what = format!("`{text}` is no column with limits");
            Error::input("--bands", what, "give a column, a colon and rising numbers, e.g. age:40,65")
        };
        let (name, cuts) = text.split_once(':').ok_or_else(wrong)?;
        let cuts: Vec<f64> =
            cuts.split(',').map(|c| c.trim().parse().map_err(|_| wrong())).collect::<Result<_>>()?;
        if cuts.windows(2).any(|pair| pair[0] >= pair[1]) || cuts.iter().any(|cut| !cut.is_finite()) {
            return Err(wrong());
        }
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let what = format!("`{name}` is no column that divides the cases");
            return Err(Error::input("--bands", what, format!("choose from {}", names.join(", "))));
        }
        limits.insert(name.to_lowercase(), cuts);
    }
    let mut attributes: Vec<(String, Vec<String>)> = Vec::new();
    for name in names {
        let column = name.to_lowercase();
        if attributes.iter().any(|(known, _)| *known == column) {
            return Err(Error::input("--by", format!("`{name}` is there twice"), "name each column once"));
        }
        let groups = match limits.get(&column) {
            Some(cuts) => table.numbers(&[&column])?.iter().map(|value| band(*value, cuts)).collect(),
            None => table.texts(&[&column])?,
        };
        if let Some(row) = groups.iter().position(|group| group.is_empty()) {
            let place = format!("{}: row {}", file.display(), row + 1);
            let what = format!("column `{column}` is empty");
            return Err(Error::input(place, what, "write for example unknown, which is a group too"));
        }
        attributes.push((column, groups));
    }
    let (labels, scores) = (table.numbers(LABEL)?, table.numbers(SCORE)?);
    Ok(Grouped { labels, scores, attributes })
}

/// Name of the band that holds a value: a limit belongs to the band above it.
fn band(value: f64, limits: &[f64]) -> String {
    let at = limits.partition_point(|limit| *limit <= value);
    match (at.checked_sub(1).map(|i| limits[i]), limits.get(at)) {
        _ if value.is_nan() => "unknown".into(),
        (None, Some(high)) => format!("below {high}"),
        (Some(low), Some(high)) => format!("{low} to below {high}"),
        (Some(low), None) => format!("{low} and above"),
        (None, None) => "all".into(),
    }
}

/// Columns `time,event,risk[,group]`.
pub fn survival(file: &Path) -> Result<Survival> {
    let table = Columns::read(file)?;
    let groups = table.has(&["group"]).then(|| table.texts(&["group"])).transpose()?.map(|names| {
        let mut all = names.clone();
        all.sort();
        all.dedup();
        names.iter().map(|name| all.partition_point(|other| other < name)).collect()
    });
    Survival::new(
        table.numbers(&["time"])?,
        &table.numbers(&["event"])?,
        table.numbers(&["risk", "score"])?,
        groups,
    )
    .map_err(|e| e.within(file.display()))
}

/// Names of the groups of a survival table, in the order of their numbers; none without groups.
pub fn group_names(file: &Path) -> Result<Vec<String>> {
    let table = Columns::read(file)?;
    let mut names = if table.has(&["group"]) { table.texts(&["group"])? } else { Vec::new() };
    names.sort();
    names.dedup();
    Ok(names)
}

/// One row per case and one column per time: a CSV with the times in its header, or `.npy` with `times`.
pub fn predicted(file: &Path, times: Option<&[f64]>) -> Result<Predicted> {
    if file.extension().is_some_and(|e| e == "npy") {
        let Some(times) = times else {
            return Err(Error::input(file.display(), "says nothing about its times", "add --times t1,t2,.."));
        };
        let array = array(file)?;
        let [_, columns] = array.shape[..] else {
            let what = format!("has {} axes", array.shape.len());
            return Err(Error::input(file.display(), what, "give a matrix: cases x times"));
        };
        if columns != times.len() {
            let what = format!("has {columns} columns for {} times", times.len());
            return Err(Error::input(file.display(), what, "give one time per column with --times"));
        }
        let survival = array.values.chunks(columns.max(1)).map(<[f64]>::to_vec).collect();
        return Ok(Predicted { times: times.to_vec(), survival });
    }
    let table = Columns::read(file)?;
    let mut rows = table.matrix()?;
    // A header of times alone reads as a row of numbers.
    let times = match times {
        Some(times) if rows[0].len() == times.len() => times.to_vec(),
        Some(times) => {
            let what = format!("has {} columns for {} times", rows[0].len(), times.len());
            return Err(Error::input(file.display(), what, "give one time per column with --times"));
        }
        None if table.names().is_empty() => rows.remove(0),
        None => {
            let time = |name: &String| {
                name.trim_start_matches(['t', '=', '_', 's', '(']).trim_end_matches(')').parse::<f64>().ok()
            };
            table.names().iter().rev().take(rows[0].len()).rev().map(time).collect::<Option<_>>().ok_or_else(
                || {
                    Error::input(
                        file.display(),
                        "its header holds no times",
                        "put the times into the first row, or give --times",
                    )
                },
            )?
        }
    };
    Ok(Predicted { times, survival: rows })
}

/// Rows of subjects, columns of raters.
pub fn ratings(file: &Path) -> Result<Ratings> {
    Ratings::new(Columns::read(file)?.matrix()?).map_err(|e| e.within(file.display()))
}

/// Tests of the tables given, each recognised by its columns.
pub fn tests(files: &[PathBuf], seed: u64) -> Result<Measures> {
    let mut m = Measures::default();
    for file in files {
        let table = Columns::read(file)?;
        let within = |error: Error| error.within(file.display());
        if table.names().is_empty() {
            let rows = table.matrix()?;
            match &rows[..] {
                [a, b] if a.len() == 2 && b.len() == 2 => contingency(a[1], b[0], &mut m).map_err(within)?,
                _ if rows.iter().all(|row| row.len() == 1) => {
                    p_values(&rows.concat(), &mut m).map_err(within)?
                }
                _ => {
                    let remedy = "give columns a,b (or label,a,b), a column p, or a 2 x 2 table of counts";
                    return Err(Error::input(file.display(), "is no table that a test here takes", remedy));
                }
            }
        } else if table.has(P_VALUES) {
            p_values(&table.numbers(P_VALUES)?, &mut m).map_err(within)?;
        } else if table.names().len() == 2 && table.has(&["n0", "correct", "right"]) {
            let rows = table.matrix()?;
            let [a, b] = &rows[..] else {
                return Err(Error::input(file.display(), "is no 2 x 2 table", "give two rows of two counts"));
            };
            contingency(a[1], b[0], &mut m).map_err(within)?;
        } else {
            let (a, b) = (table.numbers(&["a"])?, table.numbers(&["b"])?);
            let label = table.has(LABEL).then(|| table.numbers(LABEL)).transpose()?;
            paired(&a, &b, label.as_deref(), seed, &mut m).map_err(within)?;
        }
    }
    Ok(m)
}

const P_VALUES: &[&str] = &["p", "p-value", "p_value", "pvalue"];

fn p_values(p: &[f64], m: &mut Measures) -> Result<()> {
    if let Some(row) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        let what = format!("{} is no p-value", p[row]);
        return Err(Error::input(format!("row {}", row + 1), what, "give numbers in [0, 1]"));
    }
    m.put_many("holm/adjusted", multiplicity::holm(p));
    m.put_many("bh/adjusted", multiplicity::benjamini_hochberg(p));
    Ok(())
}

fn contingency(b: f64, c: f64, m: &mut Measures) -> Result<()> {
    if ![b, c].iter().all(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 1e15) {
        return Err(Error::input(
            "the 2 x 2 table",
            "holds something that is no count",
            "give whole numbers",
        ));
    }
    let (statistic, p) = mcnemar::corrected(b as u64, c as u64);
    m.put("mcnemar/exact/p", mcnemar::exact_p(b as u64, c as u64));
    m.put("mcnemar/chi2 with continuity/stat", statistic);
    m.put("mcnemar/chi2 with continuity/p", p);
    Ok(())
}

fn paired(a: &[f64], b: &[f64], labels: Option<&[f64]>, seed: u64, m: &mut Measures) -> Result<()> {
    if let Some(row) = (0..a.len()).find(|&i| !(a[i].is_finite() && b[i].is_finite())) {
        let what = "a value that is no finite number";
        return Err(Error::input(
            format!("row {}", row + 1),
            what,
            "replace failed cases by the worst score, and say so",
        ));
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    let (statistic, p, effect) = wilcoxon::signed_rank(&differences);
    m.put("wilcoxon/stat", statistic);
    m.put("wilcoxon/p/auto", p);
    m.put("wilcoxon/rank-biserial", effect);
    m.put("permutation/sign-flip/p", permutation::sign_flip(&differences, seed));
    m.put("pearson", correlation::pearson(a, b));
    m.put("spearman", correlation::spearman(a, b));
    m.put("kendall-tau-b", correlation::kendall_tau_b(a, b));
    if a.iter().chain(b).all(|v| *v == 0.0 || *v == 1.0) {
        let count = |x: f64, y: f64| a.iter().zip(b).filter(|(p, q)| (**p, **q) == (x, y)).count() as f64;
        contingency(count(1.0, 0.0), count(0.0, 1.0), m)?;
    }
    if let Some(labels) = labels {
        let labels: Vec<bool> = Binary::new(labels, &vec![0.5; labels.len()])?.labels().to_vec();
        let (difference, z, p) = delong::paired_test(&labels, a, b);
        m.put("delong/auroc-difference", difference);
        m.put("delong/z", z);
        m.put("delong/p", p);
    }
    Ok(())
}

/// An array of numbers.
pub struct Array {
    /// Length per axis.
    pub shape: Vec<usize>,
    /// Values in C order.
    pub values: Vec<f64>,
}

/// Reads a `.npy` file of floats or whole numbers.
pub fn array(file: &Path) -> Result<Array> {
    use npyz::{DType, NpyFile, Order, TypeChar};
    let bytes = std::fs::read(file).map_err(|error| Error::system(file.display(), &error))?;
    let bad =
        |what: String| Error::input(file.display(), what, "save it with numpy.save as float32 or float64");
    let npy = NpyFile::new(&bytes[..]).map_err(|error| bad(format!("is no .npy file ({error})")))?;
    let shape: Vec<usize> = npy.shape().iter().map(|&n| n as usize).collect();
    if npy.order() != Order::C && shape.len() > 1 {
        return Err(bad("is stored in Fortran order".into()));
    }
    let DType::Plain(kind) = npy.dtype() else { return Err(bad("holds records".into())) };
    let cut = |error: std::io::Error| bad(format!("is cut short ({error})"));
    let values = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 8) => npy.into_vec::<f64>().map_err(cut)?,
        (TypeChar::Float, 4) => npy.into_vec::<f32>().map_err(cut)?.into_iter().map(f64::from).collect(),
        (TypeChar::Uint, 1) => npy.into_vec::<u8>().map_err(cut)?.into_iter().map(f64::from).collect(),
        (TypeChar::Uint, 2) => npy.into_vec::<u16>().map_err(cut)?.into_iter().map(f64::from).collect(),
        (TypeChar::Int, 2) => npy.into_vec::<i16>().map_err(cut)?.into_iter().map(f64::from).collect(),
        (TypeChar::Int, 4) => npy.into_vec::<i32>().map_err(cut)?.into_iter().map(f64::from).collect(),
        (TypeChar::Int, 8) => npy.into_vec::<i64>().map_err(cut)?.into_iter().map(|v| v as f64).collect(),
        (TypeChar::Bool, _) => {
            npy.into_vec::<bool>().map_err(cut)?.into_iter().map(|v| f64::from(u8::from(v))).collect()
        }
        _ => return Err(bad(format!("holds values of type {kind}"))),
    };
    Ok(Array { shape, values })
}
