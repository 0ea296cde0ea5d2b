//! `galen verify scaling`: power laws of loss against model size, data and compute.

use super::evaluate::Columns;
use crate::figure::{Axis, Figure, Mark};
use crate::report::{Number, Numbers};
use crate::session::{Exit, Session};
use comfy_table::Table;
use galen_core::{Error, Result};
use galen_metrics::statistics::scaling::{Fit, fit, isoflop_minimum};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Fit loss = floor + scale x size^-exponent to runs, for each of the columns parameters, data and compute.
///
/// Runs are a CSV with the column loss and one or more of those three, or the folder of a `galen verify` of trained
/// models (loss is then 1 - mean Dice of a cell). Robust fit (Huber loss of logarithms, many starts); intervals draw
/// runs. Refused with fewer than three sizes or less than a factor of ten between them. Runs of equal compute and
/// three or more model sizes also give the best size at that compute (IsoFLOP).
///
/// Examples:
///   galen verify scaling runs.csv --out law          (columns parameters,compute,loss)
///   galen verify scaling comparison --out law
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// CSV of runs, or the --out of a comparison of trained models
    runs: PathBuf,
    /// Folder for scaling.html and figures/*.svg
    #[arg(long, short)]
    out: PathBuf,
    /// Draws of runs for the intervals
    #[arg(long, default_value_t = 500, value_name = "N")]
    draws: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

/// What sizes may count.
const SIZES: [(&str, &str); 3] =
    [("parameters", "parameters"), ("data", "training samples"), ("compute", "multiply-adds of training")];

/// A fitted law, for `--json` and the page.
#[derive(Serialize)]
struct Found {
    size: &'static str,
    runs: usize,
    floor: f64,
    floor_interval: [f64; 2],
    scale: f64,
    exponent: f64,
    exponent_interval: [f64; 2],
    /// Ten times the largest size: extrapolated.
    forecast_at: f64,
    forecast: f64,
    forecast_interval: [f64; 2],
}

/// Best model size at a compute.
#[derive(Serialize)]
struct Valley {
    compute: f64,
    parameters: f64,
    loss: f64,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    if !(1..=100_000).contains(&arguments.draws) {
        let what = format!("{} is out of range", arguments.draws);
        return Err(Error::input("--draws", what, "500 is usual, 1 to 100000"));
    }
    let runs = read(&arguments.runs)?;
    let (mut laws, mut figures, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (size, about) in SIZES {
        let Some(values) = runs.get(size) else { continue };
        let pairs: Vec<(f64, f64)> = values.iter().copied().zip(runs["loss"].iter().copied()).collect();
        match fit(&pairs, arguments.draws, arguments.seed) {
            Ok(fit) => {
                figures.push(curve(size, about, &pairs, &fit));
                laws.push(found(size, &pairs, &fit));
            }
            Err(error) => refused.push((size, error)),
        }
    }
    let valleys = valleys(&runs);
    if laws.is_empty() {
        let (size, error) = match refused.into_iter().next() {
            Some(first) => first,
            None => {
                let remedy = "give one or more of parameters, data, compute, and loss";
                return Err(Error::input(arguments.runs.display(), "has no column of sizes", remedy));
            }
        };
        return Err(error.within(size).within(arguments.runs.display()));
    }
    let page = page(&arguments.runs, &laws, &valleys, &figures);
    galen_io::replace_file(&arguments.out.join("scaling.html"), page.as_bytes())?;
    for figure in &figures {
        figure.write(&arguments.out.join("figures"))?;
    }
    let left: Vec<String> = refused.iter().map(|(size, error)| format!("{size}: {error}")).collect();
    session.document(&serde_json::json!({ "laws": laws, "isoflop": valleys, "refused": left }))?;
    let mut table = Table::new();
    table.set_header([
        "loss against",
        "runs",
        "exponent",
        "floor",
        "at ten times the largest (extrapolated)",
    ]);
    let with = |value: f64, [low, high]: [f64; 2]| format!("{value:.4} [{low:.4}, {high:.4}]");
    for law in &laws {
        table.add_row([
            law.size.to_owned(),
            law.runs.to_string(),
            with(law.exponent, law.exponent_interval),
            with(law.floor, law.floor_interval),
            with(law.forecast, law.forecast_interval),
        ]);
    }
    session.say(format!("{table}\n95 % intervals over {} draws of runs", arguments.draws));
    for valley in &valleys {
        session.say(format!(
            "at compute {:.3e} the best size is {:.3e} parameters (loss {:.4})",
            valley.compute, valley.parameters, valley.loss
        ));
    }
    left.iter().for_each(|line| session.say(format!("not fitted: {line}")));
    session.say(format!("page: {}", arguments.out.join("scaling.html").display()));
    Ok(Exit::Done)
}

/// Columns by name; `loss` is among them.
fn read(runs: &Path) -> Result<BTreeMap<&'static str, Vec<f64>>> {
    if runs.is_dir() {
        return cells(runs);
    }
    let table = Columns::read(runs)?;
    let mut columns = BTreeMap::from([("loss", table.numbers(&["loss"])?)]);
    for (size, _) in SIZES {
        if table.has(&[size]) {
            columns.insert(size, table.numbers(&[size])?);
        }
    }
    Ok(columns)
}

