//! Which tensors of another training a network takes over, and which start afresh.
//!
//! Source: nnunetv2 2.8.1, `load_pretrained_weights`: all tensors but those of the segmentation layers must be there in
//! the same shape. Differs: an input layer for another number of image channels starts afresh instead of ending the
//! training, self-supervised checkpoints give their encoder only (as nnssl's own fine-tuning does), and it is told.

use crate::graph::Parameter;
use crate::network::Network;
use crate::pretrained::{Origin, Pretrained};
use crate::weights::Weights;
use galen_core::{Architecture, Error, NetworkClass, Result};
use serde::Serialize;
use std::collections::HashSet;

/// What became of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorNote {
    /// Name as in nnU-Net's state dict.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Why it was not taken over; nothing for those that were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a network took over from another training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transfer {
    /// File or folder of the other training.
    pub source: String,
    /// Who trained it.
    pub origin: Origin,
    /// Tensors taken over bit by bit.
    pub loaded: Vec<TensorNote>,
    /// Tensors of the network that start as in a fresh training.
    pub reinitialised: Vec<TensorNote>,
    /// Tensors of the other training that are not used.
    pub ignored: Vec<TensorNote>,
}

impl Transfer {
    /// The report in sentences: how much was taken over, what starts afresh, what was left.
    pub fn sentences(&self) -> Vec<String> {
        let values = |notes: &[TensorNote]| {
            notes.iter().map(|note| note.shape.iter().product::<usize>()).sum::<usize>()
        };
        let (loaded, fresh) = (values(&self.loaded), values(&self.reinitialised));
        let mut sentences = vec![format!(
            "Pretrained weights of {}: {} of {} tensors taken over, {:.1} % of the values.",
            self.source,
            self.loaded.len(),
            self.loaded.len() + self.reinitialised.len(),
            100.0 * loaded as f64 / (loaded + fresh).max(1) as f64
        )];
        sentences.extend(told("Starts afresh", &self.reinitialised));
        sentences.extend(told("Not used", &self.ignored));
        sentences
    }
}

