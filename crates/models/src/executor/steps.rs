//! In which steps prediction runs a graph: as few large tensors at a time as the kernels allow.

use super::layout::{Kernel, Layout};
use crate::graph::{Graph, Op, TensorId};

/// One step of a prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// One operation, its output in memory of its own.
    Plain(usize),
    /// A convolution whose output takes the memory of one of its sources.
    Replacing(Replacing),
    /// The convolution to the logits, which leave it some rows at a time.
    Head(usize),
}

/// A convolution in slabs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replacing {
    /// The convolution.
    pub(crate) conv: usize,
    /// Place of the replaced tensor among its sources.
    pub(crate) replaced: usize,
    /// A source that is never held whole: its place, and the operation that makes it.
    pub(crate) up: Option<(usize, usize)>,
}

impl Step {
    /// Operations that are done after this step, the last one last.
    fn operations(&self) -> Vec<usize> {
        match self {
            Self::Plain(op) | Self::Head(op) => vec![*op],
            Self::Replacing(step) => step.up.iter().map(|&(_, up)| up).chain([step.conv]).collect(),
        }
    }
}

/// How prediction runs a graph at one size.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Steps, and the tensors that nobody reads after each.
    pub(crate) steps: Vec<(Step, Vec<TensorId>)>,
    /// Values by which the memory of each tensor is longer than the tensor.
    pub(crate) slack: Vec<usize>,
    /// Words of scratch of the convolutions in slabs: the most that any needs, so that one buffer serves all.
    pub(crate) scratch: usize,
}

impl Plan {
    /// For the graph's first output.
    pub(crate) fn new(graph: &Graph, layout: &Layout) -> Self {
        let steps = steps(graph, layout);
        let replacing: Vec<&Replacing> = steps
            .iter()
            .filter_map(|step| if let Step::Replacing(step) = step { Some(step) } else { None })
            .collect();
        // A memory is handed on from tensor to tensor: the first must be long enough for all.
        let mut slack = vec![0; graph.channels.len()];
        for step in replacing.iter().rev() {
            let (op, Kernel::Conv(conv)) = (&graph.ops[step.conv], &layout.kernels[step.conv]) else {
                continue;
            };
            let replaced = op.sources()[step.replaced];
            slack[replaced] = conv.slack(layout.grids[replaced]).max(slack[op.output()]);
        }
        let scratch = replacing.iter().map(|step| scratch(graph, layout, step)).max().unwrap_or(0);
        let last = graph.last_reads();
        let released = |step: &Step| {
            let done = step.operations();
            (0..last.len()).filter(|&tensor| last[tensor].is_some_and(|op| done.contains(&op))).collect()
        };
        let steps = steps.into_iter().map(|step| (step.clone(), released(&step))).collect();
        Self { steps, slack, scratch }
    }
}

fn steps(graph: &Graph, layout: &Layout) -> Vec<Step> {
    let last = graph.last_reads();
    let mut steps: Vec<Step> = Vec::new();
    for (index, op) in graph.ops.iter().enumerate() {
        let step = if is_head(graph, op) {
            Step::Head(index)
        } else {
            replacing(graph, layout, &last, index).map_or(Step::Plain(index), Step::Replacing)
        };
        if let Step::Replacing(Replacing { up: Some((_, up)), .. }) = step {
            steps.retain(|step| *step != Step::Plain(up));
        }
        steps.push(step);
    }
    steps
}

/// A convolution of single voxels without norm that nothing but the caller reads.
fn is_head(graph: &Graph, op: &Op) -> bool {
    match op {
        Op::Conv { kernel: [1, 1, 1], stride: [1, 1, 1], norm: None, output, .. } => {
            graph.outputs == [*output]
        }
        _ => false,
    }
}

fn replacing(graph: &Graph, layout: &Layout, last: &[Option<usize>], index: usize) -> Option<Replacing> {
    let (Op::Conv { sources, output, .. }, Kernel::Conv(conv)) = (&graph.ops[index], &layout.kernels[index])
    else {
        return None;
    };
    if !conv.replaces(layout.grids[sources[0]]) {
        return None;
    }
    // A tensor that only this convolution reads, made by a transposed one, need not be held at all.
    let up = sources.iter().enumerate().find_map(|(place, &source)| {
        let made = graph.ops.iter().position(|op| op.output() == source)?;
        let only = graph.ops.iter().filter(|op| op.sources().contains(&source)).count() == 1;
        // What it is made from must still be there.
        let alive = last[graph.ops[made].sources()[0]] == Some(made);
        let lazy =
            matches!(layout.kernels[made], Kernel::Up(_)) && only && alive && last[source] == Some(index);
        lazy.then_some((place, made))
    });
    let fits = |&place: &usize| {
        let source = sources[place];
        last[source] == Some(index)
            && layout.len(source) == layout.len(*output)
            && layout.storage[source] == layout.storage[*output]
            && sources.iter().filter(|&&other| other == source).count() == 1
    };
    let mut places: Vec<usize> = (0..sources.len()).filter(fits).collect();
    // The upsampled one only if it must be.
    places.sort_by_key(|&place| up.is_some_and(|(of, _)| of == place));
    let replaced = *places.first()?;
    Some(Replacing { conv: index, replaced, up: up.filter(|&(place, _)| place != replaced) })
}

/// Voxels of the logits that are computed at a time.
const HEAD_VOXELS: usize = 1 << 16;

/// Rows of voxels of a [`Step::Head`], and how long a row is.
pub(crate) fn head_rows(layout: &Layout, output: TensorId) -> [usize; 2] {
    let [z, y, x] = layout.grids[output].size;
    [(HEAD_VOXELS / x).clamp(1, z * y), x]
}

fn scratch(graph: &Graph, layout: &Layout, step: &Replacing) -> usize {
    let Kernel::Conv(conv) = &layout.kernels[step.conv] else { return 0 };
    let up = step.up.and_then(|(place, op)| match &layout.kernels[op] {
        Kernel::Up(up) => Some((place, up.stride[0])),
        _ => None,
    });
    let sources = graph.ops[step.conv].sources();
    let len = conv.slab_values(layout.grids[sources[0]], up.as_slice());
    up.map_or(0, |(place, _)| layout.storage[sources[place]].words(len))
}
