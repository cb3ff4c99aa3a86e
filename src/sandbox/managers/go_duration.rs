//! Durations as Go writes and reads them: `10m`, `1h30m`, `20s`, `500ms`.

use jiff::SignedDuration;

/// Nothing where the text is no such duration.
pub(super) fn parse(text: &str) -> Option<SignedDuration> {
    let mut rest = text.trim();
    let mut total = SignedDuration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = SignedDuration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

/// `10m0s`, as Go prints whole seconds.
pub(super) fn print(seconds: i64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed_as_go_does() {
        let check = |text: &str, milliseconds: Option<i128>| {
            assert_eq!(parse(text).map(|read| read.as_millis()), milliseconds, "{text}");
        };
        check("10m", Some(600_000));
        check("1h30m", Some(5_400_000));
        check("1.5s", Some(1_500));
        check("500ms", Some(500));
        check("10", None);
        check("10 minutes", None);
        check("", None);
        assert_eq!([print(601), print(59), print(3600)], ["10m1s", "59s", "1h0m0s"]);
    }
}
