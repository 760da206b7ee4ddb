// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Numbers with units, in few characters.

/// Bytes in a second with a unit, in at most nine characters.
pub(super) fn rate(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B/s", "kB/s", "MB/s", "GB/s"] {
        if value < 999.5 {
            return match unit {
                "B/s" => format!("{bytes} {unit}"),
                _ if value < 99.95 => format!("{value:.1} {unit}"),
                _ => format!("{value:.0} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.0} TB/s")
}

/// A time with a unit.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms}ms"),
        1000..=9_999 => format!("{:.1}s", ms as f64 / 1000.0),
        10_000..=119_999 => format!("{}s", ms / 1000),
        120_000..=7_199_999 => format!("{}m", ms / 60_000),
        7_200_000..=172_799_999 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        let rates = [
            0,
            999,
            1000,
            99_950,
            999_499,
            999_500,
            12_345_678_901,
            u64::MAX,
        ];
        assert_eq!(
            rates.map(rate),
            [
                "0 B/s",
                "999 B/s",
                "1.0 kB/s",
                "100 kB/s",
                "999 kB/s",
                "1.0 MB/s",
                "12.3 GB/s",
                "18446744 TB/s"
            ]
        );
        let spans = [0, 999, 1500, 65_000, 600_000, 7_200_000, 172_800_000];
        assert_eq!(
            spans.map(span),
            ["0ms", "999ms", "1.5s", "65s", "10m", "2h", "2d"]
        );
    }
}
