//! `galen quickstart`: the whole workflow on a built-in phantom, without data, GPU or network.

use super::evaluate::{self, Pair};
use super::plan::table;
use super::train::Screen;
use crate::report::{Picture, Step, Window};
use crate::report_data;
use crate::session::{Exit, Session};
use crate::workspace::{CasesFrom, Workspace};
use galen_core::{Error, Result};
use galen_data::{Dataset, Severity};
use galen_infer::{Options as PredictOptions, Predictor};
use galen_metrics::{Evaluation, Summary};
use galen_models::Bundle;
use galen_prep::Planner;
use galen_prep::resample::TieRule;
use galen_train::{Budget, Options, Outcome, Precision};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The whole workflow on a built-in phantom; ends in an HTML report.
///
/// Makes a synthetic abdomen CT dataset, then imports, checks, plans, trains, predicts and evaluates it.
/// Under five minutes on two cores.
#[derive(clap::Args)]
pub struct Arguments {
    /// New folder for everything
    #[arg(long, short, default_value = "galen-quickstart")]
    out: PathBuf,
    /// Seconds of training
    #[arg(long, default_value_t = 150, value_name = "SECONDS")]
    train_seconds: u64,
    /// Seed of phantom and training
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Begin again in a folder that is already there
    #[arg(long)]
    again: bool,
}

/// Training and test cases of the phantom.
const CASES: (usize, usize) = (20, 5);
/// Files that mark a folder as an earlier quickstart, so that `--again` removes nothing else.
const MARK: &str = ".galen-quickstart";

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let began = Instant::now();
    let out = &arguments.out;
    make_room(out, arguments.again)?;
    session.say("1/6 phantom and import: a synthetic abdomen CT with liver, spleen, kidneys and a lesion");
    let raw = out.join("phantom");
    crate::phantom::write_dataset(&raw, CASES.0, CASES.1, arguments.seed)?;
    let folder = out.join("Dataset900_Phantom");
    galen_data::import_msd(&raw, &folder, false, &|_, _| ())?;
    let dataset = Dataset::open(&folder)?;

    session.say("2/6 check");
    let findings = galen_data::check(&dataset, &|_, _| ());
    if let Some(finding) = findings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(Error::bug("phantom", format!("{}: {}", finding.case, finding.message)));
    }

    session.say("3/6 plan");
    let workspace = Workspace::of(&dataset, None);
    let plans = workspace.plans(&dataset, Planner::Default, session)?;
    session.say(table(&plans)?);

    session.say("4/6 train");
    let split = workspace.splits(&dataset)?.fold("0")?;
    let store =
        workspace.store(&dataset, &plans, "3d_fullres", CasesFrom::Scans(TieRule::default()), session)?;
    let model = out.join("model");
    let options = Options {
        fold: "0".into(),
        budget: Budget::Time(Duration::from_secs(arguments.train_seconds)),
        seed: arguments.seed,
        precision: Precision::F32,
        resume: false,
        out: model.clone(),
        command: std::env::args().collect(),
        pretrained: None,
    };
    let configuration = plans.configuration("3d_fullres")?;
    let mut screen = Screen::new(session);
    let outcome = galen_train::fit(&store, &plans, &configuration, &dataset, &split, &options, &mut screen);
    screen.end();
    let outcome = outcome?;

    session.say("5/6 predict the test scans");
    let pairs = predict(&model, &raw, &dataset, out, session)?;

    session.say("6/6 evaluate");
    let evaluation = evaluate::evaluate(&pairs, &dataset.labels, 1.5, session)?;
    galen_io::replace_file(&out.join("summary.json"), Summary::new(&evaluation).to_json().as_bytes())?;
    session.say(evaluate::table(&evaluation));
    let report = out.join("report.html");
    write_report(&report, &evaluation, &dataset, &outcome, &pairs, began)?;
    session.document(
        &json!({ "report": report, "model": model, "outcome": outcome, "evaluation": evaluation }),
    )?;
    session.say(format!("report: {} ({:.0} s in all)", report.display(), began.elapsed().as_secs_f64()));
    Ok(Exit::Done)
}

