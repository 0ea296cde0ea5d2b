//! `galen verify`: methods compared under one protocol.

use crate::session::{Exit, Session};
use crate::verify::{
    Board, Cells, Cost, Field, Kind, Leaderboard, Out, Protocol, Record, board_of_predictions, cases_csv,
    csv, figures, latex, page, picture, quoted, terminal,
};
use galen_core::{Error, Result};
use serde_json::json;
use std::path::PathBuf;

/// Compare methods under one protocol: models x datasets x folds, or predictions made elsewhere.
///
/// A protocol is a TOML file. Networks trained here (same splits, preprocessing, patch and iterations for all; `setup` also
/// takes planner, bootstrap, patch, batch and mirror):
///
///   title = "Widths"
///   kind = "train"
///   setup = { configuration = "3d_fullres", iterations = 500, folds = [0, 1] }
///   dataset = [{ name = "Hippocampus", path = "data/Dataset004_Hippocampus" }]
///   model = [
///     { name = "plain 16", network = "PlainConvUNet", features = [16, 32, 64] },
///     { name = "residual", network = "ResidualEncoderUNet", depth = [1, 2, 2, 2] },
///     { name = "slices", configuration = "2d", batch = 12 },     # a patch of its own: that of the plan, or patch = ..
///   ]
///
/// Predictions made elsewhere (kind = "masks", "scores" for CSV tables, or "coco"):
///
///   title = "Two tools"
///   kind = "masks"
///   primary = "nsd"
///   dataset = [{ name = "Liver", reference = "labelsTs", labels = "dataset.json" }]
///   method = [
///     { name = "A", predictions = { Liver = "predsA" } },
///     { name = "B", predictions = { Liver = "predsB" } },
///   ]
///
/// Writes into --out: leaderboard.csv, .tex, .html, cases.csv, figures/*.svg and, for
/// trained models, models.csv and costs.csv. What is done is kept: the same command goes on after a kill.
///
/// Examples:
///   galen verify protocol.toml --out comparison
///   galen verify protocol.toml --out shard1 --shard 1/2     (and 2/2 elsewhere)
///   galen verify protocol.toml --out comparison --merge shard1,shard2
///   galen verify rate study.toml --out answers.csv          (people judge pictures: see galen verify rate --help)
///   galen verify scaling comparison --out law               (how the loss falls with size and compute)
#[derive(clap::Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    /// Protocol (TOML)
    #[arg(required = true)]
    protocol: Option<PathBuf>,
    /// Folder for results, tables and page
    #[arg(long, short, required = true)]
    out: Option<PathBuf>,
    /// Run part I of N only; tables are made when all parts are in one folder (see --merge)
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<Shard>,
    /// Take the results of these folders instead of running anything
    #[arg(long, value_delimiter = ',', value_name = "DIRS", conflicts_with = "shard")]
    merge: Vec<PathBuf>,
    #[command(subcommand)]
    other: Option<Other>,
}

/// What verifies without a protocol.
#[derive(clap::Subcommand)]
enum Other {
    Rate(super::rate::Arguments),
    Scaling(super::scaling::Arguments),
}

/// Part of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard {
    /// From 1.
    part: usize,
    of: usize,
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let wrong = || format!("`{text}` is no part: give I/N with I from 1 to N, for example 1/2");
    let (part, of) = text.split_once('/').ok_or_else(wrong)?;
    let (part, of) = (part.trim().parse().map_err(|_| wrong())?, of.trim().parse().map_err(|_| wrong())?);
    if (1..=of).contains(&part) { Ok(Shard { part, of }) } else { Err(wrong()) }
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    match &arguments.other {
        Some(Other::Rate(rate)) => return super::rate::run(rate, session),
        Some(Other::Scaling(scaling)) => return super::scaling::run(scaling, session),
        None => {}
    }
    let (Some(protocol), Some(out)) = (&arguments.protocol, &arguments.out) else {
        return Err(Error::bug("verify", "arguments that are required are not there"));
    };
    let protocol = Protocol::read(protocol)?;
    let out = Out { folder: out.clone() };
    if protocol.kind == Kind::Train {
        return trained(&protocol, arguments, &out, session);
    }
    if arguments.shard.is_some() || !arguments.merge.is_empty() {
        let option = if arguments.shard.is_some() { "--shard" } else { "--merge" };
        let what = "only trained models have parts; predictions are measured in one go";
        return Err(Error::input(option, what, "leave it out"));
    }
    let board = board_of_predictions(&protocol, &out, session)?;
    let masks = protocol.kind == Kind::Masks;
    let link = |field: &Field, method: usize, case: usize| {
        masks.then(|| {
            picture(&field.dataset, &board.methods[method], &field.cases[case]).display().to_string()
        })
    };
    let leaderboard = board.leaderboard();
    write(&board, &leaderboard, &out, &[], &link)?;
    tell(&board, &leaderboard, &out, &[], session)?;
    Ok(if board.failures() > 0 { Exit::SomeFailed } else { Exit::Done })
}

