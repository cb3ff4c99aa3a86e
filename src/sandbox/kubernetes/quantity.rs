//! Quantities in the server's canonical form: `1000m` reads back as `1`, `1024Mi` as `1Gi`.
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>

use serde_json::Value;

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i128); 10] = [
    ("E", 1_000_000_000_000_000_000 * NANO),
    ("P", 1_000_000_000_000_000 * NANO),
    ("T", 1_000_000_000_000 * NANO),
    ("G", 1_000_000_000 * NANO),
    ("M", 1_000_000 * NANO),
    ("k", 1_000 * NANO),
    ("", NANO),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];
const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];

/// The canonical form; nothing for a text that is no quantity.
pub(super) fn canonical(text: &str) -> Option<String> {
    let binary = BINARY.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (number, unit) = match binary {
        Some((suffix, factor)) => (text.strip_suffix(suffix)?, factor * NANO),
        None => {
            let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
            let (number, suffix) = text.split_at(at);
            (number, DECIMAL.iter().find(|(known, _)| *known == suffix)?.1)
        }
    };
    let nanos = scale(number, unit)?;
    if nanos == 0 {
        return Some("0".to_owned());
    }
    if binary.is_some() && nanos % NANO == 0 {
        let bytes = nanos / NANO;
        let fit = BINARY.iter().find(|(_, factor)| bytes % factor == 0);
        return Some(match fit {
            Some((suffix, factor)) => format!("{}{suffix}", bytes / factor),
            None => bytes.to_string(),
        });
    }
    let (suffix, factor) = DECIMAL.iter().find(|(_, factor)| nanos % factor == 0)?;
    Some(format!("{}{suffix}", nanos / factor))
}

/// `1.5` times `unit`, exactly or rounded down.
fn scale(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 18)?;
        let fraction: i128 = fraction.parse().ok()?;
        total += fraction.checked_mul(unit)? / 10_i128.pow(digits);
    }
    Some(total)
}

/// Makes every value of a map of quantities canonical.
pub(super) fn canonicalise(map: Option<&mut Value>) {
    for value in map.and_then(Value::as_object_mut).into_iter().flat_map(|map| map.values_mut()) {
        canonicalise_one(value);
    }
}

pub(super) fn canonicalise_one(value: &mut Value) {
    let text =
        value.as_str().map(str::to_owned).or_else(|| value.as_number().map(ToString::to_string));
    if let Some(canonical) = text.and_then(|text| canonical(&text)) {
        *value = canonical.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_back_in_canonical_form() {
        for (written, read) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("2000", "2k"),
            ("100m", "100m"),
            ("20", "20"),
            ("0", "0"),
            ("512", "512"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(read), "{written}");
        }
        assert_eq!(canonical("much"), None);
    }
}
