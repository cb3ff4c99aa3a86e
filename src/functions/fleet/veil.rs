//! Takes ids of identities and scopes out of a text: whoever may see the page need not know where rights lie.

/// The same text with `…` for every ARM id and every GUID.
pub(super) fn veil(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends_word) {
        let word = piece.trim_end_matches(ends_word);
        match arm_id(word) {
            Some(start) => {
                told.push_str(&without_guids(&word[..start]));
                told.push('…');
                // What ended the sentence is not the id's.
                let end = word.trim_end_matches([':', '.']);
                told.push_str(&word[end.len()..]);
            }
            None => told.push_str(&without_guids(word)),
        }
        told.push_str(&piece[word.len()..]);
    }
    told
}

fn ends_word(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\'' | '"' | '`' | ',' | ';' | '<' | '>' | '[' | ']' | '{' | '}')
}

/// Where an ARM id begins in a word, also a percent-encoded one.
fn arm_id(word: &str) -> Option<usize> {
    const PARTS: [&str; 4] = ["subscriptions", "resourcegroups", "providers", "managementgroups"];
    if !word.contains(['/', '%']) {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let starts = PARTS.iter().flat_map(|part| {
        lower.match_indices(part).filter_map(|(at, _)| {
            let after = &lower[at + part.len()..];
            let before = &lower[..at];
            let whole = after.starts_with('/') || after.starts_with("%2f");
            let slash = [(before.ends_with('/'), 1), (before.ends_with("%2f"), 3)];
            let slash = slash.iter().find(|(is, _)| *is).map(|(_, length)| *length);
            // At the beginning of the word, or behind a slash.
            (whole && (at == 0 || slash.is_some())).then(|| at - slash.unwrap_or(0))
        })
    });
    starts.min()
}

fn without_guids(word: &str) -> String {
    const LENGTH: usize = 36;
    if word.len() < LENGTH {
        return word.to_owned();
    }
    let bytes = word.as_bytes();
    let mut told = String::with_capacity(word.len());
    let (mut from, mut at) = (0, 0);
    while at + LENGTH <= bytes.len() {
        if is_guid(&bytes[at..at + LENGTH]) {
            told.push_str(&word[from..at]);
            told.push('…');
            at += LENGTH;
            from = at;
        } else {
            at += 1;
        }
    }
    told.push_str(&word[from..]);
    told
}

/// ASCII all through, so that it begins and ends between characters.
fn is_guid(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests {
    use super::veil;

    #[test]
    fn ids_are_cut_and_words_are_kept() {
        let guid = "744a02d4-3f4a-4bc8-A9d1-0123456789ab";
        let check = |text: &str, expected: &str| assert_eq!(veil(text), expected, "{text}");
        check("no right, and no id: wait", "no right, and no id: wait");
        check(
            "assign Reader on /subscriptions/2222/resourceGroups/app(1): refused",
            "assign Reader on …: refused",
        );
        check("at `/providers/Microsoft.Management/managementGroups/x`.", "at `…`.");
        check("over \"/Subscriptions/1\", then", "over \"…\", then");
        check("subscriptions/1/x", "…");
        check(
            "https://management.azure.com/subscriptions/1?api-version=2",
            "https://management.azure.com…",
        );
        check("%2Fsubscriptions%2F1", "…");
        check(&format!("client '{guid}' ({guid})"), "client '…' (…)");
        check(&format!("[forerunner:nonprod:{guid}:g42-tf:1]"), "[forerunner:nonprod:…:g42-tf:1]");
        check(&format!("ä{guid}ß-{}", &guid[1..]), "ä…ß-44a02d4-3f4a-4bc8-A9d1-0123456789ab");
        check(
            "two subscriptions may both; providers: none",
            "two subscriptions may both; providers: none",
        );
    }
}