fn trained(protocol: &Protocol, arguments: &Arguments, out: &Out, session: &Session) -> Result<Exit> {
    let cells = Cells::open(protocol, session)?;
    for folder in &arguments.merge {
        let taken = out.take(folder)?;
        session.say(format!("{}: {taken} results taken", folder.display()));
    }
    if arguments.merge.is_empty() {
        let shard = arguments.shard.unwrap_or(Shard { part: 1, of: 1 });
        let own = cells.list.iter().enumerate().filter(|(i, _)| i % shard.of == shard.part - 1);
        for (number, cell) in own {
            let name = format!("{}/{} {}", number + 1, cells.list.len(), cells.name(cell));
            if cells.read(out, cell)?.is_some() {
                session.say(format!("{name}: done before"));
                continue;
            }
            session.check_stop("the same command goes on from here")?;
            session.say(&name);
            cells.run(cell, out, session).map_err(|error| error.within(cells.name(cell)))?;
        }
    }
    let (board, records) = match cells.board(out)? {
        Ok(found) => found,
        Err(missing) if arguments.shard.is_some() => {
            session.document(&json!({ "out": out.folder, "missing": missing }))?;
            let all = cells.list.len();
            session.say(format!(
                "{} of {all} cells are in {}; run the other parts, then merge the folders with --merge",
                all - missing.len(),
                out.folder.display()
            ));
            return Ok(Exit::Done);
        }
        Err(missing) => {
            let what = format!(
                "{} of {} cells have no result: {}",
                missing.len(),
                cells.list.len(),
                missing.join("; ")
            );
            return Err(Error::input(out.folder.display(), what, "run their part, and merge its folder too"));
        }
    };
    let leaderboard = board.leaderboard();
    let links: Vec<Vec<Vec<String>>> = board
        .fields
        .iter()
        .map(|field| (0..board.methods.len()).map(|m| cells.pictures(field, m, &records)).collect())
        .collect();
    let link = |field: &Field, method: usize, case: usize| {
        let number = board.fields.iter().position(|f| f.dataset == field.dataset)?;
        links[number][method].get(case).cloned()
    };
    let about = networks(&board, &records);
    write(&board, &leaderboard, out, &about, &link)?;
    galen_io::replace_file(&out.folder.join("models.csv"), models_csv(&records).as_bytes())?;
    let costs: Vec<(&Record, Cost)> =
        records.iter().filter_map(|r| Some((r, out.read_cost(&r.dataset, &r.model, &r.fold)?))).collect();
    galen_io::replace_file(&out.folder.join("costs.csv"), costs_csv(&costs).as_bytes())?;
    tell(&board, &leaderboard, out, &costs, session)?;
    Ok(Exit::Done)
}

/// Writes everything that must be the same bytes wherever it was computed.
fn write(
    board: &Board,
    leaderboard: &Leaderboard,
    out: &Out,
    about: &[(String, Vec<String>)],
    link: crate::verify::Pictures,
) -> Result<()> {
    let file = |name: &str, text: String| galen_io::replace_file(&out.folder.join(name), text.as_bytes());
    file("leaderboard.csv", csv(board, leaderboard))?;
    file("leaderboard.tex", latex(board, leaderboard))?;
    file("cases.csv", cases_csv(board))?;
    for figure in figures(board, leaderboard) {
        figure.write(&out.folder.join("figures"))?;
    }
    file("leaderboard.html", page(board, leaderboard, about, link))
}

