//! The .NET text form of a duration, as host.json has it.

use jiff::SignedDuration;

/// Reads `[-][d.]hh:mm:ss[.fraction]`. With 24 or more in the first of three places .NET takes them for
/// days, hours and minutes: `24:00:00` is 24 days.
pub(super) fn parse(text: &str) -> Option<SignedDuration> {
    let text = text.trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut places = text.split(':');
    let (first, second) = (places.next()?, places.next()?);
    let third = places.next();
    if places.next().is_some() {
        return None;
    }
    let (days, hours) = match first.split_once('.') {
        Some((days, hours)) => (days.parse::<i64>().ok()?, hours.parse::<i64>().ok()?),
        None => (0, first.parse().ok()?),
    };
    let minutes: i64 = second.parse().ok()?;
    let (seconds, nanoseconds) = third.map_or(Some((0, 0)), seconds)?;
    let whole = if days == 0 && hours > 23 && third.is_some() {
        ((hours * 24 + minutes) * 60 + seconds) * 60
    } else if minutes < 60 && seconds < 60 {
        ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    } else {
        return None;
    };
    Some(SignedDuration::new(whole, nanoseconds) * sign)
}

fn seconds(text: &str) -> Option<(i64, i32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let padded = format!("{fraction:0<9}");
    Some((whole.parse().ok()?, padded.get(..9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_read_as_dotnet_reads_them() {
        let cases = [
            ("00:30:00", 1_800.0),
            ("1.00:00:00", 86_400.0),
            ("24:00:00", 24.0 * 86_400.0),
            ("00:00:00.5", 0.5),
            ("-00:00:00.0010000", -0.001),
            ("01:30", 5_400.0),
        ];
        for (text, seconds) in cases {
            let read = parse(text).map(|duration| duration.as_secs_f64());
            assert_eq!(read, Some(seconds), "{text}");
        }
        for text in ["", "-1", "5", "a:b:c", "00:61:00", "1:2:3:4"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
