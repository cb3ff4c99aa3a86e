//! When a timer runs: NCRONTAB, or a time span between runs (functions-host.md §2.7).

use super::time_span;
use cron::TimeUnitSpec;
use jiff::{SignedDuration, Timestamp, ToSpan, civil, tz::TimeZone};
use std::str::FromStr;

/// No schedule is asked for an occurrence further away than this; 29 February is at most 8 years off.
const DAYS_MAX: u32 = 9 * 366;

pub(super) enum Schedule {
    Cron(Box<cron::Schedule>),
    Every(SignedDuration),
}

impl Schedule {
    /// Reads six fields, five (seconds are 0 then), or `hh:mm:ss`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(span) = time_span::parse(text) {
            let positive = span > SignedDuration::ZERO;
            return positive.then_some(Self::Every(span)).ok_or(format!("`{text}` never comes"));
        }
        let mut fields: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
        if fields.len() == 5 {
            fields.insert(0, "0".to_owned());
        }
        let [.., day_of_week] = &mut fields[..] else { return Err("it is empty".to_owned()) };
        *day_of_week = shift_days(day_of_week)?;
        if fields.len() != 6 {
            return Err(format!("`{text}` has not six fields"));
        }
        let schedule = cron::Schedule::from_str(&fields.join(" "));
        let schedule = schedule.map_err(|error| format!("`{text}` is no NCRONTAB: {error}"))?;
        Ok(Self::Cron(Box::new(schedule)))
    }

    pub(super) fn is_cron(&self) -> bool {
        matches!(self, Self::Cron(_))
    }

    /// The first occurrence after `now`, in UTC.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(span) => now.checked_add(*span).ok(),
            Self::Cron(cron) => next_of(cron, now),
        }
    }

    /// Whether two occurrences are ever less than a minute apart, as far as the next ones show.
    pub(super) fn is_close(&self, now: Timestamp) -> bool {
        let first = self.next(now);
        let second = first.and_then(|first| self.next(first));
        let gap = first.zip(second).map(|(first, second)| second.duration_since(first));
        gap.is_some_and(|gap| gap < SignedDuration::from_mins(1))
    }
}

fn next_of(cron: &cron::Schedule, now: Timestamp) -> Option<Timestamp> {
    let start = now.to_zoned(TimeZone::UTC).datetime();
    let mut day = start.date();
    for _ in 0..DAYS_MAX {
        let serves = cron.months().includes(number(day.month()))
            && cron.days_of_month().includes(number(day.day()))
            && cron.days_of_week().includes(number(day.weekday().to_sunday_one_offset()));
        let first = if day == start.date() { start.time() } else { civil::Time::MIN };
        let strictly = day == start.date();
        if serves && let Some(time) = time_of(cron, first, strictly) {
            return day.to_datetime(time).to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
        }
        day = day.checked_add(1.day()).ok()?;
    }
    None
}

/// The first time of a day from `first` on, or after it.
fn time_of(cron: &cron::Schedule, first: civil::Time, strictly: bool) -> Option<civil::Time> {
    for hour in cron.hours().iter().filter(|hour| *hour >= number(first.hour())) {
        for minute in cron.minutes().iter() {
            for second in cron.seconds().iter() {
                let part = |value: u32| i8::try_from(value).ok();
                let time = civil::Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()?;
                if time > first || (time == first && !strictly) {
                    return Some(time);
                }
            }
        }
    }
    None
}

fn number(part: i8) -> u32 {
    u32::from(part.unsigned_abs())
}

/// NCRONTAB counts days of the week from 0, the crate from 1; both begin on Sunday.
fn shift_days(field: &str) -> Result<String, String> {
    let shift = |day: &str| match day.parse::<u8>() {
        Ok(day @ 0..=6) => Ok((day + 1).to_string()),
        Ok(day) => Err(format!("there is no day of the week {day}")),
        Err(_) => Ok(day.to_owned()),
    };
    let parts = field.split(',').map(|part| {
        let (days, step) = match part.split_once('/') {
            Some((days, step)) => (days, format!("/{step}")),
            None => (part, String::new()),
        };
        let days: Vec<String> = days.split('-').map(shift).collect::<Result<_, _>>()?;
        Ok(days.join("-") + &step)
    });
    Ok(parts.collect::<Result<Vec<_>, String>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, now: &str, expected: &str) {
        let next = Schedule::parse(schedule).unwrap().next(now.parse().unwrap());
        assert_eq!(next, Some(expected.parse().unwrap()), "{schedule} after {now}");
    }

    #[test]
    fn the_next_occurrence_is_found() {
        // 1 March 2026 is a Sunday.
        let cases = [
            ("0 */5 * * * *", "2026-03-01T13:35:00.004Z", "2026-03-01T13:40:00Z"),
            ("0 */5 * * * *", "2026-03-01T23:55:00Z", "2026-03-02T00:00:00Z"),
            ("*/10 * * * * *", "2026-03-01T00:00:00Z", "2026-03-01T00:00:10Z"),
            ("0 0 2 * * 0", "2026-03-02T00:00:00Z", "2026-03-08T02:00:00Z"),
            ("0 0 2 * * SUN", "2026-03-02T00:00:00Z", "2026-03-08T02:00:00Z"),
            ("0 0 2 * * 1-5", "2026-03-01T00:00:00Z", "2026-03-02T02:00:00Z"),
            ("0 0 2 * * 6", "2026-03-01T00:00:00Z", "2026-03-07T02:00:00Z"),
            ("0 0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 4 1 * *", "2026-03-01T05:00:00Z", "2026-04-01T04:30:00Z"),
            ("00:10:00", "2026-03-01T05:00:00Z", "2026-03-01T05:10:00Z"),
        ];
        cases.iter().for_each(|(schedule, now, expected)| check(schedule, now, expected));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "* *", "0 0 0 * * 7", "x * * * * *", "00:00:00", "0 0 0 1 1 * 2030"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