/// One sentence per reason, with the first names.
fn told(what: &str, notes: &[TensorNote]) -> Vec<String> {
    const NAMED: usize = 4;
    let mut reasons: Vec<&str> = Vec::new();
    for note in notes {
        let reason = note.reason.as_deref().unwrap_or_default();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let sentence = |reason: &str| {
        let of: Vec<&TensorNote> = notes.iter().filter(|n| n.reason.as_deref() == Some(reason)).collect();
        let names: Vec<String> = of.iter().take(NAMED).map(|n| format!("{} {:?}", n.name, n.shape)).collect();
        let more = if of.len() > NAMED { format!(" and {} more", of.len() - NAMED) } else { String::new() };
        format!("{what} ({reason}): {}{more}.", names.join(", "))
    };
    reasons.into_iter().map(sentence).collect()
}

impl Pretrained {
    /// Weights for `network`: taken over where they fit, `fresh` elsewhere; and what became of each tensor. Refused
    /// when more than input layer and segmentation layers differ.
    pub fn transfer(&self, network: &Network, mut fresh: Weights) -> Result<(Weights, Transfer)> {
        let note = |name: &str, shape: &[usize], reason: Option<String>| TensorNote {
            name: name.to_owned(),
            shape: shape.to_vec(),
            reason,
        };
        let (mut loaded, mut reinitialised, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for parameter in network.parameters() {
            let (name, shape) = (parameter.name.as_str(), parameter.shape.as_slice());
            if let Some(reason) = self.stays_fresh(name) {
                reinitialised.push(note(name, shape, Some(reason.to_owned())));
                continue;
            }
            match (self.weights.get(name), fresh.get_mut(name)) {
                (Some(theirs), Some(own)) if theirs.shape == shape => {
                    own.values.copy_from_slice(&theirs.values);
                    loaded.push(note(name, shape, None));
                }
                (Some(theirs), Some(_)) => match other_channels(parameter, &theirs.shape) {
                    Some(reason) => reinitialised.push(note(name, shape, Some(reason))),
                    None => wrong.push(format!("{name} is {:?}, the plan has {shape:?}", theirs.shape)),
                },
                _ => wrong.push(format!("{name} is missing")),
            }
        }
        if !wrong.is_empty() {
            return Err(self.misfit(network.architecture(), &wrong));
        }
        let taken: HashSet<&str> = loaded.iter().map(|note| note.name.as_str()).collect();
        let rest = self.weights.iter().filter(|(name, _)| !taken.contains(name));
        let ignored = rest
            .map(|(name, tensor)| {
                let known = network.parameters().iter().any(|parameter| parameter.name == name);
                let reason = match self.stays_fresh(name) {
                    Some(reason) => reason,
                    None if known => "input layer of other channels",
                    None => "not part of the network",
                };
                note(name, &tensor.shape, Some(reason.to_owned()))
            })
            .collect();
        let source = self.place.display().to_string();
        Ok((fresh, Transfer { source, origin: self.origin, loaded, reinitialised, ignored }))
    }

    /// `plan` with the features of these weights, where they have as many stages: a training that fitted its width to a
    /// budget has fewer features than its plan.
    pub fn narrowed(&self, plan: &Architecture) -> Architecture {
        let features = self.features();
        let features = if features.len() == plan.stages() { features } else { plan.features.clone() };
        Architecture { features, ..plan.clone() }
    }

    /// Why a tensor is never taken over.
    fn stays_fresh(&self, name: &str) -> Option<&'static str> {
        if name.contains(".seg_layers.") {
            Some("segmentation layer")
        } else if self.origin == Origin::SelfSupervised && !name.starts_with("encoder.") {
            Some("self-supervised pretraining gives its encoder only")
        } else {
            None
        }
    }

    fn misfit(&self, architecture: &Architecture, wrong: &[String]) -> Error {
        let (theirs, own) = (self.features(), &architecture.features);
        let class = |residual: bool| if residual { "ResidualEncoderUNet" } else { "PlainConvUNet" };
        let theirs_class = class(self.is_residual());
        let own_class = class(architecture.class == NetworkClass::ResidualEncoderUNet);
        let what = if theirs.is_empty() {
            "its tensors are not those of a U-Net of nnU-Net".to_owned()
        } else if theirs_class != own_class {
            format!("it is a {theirs_class}, the plan has a {own_class}")
        } else if theirs != *own {
            format!("its stages have {theirs:?} features, those of the plan {own:?}")
        } else {
            format!("{} tensors do not fit, first: {}", wrong.len(), wrong[0])
        };
        let remedy =
            "train with its own plan (--plans-of MODEL), or choose the planner of that network (--planner)";
        Error::input(self.place.display(), format!("the pretrained network is another: {what}"), remedy)
    }
}

/// Why a first layer cannot be taken over when only its number of image channels differs.
fn other_channels(parameter: &Parameter, theirs: &[usize]) -> Option<String> {
    let first = ["encoder.stem.convs.0.conv.weight", "encoder.stages.0.0.convs.0.conv.weight"];
    let own = parameter.shape.as_slice();
    let fits =
        theirs.len() == own.len() && theirs.len() > 2 && theirs[0] == own[0] && theirs[2..] == own[2..];
    (first.contains(&parameter.name.as_str()) && fits)
        .then(|| format!("input layer of {} channels, the pretrained one has {}", own[1], theirs[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Tensor;

    fn network(class: NetworkClass, features: &[usize], inputs: usize, outputs: usize) -> Network {
        let stages = features.len();
        let mut strides = vec![vec![2; 3]; stages];
        strides[0] = vec![1; 3];
        let architecture = Architecture {
            class,
            features: features.to_vec(),
            kernels: vec![vec![3; 3]; stages],
            strides,
            encoder_depth: vec![2; stages],
            decoder_depth: vec![1; stages - 1],
            bias: true,
            norm_eps: 1e-5,
            norm_affine: true,
            leak: 0.01,
        };
        Network::new(&architecture, inputs, outputs).unwrap()
    }

    fn pretrained(network: &Network, origin: Origin) -> Pretrained {
        Pretrained { place: "model".into(), origin, weights: network.initial_weights(5) }
    }

    #[test]
    fn heads_and_the_input_layer_start_afresh_and_the_rest_is_taken_over() {
        for class in [NetworkClass::PlainConvUNet, NetworkClass::ResidualEncoderUNet] {
            let source = pretrained(&network(class, &[4, 8, 8], 1, 3), Origin::NnUnet);
            let own = network(class, &[4, 8, 8], 2, 5);
            let fresh = own.initial_weights(9);
            let (weights, transfer) = source.transfer(&own, fresh.clone()).unwrap();
            own.check(&weights).unwrap();
            let afresh: Vec<&str> = transfer.reinitialised.iter().map(|note| note.name.as_str()).collect();
            let residual = class == NetworkClass::ResidualEncoderUNet;
            let input = if residual {
                "encoder.stem.convs.0.conv.weight"
            } else {
                "encoder.stages.0.0.convs.0.conv.weight"
            };
            for (name, tensor) in weights.iter() {
                let expected = if name == input || name.contains(".seg_layers.") {
                    assert!(afresh.contains(&name), "{name}");
                    fresh.get(name)
                } else {
                    assert!(!afresh.contains(&name), "{name}");
                    source.weights.get(name)
                };
                assert_eq!(Some(tensor), expected, "{name}");
            }
            assert_eq!(transfer.loaded.len() + transfer.reinitialised.len(), weights.len());
            assert_eq!(transfer.loaded.len() + transfer.ignored.len(), source.weights.len());
            let told = transfer.sentences().join("\n");
            assert!(told.contains(input) && told.contains("2 channels, the pretrained one has 1"), "{told}");
        }
    }

    #[test]
    fn self_supervised_weights_give_their_encoder() {
        let class = NetworkClass::ResidualEncoderUNet;
        let mut source = pretrained(&network(class, &[4, 8], 1, 1), Origin::SelfSupervised);
        source.weights.insert("mask_token", Tensor::filled(&[4], 0.5));
        let own = network(class, &[4, 8], 1, 3);
        let (weights, transfer) = source.transfer(&own, own.initial_weights(9)).unwrap();
        assert!(transfer.loaded.iter().all(|note| note.name.starts_with("encoder.")));
        let stem = "encoder.stem.convs.0.conv.weight";
        assert_eq!(weights.get(stem), source.weights.get(stem));
        assert!(transfer.ignored.iter().any(|note| note.name == "mask_token"));
    }

    #[test]
    fn another_network_is_refused_with_what_differs() {
        let plain = NetworkClass::PlainConvUNet;
        let source = pretrained(&network(plain, &[4, 8, 8], 1, 3), Origin::NnUnet);
        for (own, words) in [
            (network(NetworkClass::ResidualEncoderUNet, &[4, 8, 8], 1, 3), "it is a PlainConvUNet"),
            (network(plain, &[4, 8], 1, 3), "[4, 8, 8] features, those of the plan [4, 8]"),
        ] {
            let error = source.transfer(&own, own.initial_weights(1)).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("--plans-of"), "{error}");
        }
        let mut source = source;
        source
            .weights
            .insert("encoder.stages.1.0.convs.0.conv.weight", Tensor::filled(&[8, 4, 1, 3, 3], 0.0));
        let own = network(plain, &[4, 8, 8], 1, 3);
        let error = source.transfer(&own, own.initial_weights(1)).unwrap_err().to_string();
        assert!(error.contains("[8, 4, 1, 3, 3], the plan has [8, 4, 3, 3, 3]"), "{error}");
    }
}
