//! Standardised uptake values of PET. Source: the QIBA recommendation for vendor-neutral computation (2011);
//! lean body mass by Janmahasatian et al., Clin. Pharmacokinet. 44 (2005) 1051.

use super::dataset::Dataset;
use super::instance::seconds;
use super::tags;

/// To which mass uptake is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uptake {
    /// Body weight.
    BodyWeight,
    /// Lean body mass.
    LeanBodyMass,
}

/// What a file says about dose and patient.
#[derive(Debug, Clone, PartialEq)]
pub struct Pet {
    /// Units of the values, e.g. `BQML`.
    pub units: String,
    /// Kilograms.
    pub weight: Option<f64>,
    /// Metres.
    pub height: Option<f64>,
    /// `M` or `F`.
    pub sex: Option<String>,
    /// Becquerels at injection.
    pub dose: Option<f64>,
    /// Seconds.
    pub half_life: Option<f64>,
    /// `START`, `ADMIN` or `NONE`.
    pub decay: String,
    /// Days and seconds of the injection.
    injected: Option<(Option<i64>, f64)>,
    /// Days and seconds of the start of the scan.
    scanned: Option<(Option<i64>, f64)>,
    /// Philips: factor from counts to uptake by body weight.
    philips_uptake: Option<f64>,
    /// Philips: factor from counts to activity.
    philips_activity: Option<f64>,
}

/// Days since 1970 of a date such as `20240131`.
fn days(text: &str) -> Option<i64> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    // Months are counted from March, so that the day of a leap year comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

impl Pet {
    /// Reads what a PET file says; `None` for other files.
    pub fn read(set: &Dataset) -> Option<Self> {
        if set.text(tags::MODALITY).as_deref() != Some("PT") {
            return None;
        }
        let drug = set.item(tags::RADIOPHARMACEUTICAL);
        let of_drug = |tag| drug.as_ref().and_then(|drug| drug.number(tag));
        let at = |date: Option<String>, time: Option<String>| {
            Some((date.and_then(|date| days(&date)), seconds(&time?)?))
        };
        let whole = drug.as_ref().and_then(|drug| drug.text(tags::RADIOPHARMACEUTICAL_START_DATE_TIME));
        let injected = match whole.as_deref().and_then(|text| text.split_at_checked(8)) {
            Some((date, time)) => {
                at(Some(date.into()), Some(time.split(['+', '-']).next().unwrap_or(time).into()))
            }
            None => at(None, drug.as_ref().and_then(|drug| drug.text(tags::RADIOPHARMACEUTICAL_START))),
        };
        // Decay is corrected to the start of the series; a series that was derived later starts after its
        // acquisition, whose time is then the one.
        let series = at(set.text(tags::SERIES_DATE), set.text(tags::SERIES_TIME));
        let acquisition = at(set.text(tags::ACQUISITION_DATE), set.text(tags::ACQUISITION_TIME));
        let scanned = match (series, acquisition) {
            (Some(series), Some(acquisition)) if series > acquisition => Some(acquisition),
            (series, acquisition) => series.or(acquisition),
        };
        Some(Self {
            units: set.text(tags::UNITS).unwrap_or_default(),
            weight: set.number(tags::PATIENT_WEIGHT).filter(|kg| *kg > 0.0),
            height: set.number(tags::PATIENT_SIZE).filter(|metres| *metres > 0.0),
            sex: set.text(tags::PATIENT_SEX),
            dose: of_drug(tags::RADIONUCLIDE_DOSE).filter(|becquerels| *becquerels > 0.0),
            half_life: of_drug(tags::RADIONUCLIDE_HALF_LIFE).filter(|seconds| *seconds > 0.0),
            decay: set.text(tags::DECAY_CORRECTION).unwrap_or_default(),
            injected,
            scanned,
            philips_uptake: set.number(tags::PHILIPS_SUV_FACTOR).filter(|factor| *factor > 0.0),
            philips_activity: set.number(tags::PHILIPS_ACTIVITY_FACTOR).filter(|factor| *factor > 0.0),
        })
    }

