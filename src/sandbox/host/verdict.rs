//! What the host makes of a handler's answer to a wrapped invocation (functions-host.md §3.2).

use super::lenient;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    Success,
    /// With the reason.
    Failure(String),
    /// A 2xx without a body: the host neither completes nor fails it, until `functionTimeout` kills the handler.
    Hang,
}

/// What a good answer says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) outputs: Map<String, Value>,
    pub(super) logs: Vec<String>,
    pub(super) return_value: Option<Value>,
}

/// Judges one answer.
pub(super) fn judge(
    status: StatusCode,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Said, Verdict> {
    let failure = |why: String| Err(Verdict::Failure(why));
    if !status.is_success() {
        return failure(format!("the handler answered {}", status.as_u16()));
    }
    if body.is_empty() {
        return Err(Verdict::Hang);
    }
    let media_type = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    let media_type = media_type.trim().to_lowercase();
    if media_type != "application/json" && media_type != "text/json" {
        return failure(format!("no formatter for the media type `{media_type}`"));
    }
    let said = match lenient::parse(&String::from_utf8_lossy(body)) {
        Ok(None | Some(Value::Null)) => return Err(Verdict::Hang),
        Ok(Some(Value::Object(members))) => read(members),
        Ok(Some(_)) => return failure("the answer is no JSON object".to_owned()),
        Err(error) => return failure(format!("the answer is no JSON: {error}")),
    };
    said.map_err(Verdict::Failure)
}

fn read(members: Map<String, Value>) -> Result<Said, String> {
    let mut said = Said::default();
    for (name, value) in members {
        match (name.to_lowercase().as_str(), value) {
            ("outputs", Value::Object(outputs)) => said.outputs = outputs,
            ("outputs" | "logs" | "returnvalue", Value::Null) => {}
            ("outputs", _) => return Err("\"Outputs\" is no object".to_owned()),
            ("logs", Value::Array(lines)) => {
                said.logs = lines.into_iter().map(log_line).collect::<Result<_, _>>()?;
            }
            ("logs", _) => return Err("\"Logs\" is no array".to_owned()),
            ("returnvalue", value) => said.return_value = Some(value),
            (_, _) => {}
        }
    }
    Ok(said)
}

fn log_line(line: Value) -> Result<String, String> {
    match line {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(line.to_string()),
        Value::Array(_) | Value::Object(_) => Err("\"Logs\" holds more than scalars".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Option<&str> = Some("application/json");

    fn check(status: u16, content_type: Option<&str>, body: &str, expected: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let verdict = match judge(status, content_type, body.as_bytes()) {
            Ok(_) => "success",
            Err(Verdict::Success) => "success without anything said",
            Err(Verdict::Failure(_)) => "failure",
            Err(Verdict::Hang) => "hang",
        };
        assert_eq!(verdict, expected, "{status} {content_type:?} {body:?}");
    }

    #[test]
    fn answers_are_judged_as_the_table_has_it() {
        let good = [
            "{}",
            r#"{"Outputs":null,"Logs":null,"ReturnValue":null}"#,
            r#"{"other":1}"#,
            r#"{"outputs":{},"logs":[],"returnValue":5}"#,
            r#"{"Logs":["a",null,5,true]}"#,
            "{'Logs':['it\\'s \"x\"']}",
            "/* so */ {} // and so",
            "\u{feff}{}",
            "{} and more",
        ];
        good.iter().for_each(|body| check(200, JSON, body, "success"));
        check(201, JSON, "{}", "success");
        check(299, Some("text/json"), "{}", "success");
        check(200, Some("application/json; charset=utf-8"), "{}", "success");
        ["", "  \n", "null"].iter().for_each(|body| check(200, JSON, body, "hang"));
        check(204, None, "", "hang");
        check(202, Some("text/plain"), "", "hang");
        let bad = [
            "[]",
            "\"ok\"",
            "5",
            "Hello World",
            "{\"Logs\":[",
            r#"{"Logs":"text"}"#,
            r#"{"Logs":[{}]}"#,
            r#"{"Logs":[["a"]]}"#,
            r#"{"Outputs":[]}"#,
            r#"{"Outputs":"x"}"#,
        ];
        bad.iter().for_each(|body| check(200, JSON, body, "failure"));
        let other = ["text/plain", "application/octet-stream", "application/problem+json"];
        other.iter().for_each(|kind| check(200, Some(kind), "{}", "failure"));
        check(200, None, "{}", "failure");
        [302, 400, 413, 500, 503].iter().for_each(|status| check(*status, JSON, "{}", "failure"));
    }
}
