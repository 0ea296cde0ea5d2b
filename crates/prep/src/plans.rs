//! nnU-Net's `plans.json`: kept as it is, key order and all, with the parts that Galen reads as types.
//!
//! Source: nnunetv2 2.8.1 `plans_handler`; old plans (2.0 to 2.2, without `architecture`) are converted on reading.

use crate::normalise::Normalization;
use galen_core::{Architecture, Error, NetworkClass, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Larger patches and deeper networks are damage: both double with every axis or stage.
const MOST_VOXELS: usize = 1 << 31;
const MOST_STAGES: usize = 32;
/// Configurations that a planner writes itself.
const DEFAULT_CONFIGURATIONS: [&str; 4] = ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"];

/// A plans file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Plans {
    /// Dataset they were made for.
    pub dataset_name: String,
    /// Name, such as `nnUNetPlans`.
    pub plans_name: String,
    /// Axis order of the network: network axis `i` is axis `transpose_forward[i]` of the image.
    pub transpose_forward: [usize; 3],
    json: Map<String, Value>,
}

/// One configuration, inheritance resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Name: 2d, 3d_fullres, ...
    pub name: String,
    /// Patches per batch.
    pub batch_size: usize,
    /// Patch, `(z, y, x)` or `(y, x)`, in the network's axis order.
    pub patch_size: Vec<usize>,
    /// Median size after resampling.
    pub median_image_size_in_voxels: Vec<f64>,
    /// Target spacing in mm.
    pub spacing: Vec<f64>,
    /// Per channel.
    pub normalization_schemes: Vec<Normalization>,
    /// Per channel: statistics inside the nonzero mask only.
    pub use_mask_for_norm: Vec<bool>,
    /// Resampling function of images.
    pub resampling_fn_data: String,
    /// Its arguments.
    pub resampling_fn_data_kwargs: Value,
    /// Resampling function of label maps.
    pub resampling_fn_seg: String,
    /// Its arguments.
    pub resampling_fn_seg_kwargs: Value,
    /// Resampling function of logits.
    pub resampling_fn_probabilities: String,
    /// Its arguments.
    pub resampling_fn_probabilities_kwargs: Value,
    /// Network.
    pub architecture: Architecture,
    /// Dice over the batch instead of per sample.
    pub batch_dice: bool,
    /// Configuration whose label map is an input (cascade).
    pub previous_stage: Option<String>,
}

impl Configuration {
    /// True when patches are slices.
    pub fn is_2d(&self) -> bool {
        self.patch_size.len() == 2
    }

    /// Patch as `(z, y, x)`; slices have 1 in z.
    pub fn patch3(&self) -> [usize; 3] {
        match *self.patch_size.as_slice() {
            [y, x] => [1, y, x],
            [z, y, x] => [z, y, x],
            _ => unreachable!("checked when the plans were read"),
        }
    }
}

impl TryFrom<Map<String, Value>> for Plans {
    type Error = String;

    fn try_from(json: Map<String, Value>) -> Result<Self, String> {
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let axes = |key: &str| {
            // No default: with the wrong order every label lands in the wrong place.
            let given = json.get(key).ok_or_else(|| format!("there is no `{key}`"))?;
            let axes: [usize; 3] = serde_json::from_value(given.clone())
                .map_err(|_| format!("{key} is {given}, no order of three axes"))?;
            let mut sorted = axes;
            sorted.sort_unstable();
            if sorted == [0, 1, 2] {
                Ok(axes)
            } else {
                Err(format!("{key} is {axes:?}, no order of three axes"))
            }
        };
        if !json.get("configurations").is_some_and(Value::is_object) {
            return Err("there are no `configurations`: is this a plans file of nnU-Net v2?".into());
        }
        Ok(Self {
            dataset_name: text("dataset_name"),
            plans_name: text("plans_name"),
            transpose_forward: axes("transpose_forward")?,
            json,
        })
    }
}

impl From<Plans> for Map<String, Value> {
    fn from(plans: Plans) -> Self {
        plans.json
    }
}

