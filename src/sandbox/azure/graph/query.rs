//! The small part of the query language that an inventory needs: `table | where … | project … | order by … | limit n`.

use super::index::Table;
use serde_json::{Map, Value, json};

pub(super) struct Query {
    pub(super) table: Table,
    steps: Vec<Step>,
}

enum Step {
    Where(Test),
    /// New name and path.
    Project(Vec<(String, Path)>),
    Order {
        by: Path,
        descending: bool,
    },
    Limit(usize),
}

enum Test {
    Or(Vec<Test>),
    And(Vec<Test>),
    Not(Box<Test>),
    Compare { path: Path, operator: Operator, ignore_case: bool, values: Vec<String> },
    NotEmpty(Path),
}

#[derive(Clone, Copy)]
enum Operator {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
}

type Path = Vec<String>;

/// Where reading stopped.
#[derive(Debug, thiserror::Error)]
#[error("{what} at `{near}`")]
pub(super) struct NotUnderstood {
    what: &'static str,
    near: String,
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, NotUnderstood> {
        let mut reader = Reader { tokens: tokens(text)?, at: 0 };
        let table = match reader.word()?.to_ascii_lowercase().as_str() {
            "resources" => Table::Resources,
            "authorizationresources" => Table::Authorization,
            _ => return Err(reader.not("a known table")),
        };
        let mut steps = Vec::new();
        while reader.takes("|") {
            steps.push(reader.step()?);
        }
        if reader.at < reader.tokens.len() {
            return Err(reader.not("the end or `|`"));
        }
        Ok(Self { table, steps })
    }

    pub(super) fn run(&self, mut rows: Vec<Value>) -> Vec<Value> {
        for step in &self.steps {
            match step {
                Step::Where(test) => rows.retain(|row| test.holds(row)),
                Step::Project(columns) => rows.iter_mut().for_each(|row| {
                    let shown = columns.iter().map(|(name, path)| (name.clone(), at(row, path)));
                    *row = Value::Object(shown.collect::<Map<_, _>>());
                }),
                Step::Order { by, descending } => {
                    rows.sort_by_key(|row| text(&at(row, by)));
                    if *descending {
                        rows.reverse();
                    }
                }
                Step::Limit(most) => rows.truncate(*most),
            }
        }
        rows
    }

    /// Pages exist only where each row still has its id.
    pub(super) fn projects_id(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Project(columns) => columns.iter().any(|(name, _)| name == "id"),
            Step::Where(_) | Step::Order { .. } | Step::Limit(_) => true,
        })
    }
}

impl Test {
    fn holds(&self, row: &Value) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.holds(row)),
            Self::And(parts) => parts.iter().all(|part| part.holds(row)),
            Self::Not(part) => !part.holds(row),
            Self::NotEmpty(path) => !text(&at(row, path)).is_empty(),
            Self::Compare { path, operator, ignore_case, values } => {
                let fold = |text: &str| {
                    if *ignore_case { text.to_lowercase() } else { text.to_owned() }
                };
                let own = fold(&text(&at(row, path)));
                values.iter().map(|value| fold(value)).any(|value| match operator {
                    Operator::Equals => own == value,
                    Operator::Contains => own.contains(&value),
                    Operator::StartsWith => own.starts_with(&value),
                    Operator::EndsWith => own.ends_with(&value),
                })
            }
        }
    }
}

/// The value at `path`; members are found whatever their case, as columns are.
fn at(row: &Value, path: &Path) -> Value {
    let mut value = row;
    for name in path {
        let members = value.as_object().into_iter().flatten();
        let mut same = members.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        match same.next() {
            Some((_, found)) => value = found,
            None => return Value::Null,
        }
    }
    value.clone()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
}

const SIGNS: [&str; 13] = ["==", "=~", "!=", "!~", "|", ",", "(", ")", "[", "]", ".", "=", "~"];