fn tell(
    board: &Board,
    leaderboard: &Leaderboard,
    out: &Out,
    costs: &[(&Record, Cost)],
    session: &Session,
) -> Result<()> {
    let order: Vec<&String> = leaderboard.order.iter().map(|&m| &board.methods[m]).collect();
    let failures: Vec<serde_json::Value> = board
        .fields
        .iter()
        .flat_map(|field| {
            field.failures.iter().zip(&board.methods).flat_map(move |(cases, method)| {
                cases.iter().map(move |(case, reason)| {
                    json!({ "dataset": field.dataset, "method": method, "case": case, "reason": reason })
                })
            })
        })
        .collect();
    session.document(&json!({ "out": out.folder, "order": order, "mean_rank": leaderboard.mean_rank,
        "notes": board.notes, "failures": failures }))?;
    session.say(terminal(board, leaderboard));
    board.notes.iter().for_each(|note| session.say(note));
    for (record, cost) in costs {
        session.say(format!(
            "{}, {}, fold {}: {} parameters, {:.2} G multiply-adds a patch, training {:.1} s, prediction {:.1} s",
            record.dataset,
            record.model,
            record.fold,
            record.parameters,
            record.multiply_adds as f64 / 1e9,
            cost.training_seconds,
            cost.prediction_seconds
        ));
    }
    session.say(format!("page: {}", out.folder.join("leaderboard.html").display()));
    Ok(())
}

/// What each network is, for the page.
fn networks(board: &Board, records: &[Record]) -> Vec<(String, Vec<String>)> {
    let of = |model: &String| {
        let record = records.iter().find(|record| record.model == *model);
        let lines = record.map_or_else(Vec::new, |r| {
            vec![
                format!("{}, patch {:?}, batch {}", r.configuration, r.patch, r.batch),
                format!("{} parameters", r.parameters),
                format!("{:.3} G multiply-adds a patch", r.multiply_adds as f64 / 1e9),
                format!("{:.1} G multiply-adds of training", r.training_multiply_adds as f64 / 1e9),
                format!("{} iterations", r.iterations),
            ]
        });
        (model.clone(), lines)
    };
    board.methods.iter().map(of).collect()
}

fn models_csv(records: &[Record]) -> String {
    let mut text =
        "dataset,model,fold,configuration,parameters,multiply_adds_per_patch,training_multiply_adds,iterations,cases\n"
            .to_owned();
    for r in records {
        text += &format!(
            "{},{},{},{},{},{},{},{},{}\n",
            quoted(&r.dataset),
            quoted(&r.model),
            r.fold,
            r.configuration,
            r.parameters,
            r.multiply_adds,
            r.training_multiply_adds,
            r.iterations,
            r.cases.len()
        );
    }
    text
}

fn costs_csv(costs: &[(&Record, Cost)]) -> String {
    let mut text = "dataset,model,fold,training_seconds,prediction_seconds,training_peak_bytes,\
        prediction_peak_bytes,first_iteration,threads,processor\n"
        .to_owned();
    let bytes = |value: Option<u64>| value.map_or_else(String::new, |bytes| bytes.to_string());
    for (r, cost) in costs {
        text += &format!(
            "{},{},{},{:.3},{:.3},{},{},{},{},{}\n",
            quoted(&r.dataset),
            quoted(&r.model),
            r.fold,
            cost.training_seconds,
            cost.prediction_seconds,
            bytes(cost.training_peak_bytes),
            bytes(cost.prediction_peak_bytes),
            cost.first_iteration,
            cost.machine.threads,
            quoted(cost.machine.processor.as_deref().unwrap_or(""))
        );
    }
    text
}

/// The planner of that name.
pub fn planner(name: &str) -> Result<galen_prep::Planner> {
    let found = <super::plan::PlannerName as clap::ValueEnum>::from_str(name, false);
    found.map(Into::into).map_err(|_| {
        let what = format!("`{name}` is no planner");
        Error::input("setup.planner", what, "choose default, resenc-m, resenc-l or resenc-xl")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!(parse_shard("2/3"), Ok(Shard { part: 2, of: 3 }));
        for wrong in ["0/2", "3/2", "2", "1/0", "a/b", "/"] {
            assert!(parse_shard(wrong).is_err(), "{wrong}");
        }
        assert!(planner("resenc-l").is_ok() && planner("best").is_err());
    }
}
