//! Where a dataset's fingerprint, plans, splits and preprocessed cases lie: one folder, nnU-Net's file names.

use crate::nnunet_roots;
use crate::session::Session;
use galen_core::{Error, Result};
use galen_data::{Dataset, Splits, Store};
use galen_prep::resample::TieRule;
use galen_prep::{DatasetFacts, Fingerprint, Planner, Plans};
use std::path::{Path, PathBuf};

/// Where preprocessed cases come from.
#[derive(Debug, Clone, Copy)]
pub enum CasesFrom<'a> {
    /// From the scans, with the rule by which labels meet on the network's grid.
    Scans(TieRule),
    /// From a folder of cases that nnU-Net preprocessed.
    NnUnet(&'a Path),
}

/// The folder of everything derived from a dataset.
pub struct Workspace {
    /// `DATASET/preprocessed`, or nnU-Net's place for it, unless the user chose another.
    pub folder: PathBuf,
}

impl Workspace {
    /// The workspace of a dataset.
    pub fn of(dataset: &Dataset, chosen: Option<&Path>) -> Self {
        let usual =
            || nnunet_roots::preprocessed(&dataset.root).unwrap_or_else(|| dataset.root.join("preprocessed"));
        Self { folder: chosen.map_or_else(usual, Path::to_path_buf) }
    }

    /// The fingerprint: read when it is there, computed and written when not.
    pub fn fingerprint(&self, dataset: &Dataset, again: bool, session: &Session) -> Result<Fingerprint> {
        let file = self.folder.join("dataset_fingerprint.json");
        if file.exists() && !again {
            let fingerprint = galen_data::read_fingerprint(&file)?;
            if fingerprint.spacings.len() == dataset.training.len() {
                session.say(format!(
                    "fingerprint: read from {} (`galen plan --clean` makes it again)",
                    file.display()
                ));
                return Ok(fingerprint);
            }
        }
        let progress = session.progress("fingerprint", dataset.training.len());
        let fingerprint = galen_data::fingerprint(dataset, &|done, total| progress.at(done, total))?;
        progress.finish();
        galen_data::write_fingerprint(&file, &fingerprint)?;
        Ok(fingerprint)
    }

    /// Plans by one planner, written as `<plans name>.json`.
    pub fn plan(
        &self,
        dataset: &Dataset,
        fingerprint: &Fingerprint,
        planner: Planner,
        gpu_memory_gb: Option<f64>,
    ) -> Result<Plans> {
        let facts = DatasetFacts {
            name: dataset.name.clone(),
            channel_names: dataset.channel_names.clone(),
            planner_classes: dataset.labels.planner_classes(),
            num_training: dataset.num_training,
            reader: dataset.reader_name()?,
        };
        let mut plans = galen_prep::plan(fingerprint, &facts, planner, gpu_memory_gb)?;
        let file = self.plans_file(&plans.plans_name);
        if file.exists() {
            plans.keep_others_of(&read_plans(&file)?);
        }
        galen_data::write_json(&file, &plans)?;
        Ok(plans)
    }

    /// File of the plans of that name.
    pub fn plans_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The plans of a planner: read when they are there, else planned.
    pub fn plans(&self, dataset: &Dataset, planner: Planner, session: &Session) -> Result<Plans> {
        let file = self.plans_file(planner.plans_name());
        if file.exists() {
            tracing::info!("plans: {}", file.display());
            return read_plans(&file);
        }
        let fingerprint = self.fingerprint(dataset, false, session)?;
        self.plan(dataset, &fingerprint, planner, None)
    }

    /// The folds: `splits_final.json` of the dataset or of this folder, else nnU-Net's own five, written here.
    pub fn splits(&self, dataset: &Dataset) -> Result<Splits> {
        let own = self.folder.join("splits_final.json");
        let given = dataset.root.join("splits_final.json");
        let ids = dataset.training_ids();
        let usual = || Splits::five_folds(&ids);
        match (given.exists(), own.exists()) {
            (true, true) => {
                let (given_splits, own_splits) = (Splits::read(&given, &ids)?, Splits::read(&own, &ids)?);
                // What was written here unasked does not count; what someone edited does.
                let edited = usual().map_or(true, |usual| usual.folds != own_splits.folds);
                if edited && own_splits.folds != given_splits.folds {
                    let what = format!("its folds differ from those of {}", own.display());
                    return Err(Error::input(given.display(), what, "remove the one that is out of date"));
                }
                Ok(given_splits)
            }
            (true, false) => Splits::read(&given, &ids),
            (false, true) => Splits::read(&own, &ids),
            // Too few for five folds: the fold `all` is still there.
            (false, false) if ids.len() < 5 => Ok(Splits::none(&ids)),
            (false, false) => {
                let splits = usual()?;
                splits.write(&own)?;
                Ok(splits)
            }
        }
    }

    /// The preprocessed cases of one configuration: what is there and current is kept.
    pub fn store(
        &self,
        dataset: &Dataset,
        plans: &Plans,
        configuration: &str,
        cases: CasesFrom,
        session: &Session,
    ) -> Result<Store> {
        let name = format!("{}_{configuration}", plans.plans_name);
        let theirs = self.folder.join(&name);
        // nnU-Net refuses a folder of its cases in which other files lie.
        let folder = if holds_nnunet_cases(&theirs) {
            self.folder.join(format!("galen_{name}"))
        } else {
            theirs.clone()
        };
        if folder != theirs && matches!(cases, CasesFrom::Scans(_)) {
            session.say(format!(
                "{} holds cases that nnU-Net preprocessed; `--from-preprocessed` uses them as they are",
                theirs.display()
            ));
        }
        tracing::info!("preprocessed cases: {}", folder.display());
        let progress = session.progress("preprocess", dataset.training.len());
        let at = |done, total| progress.at(done, total);
        let store = match cases {
            CasesFrom::NnUnet(source) => Store::adopt(dataset, plans, configuration, source, &folder, &at),
            CasesFrom::Scans(rule) => Store::build_with(dataset, plans, configuration, rule, &folder, &at),
        }?;
        progress.finish();
        Ok(store)
    }
}

/// True where nnU-Net keeps preprocessed cases.
fn holds_nnunet_cases(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|ending| ending == "pkl"))
}

/// Reads plans, ours or nnU-Net's.
pub fn read_plans(file: &Path) -> Result<Plans> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::system(file.display(), &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Error::input(file.display(), error, "make the file again (`galen plan`), or restore it from a copy")
    })
}
