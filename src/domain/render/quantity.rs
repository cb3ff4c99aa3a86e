//! Kubernetes quantities as numbers: `1000m` is `1`, `1024Mi` is `1Gi`.

/// The value in billionths, rounded down. None for a text that is no quantity.
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
pub(super) fn parse(text: &str) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = digits.checked_mul(billionths(suffix)?)?.checked_div(divisor)?;
    Some(if negative { -value } else { value })
}

pub(super) fn equal(one: &str, other: &str) -> bool {
    one == other || parse(one).zip(parse(other)).is_some_and(|(one, other)| one == other)
}

/// Whether `one` is less than `other`; false where either is no quantity.
pub(super) fn less(one: &str, other: &str) -> bool {
    parse(one).zip(parse(other)).is_some_and(|(one, other)| one < other)
}

/// What one unit of the suffix is worth.
fn billionths(suffix: &str) -> Option<i128> {
    const ONE: i128 = 1_000_000_000;
    let power = |base: i128, exponent: u32| base.checked_pow(exponent)?.checked_mul(ONE);
    match suffix {
        "n" => Some(1),
        "u" => Some(1_000),
        "m" => Some(1_000_000),
        "" => Some(ONE),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            10i128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_equal_as_numbers_and_not_as_texts() {
        let check = |one: &str, other: &str, same: bool| {
            assert_eq!(equal(one, other), same, "{one} and {other}");
        };
        check("1000m", "1", true);
        check("0.5", "500m", true);
        check("1024Mi", "1Gi", true);
        check("1e3", "1k", true);
        check("1.5Gi", "1536Mi", true);
        check("2E", "2e18", true);
        check("1G", "1Gi", false);
        check("100m", "100", false);
        check("", "0", false);
        check("1.2.3", "1", false);
        check("ten", "10", false);
        check("-1", "1", false);
    }

    #[test]
    fn less_is_about_numbers_and_false_without_them() {
        assert!(less("50m", "100m") && less("900Mi", "1Gi"));
        assert!(!less("1", "100m") && !less("", "1") && !less("1", "1"));
    }
}