    /// Factor from the image's values (stored values times slope) to uptake, in g/ml; or what is missing for it.
    pub fn factor(&self, uptake: Uptake) -> Result<f64, String> {
        let weight = || self.weight.ok_or("the patient's weight is missing");
        // Uptake by body weight becomes uptake by lean mass by the ratio of the masses.
        let mass_ratio = match uptake {
            Uptake::BodyWeight => 1.0,
            Uptake::LeanBodyMass => self.lean_body_mass()? / weight()?,
        };
        match self.units.as_str() {
            "GML" => return Ok(mass_ratio),
            "CNTS" => {
                if let Some(factor) = self.philips_uptake {
                    return Ok(factor * mass_ratio);
                }
            }
            "BQML" => {}
            other => return Err(format!("values are in `{other}`, not in activity (BQML)")),
        }
        let to_activity = match self.units.as_str() {
            "CNTS" => self.philips_activity.ok_or("values are counts without a factor to activity")?,
            _ => 1.0,
        };
        let dose = self.dose.ok_or("the injected dose is missing")?;
        let remaining = match self.decay.as_str() {
            "ADMIN" => 1.0,
            "START" => {
                let half_life = self.half_life.ok_or("the half-life is missing")?;
                0.5f64.powf(self.elapsed()? / half_life)
            }
            other => return Err(format!("decay correction `{other}` is neither START nor ADMIN")),
        };
        Ok(to_activity * weight()? * 1000.0 / (dose * remaining) * mass_ratio)
    }

    /// Seconds from injection to scan.
    fn elapsed(&self) -> Result<f64, String> {
        let (injected_day, injected) = self.injected.ok_or("the time of the injection is missing")?;
        let (scanned_day, scanned) = self.scanned.ok_or("the time of the scan is missing")?;
        let whole_days = match (injected_day, scanned_day) {
            (Some(from), Some(to)) => (to - from) as f64,
            // Without a date, an injection that seems to follow the scan was on the day before.
            _ if injected > scanned => 1.0,
            _ => 0.0,
        };
        let elapsed = whole_days * 86_400.0 + scanned - injected;
        if (0.0..86_400.0).contains(&elapsed) {
            return Ok(elapsed);
        }
        Err(format!("the scan begins {elapsed} s after the injection, which no protocol does"))
    }

    /// Kilograms.
    fn lean_body_mass(&self) -> Result<f64, String> {
        let weight = self.weight.ok_or("the patient's weight is missing")?;
        let index = weight / self.height.ok_or("the patient's size is missing")?.powi(2);
        match self.sex.as_deref() {
            Some("M") => Ok(9270.0 * weight / (6680.0 + 216.0 * index)),
            Some("F") => Ok(9270.0 * weight / (8780.0 + 244.0 * index)),
            _ => Err("the patient's sex is missing".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pet() -> Pet {
        Pet {
            units: "BQML".into(),
            weight: Some(70.0),
            height: Some(1.75),
            sex: Some("M".into()),
            dose: Some(3.7e8),
            half_life: Some(6586.2),
            decay: "START".into(),
            injected: Some((None, 36_000.0)),
            scanned: Some((Some(19_000), 39_600.0)),
            philips_uptake: None,
            philips_activity: None,
        }
    }

    #[test]
    fn uptake_follows_dose_decay_and_mass() {
        let factor = pet().factor(Uptake::BodyWeight).unwrap();
        assert!((factor - 70_000.0 / (3.7e8 * 0.5f64.powf(3600.0 / 6586.2))).abs() < 1e-15);
        let lean = pet().factor(Uptake::LeanBodyMass).unwrap();
        assert!((lean / factor - 9270.0 / (6680.0 + 216.0 * 70.0 / 1.75f64.powi(2))).abs() < 1e-12);
        let over_midnight = Pet { injected: Some((None, 86_000.0)), scanned: Some((None, 3_200.0)), ..pet() };
        assert!((over_midnight.factor(Uptake::BodyWeight).unwrap() - factor).abs() < 1e-15);
        let grams = Pet { units: "GML".into(), dose: None, ..pet() };
        assert_eq!(grams.factor(Uptake::BodyWeight), Ok(1.0));
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (Pet { weight: None, ..pet() }, "weight"),
            (Pet { dose: None, ..pet() }, "dose"),
            (Pet { units: "CNTS".into(), ..pet() }, "counts"),
            (Pet { units: "PROPCPS".into(), ..pet() }, "PROPCPS"),
            (Pet { decay: "NONE".into(), ..pet() }, "NONE"),
            (Pet { scanned: Some((Some(1), 0.0)), injected: Some((Some(9), 0.0)), ..pet() }, "no protocol"),
        ];
        for (pet, word) in cases {
            assert!(pet.factor(Uptake::BodyWeight).unwrap_err().contains(word), "{word}");
        }
        assert_eq!((days("19700101"), days("20240229"), days("1970")), (Some(0), Some(19_782), None));
    }
}
