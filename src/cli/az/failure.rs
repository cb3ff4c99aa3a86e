//! How az fails: a line after `ERROR: `, and an exit code.

use serde_json::Value;
use std::fmt;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }

    /// Arguments that are wrong.
    pub(super) fn misused(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 2 }
    }

    /// A refusal of ARM's: `(Code) message`, and the two again on lines of their own.
    pub(super) fn refused(status: u16, body: &Value) -> Self {
        let code = body["error"]["code"].as_str().unwrap_or("UnknownError");
        let message = body["error"]["message"].as_str().unwrap_or_default();
        let text = format!("({code}) {message}\nCode: {code}\nMessage: {message}");
        Self { text, code: if status == 404 { 3 } else { 1 } }
    }

    pub(super) fn not_signed_in() -> Self {
        Self::failed("Please run 'az login' to setup account.")
    }

    pub(super) fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
