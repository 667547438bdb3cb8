//! What hosts draw from the mains.

use serde::{Deserialize, Serialize};

/// What a host draws while it is on, by the share of its CPU in use: watts at equally spaced shares from idle to full, and
/// straight lines between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct PowerCurve {
    watts: Vec<f64>,
}

/// HP ProLiant ML110 G4 (Xeon 3040, two cores of 1,860 MHz): SPECpower_ssj2008, at 0, 10, .. 100 %.
const ML110_G4: [f64; 11] = [86.0, 89.4, 92.6, 96.0, 99.5, 102.0, 106.0, 108.0, 112.0, 114.0, 117.0];
/// HP ProLiant ML110 G5 (Xeon 3075, two cores of 2,660 MHz): SPECpower_ssj2008, at 0, 10, .. 100 %.
const ML110_G5: [f64; 11] = [93.7, 97.0, 101.0, 105.0, 110.0, 116.0, 121.0, 125.0, 129.0, 133.0, 135.0];

impl PowerCurve {
    /// The curves that are known by name, measured by SPEC.
    pub const KNOWN: &'static [(&'static str, &'static [f64])] = &[("hp-ml110-g4", &ML110_G4), ("hp-ml110-g5", &ML110_G5)];

    /// A curve through these watts, at least two: the first when idle, the last under full load.
    pub fn new(watts: Vec<f64>) -> Result<PowerCurve, String> {
        if watts.len() < 2 {
            return Err("a power curve needs at least two values: the watts when idle and under full load".into());
        }
        match watts.iter().find(|watts| !watts.is_finite() || **watts < 0.0) {
            Some(bad) => Err(format!("{bad} is no power in watts: each value of a power curve is 0 or more")),
            None => Ok(PowerCurve { watts }),
        }
    }

    /// The known curve of this name.
    pub fn known(name: &str) -> Option<PowerCurve> {
        let (_, watts) = PowerCurve::KNOWN.iter().find(|(known, _)| *known == name)?;
        Some(PowerCurve { watts: watts.to_vec() })
    }

    /// Watts with this share of the CPU in use; below 0 it counts as 0, above 1 as 1.
    ///
    /// The order of operations is that of CloudSim's `PowerModelSpecPower`, so that both give the same figure to the last bit:
    /// placements compare such figures, and most of them differ by rounding only.
    pub fn watts(&self, utilisation: f64) -> f64 {
        let utilisation = utilisation.clamp(0.0, 1.0);
        let pieces = (self.watts.len() - 1) as f64;
        let low = (utilisation * pieces) as usize;
        let (from, to) = (self.watts[low], self.watts[(low + 1).min(self.watts.len() - 1)]);
        from + (to - from) / pieces * (utilisation - low as f64 / pieces) * (pieces * pieces)
    }

    /// Watts under full load.
    pub fn full(&self) -> f64 {
        self.watts[self.watts.len() - 1]
    }
}

impl TryFrom<Vec<f64>> for PowerCurve {
    type Error = String;

    fn try_from(watts: Vec<f64>) -> Result<PowerCurve, String> {
        PowerCurve::new(watts)
    }
}

impl From<PowerCurve> for Vec<f64> {
    fn from(curve: PowerCurve) -> Vec<f64> {
        curve.watts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watts_lie_on_the_lines_between_the_points() {
        let curve = PowerCurve::new(vec![100.0, 150.0, 180.0]).unwrap();
        let at = [-0.1, 0.0, 0.25, 0.5, 0.75, 1.0, 1.2].map(|share| curve.watts(share));
        assert_eq!(at, [100.0, 100.0, 125.0, 150.0, 165.0, 180.0, 180.0]);
        assert_eq!(curve.full(), 180.0);
    }

    #[test]
    fn known_curves_give_their_own_points() {
        for (name, watts) in PowerCurve::KNOWN {
            let curve = PowerCurve::known(name).unwrap();
            for (tenth, watts) in watts.iter().enumerate() {
                assert!((curve.watts(tenth as f64 / 10.0) - watts).abs() < 1e-9, "{name} at {tenth}0 %");
            }
        }
        assert_eq!(PowerCurve::known("hp-ml110-g4").unwrap().watts(0.05), 87.7);
        assert_eq!(PowerCurve::known("hp-ml110-g6"), None);
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        assert!(PowerCurve::new(vec![100.0]).is_err());
        assert!(PowerCurve::new(vec![100.0, -1.0]).is_err());
        assert!(PowerCurve::new(vec![f64::NAN, 1.0]).is_err());
        assert!(serde_json::from_str::<PowerCurve>("[]").is_err());
    }
}
