//! A job's log on its way to GitLab.

use super::{
    payload::Payload,
    protocol::{Gitlab, Standing},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// Bytes that GitLab has.
    sent: usize,
    pending: Vec<u8>,
    /// Values that must not be seen.
    masked: Vec<String>,
}

impl Trace {
    pub(super) fn new(payload: &Payload) -> Self {
        let masked = payload.variables().filter(|variable| variable.masked);
        let masked = masked.map(|variable| variable.value).filter(|value| !value.is_empty());
        Self { masked: masked.collect(), ..Self::default() }
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
                self.pending.clear();
            }
            Standing::Gone | Standing::Unheard => {}
        }
        standing
    }
}
