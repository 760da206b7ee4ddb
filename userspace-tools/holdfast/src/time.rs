// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! Points in time, as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in UTC, as RFC 3339 has it.
pub(crate) fn now() -> String {
    stamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// Hour, minute and second (UTC) of so many milliseconds since 1970.
pub(crate) fn clock(ms: u64) -> String {
    let stamp = stamp(Duration::from_millis(ms));
    let (_, time) = stamp.split_once('T').unwrap_or_default();
    time.split('.').next().unwrap_or_default().to_owned()
}

fn stamp(since_epoch: Duration) -> String {
    let (days, second) = (since_epoch.as_secs() / 86400, since_epoch.as_secs() % 86400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since_epoch.subsec_millis()
    )
}

/// Year, month and day of a number of days since 1970 (Hinnant, "chrono-compatible low-level
/// date algorithms"): years begin in March, so that the leap day is their last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let january = u64::from(month <= 2);
    (
        era * 400 + year + january,
        month,
        day - (153 * march + 2) / 5 + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let stamp = |secs: u64| stamp(Duration::from_millis(secs * 1000 + 7));
        assert_eq!(stamp(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(stamp(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(stamp(1_709_251_199), "2024-02-29T23:59:59.007Z");
        assert_eq!(stamp(1_735_689_600), "2025-01-01T00:00:00.007Z");
        assert_eq!(stamp(4_107_542_400), "2100-03-01T00:00:00.007Z");
    }
}
