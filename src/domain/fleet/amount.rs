//! Durations such as `30d`, quantities such as `500m`, dates and networks, as the files write them.

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

/// Reads `90s`, `15m`, `3h`, `30d`, `2w`, or several in a row, `1h30m`.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("`{text}` is no duration; write such as 90s, 15m, 3h or 30d");
    let mut total: i64 = 0;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit: i64 = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let count: i64 = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
        total =
            count.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    if digits.is_empty() && total > 0 && total <= 366 * 86_400 * 10 {
        Ok(SignedDuration::from_secs(total))
    } else {
        Err(wrong())
    }
}

/// The shortest text that [`duration`] reads back.
pub fn duration_text(duration: SignedDuration) -> String {
    let mut left = duration.as_secs();
    let mut text = String::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if left >= seconds {
            text.push_str(&format!("{}{unit}", left / seconds));
            left %= seconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Checks a Kubernetes quantity and gives it in its canonical form (`0.5` is `500m`, `1024Mi` is `1Gi`): the API server
/// answers in that form, and any other would look like drift.
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
pub(super) fn quantity(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no quantity; write such as 500m, 2 or 512Mi");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') || fraction.len() > 3 {
        return Err(wrong());
    }
    let thousandths = format!("{whole}{fraction:0<3}").parse::<u128>().map_err(|_| wrong())?;
    const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if let Some(power) = BINARY.iter().position(|known| *known == suffix && !suffix.is_empty()) {
        let bytes = scale(thousandths, 1024, power).ok_or_else(wrong)?;
        if bytes % 1000 != 0 {
            return Err(format!("`{text}` is no whole number of bytes"));
        }
        return Ok(shorten(bytes / 1000, 1024, &BINARY));
    }
    let small = match suffix {
        "m" => thousandths.is_multiple_of(1000).then_some(thousandths / 1000).ok_or_else(wrong)?,
        _ => {
            let power = DECIMAL.iter().position(|known| *known == suffix).ok_or_else(wrong)?;
            scale(thousandths, 1000, power).ok_or_else(wrong)?
        }
    };
    if small % 1000 == 0 {
        Ok(shorten(small / 1000, 1000, &DECIMAL))
    } else {
        Ok(format!("{small}m"))
    }
}

fn scale(value: u128, base: u128, power: usize) -> Option<u128> {
    let power = u32::try_from(power).ok()?;
    base.checked_pow(power).and_then(|factor| value.checked_mul(factor))
}

fn shorten(mut value: u128, base: u128, suffixes: &[&str]) -> String {
    let mut suffix = 0;
    while value >= base && value.is_multiple_of(base) && suffix + 1 < suffixes.len() {
        value /= base;
        suffix += 1;
    }
    format!("{value}{}", suffixes[suffix])
}

/// The quantity in thousandths of its unit, to compare two of them.
pub(super) fn thousandths(canonical: &str) -> Option<u128> {
    let split = canonical.find(|c: char| !c.is_ascii_digit()).unwrap_or(canonical.len());
    let (number, suffix) = canonical.split_at(split);
    let number: u128 = number.parse().ok()?;
    let factor: u128 = match suffix {
        "m" => return Some(number),
        "" => 1,
        "k" => 1000,
        "M" => 1000_u128.pow(2),
        "G" => 1000_u128.pow(3),
        "T" => 1000_u128.pow(4),
        "P" => 1000_u128.pow(5),
        "E" => 1000_u128.pow(6),
        "Ki" => 1024,
        "Mi" => 1024_u128.pow(2),
        "Gi" => 1024_u128.pow(3),
        "Ti" => 1024_u128.pow(4),
        "Pi" => 1024_u128.pow(5),
        "Ei" => 1024_u128.pow(6),
        _ => return None,
    };
    number.checked_mul(factor)?.checked_mul(1000)
}

/// Reads `2027-03-31`.
pub(super) fn date(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| format!("`{text}` is no date; write such as 2027-03-31"))
}

/// The first moment after a day: what ends on a day still counts on it, in UTC.
pub(super) fn end_of(day: Date) -> Timestamp {
    let next = day.tomorrow().unwrap_or(Date::MAX);
    next.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |start| start.timestamp())
}

/// Checks a network such as `10.0.0.0/8` or `fd00::/8`; a bare address is one of its own.
pub(super) fn cidr(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no network; write such as 10.0.0.0/8");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    if bits > most {
        return Err(wrong());
    }
    let host_part_is_zero = match address {
        std::net::IpAddr::V4(v4) => u32::from(v4).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
        std::net::IpAddr::V6(v6) => u128::from(v6).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
    };
    if host_part_is_zero {
        Ok(format!("{address}/{bits}"))
    } else {
        Err(format!(
            "`{text}` has address bits beyond /{bits}; the API server would refuse or change it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_come_out_as_the_api_server_writes_them() {
        for (given, canonical) in [
            ("0.5", "500m"),
            ("500m", "500m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("2", "2"),
            ("1024Mi", "1Gi"),
            ("512Mi", "512Mi"),
            ("0.5Gi", "512Mi"),
            ("1000", "1k"),
            ("1.5G", "1500M"),
            ("0", "0"),
        ] {
            assert_eq!(quantity(given).as_deref(), Ok(canonical), "{given}");
        }
        for text in ["", "m", "1.", ".5", "1X", "-1", "1 Gi", "1.5m", "1.2345"] {
            assert!(quantity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_have_no_host_bits() {
        assert_eq!(cidr("10.0.0.4").as_deref(), Ok("10.0.0.4/32"));
        assert_eq!(cidr("fd00::/8").as_deref(), Ok("fd00::/8"));
        assert_eq!(cidr("0.0.0.0/0").as_deref(), Ok("0.0.0.0/0"));
        for text in ["10.0.0.1/8", "10.0.0.0/33", "ten", "10.0.0.0/x", ""] {
            assert!(cidr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "h", "-1h", "0s", "1.5h", "1 h", "99999999999999999999d", "9999999d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_compare_whatever_their_suffix() {
        let ascending = ["1m", "999m", "1", "1k", "1Ki", "1M", "1Mi", "2Gi", "1T"];
        let values = ascending.map(|text| thousandths(text).unwrap());
        assert!(values.is_sorted(), "{values:?}");
    }

    proptest! {
        #[test]
        fn a_duration_reads_back(seconds in 1_i64..10_000_000) {
            let given = SignedDuration::from_secs(seconds);
            prop_assert_eq!(duration(&duration_text(given)), Ok(given));
        }

        #[test]
        fn a_canonical_quantity_stays_as_it_is(number in 0_u32..100_000, suffix in "(m|k|M|G|Ki|Mi|Gi)?") {
            let once = quantity(&format!("{number}{suffix}")).unwrap();
            prop_assert_eq!(quantity(&once), Ok(once.clone()));
        }
    }
}
