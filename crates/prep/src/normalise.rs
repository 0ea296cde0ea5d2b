//! Intensity normalisation per channel, as nnU-Net v2.8.1 does it.

use crate::plans::{Configuration, Plans};
use galen_core::{Error, Result};
use rayon::prelude::*;

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
            ct(values, statistics(channel, plans)?);
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

/// How the intensities of one channel change, with what had to be measured on the whole channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Intensity {
    /// As stored.
    Stored,
    /// Clipped to `[low, high]`, then mean and deviation.
    Ct { statistics: [f64; 4] },
    /// Mean and deviation.
    ZScore { mean: f32, std: f32 },
    /// Smallest value to 0 and largest to 1.
    Rescaled { low: f32, high: f32 },
    /// Divided by 255.
    Rgb,
}

impl Intensity {
    /// Measures a channel of `planes` planes, which `each(z, take)` shows; no mask is used.
    pub(crate) fn fit(
        channel: usize,
        plans: &Plans,
        configuration: &Configuration,
        planes: usize,
        each: &(dyn Fn(usize, &mut dyn FnMut(&[f32])) + Sync),
    ) -> Result<Self> {
        let sums = |of: &(dyn Fn(f64) -> f64 + Sync)| -> (usize, f64) {
            let of_plane = |z: usize| {
                let mut found = (0, 0.0);
                each(z, &mut |values| found = (values.len(), values.iter().map(|&v| of(v.into())).sum()));
                found
            };
            let parts: Vec<(usize, f64)> = (0..planes).into_par_iter().map(of_plane).collect();
            parts.iter().fold((0, 0.0), |(n, sum), part| (n + part.0, sum + part.1))
        };
        Ok(match configuration.normalization_schemes[channel] {
            Normalization::None => Self::Stored,
            Normalization::Ct => Self::Ct { statistics: statistics(channel, plans)? },
            Normalization::ZScore => {
                let (n, sum) = sums(&|v| v);
                let mean = sum / n as f64;
                let (_, squares) = sums(&|v| (v - mean).powi(2));
                Self::ZScore { mean: mean as f32, std: (squares / n as f64).sqrt().max(1e-8) as f32 }
            }
            Normalization::RescaleTo01 => {
                let of_plane = |z: usize| {
                    let mut found = [f32::INFINITY, f32::NEG_INFINITY];
                    each(z, &mut |values| {
                        found = values.iter().fold(found, |[low, high], &v| [low.min(v), high.max(v)]);
                    });
                    found
                };
                let parts: Vec<[f32; 2]> = (0..planes).into_par_iter().map(of_plane).collect();
                let low = parts.iter().fold(f32::INFINITY, |low, part| low.min(part[0]));
                let high = parts.iter().fold(f32::NEG_INFINITY, |high, part| high.max(part[1]));
                Self::Rescaled { low, high: (high - low).max(1e-8) }
            }
            Normalization::RgbTo01 => {
                for z in 0..planes {
                    let mut fine = Ok(());
                    each(z, &mut |values| fine = colours(values, channel));
                    fine?;
                }
                Self::Rgb
            }
        })
    }

    /// Changes values in place.
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Stored => {}
            Self::Ct { statistics } => ct(values, statistics),
            Self::ZScore { mean, std } => values.iter_mut().for_each(|v| *v = (*v - mean) / std),
            Self::Rescaled { low, high } => values.iter_mut().for_each(|v| *v = (*v - low) / high),
            Self::Rgb => values.iter_mut().for_each(|v| *v /= 255.0),
        }
    }
}

/// Mean, deviation and percentiles of a channel's foreground, from the plans.
fn statistics(channel: usize, plans: &Plans) -> Result<[f64; 4]> {
    plans.intensities(channel).ok_or_else(|| {
        let what = format!("no foreground intensities of channel {channel}");
        Error::input(format!("plans {}", plans.plans_name), what, "plan the dataset again")
    })
}

fn rgb(values: &mut [f32], channel: usize) -> Result<()> {
    colours(values, channel)?;
    values.iter_mut().for_each(|v| *v /= 255.0);
    Ok(())
}

/// Refuses what no colour can be.
fn colours(values: &[f32], channel: usize) -> Result<()> {
    let Some(bad) = values.iter().find(|v| !(0.0..=255.0).contains(*v)) else { return Ok(()) };
    let what = format!("channel {channel} holds {bad}; a colour channel has 0 to 255");
    Err(Error::input("image", what, "give the channel another name than rgb_to_0_1, and plan again"))
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
