//! `--sweep`: one setting, several values.

use std::str::FromStr;

/// More runs than this are a slip of the pen.
const MOST: usize = 10_000;

/// A setting and its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sweep {
    pub(super) setting: String,
    pub(super) values: Vec<f64>,
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Sweep, String> {
        let form = "write SETTING=FROM..TO:STEP, for example hot=0.7..0.95:0.05, or SETTING=A,B,C";
        let (setting, values) = text.split_once('=').ok_or(form)?;
        if setting.trim().is_empty() {
            return Err(form.to_owned());
        }
        let number = |text: &str| {
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| format!("`{text}` is no number; {form}"))
        };
        let values = match values.split_once("..") {
            None => values.split(',').map(number).collect::<Result<Vec<f64>, String>>()?,
            Some((from, rest)) => {
                let (to, step) = rest.split_once(':').ok_or_else(|| format!("a range needs a step; {form}"))?;
                let (from, to, step) = (number(from)?, number(to)?, number(step)?);
                if step <= 0.0 || to < from {
                    return Err("a range goes upwards, by a step above 0".to_owned());
                }
                // A little more than whole steps, so that the last value is reached in spite of rounding.
                let steps = ((to - from) / step + 1e-9).floor();
                if steps >= MOST as f64 {
                    return Err(format!("these are more than {MOST} values"));
                }
                (0..=steps as usize).map(|index| rounded(from + step * index as f64)).collect()
            }
        };
        Ok(Sweep { setting: setting.trim().to_owned(), values })
    }
}

/// Without the noise of adding: 0.7500000000000001 was meant as 0.75.
fn rounded(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_are_read() {
        let values = |text: &str| text.parse::<Sweep>().map(|sweep| sweep.values);
        assert_eq!(values("hot=0.7..0.95:0.05"), Ok(vec![0.7, 0.75, 0.8, 0.85, 0.9, 0.95]));
        assert_eq!(values("hot=3"), Ok(vec![3.0]));
        assert_eq!(values("hot=1, 2,4"), Ok(vec![1.0, 2.0, 4.0]));
        for wrong in ["hot", "=1", "hot=", "hot=a", "hot=1..2", "hot=2..1:1", "hot=1..2:0", "hot=0..1:1e-9", "hot=1..nan:1"] {
            assert!(wrong.parse::<Sweep>().is_err(), "{wrong}");
        }
    }
}
