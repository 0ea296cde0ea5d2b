//! The `galen` binary: arguments in, calls, printing out. One file per verb in `verbs/`.

mod assembly;
mod dicom;
mod figure;
mod nnunet_roots;
mod phantom;
mod postprocess;
mod precision;
mod probabilities;
mod rate;
mod report;
mod report_data;
mod scans;
mod session;
mod verbs;
mod verify;
mod workspace;

use clap::Parser;
use galen_core::Kind;
use session::Session;
use std::process::ExitCode;

/// From a folder of scans to verified label maps.
///
/// nnU-Net's environment variables are honoured when they are set: nnUNet_raw, nnUNet_preprocessed and
/// nnUNet_results let a dataset or a model be given by name (Dataset004_Hippocampus) or number (4).
///
/// Exit codes: 0 done; 2 bad input or usage; 3 some cases failed, the others are done; 130 stopped; 1 a bug.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    /// Print one JSON document on stdout, and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// Threads to use (default: all cores)
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// No progress bars
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Say on stderr which files, folds and kernels are used
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    verb: verbs::Verb,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let session = match Session::start(arguments.json, arguments.threads, arguments.quiet, arguments.verbose)
    {
        Ok(session) => session,
        Err(error) => return fail(&error),
    };
    match verbs::run(arguments.verb, &session) {
        Ok(session::Exit::Done) => ExitCode::SUCCESS,
        Ok(session::Exit::Problems) => ExitCode::from(2),
        Ok(session::Exit::SomeFailed) => ExitCode::from(3),
        Err(error) => fail(&error),
    }
}

fn fail(error: &galen_core::Error) -> ExitCode {
    eprintln!("galen: {error}");
    ExitCode::from(match error.kind() {
        Kind::Input | Kind::System => 2,
        Kind::Interrupted => 130,
        Kind::Bug => 1,
    })
}