impl Plans {
    /// From JSON that was read elsewhere, such as a model bundle.
    pub fn from_json(value: &Value) -> Result<Self> {
        serde_json::from_value(value.clone())
            .map_err(|error| Error::input("plans", error, "use the plans that the model was trained with"))
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        Value::Object(self.json.clone())
    }

    /// Keeps configurations of an older plans file that these plans do not have, such as hand-made ones.
    pub fn keep_others_of(&mut self, older: &Self) {
        if let Some(own) = self.json.get_mut("configurations").and_then(Value::as_object_mut) {
            for (name, configuration) in older.configurations() {
                if !DEFAULT_CONFIGURATIONS.contains(&name.as_str()) && !own.contains_key(name) {
                    own.insert(name.clone(), configuration.clone());
                }
            }
        }
    }

    /// Names of the configurations, in file order.
    pub fn configuration_names(&self) -> Vec<String> {
        self.configurations().keys().cloned().collect()
    }

    fn configurations(&self) -> &Map<String, Value> {
        self.json["configurations"].as_object().expect("checked when the plans were read")
    }

    /// Statistics of a channel over the foreground: mean, std, 0.5th and 99.5th percentile.
    pub fn intensities(&self, channel: usize) -> Option<[f64; 4]> {
        let all = self
            .json
            .get("foreground_intensity_properties_per_channel")
            .or_else(|| self.json.get("foreground_intensity_properties_by_modality"))?;
        let of = all.get(channel.to_string())?;
        let number = |key: &str| of.get(key).and_then(Value::as_f64);
        Some([number("mean")?, number("std")?, number("percentile_00_5")?, number("percentile_99_5")?])
    }

    /// A configuration with what it inherits.
    pub fn configuration(&self, name: &str) -> Result<Configuration> {
        let json = self.resolve(name, 0)?;
        let place = format!("plans {}, configuration {name}", self.plans_name);
        match self.json.get("label_manager").and_then(Value::as_str) {
            None | Some("LabelManager") => {}
            Some(other) => return Err(Reader { json: &json, place }.unknown("label_manager", other)),
        }
        Reader { json: &json, place }.configuration(name)
    }

    fn resolve(&self, name: &str, depth: usize) -> Result<Map<String, Value>> {
        let all = self.configurations();
        let Some(own) = all.get(name).and_then(Value::as_object) else {
            let have = self.configuration_names().join(", ");
            let what = format!("there is no configuration `{name}`, only {have}");
            return Err(Error::input(format!("plans {}", self.plans_name), what, "choose one of these"));
        };
        if depth > all.len() {
            let what = format!("`{name}` inherits from itself");
            return Err(Error::input("plans", what, "mend `inherits_from`"));
        }
        let mut merged = match own.get("inherits_from").and_then(Value::as_str) {
            Some(parent) => self.resolve(parent, depth + 1)?,
            None => Map::new(),
        };
        merged.extend(own.clone());
        Ok(merged)
    }
}

/// Reads one configuration; every error names the key.
struct Reader<'a> {
    json: &'a Map<String, Value>,
    place: String,
}

