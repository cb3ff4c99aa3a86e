//! What makes a NetworkPolicy invalid.

use super::Cause;
use serde_json::Value;
use std::net::IpAddr;

pub(super) fn check(object: &Value, causes: &mut Vec<Cause>) {
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = object["spec"][direction].as_array().into_iter().flatten();
        for (rule, at) in rules.zip(0..) {
            for (peer, index) in rule[peers].as_array().into_iter().flatten().zip(0..) {
                let path = format!("spec.{direction}[{at}].{peers}[{index}]");
                if peer.as_object().is_none_or(serde_json::Map::is_empty) {
                    causes.push(Cause::required(path));
                } else if peer["ipBlock"].is_object()
                    && (peer["podSelector"].is_object() || peer["namespaceSelector"].is_object())
                {
                    let why = "Forbidden: may not specify both ipBlock and another peer";
                    causes.push(Cause::forbidden(path, why));
                } else {
                    check_block(&peer["ipBlock"], &path, causes);
                }
            }
        }
    }
}

/// What is left out of a range lies in it, and is less than the whole.
fn check_block(block: &Value, path: &str, causes: &mut Vec<Cause>) {
    if block.is_null() {
        return;
    }
    let Some(range) = Range::read(&block["cidr"]) else {
        let why = format!("Invalid value: {}: must be a valid CIDR value", block["cidr"]);
        causes.push(Cause::invalid(format!("{path}.ipBlock.cidr"), why));
        return;
    };
    for (except, index) in block["except"].as_array().into_iter().flatten().zip(0..) {
        let inside = Range::read(except).is_some_and(|except| range.is_more_than(except));
        if !inside {
            let why = format!("Invalid value: {except}: must be a strict subset of `cidr`");
            causes.push(Cause::invalid(format!("{path}.ipBlock.except[{index}]"), why));
        }
    }
}

/// Addresses that begin with the same bits; those of version 4 are moved to the front.
#[derive(Clone, Copy)]
struct Range {
    is_v4: bool,
    first: u128,
    bits: u32,
}

impl Range {
    fn read(text: &Value) -> Option<Self> {
        let (address, bits) = text.as_str()?.split_once('/')?;
        let (is_v4, first) = match address.parse().ok()? {
            IpAddr::V4(address) => (true, u128::from(u32::from(address)) << 96),
            IpAddr::V6(address) => (false, u128::from(address)),
        };
        let bits = bits.parse().ok().filter(|bits| *bits <= if is_v4 { 32 } else { 128 })?;
        Some(Self { is_v4, first, bits })
    }

    fn is_more_than(self, other: Self) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
        self.is_v4 == other.is_v4
            && self.bits < other.bits
            && self.first & mask == other.first & mask
    }
}
