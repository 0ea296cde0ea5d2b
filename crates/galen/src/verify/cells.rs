//! The first kind of protocol: networks trained here. A cell is one model on one fold of one dataset; a finished cell
//! has its result file, so a killed comparison goes on with the cell it was in, and shards share the list.

use super::board::{Board, Column, Field, Values};
use super::protocol::{Protocol, Setup};
use super::record::{CaseRecord, Cell, Cost, Out, Record};
use super::variant;
use crate::report::overlay;
use crate::session::Session;
use crate::verbs::Screen;
use crate::workspace::{CasesFrom, Workspace};
use galen_core::{Error, Geometry, Result};
use galen_data::{Dataset, Split, Splits};
use galen_infer::{Options as PredictOptions, Predictor};
use galen_metrics::bootstrap::Draws;
use galen_metrics::{Entry, Score, score_case};
use galen_models::{Bundle, Network};
use galen_prep::Plans;
use galen_prep::resample::TieRule;
use galen_train::{Budget, Machine, Options, Precision, peak_memory};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Instant;

/// Metrics of label maps, the first one ranks unless the protocol says otherwise.
pub const METRICS: [&Entry; 3] = [&galen_metrics::DICE, &galen_metrics::NSD, &galen_metrics::HD95];

/// A dataset, opened, with its plan and folds.
pub struct Ground {
    /// Name in the protocol.
    name: String,
    dataset: Dataset,
    workspace: Workspace,
    plans: Plans,
    folds: BTreeMap<String, Split>,
}

/// A protocol of trained models, ready to run.
pub struct Cells<'a> {
    protocol: &'a Protocol,
    setup: &'a Setup,
    grounds: Vec<Ground>,
    /// All cells, datasets first, then models, then folds.
    pub list: Vec<Cell>,
}

impl<'a> Cells<'a> {
    /// Opens the datasets and lists the cells.
    pub fn open(protocol: &'a Protocol, session: &Session) -> Result<Self> {
        let setup = protocol.setup.as_ref().ok_or_else(|| Error::bug("protocol", "no setup"))?;
        let mut grounds = Vec::new();
        for entry in &protocol.datasets {
            let path = protocol.place(entry.path.as_deref().unwrap_or(std::path::Path::new("")));
            let dataset = Dataset::open(&path)?;
            let chosen = entry.preprocessed.as_ref().map(|folder| protocol.place(folder));
            let workspace = Workspace::of(&dataset, chosen.as_deref());
            let planner = crate::verbs::planner(&setup.planner)?;
            let plans = workspace.plans(&dataset, planner, session)?;
            let folds = folds(setup, &workspace.splits(&dataset)?, &dataset, protocol.seed)
                .map_err(|error| error.within(&entry.name))?;
            grounds.push(Ground { name: entry.name.clone(), dataset, workspace, plans, folds });
        }
        let mut list = Vec::new();
        for (dataset, ground) in grounds.iter().enumerate() {
            for model in 0..protocol.models.len() {
                for fold in ground.folds.keys() {
                    list.push(Cell { dataset, model, fold: fold.clone() });
                }
            }
        }
        let cells = Self { protocol, setup, grounds, list };
        // A network that cannot be built, or a patch that it cannot take, is known before the first cell.
        for cell in &cells.list {
            cells.network(cell)?;
        }
        Ok(cells)
    }

    /// Name of a cell for people.
    pub fn name(&self, cell: &Cell) -> String {
        let (dataset, model) = (&self.grounds[cell.dataset].name, &self.protocol.models[cell.model].name);
        format!("{dataset}, {model}, fold {}", cell.fold)
    }

    /// The result of a cell when it is there.
    pub fn read(&self, out: &Out, cell: &Cell) -> Result<Option<Record>> {
        let (dataset, model) = (&self.grounds[cell.dataset].name, &self.protocol.models[cell.model].name);
        out.read(dataset, model, &cell.fold, &self.identity(cell))
    }

    fn split(&self, cell: &Cell) -> Result<&Split> {
        let folds = &self.grounds[cell.dataset].folds;
        folds.get(&cell.fold).ok_or_else(|| Error::bug("verify", "a cell of a fold that is not there"))
    }

    fn plans(&self, cell: &Cell) -> Result<Plans> {
        variant::plans(&self.grounds[cell.dataset].plans, self.setup, &self.protocol.models[cell.model])
    }

