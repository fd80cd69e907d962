//! The time of generated events: begins in 2024, always advances, and has quiet nights and busy evenings.

use event::moment::civil;

use super::draws::Draws;
use super::text::pair;

/// 2024-01-01T00:00:00Z in milliseconds since 1970.
pub(super) const START_MS: u64 = 1_704_067_200_000;
const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;

/// How much longer than in the busiest hour the mean gap is, in quarters, by hour of the day.
const QUIET: [u64; 24] = [
    16, 24, 32, 32, 24, 12, 7, 5, 6, 8, 9, 8, 6, 7, 9, 8, 6, 5, 4, 4, 5, 7, 9, 12,
];

/// The time of the current event.
#[derive(Debug)]
pub(super) struct Clock {
    ms: u64,
    gap_ms: u64,
    /// `2024-01-01T00:00:00.000Z` of `ms`; the date is renewed once a day only.
    text: [u8; 24],
    /// The day that `text` shows.
    day: u64,
}

impl Clock {
    /// A clock whose mean gap is `gap_ms` in the busiest hour.
    pub(super) fn new(gap_ms: u64) -> Self {
        Self {
            ms: START_MS,
            gap_ms,
            text: *b"2024-01-01T00:00:00.000Z",
            day: START_MS / DAY_MS,
        }
    }

    /// Goes on by at least a millisecond.
    #[inline]
    pub(super) fn advance(&mut self, draws: &mut Draws) {
        let hour = (self.ms % DAY_MS / HOUR_MS) as usize;
        self.ms += 1 + draws.below((self.gap_ms * QUIET[hour] / 2).max(1));
        let day = self.ms / DAY_MS;
        if day != self.day {
            self.day = day;
            let (year, month, date) = civil(day.cast_signed());
            let year = year.unsigned_abs();
            self.text[..2].copy_from_slice(&pair(year / 100 % 100));
            self.text[2..4].copy_from_slice(&pair(year % 100));
            self.text[5..7].copy_from_slice(&pair(month.into()));
            self.text[8..10].copy_from_slice(&pair(date.into()));
        }
        let second = self.ms % DAY_MS / 1_000;
        let ms = self.ms % 1_000;
        self.text[11..13].copy_from_slice(&pair(second / 3_600));
        self.text[14..16].copy_from_slice(&pair(second / 60 % 60));
        self.text[17..19].copy_from_slice(&pair(second % 60));
        self.text[20] = b'0' + (ms / 100) as u8;
        self.text[21..23].copy_from_slice(&pair(ms % 100));
    }

    /// Milliseconds since 1970.
    pub(super) fn ms(&self) -> u64 {
        self.ms
    }

    /// RFC 3339 with milliseconds, in UTC.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }
}
