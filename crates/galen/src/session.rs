//! What every verb shares: output mode, threads, progress, Ctrl-C.

use galen_core::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a verb ended when it did end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Done,
    /// The input has problems; they were listed.
    Problems,
    /// Some cases failed and were listed; the others are done.
    SomeFailed,
}

/// One run of the binary.
pub struct Session {
    /// Print JSON on stdout instead of text.
    pub json: bool,
    quiet: bool,
    stop: Arc<AtomicBool>,
}

impl Session {
    /// Sets up threads, logging and Ctrl-C.
    pub fn start(json: bool, threads: Option<usize>, quiet: bool, verbose: bool) -> Result<Self> {
        if threads == Some(0) {
            return Err(Error::input("--threads", "0 threads can do no work", "give 1 or more"));
        }
        galen_kernels::Cpu::from_environment()
            .map_err(|what| Error::input("GALEN_CPU", what, "unset it for the fastest"))?;
        let mut pool = rayon::ThreadPoolBuilder::new();
        if let Some(threads) = threads {
            pool = pool.num_threads(threads);
        }
        pool.build_global().map_err(|error| Error::bug("thread pool", error))?;
        let level = if verbose { "info" } else { "warn" };
        let filter = tracing_subscriber::EnvFilter::try_from_env("GALEN_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .without_time()
            .init();
        let (threads, cpu) = (rayon::current_num_threads(), galen_kernels::Cpu::detected().name());
        tracing::info!("{threads} threads, kernels for {cpu}");
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        // A second Ctrl-C ends at once: everything on disk is whole at any moment.
        let handler = move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("galen: stopping after this step (Ctrl-C again: at once)");
        };
        ctrlc::set_handler(handler).map_err(|error| Error::bug("Ctrl-C handler", error))?;
        Ok(Self { json, quiet, stop })
    }

    /// True once the user asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Error when the user asked to stop.
    pub fn check_stop(&self, what: &str) -> Result<()> {
        if self.stopped() { Err(Error::interrupted(what)) } else { Ok(()) }
    }

    /// A bar with time left on a terminal, nothing when quiet; off a terminal, one plain line at the end.
    pub fn progress(&self, what: &str, total: usize) -> Progress {
        let draw = !self.quiet && std::io::stderr().is_terminal();
        let target = if draw { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style =
            ProgressStyle::with_template("{prefix:<22} {bar:32} {pos}/{len} {elapsed} left {eta} {msg}");
        bar.set_style(style.expect("the template is right"));
        bar.set_prefix(what.to_owned());
        Progress { bar, plain: !draw && !self.quiet, what: what.to_owned() }
    }

    /// Says something to a person: stdout, or nothing with `--json`.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.json {
            println!("{}", text.as_ref());
        }
    }

    /// Prints the verb's document with `--json`.
    pub fn document(&self, document: &impl Serialize) -> Result<()> {
        if self.json {
            let text = serde_json::to_string_pretty(document).map_err(|error| Error::bug("json", error))?;
            println!("{text}");
        }
        Ok(())
    }
}

/// Progress of one stage.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    what: String,
}

impl Progress {
    /// Moves to `done`; `total` may still change.
    pub fn at(&self, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }

    /// Shows a short text behind the bar.
    pub fn note(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Prints a line above the bar, or a plain line off a terminal.
    pub fn line(&self, text: &str) {
        if self.plain {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Prints what went wrong on stderr, also when quiet.
    pub fn failure(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Ends the stage.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        if self.plain {
            let seconds = self.bar.elapsed().as_secs_f64();
            eprintln!("{}: {} in {seconds:.1} s", self.what, self.bar.position());
        }
    }
}
