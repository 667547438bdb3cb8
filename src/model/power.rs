//! What a host takes from the socket, by how busy it is.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// Watts at 0, 10, 20 and so on to 100 % utilisation, as the SPECpower benchmark measures them; linear between these points.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerCurve(Arc<[f64]>);

/// Curves by name. The two are the hosts of the PlanetLab experiment (Beloglazov and Buyya 2012).
const PRESETS: &[(&str, [f64; PowerCurve::POINTS])] = &[
    ("hp-ml110-g4", [86.0, 89.4, 92.6, 96.0, 99.5, 102.0, 106.0, 108.0, 112.0, 114.0, 117.0]),
    ("hp-ml110-g5", [93.7, 97.0, 101.0, 105.0, 110.0, 116.0, 121.0, 125.0, 129.0, 133.0, 135.0]),
];

/// Why a list of numbers, or a name, is no power curve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PowerCurveError(String);

impl PowerCurve {
    /// So many points a curve has.
    pub const POINTS: usize = 11;

    /// The curve through these watts at 0, 10, .. 100 % utilisation.
    pub fn new(watts: Vec<f64>) -> Result<PowerCurve, PowerCurveError> {
        if watts.len() != PowerCurve::POINTS {
            let what = format!(
                "a power curve has {} values, the watts at 0, 10, .. 100 % utilisation; here are {}",
                PowerCurve::POINTS,
                watts.len()
            );
            return Err(PowerCurveError(what));
        }
        match watts.iter().find(|watts| !watts.is_finite() || **watts < 0.0) {
            Some(bad) => Err(PowerCurveError(format!("{bad} watts are impossible; a host takes 0 or more"))),
            None => Ok(PowerCurve(watts.into())),
        }
    }

    /// The curve of this name.
    pub fn named(name: &str) -> Result<PowerCurve, PowerCurveError> {
        let known = PRESETS.iter().find(|(known, _)| *known == name);
        known.map(|(_, watts)| PowerCurve(Arc::from(watts.as_slice()))).ok_or_else(|| {
            let names: Vec<&str> = PowerCurve::names().collect();
            PowerCurveError(format!("no power curve is called `{name}`; there are {}", names.join(", ")))
        })
    }

    /// The names of the curves that there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// Watts at this utilisation, from 0 to 1; what lies outside counts as the nearer end.
    ///
    /// The order of operations is that of CloudSim's `PowerModelSpecPower`, so that both give the same figure to the last bit:
    /// placements compare such figures, and most of them differ by rounding only.
    pub fn watts(&self, utilisation: f64) -> f64 {
        let utilisation = utilisation.clamp(0.0, 1.0);
        let pieces = (PowerCurve::POINTS - 1) as f64;
        let low = (utilisation * pieces) as usize;
        let (from, to) = (self.0[low], self.0[(low + 1).min(PowerCurve::POINTS - 1)]);
        from + (to - from) / pieces * (utilisation - low as f64 / pieces) * (pieces * pieces)
    }

    /// Watts when it is as busy as can be.
    pub fn top(&self) -> f64 {
        self.watts(1.0)
    }
}

/// In YAML: a curve's name, or its list of watts.
impl<'de> Deserialize<'de> for PowerCurve {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PowerCurve, D::Error> {
        struct CurveVisitor;
        impl<'de> Visitor<'de> for CurveVisitor {
            type Value = PowerCurve;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a power curve, or its watts at 0, 10, .. 100 % utilisation")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<PowerCurve, E> {
                PowerCurve::named(name).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PowerCurve, A::Error> {
                let mut watts = Vec::new();
                while let Some(value) = list.next_element()? {
                    watts.push(value);
                }
                PowerCurve::new(watts).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(CurveVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watts_lie_on_the_lines_between_the_measured_points() {
        let g4 = PowerCurve::named("hp-ml110-g4").unwrap();
        for (utilisation, watts) in
            [(0.0, 86.0), (0.1, 89.4), (0.25, 94.3), (0.95, 115.5), (1.0, 117.0), (1.5, 117.0), (-1.0, 86.0)]
        {
            assert!((g4.watts(utilisation) - watts).abs() < 1e-9, "{utilisation}: {}", g4.watts(utilisation));
        }
        assert_eq!(PowerCurve::named("hp-ml110-g5").unwrap().top(), 135.0);
    }

    #[test]
    fn what_is_no_curve_is_refused_with_the_remedy() {
        let said = |yaml: &str| serde_yaml::from_str::<PowerCurve>(yaml).unwrap_err().to_string();
        assert!(said("hp-ml110-g3").contains("there are hp-ml110-g4, hp-ml110-g5"));
        assert!(said("[1, 2]").contains("has 11 values"));
        assert!(said("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -1]").contains("-1 watts are impossible"));
        let listed: PowerCurve = serde_yaml::from_str("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]").unwrap();
        assert_eq!(listed.watts(0.55), 5.5);
    }
}