fn make_room(out: &Path, again: bool) -> Result<()> {
    let failed = |error: std::io::Error| Error::system(out.display(), &error);
    let used = out.exists() && std::fs::read_dir(out).map_err(failed)?.next().is_some();
    if used && again && out.join(MARK).is_file() {
        std::fs::remove_dir_all(out).map_err(failed)?;
    } else if used {
        let remedy =
            "add --again to begin anew (only in a folder of an earlier quickstart), or choose another --out";
        return Err(Error::input(out.display(), "is not empty", remedy));
    }
    galen_io::replace_file(&out.join(MARK), b"made by galen quickstart\n")
}

fn predict(model: &Path, raw: &Path, dataset: &Dataset, out: &Path, session: &Session) -> Result<Vec<Pair>> {
    let predictor = Predictor::new(&Bundle::open(model)?, &["0".to_owned()], PredictOptions::default())?;
    let progress = session.progress("predict", dataset.test.len());
    let mut pairs = Vec::new();
    for (number, case) in dataset.test.iter().enumerate() {
        session.check_stop("the model is trained; `galen predict` goes on")?;
        let image = dataset.read_image(case)?;
        let prediction = predictor.predict(&image, false, &|_, _| ())?;
        let file = out.join("predictions").join(format!("{}.nii.gz", case.id));
        galen_io::write_label_map(&file, &prediction.labels)?;
        let reference = raw.join("labelsTs").join(format!("{}.nii.gz", case.id));
        pairs.push(Pair { case: case.id.clone(), reference, prediction: file });
        progress.at(number + 1, dataset.test.len());
    }
    progress.finish();
    Ok(pairs)
}

fn write_report(
    file: &Path,
    evaluation: &Evaluation,
    dataset: &Dataset,
    outcome: &Outcome,
    pairs: &[Pair],
    began: Instant,
) -> Result<()> {
    let subtitle =
        "Synthetic abdomen CT, five unseen test cases, one fold of nnU-Net's 3d_fullres configuration";
    let mut report = report_data::from_evaluation("Galen quickstart", subtitle, evaluation, &dataset.labels);
    let ranked = report_data::worst(evaluation);
    let shown =
        [(ranked.last(), "the best of the test cases"), (ranked.first(), "the worst of the test cases")];
    for (case, note) in shown.into_iter().filter_map(|(case, note)| Some((case?, note))) {
        let Some(pair) = pairs.iter().find(|pair| pair.case == case.id) else { continue };
        let Some(scan) = dataset.test.iter().find(|scan| scan.id == case.id) else { continue };
        report.pictures.push(Picture {
            case: case.id.clone(),
            note: note.into(),
            image: dataset.read_image(scan)?,
            window: Window::SOFT_TISSUE,
            truth: Some(galen_io::read_label_map(&pair.reference)?),
            prediction: Some(galen_io::read_label_map(&pair.prediction)?),
        });
    }
    report.charts = report_data::charts(&outcome.folder.join("metrics.jsonl"));
    let fact = |name: &str, value: String| (name.to_owned(), value);
    report.facts = vec![
        (
            "Training".into(),
            vec![
                fact("iterations", outcome.iterations.to_string()),
                fact("batch", outcome.schedule.batch_size.to_string()),
                fact("features", format!("{:?}", outcome.schedule.features)),
                fact("time", format!("{:.0} s", outcome.seconds)),
            ],
        ),
        ("Why this schedule".into(), vec![fact("", outcome.explanation.join(" "))]),
        ("Run".into(), vec![fact("whole workflow", format!("{:.0} s", began.elapsed().as_secs_f64()))]),
    ];
    let step = |why: &str, command: &str| Step { why: why.into(), command: command.into() };
    report.next = vec![
        step("Check a dataset of your own", "galen check data/Dataset001_Mine"),
        step(
            "Train on it for as long as a coffee takes",
            "galen train data/Dataset001_Mine --fold 0 --budget 20m --out runs/mine",
        ),
        step("Segment new scans", "galen predict scans/ --model runs/mine --out labels/"),
        step(
            "Bring a Decathlon dataset",
            "galen import msd Task04_Hippocampus --out data/Dataset004_Hippocampus",
        ),
    ];
    crate::report::write(file, &report)
}