fn tokens(text: &str) -> Result<Vec<Token>, NotUnderstood> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '\'' || first == '"' {
            let Some((inner, after)) = rest[1..].split_once(first) else {
                return Err(NotUnderstood { what: "a text without end", near: rest.to_owned() });
            };
            found.push(Token::Text(inner.to_owned()));
            rest = after;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            found.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            let end = rest
                .find(|c: char| {
                    !c.is_ascii_alphanumeric() && c != '_' && c != '-' && c != '$' && c != '!'
                })
                .unwrap_or(rest.len());
            if end == 0 {
                return Err(NotUnderstood { what: "an unknown sign", near: rest.to_owned() });
            }
            found.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(found)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn step(&mut self) -> Result<Step, NotUnderstood> {
        match self.word()?.to_ascii_lowercase().as_str() {
            "where" => Ok(Step::Where(self.any_of()?)),
            "project" => {
                let mut columns = vec![self.column()?];
                while self.takes(",") {
                    columns.push(self.column()?);
                }
                Ok(Step::Project(columns))
            }
            "order" | "sort" if self.takes_word("by") => {
                let by = self.path()?;
                let descending = self.takes_word("desc");
                // Without a word the language sorts downwards.
                let upwards = !descending && self.takes_word("asc");
                Ok(Step::Order { by, descending: !upwards })
            }
            "limit" | "take" => {
                let most = self.word()?;
                most.parse().map(Step::Limit).map_err(|_| self.not("a number"))
            }
            _ => Err(self.not("a known step")),
        }
    }

    fn column(&mut self) -> Result<(String, Path), NotUnderstood> {
        let path = self.path()?;
        if let [name] = path.as_slice()
            && self.takes("=")
        {
            return Ok((name.clone(), self.path()?));
        }
        Ok((path.join("_"), path))
    }

    fn any_of(&mut self) -> Result<Test, NotUnderstood> {
        let mut parts = vec![self.all_of()?];
        while self.takes_word("or") {
            parts.push(self.all_of()?);
        }
        Ok(Test::Or(parts))
    }

    fn all_of(&mut self) -> Result<Test, NotUnderstood> {
        let mut parts = vec![self.one()?];
        while self.takes_word("and") {
            parts.push(self.one()?);
        }
        Ok(Test::And(parts))
    }

    fn one(&mut self) -> Result<Test, NotUnderstood> {
        if self.takes("(") {
            let inner = self.any_of()?;
            return if self.takes(")") { Ok(inner) } else { Err(self.not("`)`")) };
        }
        if self.takes_word("isnotempty") {
            let inner = if self.takes("(") { self.path()? } else { return Err(self.not("`(`")) };
            return if self.takes(")") { Ok(Test::NotEmpty(inner)) } else { Err(self.not("`)`")) };
        }
        let path = self.path()?;
        let (operator, ignore_case, negated) = self.operator()?;
        let values = self.values()?;
        let test = Test::Compare { path, operator, ignore_case, values };
        Ok(if negated { Test::Not(Box::new(test)) } else { test })
    }

    fn operator(&mut self) -> Result<(Operator, bool, bool), NotUnderstood> {
        for (sign, ignore_case, negated) in
            [("==", false, false), ("=~", true, false), ("!=", false, true), ("!~", true, true)]
        {
            if self.takes(sign) {
                return Ok((Operator::Equals, ignore_case, negated));
            }
        }
        let word = self.word()?.to_ascii_lowercase();
        let (word, negated) = match word.strip_prefix('!') {
            Some(rest) => (rest, true),
            None => (word.as_str(), false),
        };
        let operator = match word {
            "in" => return Ok((Operator::Equals, self.takes("~"), negated)),
            "contains" | "has" => Operator::Contains,
            "startswith" => Operator::StartsWith,
            "endswith" => Operator::EndsWith,
            _ => return Err(self.not("a known operator")),
        };
        Ok((operator, true, negated))
    }

    fn values(&mut self) -> Result<Vec<String>, NotUnderstood> {
        if !self.takes("(") {
            return self.value().map(|value| vec![value]);
        }
        let mut values = vec![self.value()?];
        while self.takes(",") {
            values.push(self.value()?);
        }
        if self.takes(")") { Ok(values) } else { Err(self.not("`)`")) }
    }

    fn value(&mut self) -> Result<String, NotUnderstood> {
        match self.tokens.get(self.at) {
            Some(Token::Text(text) | Token::Word(text)) => {
                self.at += 1;
                Ok(text.clone())
            }
            Some(Token::Sign(_)) | None => Err(self.not("a value")),
        }
    }

    /// `a.b['c']`, also inside `tostring(…)` or `tolower(…)`.
    fn path(&mut self) -> Result<Path, NotUnderstood> {
        let first = self.word()?;
        let wraps = ["tostring", "tolower"].iter().any(|name| first.eq_ignore_ascii_case(name));
        if wraps && self.takes("(") {
            let inner = self.path()?;
            return if self.takes(")") { Ok(inner) } else { Err(self.not("`)`")) };
        }
        let mut path = vec![first];
        loop {
            if self.takes(".") {
                path.push(self.word()?);
            } else if self.takes("[") {
                path.push(self.value()?);
                if !self.takes("]") {
                    return Err(self.not("`]`"));
                }
            } else {
                return Ok(path);
            }
        }
    }

    fn word(&mut self) -> Result<String, NotUnderstood> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word.clone())
            }
            Some(Token::Text(_) | Token::Sign(_)) | None => Err(self.not("a word")),
        }
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(own)) if *own == sign);
        self.at += usize::from(found);
        found
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = matches!(
            self.tokens.get(self.at),
            Some(Token::Word(own)) if own.eq_ignore_ascii_case(word)
        );
        self.at += usize::from(found);
        found
    }

    fn not(&self, what: &'static str) -> NotUnderstood {
        let near = self.tokens.get(self.at.saturating_sub(1));
        NotUnderstood { what, near: json!(format!("{near:?}")).to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &[&str]) {
        let row = |id: &str, kind: &str, fleet: &str| json!({"id": id, "type": kind, "tags": {"forerunner-fleet": fleet}, "properties": {"n": id.len()}});
        let rows = vec![row("b", "x/y", "One"), row("a", "x/y", "two"), row("cc", "x/z", "one")];
        let found = Query::parse(query).unwrap().run(rows);
        let ids: Vec<&str> = found.iter().filter_map(|row| row["id"].as_str()).collect();
        assert_eq!(ids, expected, "{query}");
    }

    #[test]
    fn rows_are_chosen_ordered_and_cut_as_the_query_says() {
        check("resources", &["b", "a", "cc"]);
        check("resources | where type =~ 'X/Y' | project id | order by id asc", &["a", "b"]);
        check("Resources | where tags['forerunner-fleet'] == 'one'", &["cc"]);
        check("resources | where tags[\"forerunner-fleet\"] =~ 'one' and type == 'x/z'", &["cc"]);
        check("resources | where id in~ ('A', 'CC') | sort by id desc | limit 1", &["cc"]);
        check(
            "resources | where (id == 'a' or id == 'b') and tostring(properties.n) != '2'",
            &["b", "a"],
        );
        check("resources | where tostring(id) !startswith 'A' | where id !~ 'B'", &["cc"]);
        check("resources | where type !~ 'x/y' | project id, n = properties.n", &["cc"]);
    }

    #[test]
    fn what_it_does_not_know_it_says() {
        for query in
            ["", "kusto", "resources | summarize count()", "resources | where id ==", "resources |"]
        {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}
