//! The middle of several measurements, and how far apart they are.

use std::fmt;

/// Median, least and greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of the values are below it.
    pub median: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    ///
    /// # Panics
    /// There is no value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

/// Two digits unless a precision is asked for; always to the right.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Precision is for each figure; padding is for the whole, so that columns line up.
        let digits = formatter.precision().unwrap_or(2);
        let text = format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max);
        let missing = formatter.width().unwrap_or(0).saturating_sub(text.chars().count());
        write!(formatter, "{}{text}", " ".repeat(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(format!("{:>20}", Spread::of([1.0])), "    1.00 (1.00–1.00)");
        assert_eq!(format!("{:.0}", Spread::of([1.0, 4.0, 2.0])), "2 (1–4)");
    }
}
