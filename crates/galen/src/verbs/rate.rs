//! `galen verify rate`: pictures judged by people, blind.

use crate::rate::{Answers, Study, serve, summary};
use crate::session::{Exit, Session};
use comfy_table::Table;
use galen_core::Result;
use std::path::PathBuf;

/// Have people judge pictures: side by side or on a scale, blind and shuffled, in the browser of this machine.
///
/// A study is a TOML file; every method needs a picture (PNG, JPEG, SVG) of every case, in files of the same names:
///
///   title = "Kidneys"
///   kind = "pairs"                     # or "opinion": one picture, a mark from 1 to scale
///   question = "Which outline would you rather use?"
///   seed = 0                           # of order and sides; scale = 5 for opinions
///   method = [                         # the picture folders of `galen verify` fit
///     { name = "A", pictures = "picturesA" },
///     { name = "B", pictures = "picturesB" },
///   ]
///
/// Keys: 1, 0, 2 or the arrows for left, equal, right; 1 to 9 for marks; b goes back. Each answer is saved at once in
/// --out, so raters can stop and come back under the same name; several can rate, one after another or at once.
/// With --results, prints wins or mean opinions with intervals, and how far the raters agree.
///
/// Examples:
///   galen verify rate study.toml --out answers.csv
///   galen verify rate study.toml --out answers.csv --results
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Study (TOML)
    study: PathBuf,
    /// Answers (CSV), read when they are there
    #[arg(long, short)]
    out: PathBuf,
    /// Port on 127.0.0.1 [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Print what the raters said instead of serving forms
    #[arg(long)]
    results: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    let study = Study::read(&arguments.study)?;
    let mut answers = Answers::open(&arguments.out, &study)?;
    if !arguments.results {
        serve(&study, &mut answers, arguments.port, session)?;
        return Ok(Exit::Done);
    }
    let found = summary(&study, &answers, 0);
    session.document(&found)?;
    let mut table = Table::new();
    table.set_header(["method", "mean", "95 % interval over cases", "n", "sign test p"]);
    for method in &found.methods {
        let interval = match method.interval {
            [Some(low), Some(high)] => format!("{low:.3} to {high:.3}"),
            _ => "-".into(),
        };
        let p = method.p.map_or_else(|| "-".into(), |p| format!("{p:.4}"));
        table.add_row([
            method.method.clone(),
            format!("{:.3}", method.mean),
            interval,
            method.n.to_string(),
            p,
        ]);
    }
    session.say(format!("{table}\n{} answers of {} raters", found.answers, found.raters));
    found.agreement.iter().for_each(|(id, value)| session.say(format!("{id}: {value:.3}")));
    Ok(Exit::Done)
}
