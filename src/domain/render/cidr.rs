//! IPv4 ranges: which lies in which, and the fewest that cover the same.

use std::{fmt, net::Ipv4Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cidr {
    network: u32,
    length: u32,
}

impl Cidr {
    /// Reads `10.0.0.0/8` or one address; host bits are dropped. None for anything else, IPv6 included.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.trim().parse().ok()?;
        let length: u32 = length.trim().parse().ok().filter(|length| *length <= 32)?;
        Some(Self { network: u32::from(address) & mask(length), length })
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.length <= other.length && other.network & mask(self.length) == self.network
    }

    /// The range twice as wide, if `other` is its other half.
    fn joined(self, other: Self) -> Option<Self> {
        let length = self.length.checked_sub(1)?;
        let wider = Self { network: self.network & mask(length), length };
        let halves = self.length == other.length && self != other && wider.contains(other);
        halves.then_some(wider)
    }
}

fn mask(length: u32) -> u32 {
    u32::MAX.checked_shl(32 - length).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.length)
    }
}

/// The fewest ranges that cover exactly the same addresses, in order. Azure's policy engine wants few blocks
/// (runner-on-kubernetes.md §6.4).
pub(super) fn collapse(ranges: impl IntoIterator<Item = Cidr>) -> Vec<Cidr> {
    let mut sorted: Vec<_> = ranges.into_iter().collect();
    sorted.sort();
    let mut kept: Vec<Cidr> = Vec::new();
    for mut range in sorted {
        if kept.last().is_some_and(|last| last.contains(range)) {
            continue;
        }
        while let Some(wider) = kept.last().and_then(|last| last.joined(range)) {
            kept.pop();
            range = wider;
        }
        kept.push(range);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| Cidr::parse(text).expect(text)).collect()
    }

    #[test]
    fn ranges_collapse_to_the_fewest_that_cover_the_same() {
        let check = |given: &[&str], fewest: &[&str]| {
            let texts: Vec<_> = collapse(parsed(given)).iter().map(Cidr::to_string).collect();
            assert_eq!(texts, fewest, "{given:?}");
        };
        check(&["10.1.2.3/8", "10.4.0.0/16", "10.9.9.9"], &["10.0.0.0/8"]);
        check(&["10.1.0.0/16", "10.0.0.0/16"], &["10.0.0.0/15"]);
        check(&["10.1.0.0/16", "10.2.0.0/16"], &["10.1.0.0/16", "10.2.0.0/16"]);
        check(&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2", "::/0"][..3], &["0.0.0.0/0"]);
    }

    #[test]
    fn what_is_no_ipv4_range_is_none() {
        for text in ["", "::/0", "fd00::1", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/-1", "any"] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }

    proptest! {
        /// Whatever the ranges, an address is covered after if and only if it was before.
        #[test]
        fn collapsing_covers_the_same_addresses(
            ranges in proptest::collection::vec((0u32..64, 26u32..=32), 0..8),
            address in 0u32..64,
        ) {
            let ranges: Vec<_> = ranges.iter()
                .map(|(network, length)| Cidr { network: network & mask(*length), length: *length })
                .collect();
            let address = Cidr { network: address, length: 32 };
            let covered = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(address));
            prop_assert_eq!(covered(&ranges), covered(&collapse(ranges.clone())));
        }
    }
}
