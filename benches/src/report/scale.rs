//! Axes: where a value lies, which values are marked, and how they are written.

/// An axis from one value to another, by steps or by factors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

/// About how many marks an axis has.
const MARKS: f64 = 4.0;

impl Scale {
    /// From zero to what holds `most`, by steps.
    pub(super) fn linear(most: f64) -> Self {
        let step = step_for(most);
        Self {
            from: 0.0,
            to: ((most / step).ceil() * step).max(step),
            logarithmic: false,
        }
    }

    /// Exactly from zero to `most`, as time goes on.
    pub(super) fn exactly(most: f64) -> Self {
        Self {
            from: 0.0,
            to: if most > 0.0 { most } else { 1.0 },
            logarithmic: false,
        }
    }

    /// Whole decades that hold all of these positive values.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            least = least.min(value);
            most = most.max(value);
        }
        if most <= 0.0 {
            (least, most) = (1.0, 10.0);
        }
        let (from, to) = (least.log10().floor(), most.log10().ceil());
        Self {
            from: 10_f64.powf(from),
            to: 10_f64.powf(if to > from { to } else { from + 1.0 }),
            logarithmic: true,
        }
    }

    /// Where a value lies, 0 at the beginning and 1 at the end; what lies outside is at the nearer one.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }

    /// The values that are marked.
    pub(super) fn marks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.to / self.from).log10().round() as i32;
            return (0..=decades).map(|n| self.from * 10_f64.powi(n)).collect();
        }
        let step = step_for(self.to);
        let count = (self.to / step + 1e-9).floor() as i32;
        (0..=count).map(|n| f64::from(n) * step).collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that there are about so many marks up to `most`.
fn step_for(most: f64) -> f64 {
    if !most.is_finite() || most <= 0.0 {
        return 1.0;
    }
    let rough = most / MARKS;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

/// A number in few characters: `1.5M`, `200k`, `12.3`, `0.05`.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let (scaled, suffix) = match size {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{scaled:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_axes_hold_their_values() {
        let said = [1_500_000.0, 200_000.0, 12.34, 0.05, 0.0, 100.0].map(short);
        assert_eq!(said, ["1.5M", "200k", "12.3", "0.05", "0", "100"]);
        assert_eq!(Scale::linear(37.0).marks(), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(Scale::linear(0.0).marks(), [0.0, 0.5, 1.0]);
        let decades = Scale::logarithmic([0.3, 25.0].into_iter());
        assert_eq!(decades.marks().len(), 4);
        assert!((decades.at(1.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!((decades.at(0.0), decades.at(1e9)), (0.0, 1.0));
    }
}