impl Reader<'_> {
    fn bad(&self, key: &str, found: impl std::fmt::Display) -> Error {
        let remedy = "use plans of nnU-Net v2 as they were written";
        Error::input(&self.place, format!("`{key}` is {found}"), remedy)
    }

    /// Something that only other software, or a later nnU-Net, has.
    fn unknown(&self, key: &str, found: impl std::fmt::Display) -> Error {
        let what = format!("`{key}` is `{found}`, which Galen does not have");
        Error::input(&self.place, what, "use a newer Galen, or a model made with nnU-Net's own classes")
    }

    fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        let value = self.json.get(key).ok_or_else(|| self.bad(key, "missing"))?;
        serde_json::from_value(value.clone()).map_err(|error| self.bad(key, error))
    }

    fn or<T: serde::de::DeserializeOwned>(&self, key: &str, default: T) -> Result<T> {
        if self.json.contains_key(key) { self.get(key) } else { Ok(default) }
    }

    fn configuration(&self, name: &str) -> Result<Configuration> {
        let patch_size: Vec<usize> = self.get("patch_size")?;
        let spacing: Vec<f64> = self.get("spacing")?;
        if !(2..=3).contains(&patch_size.len())
            || patch_size.contains(&0)
            || spacing.len() != patch_size.len()
        {
            return Err(self.bad("patch_size", format!("{patch_size:?} with spacing {spacing:?}")));
        }
        let voxels = patch_size.iter().try_fold(1usize, |n, &length| n.checked_mul(length));
        if voxels.is_none_or(|voxels| voxels > MOST_VOXELS) {
            return Err(self.bad("patch_size", format!("{patch_size:?}, more than {MOST_VOXELS} voxels")));
        }
        if spacing.iter().any(|mm| !(*mm > 0.0 && mm.is_finite())) {
            return Err(self.bad("spacing", format!("{spacing:?}")));
        }
        let schemes: Vec<String> = self.get("normalization_schemes")?;
        let scheme = |name: &String| {
            Normalization::from_class(name)
                .ok_or_else(|| self.bad("normalization_schemes", format!("`{name}`")))
        };
        let normalization_schemes = schemes.iter().map(scheme).collect::<Result<Vec<_>>>()?;
        let use_mask_for_norm: Vec<bool> = self.get("use_mask_for_norm")?;
        if use_mask_for_norm.len() != normalization_schemes.len() {
            return Err(self.bad("use_mask_for_norm", format!("{use_mask_for_norm:?}, not one per channel")));
        }
        let preprocessor: String = self.or("preprocessor_name", "DefaultPreprocessor".to_owned())?;
        if preprocessor != "DefaultPreprocessor" {
            return Err(self.unknown("preprocessor_name", &preprocessor));
        }
        let architecture = self.architecture()?;
        if architecture.dimensions() != patch_size.len() {
            return Err(self
                .bad("architecture", format!("{}D for a patch {patch_size:?}", architecture.dimensions())));
        }
        let default = |key: &str| self.or(key, "resample_data_or_seg_to_shape".to_owned());
        Ok(Configuration {
            name: name.to_owned(),
            batch_size: self.get("batch_size")?,
            median_image_size_in_voxels: self.or("median_image_size_in_voxels", Vec::new())?,
            spacing,
            patch_size,
            normalization_schemes,
            use_mask_for_norm,
            resampling_fn_data: default("resampling_fn_data")?,
            resampling_fn_data_kwargs: self.or("resampling_fn_data_kwargs", Value::Null)?,
            resampling_fn_seg: default("resampling_fn_seg")?,
            resampling_fn_seg_kwargs: self.or("resampling_fn_seg_kwargs", Value::Null)?,
            resampling_fn_probabilities: default("resampling_fn_probabilities")?,
            resampling_fn_probabilities_kwargs: self.or("resampling_fn_probabilities_kwargs", Value::Null)?,
            architecture,
            batch_dice: self.or("batch_dice", false)?,
            previous_stage: self.or("previous_stage", None)?,
        })
    }

    fn architecture(&self) -> Result<Architecture> {
        let Some(block) = self.json.get("architecture") else {
            if self.json.contains_key("UNet_class_name") {
                return self.old_architecture();
            }
            return Err(self.bad("architecture", "missing, and so is `UNet_class_name` of older plans"));
        };
        let class_name = block["network_class_name"].as_str().unwrap_or_default();
        let class = self.class(class_name)?;
        let json = block["arch_kwargs"].as_object().ok_or_else(|| self.bad("arch_kwargs", "missing"))?;
        let inner = Reader { json, place: format!("{}, architecture", self.place) };
        inner.only_stock_layers()?;
        inner.no_further_options()?;
        let depth =
            if class == NetworkClass::PlainConvUNet { "n_conv_per_stage" } else { "n_blocks_per_stage" };
        let stages: usize = inner.get("n_stages")?;
        if stages > MOST_STAGES {
            return Err(inner.bad("n_stages", format!("{stages}, expected at most {MOST_STAGES}")));
        }
        let norm = json.get("norm_op_kwargs").cloned().unwrap_or_default();
        let nonlin = json.get("nonlin_kwargs").cloned().unwrap_or_default();
        inner.checked(Architecture {
            class,
            features: inner.spread("features_per_stage", stages)?,
            kernels: inner.get("kernel_sizes")?,
            strides: inner.get("strides")?,
            encoder_depth: inner.spread(depth, stages)?,
            decoder_depth: inner.spread("n_conv_per_stage_decoder", stages.saturating_sub(1))?,
            bias: inner.or("conv_bias", true)?,
            norm_eps: norm["eps"].as_f64().unwrap_or(1e-5),
            norm_affine: norm["affine"].as_bool().unwrap_or(false),
            leak: nonlin["negative_slope"].as_f64().unwrap_or(0.01),
        })
    }

    /// A list with one entry per stage, or one number for all of them.
    fn spread(&self, key: &str, stages: usize) -> Result<Vec<usize>> {
        match self.json.get(key) {
            Some(Value::Number(_)) => Ok(vec![self.get(key)?; stages]),
            _ => self.get(key),
        }
    }

    fn class(&self, name: &str) -> Result<NetworkClass> {
        match name.rsplit('.').next() {
            Some("PlainConvUNet") => Ok(NetworkClass::PlainConvUNet),
            Some("ResidualEncoderUNet") => Ok(NetworkClass::ResidualEncoderUNet),
            _ => Err(Error::input(
                &self.place,
                format!("the network class `{name}` is unknown"),
                "Galen has PlainConvUNet and ResidualEncoderUNet",
            )),
        }
    }

    /// A layer that Galen would silently replace by another must be refused.
    fn only_stock_layers(&self) -> Result<()> {
        let stock =
            [("norm_op", "InstanceNorm"), ("nonlin", "LeakyReLU"), ("conv_op", "Conv"), ("dropout_op", "")];
        for (key, family) in stock {
            match self.json.get(key) {
                None | Some(Value::Null) if key == "dropout_op" => {}
                Some(Value::String(name)) if !family.is_empty() => {
                    let class = name.rsplit('.').next().unwrap_or_default();
                    if !class.starts_with(family) {
                        return Err(self.bad(key, format!("`{name}`, which Galen does not have")));
                    }
                }
                Some(Value::Null) | None => return Err(self.bad(key, "missing")),
                Some(other) => return Err(self.bad(key, format!("{other}, which Galen does not have"))),
            }
        }
        Ok(())
    }

    /// Options that Galen does not read must be off: they change the network.
    fn no_further_options(&self) -> Result<()> {
        const READ: &[&str] = &[
            "n_stages",
            "features_per_stage",
            "conv_op",
            "kernel_sizes",
            "strides",
            "n_conv_per_stage",
            "n_blocks_per_stage",
            "n_conv_per_stage_decoder",
            "conv_bias",
            "norm_op",
            "norm_op_kwargs",
            "dropout_op",
            "dropout_op_kwargs",
            "nonlin",
            "nonlin_kwargs",
            "deep_supervision", // a matter of training; the weights are the same
        ];
        let off =
            |value: &Value| value.is_null() || value.as_bool() == Some(false) || value.as_f64() == Some(0.0);
        match self.json.iter().find(|(key, value)| !READ.contains(&key.as_str()) && !off(value)) {
            Some((key, value)) => Err(self.unknown(key, value)),
            None => Ok(()),
        }
    }

    fn old_architecture(&self) -> Result<Architecture> {
        let class = self.class(&self.get::<String>("UNet_class_name")?)?;
        let encoder_depth: Vec<usize> = self.get("n_conv_per_stage_encoder")?;
        let base: usize = self.get("UNet_base_num_features")?;
        let most: usize = self.get("unet_max_num_features")?;
        let features = (0..encoder_depth.len()).map(|stage| (base << stage.min(32)).min(most)).collect();
        self.checked(Architecture {
            class,
            features,
            kernels: self.get("conv_kernel_sizes")?,
            strides: self.get("pool_op_kernel_sizes")?,
            encoder_depth,
            decoder_depth: self.get("n_conv_per_stage_decoder")?,
            bias: true,
            norm_eps: 1e-5,
            norm_affine: true,
            leak: 0.01,
        })
    }

    fn checked(&self, a: Architecture) -> Result<Architecture> {
        let stages = a.stages();
        let rank = a.kernels.first().map_or(0, Vec::len);
        let whole = stages >= 2
            && (2..=3).contains(&rank)
            && [a.kernels.len(), a.strides.len(), a.encoder_depth.len(), a.decoder_depth.len() + 1]
                .iter()
                .all(|&n| n == stages)
            && a.kernels.iter().chain(&a.strides).all(|axes| axes.len() == rank && !axes.contains(&0));
        if whole {
            Ok(a)
        } else {
            Err(self.bad("architecture", "not the same number of stages or axes everywhere"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plans(configurations: Value) -> Plans {
        let json =
            json!({ "plans_name": "p", "transpose_forward": [0, 1, 2], "configurations": configurations });
        Plans::from_json(&json).unwrap()
    }

    fn configuration(class: &str) -> Value {
        json!({
            "data_identifier": "p_2d", "batch_size": 2, "patch_size": [16, 16], "spacing": [1.0, 1.0],
            "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [false],
            "architecture": { "network_class_name": class, "arch_kwargs": {
                "n_stages": 2, "features_per_stage": [8, 16], "kernel_sizes": [[3, 3], [3, 3]],
                "strides": [[1, 1], [2, 2]], "n_conv_per_stage": 2, "n_conv_per_stage_decoder": [2],
                "conv_op": "torch.nn.modules.conv.Conv2d", "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                "dropout_op": null, "nonlin": "torch.nn.LeakyReLU"
            } }
        })
    }

    #[test]
    fn an_axis_order_is_never_guessed() {
        for (order, word) in [(Value::Null, "no order of three axes"), (json!([0, 0, 1]), "no order")] {
            let plans = json!({ "transpose_forward": order, "configurations": {} });
            assert!(Plans::from_json(&plans).unwrap_err().to_string().contains(word));
        }
        let error = Plans::from_json(&json!({ "configurations": {} })).unwrap_err().to_string();
        assert!(error.contains("there is no `transpose_forward`"), "{error}");
    }

    #[test]
    fn children_override_what_they_inherit() {
        let child = json!({ "inherits_from": "2d", "batch_size": 7 });
        let plans = plans(json!({ "2d": configuration("moved.PlainConvUNet"), "big": child }));
        let big = plans.configuration("big").unwrap();
        assert_eq!(
            (big.batch_size, big.patch3(), big.architecture.encoder_depth),
            (7, [1, 16, 16], vec![2, 2])
        );
    }

    #[test]
    fn circles_unknown_networks_and_unknown_names_are_said() {
        let circle = plans(json!({ "a": { "inherits_from": "b" }, "b": { "inherits_from": "a" } }));
        assert!(circle.configuration("a").unwrap_err().to_string().contains("inherits"));
        let unknown = plans(json!({ "2d": configuration("some.Primus") }));
        assert!(unknown.configuration("2d").unwrap_err().to_string().contains("some.Primus"));
        assert!(unknown.configuration("3d").unwrap_err().to_string().contains("only 2d"));
    }

    #[test]
    fn what_only_later_versions_have_is_named() {
        let refusal = |change: &dyn Fn(&mut Value)| {
            let mut configuration = configuration("moved.PlainConvUNet");
            change(&mut configuration);
            plans(json!({ "2d": configuration })).configuration("2d").unwrap_err().to_string()
        };
        assert!(refusal(&|c| c["preprocessor_name"] = json!("Preprocessor9")).contains("Preprocessor9"));
        let named = refusal(&|c| c["architecture"]["arch_kwargs"]["nonlin_first"] = json!(true));
        assert!(named.contains("`nonlin_first` is `true`"), "{named}");
        let missing = refusal(&|c| drop(c.as_object_mut().unwrap().remove("architecture")));
        assert!(missing.contains("`architecture` is missing"), "{missing}");
    }

    #[test]
    fn hand_made_configurations_survive_planning() {
        let mut new = plans(json!({ "2d": 1 }));
        new.keep_others_of(&plans(json!({ "2d": 2, "3d_lowres": 3, "mine": 4 })));
        assert_eq!(new.to_json()["configurations"], json!({ "2d": 1, "mine": 4 }));
    }
}
