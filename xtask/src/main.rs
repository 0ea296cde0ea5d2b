//! Chores of the house. `cargo xtask` lists them.

mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask check      what CI runs: format, lints, docs, tidy, tests
cargo xtask tidy       the rules of the house that no compiler holds
cargo xtask slow       the tests that take minutes (kill and resume, whole trainings)
cargo xtask vulkan     networks and operations on Burn's backends (needs a Vulkan driver; a software one will do)
cargo xtask sanitize   the kernels' tests under AddressSanitizer, on every path of this machine (needs a nightly toolchain)
cargo xtask goldens    make the reference files again with the peers' own packages (Python, outside the repo)";

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let done = match verb.as_str() {
        "check" => check(),
        "tidy" => tidy::run(&root()),
        "slow" => run("cargo", &["test", "--release", "--workspace", "--", "--ignored"]),
        "vulkan" => vulkan(),
        "sanitize" => sanitize(),
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

/// Each backend by itself, since features of several would be compiled again.
fn vulkan() -> bool {
    let backend = |features: &str| {
        let package = ["-p", "galen-burn", "--features", features];
        let clippy = [&["clippy"], &package[..], &["--all-targets", "--", "-D", "warnings"]].concat();
        run("cargo", &clippy) && run("cargo", &[&["test"], &package[..]].concat())
    };
    backend("flex") && backend("vulkan")
}

/// Unit tests find every available path themselves; the others run once per path.
fn sanitize() -> bool {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let test =
        ["+nightly", "test", "-p", "galen-kernels", "--target", &target, "--target-dir", "target/sanitize"];
    let flags = ("RUSTFLAGS", "-Zsanitizer=address");
    run_with("cargo", &[&test[..], &["--lib"]].concat(), &[flags])
        && ["portable", "avx2", "avx512"].iter().all(|path| {
            run_with("cargo", &[&test[..], &["--test", "all"]].concat(), &[flags, ("GALEN_CPU", path)])
        })
}

fn run(program: &str, arguments: &[&str]) -> bool {
    run_with(program, arguments, &[])
}

fn run_with(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> bool {
    let shown = variables.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>();
    println!("+ {shown}{program} {}", arguments.join(" "));
    Command::new(program)
        .args(arguments)
        .current_dir(root())
        .env("RUSTDOCFLAGS", "-D warnings")
        .envs(variables.iter().copied())
        .status()
        .is_ok_and(|status| status.success())
}
