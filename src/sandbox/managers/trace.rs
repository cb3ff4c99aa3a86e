//! A job's log on its way to GitLab.

use super::{
    payload::Payload,
    protocol::{Gitlab, Standing},
};
use serde_json::{Value, json};

/// CRC-32 as IEEE 802.3 has it, least significant bit first.
const POLYNOMIAL: u32 = 0xEDB8_8320;

#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// Bytes that GitLab has.
    sent: usize,
    /// CRC-32 register over them.
    register: u32,
    pending: Vec<u8>,
    /// Values that must not be seen.
    masked: Vec<String>,
}

impl Trace {
    pub(super) fn new(payload: &Payload) -> Self {
        let masked = payload.variables().filter(|variable| variable.masked);
        let masked = masked.map(|variable| variable.value).filter(|value| !value.is_empty());
        Self { masked: masked.collect(), register: u32::MAX, ..Self::default() }
    }

    /// What GitLab should have in the end, as `output` of the last update.
    pub(super) fn output(&self) -> Value {
        json!({ "checksum": format!("crc32:{:08x}", !self.register), "bytesize": self.sent })
    }

    pub(super) fn line(&mut self, text: &str) {
        self.push(format!("{text}\n").as_bytes());
    }

    /// Whole lines, or the last one without its end.
    pub(super) fn push(&mut self, text: &[u8]) {
        let mut text = String::from_utf8_lossy(text).into_owned();
        for secret in &self.masked {
            text = text.replace(secret, "[MASKED]");
        }
        self.pending.extend_from_slice(text.as_bytes());
    }

    /// Sends what is there; what is not heard stays for the next time.
    pub(super) async fn flush(&mut self, gitlab: &Gitlab<'_>, payload: &Payload) -> Standing {
        if self.pending.is_empty() {
            return Standing::GoOn;
        }
        let standing = gitlab.append(payload.id, &payload.token, self.sent, &self.pending).await;
        match standing {
            Standing::GoOn | Standing::Cancelling => {
                self.sent += self.pending.len();
                self.register = self.pending.iter().copied().fold(self.register, step);
                self.pending.clear();
            }
            Standing::Gone | Standing::Unheard => {}
        }
        standing
    }
}

/// Takes one more byte into the register.
fn step(register: u32, byte: u8) -> u32 {
    (0..8).fold(register ^ u32::from(byte), |register, _| match register & 1 {
        1 => (register >> 1) ^ POLYNOMIAL,
        _ => register >> 1,
    })
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn the_checksum_is_the_well_known_one() {
        let register = b"123456789".iter().copied().fold(u32::MAX, step);
        assert_eq!(!register, 0xCBF4_3926);
    }
}
