//! az's command line: words, then options with one or several values.

use super::failure::Failure;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Arguments {
    /// `account show`, for example.
    pub(super) command: String,
    options: BTreeMap<String, String>,
}

/// Short options and the long ones they stand for.
const SHORT: [(&str, &str); 12] = [
    ("-u", "--username"),
    ("-t", "--tenant"),
    ("-s", "--subscription"),
    ("-o", "--output"),
    ("-n", "--name"),
    ("-g", "--resource-group"),
    ("-l", "--location"),
    ("-m", "--method"),
    ("-b", "--body"),
    ("--uri", "--url"),
    ("-u ", "--url"),
    ("-p", "--password"),
];

/// Options that stand alone.
const ALONE: [&str; 8] = [
    "--service-principal",
    "--allow-no-subscriptions",
    "--expose-token",
    "--only-show-errors",
    "--debug",
    "--verbose",
    "--all",
    "--yes",
];

impl Arguments {
    pub(super) fn parse(words: Vec<String>) -> Result<Self, Failure> {
        let mut command: Vec<String> = Vec::new();
        let mut options = BTreeMap::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                if !options.is_empty() {
                    return Err(Failure::misused(format!("unrecognized arguments: {word}")));
                }
                command.push(word);
                continue;
            }
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let of_rest = if command == ["rest"] && name == "-u" { "-u " } else { name.as_str() };
            let long = SHORT.iter().find(|(short, _)| *short == of_rest);
            let name = long.map_or(name.clone(), |(_, long)| (*long).to_owned());
            if ALONE.contains(&name.as_str()) {
                options.insert(name, String::new());
                continue;
            }
            let value = joined.or_else(|| words.next_if(|word| !word.starts_with("--")));
            let value = value.ok_or_else(|| {
                Failure::misused(format!("argument {name}: expected one argument"))
            })?;
            options.insert(name, value);
        }
        Ok(Self { command: command.join(" "), options })
    }

    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// The option, or what az says where it is missing.
    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.option(name).ok_or_else(|| {
            Failure::misused(format!("the following arguments are required: {name}"))
        })
    }
}

/// What is printed of an answer: picked by `--query`, in the shape of `--output`.
pub(super) fn print(arguments: &Arguments, value: Value) -> String {
    let picked = arguments.option("--query").map_or(value.clone(), |query| pick(&value, query));
    match arguments.option("--output").unwrap_or("json") {
        "none" => String::new(),
        _ if picked.is_null() => String::new(),
        "tsv" => tsv(&picked),
        _ => serde_json::to_string_pretty(&picked).unwrap_or_default(),
    }
}

/// The paths of JMESPath that jobs use: `a.b`, `[].name`, `[0]`, `a[0].b`, `length(@)`.
fn pick(value: &Value, query: &str) -> Value {
    if query == "length(@)" || query == "length([])" {
        return value.as_array().map_or(Value::Null, |items| items.len().into());
    }
    let query = query.trim_start_matches('.');
    if query.is_empty() || query == "@" {
        return value.clone();
    }
    if let Some(rest) = query.strip_prefix("[]") {
        let items = value.as_array().into_iter().flatten();
        return items.map(|item| pick(item, rest)).filter(|item| !item.is_null()).collect();
    }
    if let Some((index, rest)) = query.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let item = index.parse::<usize>().ok().and_then(|index| value.get(index));
        return item.map_or(Value::Null, |item| pick(item, rest));
    }
    let end = query.find(['.', '[']).unwrap_or(query.len());
    let (name, rest) = query.split_at(end);
    value.get(name).map_or(Value::Null, |member| pick(member, rest))
}

fn tsv(value: &Value) -> String {
    let cell = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let row = |value: &Value| match value.as_object() {
        Some(object) => object.values().map(cell).collect::<Vec<_>>().join("\t"),
        None => cell(value),
    };
    match value.as_array() {
        Some(rows) => rows.iter().map(row).collect::<Vec<_>>().join("\n"),
        None => row(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(line: &str) -> Result<Arguments, Failure> {
        Arguments::parse(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn a_command_line_is_read_as_az_reads_it() {
        let login = parse("login --service-principal -u abc --tenant=t --output none").unwrap();
        assert_eq!(login.command, "login");
        assert_eq!(login.option("--username"), Some("abc"));
        assert_eq!(login.option("--tenant"), Some("t"));
        assert!(login.has("--service-principal"));
        let rest = parse("rest -m get -u https://management.azure.com/x").unwrap();
        assert_eq!(rest.option("--url"), Some("https://management.azure.com/x"));
        assert_eq!(parse("account set --subscription").unwrap_err().exit_code(), 2);
        assert_eq!(login.required("--name").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_query_picks_and_tsv_prints_bare() {
        let groups = json!([{"name": "a", "tags": {"x": 1}}, {"name": "b"}]);
        let check = |query: &str, expected: &str| {
            let mut arguments = parse("group list --output tsv").unwrap();
            arguments.options.insert("--query".to_owned(), query.to_owned());
            assert_eq!(print(&arguments, groups.clone()), expected, "{query}");
        };
        check("[].name", "a\nb");
        check("[0].tags.x", "1");
        check("length(@)", "2");
        check("[7].name", "");
    }
}
