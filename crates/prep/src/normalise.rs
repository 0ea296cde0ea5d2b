//! Intensity normalisation per channel, as nnU-Net v2.8.1 does it.

use crate::plans::{Configuration, Plans};
use galen_core::{Error, Result};

/// How a channel is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// Clip to the dataset's foreground percentiles, then its mean and deviation.
    Ct,
    /// Mean and deviation of the case.
    ZScore,
    /// As stored.
    None,
    /// Minimum and maximum of the case to 0 and 1.
    RescaleTo01,
    /// Divide by 255.
    RgbTo01,
}

impl Normalization {
    /// By channel name, as the planner chooses.
    pub fn for_channel(name: &str) -> Self {
        match name.to_lowercase().as_str() {
            "ct" => Self::Ct,
            "nonorm" => Self::None,
            "rescale_to_0_1" => Self::RescaleTo01,
            "rgb_to_0_1" => Self::RgbTo01,
            _ => Self::ZScore,
        }
    }

    /// By nnU-Net's class name.
    pub fn from_class(name: &str) -> Option<Self> {
        Some(match name {
            "CTNormalization" => Self::Ct,
            "ZScoreNormalization" => Self::ZScore,
            "NoNormalization" => Self::None,
            "RescaleTo01Normalization" => Self::RescaleTo01,
            "RGBTo01Normalization" => Self::RgbTo01,
            _ => return None,
        })
    }

    /// nnU-Net's class name.
    pub fn class(self) -> &'static str {
        match self {
            Self::Ct => "CTNormalization",
            Self::ZScore => "ZScoreNormalization",
            Self::None => "NoNormalization",
            Self::RescaleTo01 => "RescaleTo01Normalization",
            Self::RgbTo01 => "RGBTo01Normalization",
        }
    }
}

/// Normalises one channel in place; `labels` mark the nonzero region (-1 is outside).
pub(crate) fn normalise(
    values: &mut [f32],
    channel: usize,
    labels: &[i16],
    plans: &Plans,
    configuration: &Configuration,
) -> Result<()> {
    match configuration.normalization_schemes[channel] {
        Normalization::Ct => {
            let statistics = plans.intensities(channel).ok_or_else(|| {
                let what = format!("no foreground intensities of channel {channel}");
                Error::input(format!("plans {}", plans.plans_name), what, "plan the dataset again")
            })?;
            ct(values, statistics);
        }
        Normalization::ZScore if configuration.use_mask_for_norm[channel] => {
            z_score(values, |i| labels[i] >= 0)
        }
        Normalization::ZScore => z_score(values, |_| true),
        Normalization::None => {}
        Normalization::RescaleTo01 => rescale(values),
        Normalization::RgbTo01 => rgb(values, channel)?,
    }
    Ok(())
}

fn rgb(values: &mut [f32], channel: usize) -> Result<()> {
    if let Some(bad) = values.iter().find(|v| !(0.0..=255.0).contains(*v)) {
        let what = format!("channel {channel} holds {bad}; a colour channel has 0 to 255");
        return Err(Error::input(
            "image",
            what,
            "give the channel another name than rgb_to_0_1, and plan again",
        ));
    }
    values.iter_mut().for_each(|v| *v /= 255.0);
    Ok(())
}

fn ct(values: &mut [f32], [mean, std, low, high]: [f64; 4]) {
    let (mean, std, low, high) = (mean as f32, std.max(1e-8) as f32, low as f32, high as f32);
    values.iter_mut().for_each(|v| *v = (v.max(low).min(high) - mean) / std);
}

/// Voxels outside the mask stay as they are (zero, since they were cropped away as zero).
fn z_score(values: &mut [f32], inside: impl Fn(usize) -> bool) {
    let (mut n, mut sum) = (0usize, 0f64);
    for (i, &v) in values.iter().enumerate() {
        if inside(i) {
            n += 1;
            sum += f64::from(v);
        }
    }
    if n == 0 {
        return;
    }
    let mean = sum / n as f64;
    let squares: f64 = values
        .iter()
        .enumerate()
        .filter(|&(i, _)| inside(i))
        .map(|(_, &v)| (f64::from(v) - mean).powi(2))
        .sum();
    let (mean, std) = (mean as f32, (squares / n as f64).sqrt().max(1e-8) as f32);
    for (i, v) in values.iter_mut().enumerate() {
        if inside(i) {
            *v = (*v - mean) / std;
        }
    }
}

fn rescale(values: &mut [f32]) {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    values.iter_mut().for_each(|v| *v -= low);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max).max(1e-8);
    values.iter_mut().for_each(|v| *v /= high);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_the_mask_nothing_moves() {
        let mut values = [1.0, 3.0, 50.0];
        z_score(&mut values, |i| i < 2);
        assert_eq!(values, [-1.0, 1.0, 50.0]);
    }

    #[test]
    fn names_and_classes_go_both_ways() {
        for name in ["CT", "noNorm", "rescale_to_0_1", "rgb_to_0_1", "zscore", "T1"] {
            let scheme = Normalization::for_channel(name);
            assert_eq!(Normalization::from_class(scheme.class()), Some(scheme));
        }
        assert_eq!(Normalization::for_channel("Ct"), Normalization::Ct);
        assert_eq!(Normalization::from_class("MyNormalization"), None);
    }

    #[test]
    fn colours_beyond_255_are_refused() {
        let mut values = [0.0, 255.0];
        rgb(&mut values, 0).unwrap();
        assert_eq!(values, [0.0, 1.0]);
        assert!(rgb(&mut [256.0], 1).unwrap_err().to_string().contains("channel 1"));
    }
}
