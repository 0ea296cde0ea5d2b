//! Networks, their weights, and the model bundle.
//!
//! A network is defined once, as a list of operations ([`graph`]); the executor runs that list on the CPU
//! kernels, forward for prediction and forward and backward for training.

mod bundle;
mod cost;
mod executor;
mod file;
pub mod graph;
mod initial_weights;
mod model_archive;
mod model_choice;
mod network;
mod nnunet_folder;
mod pickle_writer;
mod plain_conv_unet;
mod pretrained;
mod residual_encoder_unet;
mod safetensors_file;
mod sgd;
mod state_dict;
mod supervision;
mod torch_checkpoint;
mod torch_writer;
mod transfer;
mod unet_decoder;
mod weights;

pub use bundle::{Bundle, BundleContent, BundleForm, Provenance};
pub use cost::Cost;
pub use executor::{Inference, Training};
pub use galen_kernels::Storage;
pub use galen_kernels::loss::Hard;
pub use model_choice::Choice;
pub use network::Network;
pub use pretrained::{Origin, Pretrained};
pub use sgd::{Sgd, polynomial_rate};
pub use supervision::{Evaluation, LossSpec, StepResult, Targets, deep_supervision_weights};
pub use torch_checkpoint::TorchCheckpoint;
pub use transfer::{TensorNote, Transfer};
pub use weights::{Tensor, Weights};