    /// Name of the configuration that a cell is trained in.
    fn configuration(&self, cell: &Cell) -> &str {
        self.protocol.models[cell.model].configuration(self.setup)
    }

    fn network(&self, cell: &Cell) -> Result<Network> {
        let ground = &self.grounds[cell.dataset];
        let configuration = self.plans(cell)?.configuration(self.configuration(cell))?;
        let (inputs, outputs) = (ground.dataset.channel_names.len(), ground.dataset.labels.output_channels());
        let network = Network::new(&configuration.architecture, inputs, outputs)?;
        network
            .check_size(configuration.patch3())
            .map_err(|error| error.within(format!("model {}", self.protocol.models[cell.model].name)))?;
        Ok(network)
    }

    /// Everything that decides the numbers of a cell, as a hash.
    fn identity(&self, cell: &Cell) -> String {
        let (ground, model) = (&self.grounds[cell.dataset], &self.protocol.models[cell.model]);
        let whole = json!({
            "setup": { "configuration": self.configuration(cell), "patch": model.patch(self.setup),
                "batch": model.batch(self.setup), "iterations": self.setup.iterations, "mirror": self.setup.mirror },
            "model": { "network": model.network, "features": model.features, "depth": model.depth },
            "plans": ground.plans.to_json(),
            "labels": ground.dataset.labels,
            "split": ground.folds.get(&cell.fold),
            "seed": self.protocol.seed,
            "tolerance": self.protocol.tolerance_mm,
        });
        let hash = Sha256::digest(whole.to_string().as_bytes());
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Trains, predicts and scores one cell, and writes its result last.
    pub fn run(&self, cell: &Cell, out: &Out, session: &Session) -> Result<()> {
        let ground = &self.grounds[cell.dataset];
        let model_name = &self.protocol.models[cell.model].name;
        let (plans, split) = (self.plans(cell)?, self.split(cell)?);
        let name = self.configuration(cell);
        let configuration = plans.configuration(name)?;
        // The store depends on the preprocessing alone: all models of a configuration share that of the plan.
        let from = CasesFrom::Scans(TieRule::default());
        let store = ground.workspace.store(&ground.dataset, &ground.plans, name, from, session)?;
        let model = out.model(&ground.name, model_name);
        let options = Options {
            fold: cell.fold.clone(),
            budget: Budget::Iterations(self.setup.iterations),
            seed: self.protocol.seed,
            precision: Precision::F32,
            resume: true,
            out: model.clone(),
            command: std::env::args().collect(),
            pretrained: None,
        };
        forget_peak();
        let mut screen = Screen::new(session);
        let outcome =
            galen_train::fit(&store, &plans, &configuration, &ground.dataset, split, &options, &mut screen);
        screen.end();
        let outcome = outcome?;
        let training_peak_bytes = peak_memory();
        drop(store);
        forget_peak();
        let began = Instant::now();
        let cases = self.validate(cell, out, session)?;
        let network = self.network(cell)?;
        let batch = outcome.schedule.batch_size;
        let record = Record {
            format: 2,
            identity: self.identity(cell),
            dataset: ground.name.clone(),
            model: model_name.clone(),
            fold: cell.fold.clone(),
            configuration: name.to_owned(),
            patch: configuration.patch_size.clone(),
            batch,
            parameters: network.parameter_count(),
            multiply_adds: network.cost(configuration.patch3(), 1).multiply_adds,
            training_multiply_adds: network.cost(configuration.patch3(), batch).training_multiply_adds
                * outcome.iterations as u64,
            iterations: outcome.iterations,
            cases,
        };
        let cost = Cost {
            training_seconds: outcome.seconds,
            prediction_seconds: began.elapsed().as_secs_f64(),
            training_peak_bytes,
            prediction_peak_bytes: peak_memory(),
            first_iteration: outcome.first_iteration,
            machine: Machine::this(),
        };
        out.write(&Out::cost(&ground.name, model_name, &cell.fold), &cost)?;
        out.write(&Out::result(&ground.name, model_name, &cell.fold), &record)
    }

    fn validate(&self, cell: &Cell, out: &Out, session: &Session) -> Result<Vec<CaseRecord>> {
        let ground = &self.grounds[cell.dataset];
        let model_name = &self.protocol.models[cell.model].name;
        let model = out.model(&ground.name, model_name);
        let options = PredictOptions { mirror: self.setup.mirror, ..PredictOptions::default() };
        let predictor = Predictor::new(&Bundle::open(&model)?, std::slice::from_ref(&cell.fold), options)?;
        let split = self.split(cell)?;
        let progress = session.progress("validate", split.val.len());
        let mut records = Vec::new();
        for (number, id) in split.val.iter().enumerate() {
            session.check_stop("the same command goes on from here")?;
            let known = ground.dataset.training.iter().find(|case| case.id == *id);
            let case = known.ok_or_else(|| Error::bug(id, "a case that the dataset does not have"))?;
            let image = ground.dataset.read_image(case)?;
            let reference = ground.dataset.read_labels(case)?;
            let prediction =
                predictor.predict(&image, false, &|_, _| ()).map_err(|error| error.within(id))?.labels;
            let ending = &ground.dataset.file_ending;
            let file =
                model.join(format!("fold_{}", cell.fold)).join("validation").join(format!("{id}{ending}"));
            galen_io::write_label_map(&file, &prediction)?;
            let labels = &ground.dataset.labels;
            let scores = score_case(&reference, &prediction, labels, self.protocol.tolerance_mm)
                .map_err(|error| error.within(id))?;
            let title = format!("{}, {id}: {model_name}", ground.name);
            let svg = overlay(&title, &image, Some(&reference), Some(&prediction), labels)?;
            let picture = out.folder.join(Out::picture(&ground.name, model_name, &cell.fold, id));
            galen_io::replace_file(&picture, svg.as_bytes())?;
            records.push(CaseRecord { case: id.clone(), diagonal_mm: diagonal(&reference.geometry), scores });
            progress.at(number + 1, split.val.len());
        }
        progress.finish();
        Ok(records)
    }

    /// The board of all cells; the names of those that have no result when some have none.
    pub fn board(&self, out: &Out) -> Result<std::result::Result<(Board, Vec<Record>), Vec<String>>> {
        let (mut records, mut missing) = (Vec::new(), Vec::new());
        for cell in &self.list {
            match self.read(out, cell)? {
                Some(record) => records.push(record),
                None => missing.push(self.name(cell)),
            }
        }
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        let fields = self.grounds.iter().map(|ground| self.field(ground, &records)).collect();
        let columns = columns(self.protocol)?;
        let setup = self.setup;
        let resampling = match setup.bootstrap {
            Some(draws) => format!("{draws} draws of training cases with replacement, the others validate"),
            None => format!("folds {:?}", setup.folds),
        };
        let fact = |name: &str, value: String| (name.to_owned(), value);
        let board = Board {
            title: self.protocol.title.clone(),
            methods: self.protocol.contenders(),
            columns,
            fields,
            draws: self.protocol.draws,
            seed: self.protocol.seed,
            facts: vec![
                fact("plan", format!("{}, {}", setup.planner, setup.configuration)),
                fact("iterations", setup.iterations.to_string()),
                fact("resampling", resampling),
                fact("mirrored copies", if setup.mirror { "averaged" } else { "none" }.into()),
                fact("tolerance of NSD", format!("{} mm", self.protocol.tolerance_mm)),
                fact("seed", self.protocol.seed.to_string()),
            ],
            notes: vec![POLICY.to_owned()],
        };
        Ok(Ok((board, records)))
    }

    fn field(&self, ground: &Ground, records: &[Record]) -> Field {
        let of = |model: &str| {
            let own = records.iter().filter(|r| r.dataset == ground.name && r.model == model);
            own.flat_map(|r| r.cases.iter().map(|case| (r.fold.clone(), case))).collect::<Vec<_>>()
        };
        let models = &self.protocol.models;
        let first = of(&models[0].name);
        let seen = |id: &str| first.iter().filter(|(_, case)| case.case == id).count();
        // A case that several folds validate is a row in each.
        let name = |(fold, case): &(String, &CaseRecord)| {
            if seen(&case.case) > 1 { format!("{} (fold {fold})", case.case) } else { case.case.clone() }
        };
        let values = models.iter().map(|model| {
            let cases = of(&model.name);
            let metrics = ranked(self.protocol);
            let column =
                |entry: &&Entry| Values::PerCase(cases.iter().map(|(_, case)| value(entry, case)).collect());
            metrics.iter().map(column).collect()
        });
        Field {
            dataset: ground.name.clone(),
            cases: first.iter().map(name).collect(),
            values: values.collect(),
            failures: vec![Vec::new(); models.len()],
        }
    }

    /// Picture of each case per method, in the order of [`Field::cases`], relative to the folder.
    pub fn pictures(&self, field: &Field, method: usize, records: &[Record]) -> Vec<String> {
        let model = &self.protocol.models[method].name;
        let own = records.iter().filter(|r| r.dataset == field.dataset && r.model == *model);
        own.flat_map(|r| {
            r.cases
                .iter()
                .map(|case| Out::picture(&r.dataset, model, &r.fold, &case.case).display().to_string())
        })
        .collect()
    }
}

/// How values of cases come about.
pub const POLICY: &str = "A case's value is the mean over its labels; labels in neither map are left out; a label \
    missed or invented has Dice and NSD 0 and, as distance, the diagonal of the scan.";

/// Metrics of a protocol of label maps, the ranking one first.
pub fn ranked(protocol: &Protocol) -> Vec<&'static Entry> {
    let mut all = METRICS.to_vec();
    if let Some(at) = all.iter().position(|entry| Some(entry.id) == protocol.primary.as_deref()) {
        all[..=at].rotate_right(1);
    }
    all
}

