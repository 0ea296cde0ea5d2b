//! Chores of the house. `cargo xtask` lists them.

mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask check      what CI runs: format, lints, docs, tidy, tests
cargo xtask tidy       the rules of the house that no compiler holds
cargo xtask slow       the tests that take minutes (kill and resume, whole trainings)
cargo xtask goldens    make the reference files again with the peers' own packages (Python, outside the repo)";

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let done = match verb.as_str() {
        "check" => check(),
        "tidy" => tidy::run(&root()),
        "slow" => run("cargo", &["test", "--release", "--workspace", "--", "--ignored"]),
        "goldens" => run("bash", &["goldens/make.sh"]),
        _ => {
            println!("{USAGE}");
            return if verb.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_path_buf()
}

fn check() -> bool {
    run("cargo", &["fmt", "--all", "--check"])
        && run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        && run("cargo", &["doc", "--workspace", "--no-deps", "--document-private-items"])
        && tidy::run(&root())
        && run("cargo", &["test", "--release"])
}

fn run(program: &str, arguments: &[&str]) -> bool {
    println!("+ {program} {}", arguments.join(" "));
    Command::new(program)
        .args(arguments)
        .current_dir(root())
        .env("RUSTDOCFLAGS", "-D warnings")
        .status()
        .is_ok_and(|status| status.success())
}
