//! Numbers in little room.

use lb_core::Quantiles;

/// `0`, `0.4`, `12`, `99999`, `120k`, `1.5M`.
pub(super) fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        ..9.95 if value.fract() != 0.0 => format!("{value:.1}"),
        ..99_999.5 => format!("{value:.0}"),
        ..999_500.0 => format!("{:.0}k", value / 1e3),
        ..99.95e6 => format!("{:.1}M", value / 1e6),
        _ => format!("{:.0}M", value / 1e6),
    }
}

/// `850µs`, `1.2ms`, `12ms`, `3.4s`, `34s`, `2min`, `5h`.
pub(super) fn duration(micros: u64) -> String {
    let seconds = micros as f64 / 1e6;
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..9_950 => format!("{:.1}ms", seconds * 1e3),
        9_950..999_500 => format!("{:.0}ms", seconds * 1e3),
        999_500..9_950_000 => format!("{seconds:.1}s"),
        9_950_000..60_000_000 => format!("{seconds:.0}s"),
        60_000_000..3_600_000_000 => format!("{}min", micros / 60_000_000),
        3_600_000_000.. => format!("{}h", micros / 3_600_000_000),
    }
}

/// `850µs 12ms`: what half took at most, and 99 of 100; `-` if nothing was measured.
pub(super) fn quantiles(quantiles: Quantiles) -> String {
    match quantiles.count {
        0 => "-".to_owned(),
        _ => format!("{} {}", duration(quantiles.p50), duration(quantiles.p99)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases =
            [(0.0, "0"), (0.44, "0.4"), (3.0, "3"), (9.94, "9.9"), (9.96, "10"), (12.4, "12"), (99_999.0, "99999")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        for (value, text) in [(120_400.0, "120k"), (999_499.0, "999k"), (999_500.0, "1.0M"), (250e6, "250M")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (micros, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_240, "1.2ms"),
            (12_000, "12ms"),
            (1_000_000, "1.0s"),
            (34_000_000, "34s"),
            (125_000_000, "2min"),
            (7_300_000_000, "2h"),
        ] {
            assert_eq!(duration(micros), text);
        }
        assert_eq!(quantiles(Quantiles { count: 2, p50: 850, p90: 900, p99: 12_000, max: 12_000 }), "850µs 12ms");
        assert_eq!(quantiles(Quantiles::default()), "-");
    }
}