/// The same as columns of a board; an unknown ranking metric is refused.
pub fn columns(protocol: &Protocol) -> Result<Vec<Column>> {
    if let Some(primary) = &protocol.primary
        && !METRICS.iter().any(|entry| entry.id == primary)
    {
        let known: Vec<&str> = METRICS.iter().map(|entry| entry.id).collect();
        let what = format!("`{primary}` is no metric of this kind");
        return Err(Error::input("primary", what, format!("choose from {}", known.join(", "))));
    }
    let column = |entry: &Entry| Column {
        id: entry.id.into(),
        name: entry.name.into(),
        unit: entry.unit.into(),
        higher_is_better: entry.best > entry.range[0],
        decimals: if entry.range[1] <= 1.0 { 3 } else { 2 },
        definition: format!(
            "{}. Convention: {}. Empty masks: {}. Pitfall: {}. Source: {}.",
            entry.definition, entry.convention, entry.empty, entry.pitfall, entry.source
        ),
    };
    Ok(ranked(protocol).into_iter().map(column).collect())
}

/// Mean over the labels of a case; see [`POLICY`].
pub fn value(entry: &Entry, case: &CaseRecord) -> f64 {
    let scores = case.scores.labels.iter().filter_map(|label| label.scores.get(entry.id));
    let values: Vec<f64> = scores
        .filter_map(|score| match score {
            Score::Value(value) => Some(*value),
            Score::Infinite => Some(case.diagonal_mm),
            Score::Undefined => None,
        })
        .collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Corner to corner, mm.
pub fn diagonal(geometry: &Geometry) -> f64 {
    let sides = geometry.size.iter().zip(&geometry.spacing).map(|(n, s)| *n as f64 * s);
    sides.map(|side| side * side).sum::<f64>().sqrt()
}

fn folds(setup: &Setup, splits: &Splits, dataset: &Dataset, seed: u64) -> Result<BTreeMap<String, Split>> {
    let Some(draws) = setup.bootstrap else {
        let named = setup.folds.iter().map(|fold| fold.to_string());
        return named.map(|name| splits.fold(&name).map(|split| (name, split))).collect();
    };
    let ids = dataset.training_ids();
    let mut source = Draws::new(ids.len(), seed);
    let mut all = BTreeMap::new();
    for number in 0..draws {
        let mut drawn = source.next().to_vec();
        drawn.sort_unstable();
        let val: Vec<String> =
            (0..ids.len()).filter(|i| drawn.binary_search(i).is_err()).map(|i| ids[i].clone()).collect();
        if val.is_empty() {
            let what = format!("draw {number} takes all {} cases, none is left to validate", ids.len());
            return Err(Error::input("setup.bootstrap", what, "use folds for so few cases"));
        }
        let train = drawn.into_iter().map(|i| ids[i].clone()).collect();
        all.insert(format!("b{number}"), Split { train, val });
    }
    Ok(all)
}

/// Lets the system count peak memory anew, so that each stage has its own; where it cannot, peaks are those so far.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