/// Cells of a comparison of trained models.
fn cells(folder: &Path) -> Result<BTreeMap<&'static str, Vec<f64>>> {
    let mut columns: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for record in (crate::verify::Out { folder: folder.to_path_buf() }).records()? {
        let dice: Vec<f64> = record
            .cases
            .iter()
            .map(|case| crate::verify::value(&galen_metrics::DICE, case))
            .filter(|v| v.is_finite())
            .collect();
        let loss = 1.0 - dice.iter().sum::<f64>() / dice.len() as f64;
        let values = [
            ("loss", loss),
            ("parameters", record.parameters as f64),
            ("compute", record.training_multiply_adds as f64),
        ];
        values.into_iter().for_each(|(name, value)| columns.entry(name).or_default().push(value));
    }
    Ok(columns)
}

fn found(size: &'static str, runs: &[(f64, f64)], fit: &Fit) -> Found {
    let at = 10.0 * runs.iter().map(|r| r.0).fold(0.0, f64::max);
    Found {
        size,
        runs: runs.len(),
        floor: fit.law.floor,
        floor_interval: fit.interval(|law| law.floor),
        scale: fit.law.scale,
        exponent: fit.law.exponent,
        exponent_interval: fit.interval(|law| law.exponent),
        forecast_at: at,
        forecast: fit.law.at(at),
        forecast_interval: fit.interval(|law| law.at(at)),
    }
}

/// Minima of runs that spent the same.
fn valleys(runs: &BTreeMap<&'static str, Vec<f64>>) -> Vec<Valley> {
    let (Some(compute), Some(parameters)) = (runs.get("compute"), runs.get("parameters")) else {
        return Vec::new();
    };
    // Equal to three digits: budgets are met by whole iterations only.
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (row, spent) in compute.iter().enumerate() {
        groups.entry(format!("{spent:.2e}")).or_default().push(row);
    }
    let one = |rows: &Vec<usize>| {
        let pairs: Vec<(f64, f64)> = rows.iter().map(|&row| (parameters[row], runs["loss"][row])).collect();
        let (parameters, loss) = isoflop_minimum(&pairs)?;
        Some(Valley { compute: compute[rows[0]], parameters, loss })
    };
    let mut all: Vec<Valley> = groups.values().filter_map(one).collect();
    all.sort_by(|a, b| a.compute.total_cmp(&b.compute));
    all
}

/// Runs, law and band, both axes as logarithms of the size; the band goes on to ten times the largest size.
fn curve(size: &str, about: &str, runs: &[(f64, f64)], fit: &Fit) -> Figure {
    let [low, high] = runs.iter().fold([f64::INFINITY, 0.0], |[l, h], r| [r.0.min(l), r.0.max(h)]);
    let (start, measured, end) = (low.log10(), high.log10(), high.log10() + 1.0);
    let steps = (0..=60).map(|i| start + (end - start) * f64::from(i) / 60.0);
    let law = |x: f64| [x, fit.law.at(10f64.powf(x))];
    let band = steps.clone().map(|x| {
        let [low, high] = fit.interval(|law| law.at(10f64.powf(x)));
        [x, low, high]
    });
    let part = |keep: &dyn Fn(f64) -> bool| steps.clone().filter(|x| keep(*x)).map(law).collect::<Vec<_>>();
    Figure {
        name: format!("scaling-{size}"),
        title: format!("Loss against {about}"),
        caption: format!(
            "loss = {:.4} + {:.4} · size^(−{:.4}); band: 95 % over draws of runs; dashed: extrapolated.",
            fit.law.floor, fit.law.scale, fit.law.exponent
        ),
        x: Axis { log: true, ..Axis::within(about, [start, end]) },
        y: Axis::of("loss"),
        marks: vec![
            Mark::Band { points: band.filter(|p| p[1].is_finite()).collect(), colour: 0 },
            Mark::Line {
                name: "law".into(),
                points: part(&|x| x <= measured + 1e-9),
                colour: 0,
                dashed: false,
            },
            Mark::Line {
                name: "extrapolated".into(),
                points: part(&|x| x >= measured - 1e-9),
                colour: 0,
                dashed: true,
            },
            Mark::Dots {
                name: "runs".into(),
                points: runs.iter().map(|(s, l)| [s.log10(), *l]).collect(),
                colour: 1,
                radius: 4.0,
            },
        ],
    }
}

fn page(runs: &Path, laws: &[Found], valleys: &[Valley], figures: &[Figure]) -> String {
    let number = |id: String, value: f64, [low, high]: [f64; 2], about: &str| Number {
        id,
        value: format!("{value:.4} [{low:.4}, {high:.4}]"),
        about: about.into(),
    };
    let mut rows = Vec::new();
    for law in laws {
        let size = law.size;
        rows.push(number(
            format!("{size}: exponent"),
            law.exponent,
            law.exponent_interval,
            "power with which the loss falls",
        ));
        rows.push(number(
            format!("{size}: floor"),
            law.floor,
            law.floor_interval,
            "loss that no size gets below; badly known when the largest size is far above it",
        ));
        rows.push(number(
            format!("{size}: at {:.3e}", law.forecast_at),
            law.forecast,
            law.forecast_interval,
            "ten times the largest size: extrapolated",
        ));
    }
    for valley in valleys {
        rows.push(Number {
            id: format!("best parameters at compute {:.3e}", valley.compute),
            value: format!("{:.3e}", valley.parameters),
            about: format!(
                "vertex of a parabola in ln size among runs of equal compute; loss there {:.4}",
                valley.loss
            ),
        });
    }
    let page = Numbers {
        title: "Scaling laws".into(),
        subtitle: runs.display().to_string(),
        notes: vec!["Laws describe these runs: other data, recipes or tuning give others.".into()],
        rows,
        tables: Vec::new(),
        figures,
    };
    page.html()
}
