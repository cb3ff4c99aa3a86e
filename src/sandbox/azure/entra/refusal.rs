//! How Entra refuses: OAuth's two fields, and its own with the number that clients read.

use crate::sandbox::azure::{Azure, answer::Answer};
use jiff::tz::TimeZone;
use serde_json::json;

/// The refusal `AADSTS{code}`. What is wrong with the client's proof is 401 `invalid_client`, a bad request 400.
pub(super) fn refuse(azure: &Azure, code: u32, message: String) -> Answer {
    let (status, error) = match code {
        70021 | 70023 | 90002 | 90061 | 900_144 | 50027 => (400, "invalid_request"),
        70011 => (400, "invalid_scope"),
        70003 => (400, "unsupported_grant_type"),
        700_016 => (400, "unauthorized_client"),
        500_011 => (400, "invalid_resource"),
        _ => (401, "invalid_client"),
    };
    let now = azure.0.clock.now().to_zoned(TimeZone::UTC);
    let timestamp = now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let (trace, correlation) = {
        let mut state = azure.state();
        (state.random_guid(), state.random_guid())
    };
    let description = format!(
        "AADSTS{code}: {message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
    );
    Answer::json(
        status,
        json!({
            "error": error,
            "error_description": description,
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        }),
    )
}
