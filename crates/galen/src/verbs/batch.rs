//! `galen batch`: a job file that runs a verb over a cohort in parts, for a cluster.

use crate::session::{Exit, Session};
use galen_core::{Error, Result};
use serde_json::json;

/// Print a job file that runs a verb over a cohort, one part per job.
///
/// The command behind `--` is run once per part with `--shard I/N --continue` added, so it must be one that takes
/// them (galen predict). Killed or preempted jobs go on where they were when they are started again.
///
/// Examples:
///   galen batch slurm --parts 8 --memory 8G --time 4:00:00 -- predict imagesTs/ --model exported.zip --out preds/ > job.sh
///   galen batch kubernetes --parts 8 --image registry/galen:1 --volume data-claim -- predict /data/in --model /data/m.zip --out /data/out | kubectl create -f -
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// Scheduler
    #[arg(value_enum)]
    engine: Engine,
    /// Number of parts, one job each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    parts: u32,
    /// Processor cores per job
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    cores: u32,
    /// Memory per job, such as 8G
    #[arg(long, default_value = "8G", value_name = "SIZE", value_parser = size)]
    memory: String,
    /// Slurm: time limit, such as 4:00:00
    #[arg(long, value_name = "H:MM:SS", value_parser = time)]
    time: Option<String>,
    /// Slurm: partition
    #[arg(long, value_name = "NAME", value_parser = word)]
    partition: Option<String>,
    /// Kubernetes: container image that holds galen
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Kubernetes: persistent volume claim that is mounted at /data
    #[arg(long, value_name = "CLAIM", value_parser = word)]
    volume: Option<String>,
    /// Name of the job
    #[arg(long, default_value = "galen", value_parser = word)]
    name: String,
    /// The verb and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    Slurm,
    Kubernetes,
}

/// A name that every scheduler takes.
fn word(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let good =
        text.len() <= 52 && text.chars().all(fine) && ends(text.chars().next()) && ends(text.chars().last());
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no name of small letters, digits and hyphens"))
    }
}

fn size(text: &str) -> Result<String, String> {
    let digits = text.strip_suffix(['G', 'M']).unwrap_or_default();
    let good = digits.parse::<u32>().is_ok_and(|n| n > 0);
    if good { Ok(text.to_owned()) } else { Err(format!("`{text}` is no size such as 8G or 800M")) }
}

fn time(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let numbers = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if parts.len() == 3 && numbers {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no time such as 4:00:00"))
    }
}

/// Runs the verb.
pub fn run(arguments: &Arguments, session: &Session) -> Result<Exit> {
    check(arguments)?;
    let text = match arguments.engine {
        Engine::Slurm => slurm(arguments),
        Engine::Kubernetes => kubernetes(arguments)?,
    };
    session.document(&json!({ "engine": format!("{:?}", arguments.engine).to_lowercase(), "job": text }))?;
    session.say(text.trim_end());
    Ok(Exit::Done)
}

fn check(arguments: &Arguments) -> Result<()> {
    let bad = |place: &str, what: &str, remedy: &str| Err(Error::input(place, what, remedy));
    let verb = arguments.command.first().map(String::as_str);
    if !matches!(verb, Some("predict" | "segment")) {
        return bad(
            "galen batch",
            "only `predict` can be shared by parts",
            "write `-- predict ...` at the end",
        );
    }
    if arguments.command.iter().any(|word| word == "--shard" || word.starts_with("--shard=")) {
        return bad("galen batch", "`--shard` is added by it", "leave --shard out of the command");
    }
    if arguments.engine == Engine::Slurm && (arguments.image.is_some() || arguments.volume.is_some()) {
        return bad("galen batch slurm", "--image and --volume are Kubernetes'", "leave them out");
    }
    if arguments.engine == Engine::Kubernetes {
        if arguments.time.is_some() || arguments.partition.is_some() {
            return bad("galen batch kubernetes", "--time and --partition are Slurm's", "leave them out");
        }
        if arguments.image.is_none() {
            return bad(
                "galen batch kubernetes",
                "no container image",
                "give one that holds galen with --image",
            );
        }
    }
    Ok(())
}

/// An argument as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=,@:%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn command(arguments: &Arguments, part: &str) -> String {
    let words: Vec<String> = arguments.command.iter().map(|word| quoted(word)).collect();
    let goes_on = if arguments.command.iter().any(|word| word == "--continue") { "" } else { " --continue" };
    format!("galen --threads {} {} --shard {part}{goes_on}", arguments.cores, words.join(" "))
}

/// A job array.
fn slurm(arguments: &Arguments) -> String {
    let mut lines = vec![
        "#!/bin/bash".to_owned(),
        format!("#SBATCH --job-name={}", arguments.name),
        format!("#SBATCH --array=1-{}", arguments.parts),
        format!("#SBATCH --cpus-per-task={}", arguments.cores),
        format!("#SBATCH --mem={}", arguments.memory),
        "#SBATCH --requeue".to_owned(),
    ];
    lines.extend(arguments.time.iter().map(|time| format!("#SBATCH --time={time}")));
    lines.extend(arguments.partition.iter().map(|name| format!("#SBATCH --partition={name}")));
    lines.push("set -euo pipefail".to_owned());
    lines.push(command(arguments, &format!("\"$SLURM_ARRAY_TASK_ID\"/{}", arguments.parts)));
    lines.join("\n") + "\n"
}

/// An indexed Job (batch/v1) as JSON, which kubectl reads like YAML.
fn kubernetes(arguments: &Arguments) -> Result<String> {
    // The index counts from 0.
    let part = format!("\"$((JOB_COMPLETION_INDEX + 1))\"/{}", arguments.parts);
    let memory = format!("{}i", arguments.memory);
    let need = json!({ "cpu": arguments.cores.to_string(), "memory": memory });
    let mut container = json!({
        "name": "galen",
        "image": arguments.image,
        "command": ["/bin/sh", "-c", format!("exec {}", command(arguments, &part))],
        "resources": { "requests": need, "limits": { "memory": memory } },
    });
    let mut pod = json!({ "restartPolicy": "Never" });
    if let Some(claim) = &arguments.volume {
        container["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
        pod["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }]);
    }
    pod["containers"] = json!([container]);
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": arguments.name },
        "spec": {
            "completionMode": "Indexed",
            "completions": arguments.parts,
            "parallelism": arguments.parts,
            "backoffLimit": 3 * arguments.parts,
            "template": { "spec": pod },
        },
    });
    serde_json::to_string_pretty(&job).map_err(|error| Error::bug("kubernetes job", error))
}
